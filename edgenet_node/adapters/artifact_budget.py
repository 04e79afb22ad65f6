"""What the artifact store keeps and what it gives up: pure accounting, shared by the real store and its fake."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import trio
from msgspec import Struct

from ..errors import Malformed, NotFound, Overloaded, StoreFull, TooLarge, UsageError
from .artifact_folder import is_digest

CHUNK_BYTES = 256 << 10
"""What `read_chunk` returns at most: the unit of transfer."""


class ArtifactLimits(Struct, frozen=True):
    """`count_max` bounds the index (about 200 bytes each). `artifact_bytes_max`: one artifact, the largest being a
    model's weights. `partial_idle_s`: a writer silent for this long may lose its place to others. Partial files
    older than `partial_age_s` are deleted at start. `grace_s`: what was found at start is not evicted for so long, so
    that its users can pin it again. `quarantine_bytes_max` comes on top of the budget. `threads_max`: disk operations
    at once."""

    budget_bytes: int = 1 << 30
    count_max: int = 65536
    artifact_bytes_max: int = 256 << 20
    partials_max: int = 64
    partial_idle_s: float = 60.0
    partial_age_s: float = 86400.0
    quarantine_max: int = 8
    quarantine_bytes_max: int = 64 << 20
    grace_s: float = 60.0
    threads_max: int = 4


class ArtifactStats(Struct, frozen=True):
    """`bytes` of `count` published files, `pinned` of them pinned; `reserved` bytes are on their way in."""

    count: int
    bytes: int
    pinned: int
    reserved: int
    evicted: int
    quarantined: int


class Entry:
    """A published artifact. `found` at start; `verified` against its name since."""

    __slots__ = ("found", "pinned", "size", "verified")

    def __init__(self, size: int, *, found: bool = False) -> None:
        self.size = size
        self.found = found
        self.verified = not found
        self.pinned = False


class Partial:
    """One on its way in: `reserved` bytes of the budget; `writer` may write to it; `busy` while it does."""

    __slots__ = ("busy", "reserved", "used_at", "writer")

    def __init__(self, reserved: int, used_at: float, writer: Any = None) -> None:
        self.reserved = reserved
        self.used_at = used_at
        self.writer = writer
        self.busy: trio.Event | None = None


class Victim(Struct, frozen=True):
    """Already gone from the accounts: its file has to be deleted before the room is used."""

    digest: str
    partial: bool


class ArtifactBudget:
    """Published bytes, reservations of puts and of partial files together stay within `budget_bytes`."""

    def __init__(self, limits: ArtifactLimits, opened_at: float) -> None:
        self._limits = limits
        self._opened_at = opened_at
        self.entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self.partials: OrderedDict[str, Partial] = OrderedDict()
        self.puts_reserved = 0
        self.used = 0
        self.evicted = 0
        self.quarantined = 0

    def stats(self) -> ArtifactStats:
        pinned = sum(entry.pinned for entry in self.entries.values())
        reserved = self.taken() - self.used
        return ArtifactStats(len(self.entries), self.used, pinned, reserved, self.evicted, self.quarantined)

    def taken(self) -> int:
        return self.used + self.puts_reserved + sum(kept.reserved for kept in self.partials.values())

    def check_size(self, size: int) -> None:
        if not 0 <= size <= self._limits.artifact_bytes_max:
            raise TooLarge(f"an artifact of {size} bytes is not within 0 to {self._limits.artifact_bytes_max} bytes")

    def check_begin(self, digest: str, size: int) -> None:
        if not is_digest(digest):
            raise UsageError(f"{digest[:80]!r} is not an artifact's name: 64 lower-case hexadecimal digits")
        self.check_size(size)

    def check_chunk(self, digest: str, index: int) -> Entry:
        entry = self.touch(digest)
        if not 0 <= index < chunks_of(entry.size):
            raise NotFound(f"artifact {digest} has {chunks_of(entry.size)} chunks: there is no chunk {index}")
        return entry

    def touch(self, digest: str) -> Entry:
        """The entry, now the most recently used; `NotFound`."""
        entry = self.entries.get(digest)
        if entry is None:
            raise missing(digest)
        self.entries.move_to_end(digest)
        return entry

    def present(self, digest: str, size: int) -> bool:
        """Whether a `begin` has nothing to receive; `Malformed` when its size is not the one we hold."""
        entry = self.entries.get(digest)
        if entry is None:
            return False
        if entry.size != size:
            raise Malformed(f"artifact {digest} has {entry.size} bytes, not the {size} that were announced")
        self.entries.move_to_end(digest)
        return True

    def pin(self, digest: str, pinned: bool) -> None:
        entry = self.entries.get(digest)
        if entry is None and pinned:
            raise missing(digest)
        if entry is not None:
            entry.pinned = pinned

    def published(self, digest: str, size: int, *, found: bool = False) -> Entry:
        entry = self.entries.get(digest)
        if entry is None:
            entry = self.entries[digest] = Entry(size, found=found)
            self.used += size
        else:
            self.used += size - entry.size
            entry.size, entry.verified = size, True
            self.entries.move_to_end(digest)
        return entry

    def forget(self, digest: str, entry: Entry) -> bool:
        """Drop this very entry; False when it is gone or another one by now."""
        if self.entries.get(digest) is not entry:
            return False
        del self.entries[digest]
        self.used -= entry.size
        return True

    def next_victim(self, size: int, now: float) -> Victim | None:
        """What to delete before `size` bytes have room; None when they have. `StoreFull` when nothing may go."""
        limits = self._limits
        if self.taken() + size <= limits.budget_bytes and len(self.entries) < limits.count_max:
            return None
        if (idle := self._idle_partial(now)) is not None:
            return idle
        grace_left = max(0.0, self._opened_at + limits.grace_s - now)
        for digest, entry in self.entries.items():
            if not entry.pinned and not (entry.found and grace_left):
                self.forget(digest, entry)
                self.evicted += 1
                return Victim(digest, partial=False)
        raise StoreFull(
            f"no room for {size} bytes in the artifact budget of {limits.budget_bytes} bytes: "
            "the rest is pinned, on its way in, or was found at start and may be pinned again",
            retry_after_s=grace_left,
        )

    def surplus_partial(self, now: float) -> Victim | None:
        """What to delete before one more may be received; `Overloaded` when all are in use."""
        if len(self.partials) < self._limits.partials_max:
            return None
        idle = self._idle_partial(now)
        if idle is None:
            raise Overloaded(f"{len(self.partials)} artifacts are being received", retry_after_s=1.0)
        return idle

    def _idle_partial(self, now: float) -> Victim | None:
        for digest, kept in self.partials.items():
            if kept.busy is None and now - kept.used_at >= self._limits.partial_idle_s:
                del self.partials[digest]
                return Victim(digest, partial=True)
        return None


def chunks_of(size: int) -> int:
    """How many chunks an artifact of this size has; the empty one has one, empty, chunk."""
    return max(1, -(-size // CHUNK_BYTES))


def missing(digest: str) -> NotFound:
    return NotFound(f"artifact {digest[:80]} is not here")
