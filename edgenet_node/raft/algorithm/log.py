"""The log as the algorithm sees it: what storage holds, and the unstable end that it does not hold yet.

`committed`, `applying` and `applied` are the three marks in it: applied <= applying <= committed <= last index. The
unstable part begins at an offset; of it, what was handed out in a `Ready` is in progress. Entries leave it when storage
reports the last of them stable, by index and term: the same index may have been overwritten meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ...errors import InvariantError
from ...wire.raft import Entry, EntryKind, Snapshot
from .errors import Compacted, Unavailable
from .storage import ENTRY_OVERHEAD_BYTES, Storage, limit_size, size_of

UNKNOWN_TERM: Final = -1
"""Of an index below or above the log."""


class RaftLog:
    """`max_applying_bytes` bounds the committed entries handed out and not yet reported applied."""

    __slots__ = (
        "_applying_bytes",
        "_applying_paused",
        "_in_progress",
        "_max_applying_bytes",
        "_offset",
        "_snapshot_in_progress",
        "_storage",
        "_unstable",
        "applied",
        "applying",
        "committed",
        "last_index",
        "last_term",
        "snapshot",
    )

    def __init__(self, storage: Storage, max_applying_bytes: int) -> None:
        first, last = storage.first_index(), storage.last_index()
        self._storage = storage
        self._unstable: list[Entry] = []
        self._offset = last + 1
        self._in_progress = last + 1  # the index after those in progress
        self._snapshot_in_progress = False
        self._max_applying_bytes = max_applying_bytes
        self._applying_bytes = 0
        self._applying_paused = False
        self.snapshot: Snapshot | None = None  # from the leader, not stable yet
        self.committed = self.applying = self.applied = first - 1
        self.last_index = last
        self.last_term = storage.term(last)

    # ---- reading

    def first_index(self) -> int:
        return self._storage.first_index() if self.snapshot is None else self.snapshot.index + 1

    def term(self, index: int) -> int:
        """Of the entry, or of the one before the first; `UNKNOWN_TERM` outside."""
        place = index - self._offset
        if place >= 0:
            return self._unstable[place].term if place < len(self._unstable) else UNKNOWN_TERM
        snapshot = self.snapshot
        if snapshot is not None and index <= snapshot.index:
            return snapshot.term if snapshot.index == index else UNKNOWN_TERM
        if index + 1 < self._storage.first_index():
            return UNKNOWN_TERM
        try:
            return self._storage.term(index)
        except (Compacted, Unavailable):
            return UNKNOWN_TERM

    def slice(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        """Entries in [lo, hi), at least one, within `max_bytes`. `Compacted` when `lo` is below the log."""
        if lo >= hi:
            return ()
        if lo < self.first_index():
            raise Compacted(f"entry {lo} was compacted")
        if hi > self.last_index + 1:
            raise InvariantError(f"entries up to {hi - 1} of a log that ends at {self.last_index}")
        hi = min(hi, lo + max_bytes // ENTRY_OVERHEAD_BYTES + 1)  # no more can fit
        offset = self._offset
        if lo >= offset:
            return limit_size(self._unstable[lo - offset : hi - offset], max_bytes)
        cut = min(hi, offset)
        stable = self._storage.entries(lo, cut, max_bytes)
        if hi <= offset or len(stable) < cut - lo:
            return stable
        room = max_bytes - size_of(stable)
        if room <= 0:
            return stable
        unstable = limit_size(self._unstable[: hi - offset], room)
        if len(unstable) == 1 and size_of(unstable) > room:
            return stable
        return [*stable, *unstable]

    def entries(self, lo: int, max_bytes: int) -> Sequence[Entry]:
        """From `lo` on."""
        return () if lo > self.last_index else self.slice(lo, self.last_index + 1, max_bytes)

    def newest_snapshot(self) -> Snapshot:
        return self._storage.snapshot() if self.snapshot is None else self.snapshot

    def is_up_to_date(self, term: int, index: int) -> bool:
        """Is a log that ends so at least as complete as ours (paper, section 5.4.1)?"""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The last entry at or before `index` with a term of at most `term`: the best guess of where a log that has
        `term` at `index` agrees with this one. Its term is 0 where it is not known."""
        while index > 0:
            ours = self.term(index)
            if ours <= term:
                return index, max(ours, 0)
            index -= 1
        return 0, 0

    def unapplied_conf_change(self) -> bool:
        """Is there one among the entries that are committed and not applied?"""
        page_bytes = max(self._max_applying_bytes, 1)
        return any(entry.kind is not EntryKind.NORMAL for entry in self._scan(page_bytes))

    def _scan(self, page_bytes: int) -> Iterator[Entry]:
        lo, hi = self.applied + 1, self.committed + 1
        while lo < hi:
            page = self.slice(lo, hi, page_bytes)
            yield from page
            lo += len(page)

    # ---- writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Replaces what lies at and after the first of them."""
        first = entries[0].index
        if first <= self.committed:
            raise InvariantError(f"entry {first} would replace a committed one; {self.committed} are")
        unstable, offset = self._unstable, self._offset
        if first == offset + len(unstable):
            unstable.extend(entries)
        elif first <= offset:
            self._unstable = list(entries)
            self._offset = self._in_progress = first
        else:
            del unstable[first - offset :]
            unstable.extend(entries)
            self._in_progress = min(self._in_progress, first)
        last = entries[-1]
        self.last_index, self.last_term = last.index, last.term

    def maybe_append(self, prev_index: int, prev_term: int, entries: Sequence[Entry], commit: int) -> int | None:
        """A leader's append behind (prev_index, prev_term): the last index known to agree with it, or None when we have
        no such entry. Nothing is truncated unless an entry really conflicts: a delayed append must not undo a later
        one."""
        if self.term(prev_index) != prev_term:
            return None
        last = prev_index + len(entries)
        if entries:
            if prev_index == self.last_index:
                self.append(entries)
            else:
                new = self._first_new(entries)
                if new < len(entries):
                    self.append(entries[new:] if new else entries)
        self.commit_to(min(commit, last))
        return last

    def _first_new(self, entries: Sequence[Entry]) -> int:
        for place, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                return place
        return len(entries)

    def restore(self, snapshot: Snapshot) -> None:
        """Everything before it is replaced by it."""
        self.committed = snapshot.index
        self._offset = self._in_progress = snapshot.index + 1
        self._unstable = []
        self.snapshot = snapshot
        self._snapshot_in_progress = False
        self.last_index, self.last_term = snapshot.index, snapshot.term

    # ---- marks

    def commit_to(self, index: int) -> None:
        """Never backwards."""
        if index > self.committed:
            if index > self.last_index:
                raise InvariantError(f"commit of {index} in a log that ends at {self.last_index}: was it lost?")
            self.committed = index

    def maybe_commit(self, term: int, index: int) -> bool:
        """Only an entry of the leader's own term counts its replicas (paper, section 5.4.2)."""
        if index > self.committed and self.term(index) == term:
            self.commit_to(index)
            return True
        return False

    def accept_applying(self, index: int, size: int, *, unstable: bool) -> None:
        """Committed entries up to `index`, `size` bytes, were handed out."""
        self.applying = index
        self._applying_bytes += size
        # Also paused when the bytes left did not suffice for the next entry: what came out ends before the last one.
        self._applying_paused = self._applying_bytes >= self._max_applying_bytes or index < self._appliable(
            unstable=unstable
        )

    def applied_to(self, index: int, size: int) -> None:
        if not self.applied <= index <= self.committed:
            raise InvariantError(f"applied {index}, but {self.applied} were, and {self.committed} are committed")
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_bytes = max(0, self._applying_bytes - size)
        self._applying_paused = self._applying_bytes >= self._max_applying_bytes

    def _appliable(self, *, unstable: bool) -> int:
        return self.committed if unstable else min(self.committed, self._offset - 1)

    # ---- what a Ready takes

    def has_unstable(self) -> bool:
        """Entries not yet handed out."""
        return self._in_progress - self._offset < len(self._unstable)

    def has_any_unstable(self) -> bool:
        return bool(self._unstable)

    def next_unstable(self) -> tuple[Entry, ...]:
        return tuple(self._unstable[self._in_progress - self._offset :])

    def has_next_snapshot(self) -> bool:
        return self.snapshot is not None and not self._snapshot_in_progress

    def accept_unstable(self) -> None:
        """All of it was handed out."""
        self._in_progress = self._offset + len(self._unstable)
        self._snapshot_in_progress = self.snapshot is not None

    def has_committed(self, *, unstable: bool) -> bool:
        """Is there something to apply? `unstable`: also what storage does not hold yet. A snapshot goes first."""
        applying = self.applying
        if applying >= self.committed or self._applying_paused or self.snapshot is not None:
            return False
        return unstable or applying < self._offset - 1

    def next_committed(self, *, unstable: bool) -> tuple[Entry, ...]:
        if not self.has_committed(unstable=unstable):
            return ()
        room = self._max_applying_bytes - self._applying_bytes
        return tuple(self.slice(self.applying + 1, self._appliable(unstable=unstable) + 1, room))

    def stable_to(self, term: int, index: int) -> None:
        """Storage holds entries up to (index, term). Ignored unless that is what the unstable part has there."""
        place = index - self._offset
        if 0 <= place < len(self._unstable) and self._unstable[place].term == term:
            del self._unstable[: place + 1]
            self._offset = index + 1
            self._in_progress = max(self._in_progress, self._offset)

    def stable_snapshot_to(self, index: int) -> None:
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self._snapshot_in_progress = False
