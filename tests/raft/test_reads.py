"""Linearizable reads."""

from __future__ import annotations

import pytest

from edgenet_node.errors import Malformed
from edgenet_node.raft.algorithm.rawnode import HardState, ReadState
from edgenet_node.wire.raft import Entry, Message, MessageKind

from .group import Group, storage


def test_a_read_waits_for_a_majority() -> None:
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a")
    group.cut |= {2, 3}
    group[1].raw.read_index(b"one")
    group.settle()
    assert group[1].reads == []
    group.cut.discard(2)
    group.tick(1)
    assert group[1].reads == [ReadState(group[1].raft.log.committed, b"one")]


def test_reads_of_followers_go_through_the_leader() -> None:
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a")
    group[3].raw.read_index(b"x")
    group[2].raw.read_index(b"y")
    group.settle()
    assert group[3].reads == [ReadState(2, b"x")]
    assert group[2].reads == [ReadState(2, b"y")]
    assert group[1].reads == []


def test_a_new_leader_answers_only_after_its_first_commit() -> None:
    """It does not know before what was committed under the old one."""
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a")
    group.cut.add(1)
    group.carry = lambda message: message if message.kind is not MessageKind.APP else None
    group.elect(2)
    group[2].raw.read_index(b"x")
    group.tick(2, 2)
    assert group[2].reads == []
    group.carry = lambda message: message
    group.tick(2, 2)
    assert group[2].reads == [ReadState(3, b"x")]


def test_a_deposed_leader_answers_nothing() -> None:
    group = Group(3)
    group.elect(1)
    group.cut.add(1)
    group.elect(2)
    group.propose(2, b"new")
    group[1].raw.read_index(b"x")
    group.settle()
    group.cut.discard(1)
    group.tick(1, 3)
    assert group[1].reads == []


def test_one_confirmation_answers_all_that_came_before() -> None:
    group = Group(5)
    group.elect(1)
    group.cut |= {2, 3, 4, 5}
    for context in (b"a", b"b", b"c"):
        group[1].raw.read_index(context)
    group.settle()
    group.cut = {4, 5}
    group.tick(1)
    assert [state.context for state in group[1].reads] == [b"a", b"b", b"c"]


def test_an_old_confirmation_does_not_confirm_a_later_read() -> None:
    group = Group(3)
    group.elect(1)
    kept: list[Message] = []

    def keep(message: Message) -> Message | None:
        if message.kind is MessageKind.HEARTBEAT_RESP:
            kept.append(message)
            return None
        return message

    group.carry = keep
    group[1].raw.read_index(b"a")
    group.settle()
    group[1].raw.read_index(b"b")
    for message in kept:
        group[1].raw.step(message)
    group.collect(1)
    assert [state.context for state in group[1].reads] == [b"a"]


def test_a_late_confirmation_takes_nothing_back() -> None:
    group = Group(5)
    group.elect(1)
    group.cut |= {2, 3, 4, 5}
    group[1].raw.read_index(b"a")
    group[1].raw.read_index(b"b")
    for member, number in ((2, 2), (2, 1), (3, 2)):
        session = group[1].raft.members.progress[member].session
        context = number.to_bytes(8, "little")
        answer = Message(MessageKind.HEARTBEAT_RESP, to=1, sender=member, term=1, context=context, session=session)
        group[1].raw.step(answer)
    group.collect(1)
    assert [state.context for state in group[1].reads] == [b"a", b"b"]


def test_a_single_member_and_a_lease_answer_at_once() -> None:
    group = Group(1)
    group.elect(1)
    group[1].raw.read_index(b"x")
    group.collect(1)
    assert group[1].reads == [ReadState(1, b"x")]
    group = Group(3, read_only="lease", check_quorum=True)
    group.elect(1)
    group.cut |= {2, 3}
    group[1].raw.read_index(b"x")
    group.collect(1)
    assert group[1].reads == [ReadState(1, b"x")]


def test_the_only_voter_knows_what_it_committed_only_after_a_commit() -> None:
    """Its saved commit index may lag behind what it committed, and answered, before it crashed."""
    group = Group({1: storage((1, 1, 1), voters=(1,), hard=HardState(1, 0, 1))})
    member = group[1]
    member.stalled = True
    member.raw.campaign()
    group.collect(1)
    group.flush(1)
    member.raw.read_index(b"x")
    group.collect(1)
    assert member.reads == []
    group.flush(1)
    group.collect(1)
    assert member.reads == [ReadState(4, b"x")]


def test_without_a_leader_a_read_is_lost() -> None:
    group = Group(3)
    group[1].raw.read_index(b"x")
    group.settle()
    assert group[1].reads == []


def test_reads_that_wait_are_bounded() -> None:
    group = Group(3)
    group.elect(1)
    group.cut |= {2, 3}
    for _ in range(5000):
        group[1].raw.read_index(b"x")
    assert len(group[1].raft.reads) == 4096


@pytest.mark.parametrize("number", [b"short", (9).to_bytes(8, "little")])
def test_a_confirmation_of_what_was_not_asked_is_malformed(number: bytes) -> None:
    group = Group(3)
    group.elect(1)
    session = group[1].raft.members.progress[2].session
    answer = Message(MessageKind.HEARTBEAT_RESP, to=1, sender=2, term=1, context=number, session=session)
    with pytest.raises(Malformed):
        group[1].raw.step(answer)
    with pytest.raises(Malformed):
        group[1].raw.step(Message(MessageKind.READ_INDEX, to=1, sender=2, entries=(Entry(0, 0), Entry(0, 0))))
