"""Majorities, and pairs of them (joint consensus; Ongaro's thesis, section 4.3).

A decision of a joint configuration needs a majority of both halves. An empty half agrees with everything, so that a
configuration that is not joint is one whose outgoing half is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import Final

from msgspec import Struct

INFINITE: Final = 2**64 - 1
"""What an empty half has committed."""


class VoteResult(IntEnum):
    PENDING = 1
    LOST = 2
    WON = 3


def majority_index(acked: Iterable[int]) -> int:
    """The largest index that more than half of the values reach: element (n-1)//2 in ascending order."""
    ascending = sorted(acked)
    return ascending[(len(ascending) - 1) // 2] if ascending else INFINITE


def committed_index(voters: Iterable[int], acked: Mapping[int, int]) -> int:
    """What a majority of `voters` has acknowledged; who is absent from `acked` has acknowledged nothing."""
    return majority_index([acked.get(voter, 0) for voter in voters])


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won with n//2+1 grants; lost once the voters still missing could not make it that many."""
    needed = len(voters) // 2 + 1
    if not voters:
        return VoteResult.WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


class Voters(Struct, frozen=True):
    """The two halves of a configuration; `outgoing` is empty unless it is joint."""

    incoming: frozenset[int] = frozenset()
    outgoing: frozenset[int] = frozenset()

    def ids(self) -> frozenset[int]:
        return self.incoming | self.outgoing

    def committed_index(self, acked: Mapping[int, int]) -> int:
        return min(committed_index(self.incoming, acked), committed_index(self.outgoing, acked))

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Lost with either half, won with both."""
        one, other = vote_result(self.incoming, votes), vote_result(self.outgoing, votes)
        if one is other:
            return one
        return VoteResult.LOST if VoteResult.LOST in (one, other) else VoteResult.PENDING

    def __str__(self) -> str:
        halves = (self.incoming, self.outgoing) if self.outgoing else (self.incoming,)
        return "&&".join(describe_ids(half) for half in halves)


def describe_ids(ids: Iterable[int]) -> str:
    """As `(1 2 a)`: ascending, hexadecimal."""
    return f"({' '.join(f'{one:x}' for one in sorted(ids))})"
