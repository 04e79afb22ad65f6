"""Linearizable reads without the log (Ongaro's thesis, section 6.4).

A read may be answered from the state at the commit index of its arrival once a majority has confirmed, after that, that
this leader still leads. Reads are numbered; a heartbeat carries the number of the newest one that waits, its answer the
same number: it confirms that one and all before.
"""

from __future__ import annotations

from ...errors import Malformed
from ...wire.raft import Message
from .quorum import Voters

_NUMBER_BYTES = 8


def number_of(context: bytes) -> int:
    """`Malformed` unless it is one of ours; 0 for none."""
    if len(context) not in (0, _NUMBER_BYTES):
        raise Malformed("the context of a heartbeat is the number of a read")
    return int.from_bytes(context, "little")


class Reads:
    """Those that wait, of one leader in one term."""

    __slots__ = ("_acknowledged", "_confirmed", "_waiting", "postponed")

    def __init__(self) -> None:
        self._waiting: list[tuple[Message, int]] = []
        self._confirmed = 0  # reads before those that wait
        self._acknowledged: dict[int, int] = {}
        self.postponed: list[Message] = []  # until the leader has committed an entry of its term

    def __len__(self) -> int:
        return len(self._waiting) + len(self.postponed)

    @property
    def newest(self) -> int:
        return self._confirmed + len(self._waiting)

    def context(self) -> bytes:
        """For heartbeats: empty when nothing waits."""
        return self.newest.to_bytes(_NUMBER_BYTES, "little") if self._waiting else b""

    def add(self, request: Message, commit: int) -> None:
        self._waiting.append((request, commit))

    def acknowledge(self, member: int, number: int) -> None:
        if number > self._acknowledged.get(member, 0):
            self._acknowledged[member] = number

    def take_confirmed(self, voters: Voters) -> list[tuple[Message, int]]:
        """Requests that a majority has confirmed since, each with its index."""
        count = min(voters.committed_index(self._acknowledged), self.newest) - self._confirmed
        if count <= 0:
            return []
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._confirmed += count
        return taken
