"""The scenarios of Ongaro and Ousterhout's paper, by the numbers of its figures."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgenet_node.raft.algorithm.rawnode import HardState, Role
from edgenet_node.wire.raft import Message, MessageKind

from .group import Group, storage

LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
FOLLOWERS = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("max_size", [0, 100, 2**20])
def test_figure_7_the_leaders_log_replaces_every_other(max_size: int) -> None:
    """Followers may lack entries (a, b), have more (c, d), or both (e, f). c and d know better and do not vote."""
    logs = [LEADER, *FOLLOWERS.values()]
    voters = range(1, 8)
    hard = HardState(term=7, commit=3)
    group = Group(
        {one: storage(log, voters=voters, hard=hard) for one, log in enumerate(logs, 1)}, max_size_per_message=max_size
    )
    group.elect(1)
    group.tick(1, 3)
    votes = group[1].raft.members.votes
    assert votes == {}, "votes are of the election only"
    for member in group.members.values():
        assert tuple(member.log) == (*LEADER, 8)
        assert member.entries() == group[1].entries()
        assert member.raft.log.committed == len(LEADER) + 1
        assert member.applied == list(group[1].entries())
    assert group.malformed == []


@pytest.mark.parametrize(("name", "votes"), [("a", 1), ("b", 1), ("c", 0), ("d", 0), ("e", 1), ("f", 1)])
def test_figure_7_who_votes_for_the_leader(name: str, votes: int) -> None:
    hard = HardState(term=7)
    group = Group({1: storage(LEADER, voters=(1, 2), hard=hard), 2: storage(FOLLOWERS[name], voters=(1, 2), hard=hard)})
    group[1].raw.campaign()
    group.settle()
    assert (group[1].role() is Role.LEADER) == bool(votes)
    assert group[2].raft.vote == votes


def _figure_8() -> Group:
    """Up to (c): S1 leads term 4 and has got its entry of term 2 to a majority, but none of term 4."""
    voters = range(1, 6)
    hard = HardState(term=1, commit=1)
    group = Group({one: storage((1,), voters=voters, hard=hard) for one in voters})

    def to_s2(message: Message) -> Message | None:
        return message if message.kind is not MessageKind.APP or message.to == 2 else None

    group.carry = to_s2
    group.elect(1)  # (a) S1 leads term 2; its entry reaches S2 only
    assert [group[one].log for one in voters] == [[1, 2], [1, 2], [1], [1], [1]]

    group.crash(1)
    group.carry = lambda message: message if message.kind is not MessageKind.APP else None
    group.elect(5)  # (b) S5 leads term 3 by the votes of S3 and S4
    assert group[5].log == [1, 3]

    def no_entry_of_term_4(message: Message) -> Message:
        return structs.replace(message, entries=tuple(entry for entry in message.entries if entry.term < 4))

    group.crash(5)
    group.restart(1)
    group.carry = no_entry_of_term_4
    group[1].raw.campaign()  # term 3 is lost
    group.settle()
    group.cut.add(4)
    group.cut.discard(4)
    group[1].raw.campaign()
    group.settle()
    return group


def test_figure_8_an_entry_of_an_old_term_is_not_committed_by_counting() -> None:
    group = _figure_8()
    leader = group[1].raft
    assert (leader.role, leader.term) == (Role.LEADER, 4)
    assert [group[one].log for one in (1, 2, 3, 4)] == [[1, 2, 4], [1, 2], [1, 2], [1, 2]]
    assert sum(one.match >= 2 for one in leader.members.progress.values()) >= 3
    assert leader.log.committed == 1


def test_figure_8_d_the_old_entry_may_still_be_overwritten() -> None:
    group = _figure_8()
    group.crash(1)
    group.restart(5)
    group.carry = lambda message: message
    for _ in range(2):  # term 4 was given to S1
        group[5].raw.campaign()
        group.settle()
    assert group[5].role() is Role.LEADER
    assert [group[one].log for one in (2, 3, 4, 5)] == [[1, 3, 5]] * 4
    group.restart(1)
    group.tick(5, 2)
    assert group[1].log == [1, 3, 5]
    for member in group.members.values():
        assert [entry.term for entry in member.applied[-3:]] == [1, 3, 5]
        assert all(entry.term != 2 for entry in member.applied)


def test_figure_8_e_with_an_entry_of_the_own_term_both_are_committed() -> None:
    group = _figure_8()
    group.cut.add(4)
    group.carry = lambda message: message
    group.tick(1, 2)
    assert group[1].raft.log.committed == 3
    assert [group[one].log for one in (1, 2, 3)] == [[1, 2, 4]] * 3
    group.crash(1)
    group.cut.discard(4)
    group.restart(5)
    for _ in range(5):
        group[5].raw.campaign()
        group.settle()
        assert group[5].role() is not Role.LEADER
    group.restart(1)
    group.elect(2)
    group.tick(2, 2)
    assert all(member.log[:3] == [1, 2, 4] for member in group.members.values())
