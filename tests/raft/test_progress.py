"""Flow control to one follower."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import InvariantError
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.progress import Inflights, Progress, ProgressState
from edgenet_node.wire.raft import Entry, Message, MessageKind

from .group import Group, storage


@given(
    st.integers(1, 5),
    st.integers(0, 300),
    st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 120)), max_size=40),
)
def test_a_window_holds_what_was_not_acknowledged(
    count_max: int, bytes_max: int, steps: list[tuple[bool, int, int]]
) -> None:
    window = Inflights(count_max, bytes_max)
    model: list[tuple[int, int]] = []
    last = 0
    for add, number, size in steps:
        if add:
            full = len(model) == count_max or (bytes_max > 0 and sum(one for _, one in model) >= bytes_max)
            assert window.full() == full
            if full:
                with pytest.raises(InvariantError):
                    window.add(last + 1, size)
                continue
            last += 1 + number
            window.add(last, size)
            model.append((last, size))
        else:
            upto = max(0, last - number)
            window.free_to(upto)
            model = [one for one in model if one[0] > upto]
        assert (len(window), window.bytes) == (len(model), sum(one for _, one in model))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sent", "probe", "replicate", "snapshot", "acknowledge", "reject"]),
            st.integers(0, 20),
            st.integers(0, 20),
        ),
        max_size=30,
    )
)
def test_match_stays_below_next_and_never_falls(steps: list[tuple[str, int, int]]) -> None:
    progress = Progress(1, Inflights(4), 1)
    for step, one, other in steps:
        match = progress.match
        if step == "sent" and not progress.blocked() and not (progress.inflights.full() and one):
            progress.sent(one % 4, other, min(one, progress.next - 1))
        elif step == "probe":
            progress.become_probe()
        elif step == "replicate":
            progress.become_replicate()
        elif step == "snapshot":
            progress.become_snapshot(max(one, progress.match))
        elif step == "acknowledge":
            progress.acknowledge(one)
        elif step == "reject":
            progress.reject(one, other)
        assert match <= progress.match < progress.next
        if progress.state is ProgressState.SNAPSHOT:
            assert progress.blocked()


def test_old_rejections_change_nothing() -> None:
    progress = Progress(6, Inflights(4), 1)
    progress.acknowledge(5)
    assert not progress.reject(3, 1)  # not what was asked last
    progress.become_replicate()
    assert not progress.reject(5, 1)  # matched since
    assert progress.reject(7, 6)
    assert progress.next == 6


def _behind(**options: int) -> tuple[Group, list[Message]]:
    """A leader with twelve entries of 100 bytes for a follower that has none, and what it sends at once after the first
    answer."""
    group = Group({1: storage(voters=(1, 2, 3)), 2: storage(), 3: storage()}, **options)
    group.cut.add(3)
    group.elect(1)
    for index in range(12):
        group.propose(1, bytes([index]) * 100)
    group.cut.discard(3)
    group[1].raw.tick()
    group.collect(1)
    flying, group.flying = group.flying, []
    for message in flying:
        if message.to == 3:
            group.deliver(message)
    group.collect(3)
    answers, group.flying = group.flying, []
    for message in answers:
        group.deliver(message)
    group.collect(1)
    probes, group.flying = group.sent(MessageKind.APP, 3), []
    for message in probes:
        group.deliver(message)
    group.collect(3)
    answers, group.flying = group.flying, []
    for message in answers:
        group.deliver(message)
    group.collect(1)
    return group, group.sent(MessageKind.APP, 3)


def _payload(message: Message) -> int:
    return sum(len(entry.data) for entry in message.entries)


def test_the_window_bounds_the_messages_under_way() -> None:
    group, sent = _behind(max_size_per_message=0, max_inflight_messages=3)
    assert [len(message.entries) for message in sent if message.entries] == [1, 1, 1]
    status = group[1].raw.status().progress[3]
    assert (status.inflight, status.inflight_full, status.paused) == (3, True, True)
    group.settle()
    group.tick(1)
    assert group[3].log == group[1].log


def test_the_window_bounds_the_bytes_under_way() -> None:
    group, sent = _behind(max_size_per_message=160, max_inflight_bytes=250)
    assert sum(map(_payload, sent)) == 300  # it is full when it holds the limit: the last message may exceed it
    group.settle()
    group.tick(1)
    assert group[3].log == group[1].log


@pytest.mark.parametrize(("limit", "entries"), [(0, 1), (148, 1), (3 * 148, 3), (2**20, 12)])
def test_the_size_of_a_message_is_limited(limit: int, entries: int) -> None:
    group = Group(3, max_size_per_message=limit)
    group.elect(1)
    group.cut.add(3)
    for index in range(12):
        group.propose(1, bytes([index]) * 100)
    group.cut.discard(3)
    sent: list[int] = []

    def count(message: Message) -> Message:
        if message.kind is MessageKind.APP:
            sent.append(len(message.entries))
        return message

    group.carry = count
    group[1].raw.report_unreachable(3)
    group.tick(1, 2)
    assert group[3].log == group[1].log
    assert max(sent) == entries
    assert sum(sent) >= 12


def test_a_full_window_whose_messages_were_all_lost_recovers() -> None:
    group = Group(3, max_inflight_messages=2)
    group.elect(1)
    group.carry = lambda one: None if one.kind is MessageKind.APP and one.to == 3 else one
    group.propose(1, b"a", b"b", b"c", b"d")
    assert group[1].raw.status().progress[3].inflight_full
    group.carry = lambda one: one
    group.tick(1)
    assert group[3].log == group[1].log
    assert group[1].raw.status().progress[3].inflight == 0


def test_a_proposal_beyond_the_uncommitted_size_is_dropped() -> None:
    """Empty entries and, while nothing is uncommitted, any entry are taken: nothing can get stuck."""
    group = Group(3, max_uncommitted_size=100)
    group.elect(1)
    leader = group[1]
    group.cut |= {2, 3}
    leader.raw.propose(b"x" * 150)
    with pytest.raises(ProposalDropped):
        leader.raw.propose(b"y")
    with pytest.raises(ProposalDropped):
        leader.raw.propose_many([b"", b"y"])
    leader.raw.propose(b"")
    before = len(leader.log)
    group.cut.clear()
    group.settle()
    group.tick(1, 3)
    assert leader.raw.status().uncommitted_size == 0
    group.propose(1, b"z" * 100)
    assert len(leader.log) == before + 1
    assert group[2].data == [b"x" * 150, b"z" * 100]


def test_a_follower_that_is_away_gets_no_snapshot() -> None:
    """It would be out of date when it comes back."""
    group = Group(3)
    group.elect(1)
    group.crash(3)
    group.propose(1, b"a", b"b")
    group[1].storage.create_snapshot(group[1].raft.log.applied)
    group[1].storage.compact(group[1].raft.log.applied)
    group[1].raw.report_unreachable(3)
    group[1].raft.members.progress[3].recent_active = False
    group.propose(1, b"c")
    assert group[1].raw.status().progress[3].state == "probe"
    group.restart(3)
    group.tick(1, 2)
    assert group[3].raft.log.committed == group[1].raft.log.committed
    assert group[1].raw.status().progress[3].state == "replicate"


def test_a_failed_snapshot_is_sent_again() -> None:
    group = Group(3)
    group.elect(1)
    group.crash(3)
    group.propose(1, b"a", b"b")
    group[1].storage.create_snapshot(group[1].raft.log.applied)
    group[1].storage.compact(group[1].raft.log.applied)
    group.restart(3)
    group.carry = lambda one: None if one.kind is MessageKind.SNAP else one
    group.tick(1, 2)
    assert group[1].raw.status().progress[3].state == "snapshot"
    group[1].raw.report_snapshot(3, ok=False)
    assert group[1].raw.status().progress[3].state == "probe"
    group.carry = lambda one: one
    group.tick(1, 2)
    assert group[1].raw.status().progress[3].state == "replicate"
    assert group[3].raft.log.committed == group[1].raft.log.committed


def test_unreachable_means_that_what_was_under_way_is_lost() -> None:
    group = Group(3)
    group.elect(1)
    group.carry = lambda one: None if one.kind is MessageKind.APP and one.to == 2 else one
    group.propose(1, b"a")
    group.carry = lambda one: one
    group[1].raw.report_unreachable(2)
    assert group[1].raw.status().progress[2].state == "probe"
    group.tick(1)
    assert group[2].entries() == group[1].entries()
    assert isinstance(group[2].entries()[0], Entry)
