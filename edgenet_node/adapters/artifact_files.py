"""The artifact store as plain files: `<folder>/<first two hex digits>/<SHA-256 in hex>`.

A file appears under its name only when it is whole, verified and fsynced (write aside, fsync, rename, fsync folder).
It is verified against its name once after each start before any of it is served, and again on every `get`; one that
fails is set aside in `quarantine/` and never served (the newest few are kept for a look). What is on its way in lies in
`partial/<digest>.part` and outlives a crash; a later `begin` resumes it.

Budget: published files, reservations of writers and idle partial files together never exceed `budget_bytes`. When room
is needed, partial files that nobody has written to for a while go first, then unpinned files by time of last use. Pins
live in memory: whoever needs an artifact pins it again after a start, and for the first `grace_s` nothing that was
found on disk is evicted. Two transfers of one digest: the later `begin` takes over and the earlier writer fails.

`path` gives the file for memory mapping; an evicted file stays readable for those who have it open (POSIX unlink).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio

from ..errors import Conflict, CorruptData, Malformed, NotFound, StoreError, StoreFull
from .artifact_budget import (
    CHUNK_BYTES,
    ArtifactBudget,
    ArtifactLimits,
    ArtifactStats,
    Entry,
    Partial,
    Victim,
    missing,
)
from .artifact_folder import ArtifactFolder

__all__ = ["CHUNK_BYTES", "ArtifactFiles", "ArtifactLimits", "ArtifactStats", "FileWriter"]

T = TypeVar("T")


class ArtifactFiles:
    """See `ArtifactStore`. Made by `open`."""

    def __init__(self, folder: ArtifactFolder, limits: ArtifactLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._budget = ArtifactBudget(limits, trio.current_time())
        self._threads = trio.CapacityLimiter(limits.threads_max)
        # Serialises choosing victims, unlinking and publishing: a file evicted while the same content is put again must
        # not be unlinked after its new publication.
        self._changing = trio.Lock()

    @classmethod
    async def open(cls, path: Path, *, limits: ArtifactLimits | None = None) -> ArtifactFiles:
        """Scan the folder (created if missing); delete leftovers of interrupted puts and partial files that are too old
        or too many. Over budget (it was lowered): nothing is deleted before the grace is over and room is needed.
        `StoreError` if the folder cannot be used."""
        limits = limits or ArtifactLimits()
        store = cls(ArtifactFolder(path), limits)
        found = await store._off_loop(store._folder.scan, limits.partial_age_s)
        for digest, size in found.published:
            store._budget.published(digest, size, found=True)
        idle_since = trio.current_time() - limits.partial_idle_s
        for digest, size in found.partials[-limits.partials_max :]:
            store._budget.partials[digest] = Partial(size, idle_since)
        for digest, _ in found.partials[: -limits.partials_max]:
            await store._off_loop(store._folder.drop_partial, digest)
        return store

    def stats(self) -> ArtifactStats:
        return self._budget.stats()

    def size(self, digest: str) -> int:
        entry = self._budget.entries.get(digest)
        return -1 if entry is None else entry.size

    def path(self, digest: str) -> Path:
        self._budget.touch(digest)
        self._folder.touch(digest)
        return self._folder.path(digest)

    def pin(self, digest: str, pinned: bool) -> None:
        """`NotFound` when it is not here and `pinned`; unpinning what is not here is no error."""
        self._budget.pin(digest, pinned)

    async def put(self, data: bytes, *, pin: bool = False) -> str:
        """Store and return the digest. `TooLarge` above `artifact_bytes_max`, `StoreFull` when it finds no room."""
        budget, size = self._budget, len(data)
        budget.check_size(size)
        digest = await self._off_loop(_sha256, data)
        entry = budget.entries.get(digest)
        if entry is not None and entry.verified:
            budget.touch(digest).pinned |= pin
            return digest
        async with self._changing:
            await self._make_room(size)
            budget.puts_reserved += size
        try:
            aside = await self._off_loop(self._folder.write_aside, data)
            with trio.CancelScope(shield=True):
                async with self._changing:
                    await self._off_loop(self._folder.publish, aside, digest)
                    budget.published(digest, size).pinned |= pin
        finally:
            budget.puts_reserved -= size
        return digest

    async def get(self, digest: str) -> bytes:
        entry = self._budget.touch(digest)
        data = await self._off_loop(self._folder.read, digest, 0, entry.size + 1)
        if data is None:
            raise self._vanished(digest, entry)
        if len(data) != entry.size or await self._off_loop(_sha256, data) != digest:
            raise await self._set_aside(digest, entry)
        entry.verified = True
        return data

    async def read_chunk(self, digest: str, index: int) -> bytes:
        """The 256 KiB from `index * 256 KiB`; the last chunk may be shorter. `NotFound` for a chunk that there is not.
        The file is verified as a whole before its first chunk is served."""
        entry = self._budget.check_chunk(digest, index)
        if not entry.verified:
            seen = await self._off_loop(self._folder.hash_file, digest, entry.size)
            if seen is None:
                raise self._vanished(digest, entry)
            if seen != digest:
                raise await self._set_aside(digest, entry)
            entry.verified = True
        start = index * CHUNK_BYTES
        wanted = min(CHUNK_BYTES, entry.size - start)
        data = await self._off_loop(self._folder.read, digest, start, wanted)
        if data is None:
            raise self._vanished(digest, entry)
        if len(data) != wanted:
            raise await self._set_aside(digest, entry)
        return data

    async def begin(self, digest: str, size: int) -> FileWriter:
        """See `ArtifactStore.begin`. When the artifact is here already, the writer has nothing left to receive.

        `UsageError` for what is no SHA-256 in lower-case hex; `TooLarge`; `Malformed` if it is here with another size;
        `StoreFull` when it finds no room, `Overloaded` when `partials_max` are being received."""
        self._budget.check_begin(digest, size)
        while True:
            async with self._changing:
                had = self._budget.partials.get(digest)
                if had is None or had.busy is None:
                    return await self._begin(digest, size, had)
                busy = had.busy
            await busy.wait()

    async def _begin(self, digest: str, size: int, had: Partial | None) -> FileWriter:
        """With `_changing` held."""
        budget = self._budget
        if budget.present(digest, size):
            return FileWriter(self, digest, size, size, None)
        now = trio.current_time()
        if had is None and (surplus := budget.surplus_partial(now)) is not None:
            await self._delete(surplus)
        mine = budget.partials[digest] = had or Partial(0, now)
        mine.busy = trio.Event()  # spares it while room is made
        try:
            await self._make_room(size - mine.reserved)
            received, hasher = await self._off_loop(self._folder.resume, digest, size)
        except BaseException:
            mine.busy = None
            if had is None:
                del budget.partials[digest]
            raise
        writer = FileWriter(self, digest, size, received, hasher)
        budget.partials[digest] = Partial(size, now, writer)
        return writer

    async def _make_room(self, size: int) -> None:
        """With `_changing` held."""
        while (victim := self._budget.next_victim(size, trio.current_time())) is not None:
            await self._delete(victim)

    async def _delete(self, victim: Victim) -> None:
        with trio.CancelScope(shield=True):  # it is gone from the accounts already
            remove = self._folder.drop_partial if victim.partial else self._folder.remove
            await self._off_loop(remove, victim.digest)

    def _vanished(self, digest: str, entry: Entry) -> NotFound:
        self._budget.forget(digest, entry)
        return missing(digest)

    async def _set_aside(self, digest: str, entry: Entry) -> CorruptData:
        kept = False
        with trio.CancelScope(shield=True):
            async with self._changing:
                if self._budget.forget(digest, entry):
                    self._budget.quarantined += 1
                    bounds = (self._limits.quarantine_max, self._limits.quarantine_bytes_max)
                    kept = await self._off_loop(self._folder.quarantine, digest, *bounds)
        where = "it was moved to quarantine/" if kept else "it was removed"
        return CorruptData(f"artifact {digest} does not match its name: {where}; fetch it again")

    async def _off_loop(self, fn: Callable[..., T], *args: Any) -> T:
        try:
            return await trio.to_thread.run_sync(lambda: fn(*args), limiter=self._threads)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(f"{self._folder.root}: no space left on the disk for artifacts") from error
            raise StoreError(f"{error.filename or self._folder.root}: {error.strerror or error}") from error


class FileWriter:
    """See `ArtifactWriter`. To interrupt, stop using it; what was received stays for a later `begin`."""

    def __init__(self, store: ArtifactFiles, digest: str, size: int, received: int, hasher: Any) -> None:
        self.received = received
        self._store = store
        self._digest = digest
        self._size = size
        self._hasher = hasher  # None: the artifact was here already
        self._resumed = received > 0

    async def write(self, chunk: bytes) -> None:
        """`Malformed` beyond the announced size; `Conflict` when another `begin` or the lack of room took its place;
        `StoreFull` leaves what was received before."""
        if not chunk:
            await trio.lowlevel.checkpoint()
            return
        if self.received + len(chunk) > self._size:
            raise Malformed(f"artifact {self._digest} continues beyond the {self._size} bytes that were announced")
        kept = self._mine()
        kept.busy = trio.Event()
        try:
            await self._store._off_loop(self._append, chunk)
            self.received += len(chunk)
        finally:
            self._quiet(kept)

    def _append(self, chunk: bytes) -> None:
        self._store._folder.append(self._digest, self.received, chunk)
        self._hasher.update(chunk)

    async def finish(self) -> None:
        """See `ArtifactWriter.finish`. `CorruptData` instead of `Malformed` when part of it came from our own disk:
        then nobody can tell whose bytes were wrong."""
        if self._hasher is None:
            return
        if self.received != self._size:
            raise Malformed(f"artifact {self._digest} ended after {self.received} of {self._size} bytes")
        kept = self._mine()
        store, folder = self._store, self._store._folder
        kept.busy = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                if self._hasher.hexdigest() != self._digest:
                    await self._remove()
                    error = CorruptData if self._resumed else Malformed
                    raise error(f"artifact {self._digest}: what was received has another digest; it was removed")
                await store._off_loop(folder.sync_partial, self._digest)
                async with store._changing:
                    await store._off_loop(folder.publish, folder.partial(self._digest), self._digest)
                    del store._budget.partials[self._digest]
                    store._budget.published(self._digest, self._size)
            self._hasher = None
        finally:
            self._quiet(kept)

    async def abandon(self) -> None:
        """Give up: remove what was received."""
        if self._hasher is None or not self._is_current():
            return
        kept = self._mine()
        kept.busy = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await self._remove()
        finally:
            self._quiet(kept)

    async def _remove(self) -> None:
        async with self._store._changing:
            del self._store._budget.partials[self._digest]
            await self._store._off_loop(self._store._folder.drop_partial, self._digest)

    def _is_current(self) -> bool:
        kept = self._store._budget.partials.get(self._digest)
        return kept is not None and kept.writer is self

    def _mine(self) -> Partial:
        if self._hasher is None:
            raise Conflict(f"artifact {self._digest} is complete")
        kept = self._store._budget.partials.get(self._digest)
        if kept is None or kept.writer is not self:
            raise Conflict(f"artifact {self._digest} is now received by another transfer, or lost its place")
        if kept.busy is not None:
            raise Conflict(f"artifact {self._digest} is being written by this very writer")
        return kept

    def _quiet(self, kept: Partial) -> None:
        kept.used_at = trio.current_time()
        if kept.busy is not None:
            kept.busy.set()
            kept.busy = None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
