"""Majorities against counting by hand."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.raft.algorithm.quorum import INFINITE, VoteResult, Voters, committed_index, vote_result

IDS = st.frozensets(st.integers(1, 7), max_size=7)
ACKED = st.dictionaries(st.integers(1, 7), st.integers(0, 6))
VOTES = st.dictionaries(st.integers(1, 7), st.booleans())


def _reached(voters: frozenset[int], acked: dict[int, int], index: int) -> bool:
    return 2 * sum(acked.get(voter, 0) >= index for voter in voters) > len(voters) or not voters


def _outcomes(voters: Voters, votes: dict[int, bool]) -> set[bool]:
    """Won or not, over everything that the missing voters could still say."""
    missing = sorted(voters.ids() - votes.keys())
    found = set()
    for rest in product((False, True), repeat=len(missing)):
        all_votes = {**votes, **dict(zip(missing, rest, strict=True))}
        halves = [half for half in (voters.incoming, voters.outgoing) if half]
        found.add(all(2 * sum(all_votes[voter] for voter in half) > len(half) for half in halves))
    return found


@given(IDS, ACKED)
def test_committed_is_the_largest_index_that_a_majority_reached(voters: frozenset[int], acked: dict[int, int]) -> None:
    index = committed_index(voters, acked)
    if not voters:
        assert index == INFINITE
        return
    assert _reached(voters, acked, index)
    assert not _reached(voters, acked, index + 1)


@given(IDS, IDS, ACKED)
def test_committed_jointly_needs_both_halves(one: frozenset[int], other: frozenset[int], acked: dict[int, int]) -> None:
    index = Voters(one, other).committed_index(acked)
    if one or other:
        assert _reached(one, acked, index)
        assert _reached(other, acked, index)
        assert not (_reached(one, acked, index + 1) and _reached(other, acked, index + 1))
    assert index == Voters(other, one).committed_index(acked)


@given(IDS, IDS, VOTES)
def test_a_vote_is_decided_when_what_is_missing_cannot_change_it(
    one: frozenset[int], other: frozenset[int], votes: dict[int, bool]
) -> None:
    voters = Voters(one, other)
    result = voters.vote_result(votes)
    assert result is Voters(other, one).vote_result(votes)
    outcomes = _outcomes(voters, votes)
    if outcomes == {True}:
        assert result is VoteResult.WON
    elif result is VoteResult.LOST:
        assert outcomes == {False}
    else:
        assert result is VoteResult.PENDING
    if not other:
        expected = VoteResult.PENDING if len(outcomes) == 2 else VoteResult.WON if True in outcomes else VoteResult.LOST
        assert vote_result(one, votes) is expected


def test_sizes_of_majorities() -> None:
    """2 of 2, 2 of 3, 3 of 4, 3 of 5, 4 of 7: an even group does not commit with half."""
    for size, needed in {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4}.items():
        voters = frozenset(range(size))
        for count in range(size + 1):
            won = vote_result(voters, {voter: voter < count for voter in voters}) is VoteResult.WON
            assert won == (count >= needed)
            assert (committed_index(voters, dict.fromkeys(range(count), 9)) == 9) == (count >= needed)
