"""What a leader knows of one follower, and what it may send it.

* probe: the end of the follower's log is not known. One append per heartbeat interval, to find it.
* replicate: appends follow one another without waiting, as many as the window of inflight messages holds.
* snapshot: the follower needs entries that were compacted; nothing is sent until it has the snapshot.

Invariant: match < next. Entries in (match, next) are under way.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from ...errors import InvariantError


class ProgressState(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Inflights:
    """A sliding window of appends without an answer: (last index, payload bytes). At most `count_max` messages; it is
    full once they hold `bytes_max`, 0 for no such limit."""

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_window")

    def __init__(self, count_max: int, bytes_max: int = 0) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._window)

    @property
    def bytes(self) -> int:
        return self._bytes

    def full(self) -> bool:
        return len(self._window) >= self._count_max or 0 < self._bytes_max <= self._bytes

    def add(self, index: int, size: int) -> None:
        if self.full():
            raise InvariantError("an append beyond the window of inflight messages")
        self._window.append((index, size))
        self._bytes += size

    def free_to(self, index: int) -> None:
        """The follower has everything up to `index`."""
        window = self._window
        while window and window[0][0] <= index:
            self._bytes -= window.popleft()[1]

    def clear(self) -> None:
        self._window.clear()
        self._bytes = 0


class Progress:
    """One follower, seen by the leader.

    `sent_commit` is the highest commit index under way to it. `recent_active`: heard of in this election timeout.
    `paused`: nothing more until it answers a heartbeat. `session` is the number of this view: answers to another one,
    of an earlier membership in the same term, count for nothing.
    """

    __slots__ = (
        "inflights",
        "learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "session",
        "state",
    )

    def __init__(self, next_index: int, inflights: Inflights, session: int, *, learner: bool = False) -> None:
        self.match = 0
        self.next = next_index
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        # A new member counts as active: the quorum check must not depose the leader before it could speak.
        self.recent_active = True
        self.paused = False
        self.inflights = inflights
        self.learner = learner
        self.session = session

    def restart(self, next_index: int, match: int, session: int) -> None:
        """Nothing is known: a new term."""
        self._enter(ProgressState.PROBE)
        self.match = match
        self.next = next_index
        self.sent_commit = 0
        self.recent_active = False
        self.session = session

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.pending_snapshot = 0
        self.inflights.clear()

    # ---- states

    def become_probe(self) -> None:
        """After a snapshot, from behind it: it was sent, though perhaps not acknowledged."""
        behind = self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match, behind) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    # ---- sending

    def blocked(self) -> bool:
        return self.paused or self.state is ProgressState.SNAPSHOT

    def sent(self, entries: int, size: int, commit: int) -> None:
        """An append with so many entries of `size` payload bytes went out."""
        if self.state is ProgressState.REPLICATE:
            if entries:
                self.next += entries
                self.inflights.add(self.next - 1, size)
            # A message that fills the window, or went out while it was full, is a probe: wait for a heartbeat's answer.
            self.paused = self.inflights.full()
        elif self.state is ProgressState.PROBE:
            if entries:
                self.paused = True
        else:
            raise InvariantError("an append to a follower that waits for a snapshot")
        self.sent_commit = commit

    def may_bump_commit(self, commit: int) -> bool:
        """Would telling it `commit` now let it commit more?"""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    # ---- answers

    def acknowledge(self, index: int) -> bool:
        """It holds everything up to `index`. False for old news."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused = False
        return True

    def reject(self, rejected: int, hint: int) -> bool:
        """It has no entry like ours at `rejected`, which we built on; it may have one at `hint`. False for old news."""
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:  # probes go out one at a time: not the answer to the last one
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
