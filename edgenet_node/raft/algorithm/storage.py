"""Where the algorithm reads what is stable: the protocol, and an implementation in memory.

The algorithm only reads. Whoever drives it appends what each `Ready` holds, in order, before it reports it stable; the
algorithm never asks for what it still holds itself (`log`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from ...errors import InvariantError
from ...wire.raft import ConfState, Entry, Snapshot
from .errors import Compacted, SnapshotOutOfDate, Unavailable

NO_LIMIT: Final = 2**64 - 1
"""Bytes."""

ENTRY_OVERHEAD_BYTES: Final = 48
"""Upper bound of an encoded entry without its data (46 with the longest numbers)."""


class HardState(Struct, frozen=True):
    """What must be durable before a promise is made: the term, the vote in it; and the commit index, for speed only."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class Storage(Protocol):
    """`entries` and `term` raise `Compacted` below the log, `Unavailable` above it."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Of the last run: what was saved, and the configuration of the snapshot."""
        ...

    def entries(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        """Those with index in [lo, hi), as many as fit in `max_bytes` but at least one. Nobody changes them."""
        ...

    def term(self, index: int) -> int:
        """Also of the entry before the first one."""
        ...

    def first_index(self) -> int: ...

    def last_index(self) -> int: ...

    def snapshot(self) -> Snapshot:
        """The newest; at least as new as what was compacted. May raise `SnapshotTemporarilyUnavailable`."""
        ...


def size_of(entries: Sequence[Entry]) -> int:
    """Bytes on the wire, rounded up."""
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)


def limit_size(entries: Sequence[Entry], max_bytes: int) -> Sequence[Entry]:
    """The longest beginning within `max_bytes`, of at least one entry."""
    if max_bytes >= NO_LIMIT:
        return entries
    size = 0
    for place, entry in enumerate(entries):
        size += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if size > max_bytes and place:
            return entries[:place]
    return entries


class MemoryStorage:
    """A log in a list. The entry before the first one is remembered by index and term."""

    __slots__ = ("_base", "_base_term", "_entries", "_hard_state", "_snapshot")

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        self._base = 0
        self._base_term = 0
        self._entries: list[Entry] = []

    def load(
        self, hard_state: HardState, snapshot: Snapshot, base: int, base_term: int, entries: Sequence[Entry]
    ) -> None:
        """Take over a log that was read from elsewhere; `base` is the index before its first entry."""
        self._hard_state, self._snapshot = hard_state, snapshot
        self._base, self._base_term, self._entries = base, base_term, list(entries)

    # ---- what the algorithm reads

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.conf_state

    def entries(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        base = self._base
        if lo <= base:
            raise Compacted(f"entry {lo} was compacted: the log begins at {base + 1}")
        if hi > base + len(self._entries) + 1:
            raise Unavailable(f"entry {hi - 1} is beyond the log, which ends at {base + len(self._entries)}")
        return limit_size(self._entries[lo - base - 1 : hi - base - 1], max_bytes)

    def term(self, index: int) -> int:
        place = index - self._base - 1
        if place < 0:
            if place == -1:
                return self._base_term
            raise Compacted(f"entry {index} was compacted: the log begins at {self._base + 1}")
        if place >= len(self._entries):
            raise Unavailable(f"entry {index} is beyond the log, which ends at {self.last_index()}")
        return self._entries[place].term

    def first_index(self) -> int:
        return self._base + 1

    def last_index(self) -> int:
        return self._base + len(self._entries)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    # ---- what its driver does

    def set_hard_state(self, hard_state: HardState) -> None:
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Replaces what lies at and after the first of them; those that were compacted are passed over."""
        if not entries or entries[-1].index <= self._base:
            return
        skip = max(0, self._base + 1 - entries[0].index)
        place = entries[skip].index - self._base - 1
        if place > len(self._entries):
            raise InvariantError(f"the log ends at {self.last_index()}: it cannot go on with {entries[skip].index}")
        del self._entries[place:]
        self._entries.extend(entries[skip:] if skip else entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Begin anew behind it. `SnapshotOutOfDate` unless it is newer than the one there is."""
        if self._snapshot.index and self._snapshot.index >= snapshot.index:
            raise SnapshotOutOfDate(f"there is a snapshot of {self._snapshot.index} already")
        self._snapshot = snapshot
        self._base, self._base_term, self._entries = snapshot.index, snapshot.term, []

    def set_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of this very log; the log stays until `compact`."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"there is a snapshot of {self._snapshot.index} already")
        if snapshot.index > self.last_index():
            raise InvariantError(f"a snapshot of {snapshot.index} from a log that ends at {self.last_index()}")
        self._snapshot = snapshot

    def create_snapshot(self, index: int, conf_state: ConfState | None = None, data: bytes = b"") -> Snapshot:
        """Of the state after `index`; without a configuration, that of the snapshot before."""
        conf_state = self._snapshot.conf_state if conf_state is None else conf_state
        snapshot = Snapshot(index, self.term(index), conf_state, len(data), data=data)
        self.set_snapshot(snapshot)
        return snapshot

    def compact(self, index: int) -> None:
        """Drop everything up to and with `index`."""
        if index <= self._base:
            raise Compacted(f"the log begins at {self._base + 1} already")
        if index > self.last_index():
            raise InvariantError(f"cannot compact up to {index}: the log ends at {self.last_index()}")
        count = index - self._base
        self._base_term = self._entries[count - 1].term
        del self._entries[:count]
        self._base = index
