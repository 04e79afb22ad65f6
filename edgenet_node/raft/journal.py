"""The log as rows: what a member has on disk, and the storage that the algorithm reads.

Rows are Puts and Deletes of the core's own steps, so memory runs ahead of the disk by what the outbox holds; the
algorithm is told when they are durable (`Saved`). Each row begins with the CRC-32 of the rest: a flipped bit on disk
ends the member at start instead of becoming history.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

from ..effects import Delete, Effect, Put, Row
from ..errors import CorruptData, EdgenetError
from ..wire.codec import Wire, decode, encode
from ..wire.raft import SNAPSHOT_BYTES_MAX, ConfState, Entry, RosterEntry, Snapshot
from .algorithm.errors import SnapshotTemporarilyUnavailable
from .algorithm.storage import HardState, MemoryStorage

T = TypeVar("T")
_ROW_BYTES_MAX = SNAPSHOT_BYTES_MAX + 64 * 1024


class Membership(Wire, frozen=True):
    """Who this node is in which committee; saved before it speaks. `roster`: whom it was told of when it was prepared,
    until its log says it."""

    epoch: int
    member: int
    roster: tuple[RosterEntry, ...] = ()


class SavedHard(Wire, frozen=True):
    term: int
    vote: int
    commit: int


class SavedHead(Wire, frozen=True):
    """Where the log begins: the entry before the first one."""

    index: int
    term: int


def seal(value: Any) -> bytes:
    body = encode(value)
    return zlib.crc32(body).to_bytes(4, "big") + body


def unseal(row: Row, kind: type[T]) -> T:
    body = row.value[4:]
    if zlib.crc32(body).to_bytes(4, "big") != row.value[:4]:
        raise CorruptData(
            f"row {row.table}/{row.key} of the Raft log does not verify: wipe this member and add it anew"
        )
    try:
        return decode(body, kind, bytes_max=_ROW_BYTES_MAX)
    except EdgenetError as error:
        raise CorruptData(f"row {row.table}/{row.key} of the Raft log cannot be read: {error.message}") from error


def key(index: int) -> str:
    """Sorts as the index does."""
    return f"{index:019d}"


class LogStorage(MemoryStorage):
    """Offers no snapshot to a member that is not in its configuration, which could not take it: a newer one has to be
    made first (`wanted`)."""

    __slots__ = ("members", "wanted")

    def __init__(self) -> None:
        super().__init__()
        self.members: frozenset[int] = frozenset()
        self.wanted = False

    def newest(self) -> Snapshot:
        return super().snapshot()

    def snapshot(self) -> Snapshot:
        found = self.newest()
        conf = found.conf_state
        if not self.members <= {*conf.voters, *conf.learners, *conf.voters_outgoing, *conf.learners_next}:
            self.wanted = True
            raise SnapshotTemporarilyUnavailable("a member is newer than the newest snapshot")
        return found


class Journal:
    """Rows of one member and their image in memory (`storage`)."""

    def __init__(self) -> None:
        self._reset(None)

    def _reset(self, membership: Membership | None) -> None:
        self.storage = LogStorage()
        self.membership = membership
        self.log_bytes = 0
        self._commit_saved = 0
        self._doomed = range(0)

    # ---- start

    def load(self, rows: Sequence[Row]) -> None:
        """`CorruptData` for what does not verify or leaves a hole."""
        entries: list[Entry] = []
        hard, head, snapshot = HardState(), SavedHead(0, 0), None
        for row in rows:
            if row.table == "log":
                entries.append(unseal(row, Entry))
            elif row.key == "hard":
                saved = unseal(row, SavedHard)
                hard = HardState(term=saved.term, vote=saved.vote, commit=saved.commit)
            elif row.key == "head":
                head = unseal(row, SavedHead)
            elif row.key == "snapshot":
                snapshot = unseal(row, Snapshot)
            elif row.key == "member":
                self.membership = unseal(row, Membership)
        if self.membership is None:
            return
        if entries and entries[0].index <= head.index:  # a compaction was under way
            self._doomed = range(entries[0].index, head.index + 1)
            entries = [entry for entry in entries if entry.index > head.index]
        for place, entry in enumerate(entries):
            if entry.index != head.index + 1 + place:
                raise CorruptData(
                    f"the Raft log lacks entry {head.index + 1 + place}: wipe this member and add it anew"
                )
        if hard.commit > head.index + len(entries):
            raise CorruptData("the Raft log ends before what was committed: wipe this member and add it anew")
        self.storage.load(hard, snapshot or Snapshot(), head.index, head.term, entries)
        self._commit_saved = hard.commit
        self.log_bytes = sum(len(entry.data) + 64 for entry in entries)

    def begin(self, membership: Membership, snapshot: Snapshot | None) -> list[Effect]:
        """A new log: with the founder's configuration, or empty."""
        self._reset(membership)
        out: list[Effect] = [Put("state", "member", seal(membership))]
        if snapshot is not None:
            self.storage.apply_snapshot(snapshot)
            self.storage.set_hard_state(HardState(term=snapshot.term, commit=snapshot.index))
            self._commit_saved = snapshot.index
            out += [
                Put("state", "snapshot", seal(snapshot)),
                Put("state", "head", seal(SavedHead(snapshot.index, snapshot.term))),
                Put("state", "hard", seal(SavedHard(snapshot.term, 0, snapshot.index))),
            ]
        return out

    def forget(self) -> list[Effect]:
        """Drop everything."""
        out: list[Effect] = [Delete("state", name) for name in ("member", "hard", "head", "snapshot")]
        out += [Delete("log", key(index)) for index in self._doomed]
        out += [Delete("log", key(index)) for index in range(self.first, self.last + 1)]
        self._reset(None)
        return out

    # ---- the log

    @property
    def first(self) -> int:
        return self.storage.first_index()

    @property
    def last(self) -> int:
        return self.storage.last_index()

    def append(self, entries: Sequence[Entry]) -> list[Effect]:
        """Replaces what lies at and after the first of them: the algorithm has found the conflict."""
        out: list[Effect] = [Put("log", key(entry.index), seal(entry)) for entry in entries]
        out += [Delete("log", key(index)) for index in range(entries[-1].index + 1, self.last + 1)]
        if entries[0].index <= self.last:
            replaced = self.storage.entries(max(self.first, entries[0].index), self.last + 1, 2**62)
            self.log_bytes -= sum(len(entry.data) + 64 for entry in replaced)
        self.storage.append(entries)
        self.log_bytes += sum(len(entry.data) + 64 for entry in entries)
        return out

    def save_hard(self, hard: HardState) -> list[Effect]:
        self.storage.set_hard_state(hard)
        self._commit_saved = hard.commit
        return [Put("state", "hard", seal(SavedHard(hard.term, hard.vote, hard.commit)))]

    def note_commit(self, hard: HardState) -> list[Effect]:
        """As `save_hard`, but if nothing changed except how far the log is committed, that waits for the next save
        (`save_commit`): it promises nothing, and a leader tells it again. What is saved with entries is the commit
        known when they came, so a member that has a change of configuration also knows that the one before it is
        committed: the joint changes rely on that."""
        before, _ = self.storage.initial_state()
        if (hard.term, hard.vote) != (before.term, before.vote):
            return self.save_hard(hard)
        self.storage.set_hard_state(hard)
        return []

    def save_commit(self) -> list[Effect]:
        """What `note_commit` has left."""
        hard, _ = self.storage.initial_state()
        return self.save_hard(hard) if hard.commit != self._commit_saved else []

    # ---- snapshots

    def install(self, snapshot: Snapshot) -> list[Effect]:
        """From the leader: the whole log is older, or conflicts."""
        out: list[Effect] = [Delete("log", key(index)) for index in self._doomed]
        out += [Delete("log", key(index)) for index in range(self.first, self.last + 1)]
        self._doomed = range(0)
        self.storage.apply_snapshot(snapshot)
        self.log_bytes = 0
        head = SavedHead(snapshot.index, snapshot.term)
        return [*out, Put("state", "snapshot", seal(snapshot)), Put("state", "head", seal(head))]

    def keep_snapshot(self, index: int, conf_state: ConfState, data: bytes, size: int, digest: str) -> list[Effect]:
        snapshot = Snapshot(index, self.storage.term(index), conf_state, size, digest, data)
        self.storage.set_snapshot(snapshot)
        return [*self.save_commit(), Put("state", "snapshot", seal(snapshot))]

    def compact(self, upto: int) -> list[Effect]:
        """Forget entries up to `upto`; their rows go with `sweep`, some at a time."""
        first = self.first
        if upto < first:
            return []
        dropped = self.storage.entries(first, upto + 1, 2**62)
        self.log_bytes -= sum(len(entry.data) + 64 for entry in dropped)
        term = self.storage.term(upto)
        self.storage.compact(upto)
        self._doomed = range(min(self._doomed.start or first, first), upto + 1)
        return [Put("state", "head", seal(SavedHead(upto, term)))]

    @property
    def doomed(self) -> int:
        return len(self._doomed)

    def sweep(self, count: int) -> list[Effect]:
        """Rows that a compaction left behind."""
        now, self._doomed = self._doomed[:count], self._doomed[count:]
        return [Delete("log", key(index)) for index in now]
