"""The artifact store in memory: the same accounting as the real one, no disk and no threads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import trio

from ..adapters.artifact_budget import (
    CHUNK_BYTES,
    ArtifactBudget,
    ArtifactLimits,
    ArtifactStats,
    Partial,
    Victim,
)
from ..errors import Conflict, CorruptData, Malformed, StoreFull, UsageError


class MemoryArtifacts:
    """See `ArtifactStore`. `disk_full` makes every write fail; `spoil` flips a byte; `restarted` is what a crash
    leaves. `path` needs a `folder` to write the content to, as there is nothing else to map."""

    def __init__(self, *, limits: ArtifactLimits | None = None, folder: Path | None = None) -> None:
        self._limits = limits or ArtifactLimits()
        self._budget: ArtifactBudget | None = None
        self._folder = folder
        self._contents: dict[str, bytes] = {}
        self._partials: dict[str, bytearray] = {}
        self._found: list[tuple[str, int]] = []
        self._written: set[str] = set()
        self.disk_full = False

    def restarted(self) -> MemoryArtifacts:
        """A new store with what this one has on its disk: content and partial files, no pins, no writers."""
        other = MemoryArtifacts(limits=self._limits, folder=self._folder)
        other._contents = dict(self._contents)
        other._partials = {digest: bytearray(data) for digest, data in self._partials.items()}
        if self._budget is not None:
            other._found = [(digest, entry.size) for digest, entry in self._budget.entries.items()]
        else:
            other._found = list(self._found)
        return other

    def spoil(self, digest: str) -> None:
        """Damage stored content, as a bad disk would."""
        data = self._contents[digest]
        self._contents[digest] = bytes([data[0] ^ 1]) + data[1:] if data else b"?"
        self._written.discard(digest)
        self._accounts().entries[digest].verified = False

    def stats(self) -> ArtifactStats:
        return self._accounts().stats()

    def size(self, digest: str) -> int:
        entry = self._accounts().entries.get(digest)
        return -1 if entry is None else entry.size

    def path(self, digest: str) -> Path:
        self._accounts().touch(digest)
        if self._folder is None:
            raise UsageError("MemoryArtifacts was made without a folder: it has no paths")
        path = self._folder / digest
        if digest not in self._written:
            path.write_bytes(self._contents[digest])
            self._written.add(digest)
        return path

    def pin(self, digest: str, pinned: bool) -> None:
        self._accounts().pin(digest, pinned)

    async def put(self, data: bytes, *, pin: bool = False) -> str:
        await trio.lowlevel.checkpoint()
        budget = self._accounts()
        budget.check_size(len(data))
        digest = hashlib.sha256(data).hexdigest()
        entry = budget.entries.get(digest)
        if entry is not None and entry.verified:
            budget.touch(digest).pinned |= pin
            return digest
        self._make_room(len(data))
        self._write_or_refuse()
        self._contents[digest] = bytes(data)
        budget.published(digest, len(data)).pinned |= pin
        return digest

    async def get(self, digest: str) -> bytes:
        await trio.lowlevel.checkpoint()
        entry = self._accounts().touch(digest)
        data = self._contents[digest]
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._set_aside(digest)
        entry.verified = True
        return data

    async def read_chunk(self, digest: str, index: int) -> bytes:
        await trio.lowlevel.checkpoint()
        entry = self._accounts().check_chunk(digest, index)
        data = self._contents[digest]
        if not entry.verified and hashlib.sha256(data).hexdigest() != digest:
            raise self._set_aside(digest)
        entry.verified = True
        return data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]

    async def begin(self, digest: str, size: int) -> MemoryWriter:
        await trio.lowlevel.checkpoint()
        budget = self._accounts()
        budget.check_begin(digest, size)
        if budget.present(digest, size):
            return MemoryWriter(self, digest, size, None)
        now = trio.current_time()
        had = budget.partials.get(digest)
        if had is None and (surplus := budget.surplus_partial(now)) is not None:
            self._delete(surplus)
        mine = budget.partials[digest] = had or Partial(0, now)
        mine.busy = trio.Event()
        try:
            self._make_room(size - mine.reserved)
        except StoreFull:
            mine.busy = None
            if had is None:
                del budget.partials[digest]
            raise
        kept = self._partials.setdefault(digest, bytearray())
        if len(kept) > size:
            kept.clear()
        writer = MemoryWriter(self, digest, size, kept)
        budget.partials[digest] = Partial(size, now, writer)
        return writer

    def _accounts(self) -> ArtifactBudget:
        """Made at first use, as it needs the clock of the running loop."""
        if self._budget is None:
            now = trio.current_time()
            self._budget = ArtifactBudget(self._limits, now)
            for digest, size in self._found:
                self._budget.published(digest, size, found=True)
            for digest, data in self._partials.items():
                self._budget.partials[digest] = Partial(len(data), now - self._limits.partial_idle_s)
        return self._budget

    def _make_room(self, size: int) -> None:
        while (victim := self._accounts().next_victim(size, trio.current_time())) is not None:
            self._delete(victim)

    def _delete(self, victim: Victim) -> None:
        if victim.partial:
            del self._partials[victim.digest]
        else:
            del self._contents[victim.digest]

    def _write_or_refuse(self) -> None:
        if self.disk_full:
            raise StoreFull("no space left on the disk for artifacts")

    def _set_aside(self, digest: str) -> CorruptData:
        budget = self._accounts()
        budget.forget(digest, budget.entries[digest])
        budget.quarantined += 1
        del self._contents[digest]
        return CorruptData(f"artifact {digest} does not match its name: it was moved to quarantine/; fetch it again")


class MemoryWriter:
    """See `ArtifactWriter`."""

    def __init__(self, store: MemoryArtifacts, digest: str, size: int, data: bytearray | None) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self._data = data
        self.received = size if data is None else len(data)
        self._resumed = data is not None and len(data) > 0

    async def write(self, chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not chunk:
            return
        if self.received + len(chunk) > self._size:
            raise Malformed(f"artifact {self._digest} continues beyond the {self._size} bytes that were announced")
        data = self._mine()
        self._store._write_or_refuse()
        data += chunk
        self.received += len(chunk)
        self._store._accounts().partials[self._digest].used_at = trio.current_time()

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._data is None:
            return
        if self.received != self._size:
            raise Malformed(f"artifact {self._digest} ended after {self.received} of {self._size} bytes")
        data = bytes(self._mine())
        self._store._write_or_refuse()
        self._remove()
        if hashlib.sha256(data).hexdigest() != self._digest:
            error = CorruptData if self._resumed else Malformed
            raise error(f"artifact {self._digest}: what was received has another digest; it was removed")
        self._store._contents[self._digest] = data
        self._store._accounts().published(self._digest, self._size)
        self._data = None

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._store._accounts().partials.get(self._digest)
        if kept is not None and kept.writer is self:
            self._remove()

    def _remove(self) -> None:
        del self._store._accounts().partials[self._digest]
        del self._store._partials[self._digest]

    def _mine(self) -> bytearray:
        if self._data is None:
            raise Conflict(f"artifact {self._digest} is complete")
        kept = self._store._accounts().partials.get(self._digest)
        if kept is None or kept.writer is not self:
            raise Conflict(f"artifact {self._digest} is now received by another transfer, or lost its place")
        return self._data
