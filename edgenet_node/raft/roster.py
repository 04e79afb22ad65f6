"""Whose member ids are whose: authenticates frames, addresses messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from ..wire.raft import MEMBERS_MAX, ConfState, RosterEntry

_KEPT_MAX = 4 * MEMBERS_MAX


class Roster:
    """Member id to peer. Those who left are kept for a while: their last messages are no offence, and a member that
    lags may still need to know them."""

    def __init__(self) -> None:
        self._peers: OrderedDict[int, str] = OrderedDict()
        self._members: frozenset[int] = frozenset()
        self._former: set[int] = set()

    def former(self, member: int) -> bool:
        """It was in the configuration and left; ids are not used twice."""
        return member in self._former

    def peer(self, member: int) -> str:
        return self._peers.get(member, "")

    def member(self, peer: str) -> int:
        """Its id in the configuration, the newest if it has several; 0 if it has none."""
        return next((one for one in reversed(self._peers) if self._peers[one] == peer and one in self._members), 0)

    @property
    def members(self) -> frozenset[int]:
        return self._members

    def peers(self) -> list[str]:
        """Of the configuration; of everybody that was named while there is none."""
        return [peer for one, peer in self._peers.items() if one in self._members or not self._members]

    def learn(self, entries: Iterable[RosterEntry]) -> None:
        for entry in entries:
            self._peers.setdefault(entry.member, entry.peer)
        for old in [one for one in self._peers if one not in self._members][: max(0, len(self._peers) - _KEPT_MAX)]:
            del self._peers[old]
            self._former.discard(old)

    def configure(self, conf: ConfState) -> None:
        members = frozenset((*conf.voters, *conf.learners, *conf.voters_outgoing, *conf.learners_next))
        self._former |= self._members - members
        self._members = members

    def replace(self, entries: Iterable[RosterEntry]) -> None:
        self._peers.clear()
        self._former.clear()
        self._peers.update((entry.member, entry.peer) for entry in entries)

    def entries(self) -> tuple[RosterEntry, ...]:
        """Of the configuration."""
        return tuple(RosterEntry(member, peer) for member, peer in self._peers.items() if member in self._members)
