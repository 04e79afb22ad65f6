"""Mistakes that other implementations made and paid for; each with a group in which it would show."""

from __future__ import annotations

import pytest

from edgenet_node.raft.algorithm.confchange import ChangeKind, ConfChange, ConfChangeSingle, ConfChangeV2, Transition
from edgenet_node.raft.algorithm.rawnode import HardState, Role
from edgenet_node.raft.algorithm.storage import MemoryStorage
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Message, MessageKind, Snapshot

from .group import Group, entry, storage

APP, APP_RESP = MessageKind.APP, MessageKind.APP_RESP


def _remove(member: int) -> ConfChange:
    return ConfChange(ChangeKind.REMOVE_NODE, member)


def _add(member: int) -> ConfChange:
    return ConfChange(ChangeKind.ADD_NODE, member)


# ---- a term bumped off the main loop


def test_term_and_vote_change_only_by_a_ready_that_says_so() -> None:
    """Whatever is stepped, the first output after a change of term or vote carries the new hard state, and no promise
    made in the new term leaves before it is durable."""
    group = Group(3)
    group[2].stalled = True
    group[2].raw.step(Message(MessageKind.VOTE, to=2, sender=3, term=4))
    assert group[2].raw.has_ready()
    ready = group[2].raw.ready()
    assert ready.hard_state == HardState(4, 3, 0)
    assert ready.must_sync
    (append,) = ready.messages
    assert [(one.kind, one.term) for one in append.responses] == [(MessageKind.VOTE_RESP, 4)]  # type: ignore[attr-defined]


def test_an_old_leader_learns_the_term_from_any_answer() -> None:
    group = Group(3)
    group.elect(1)
    group[1].raw.step(Message(APP_RESP, to=1, sender=2, term=3, session=0))
    assert (group[1].role(), group[1].raft.term, group[1].raft.vote) == (Role.FOLLOWER, 3, 0)


# ---- progress corrupted by a rejoin within one term


def test_an_answer_to_an_earlier_membership_counts_for_nothing() -> None:
    """Member 3 acknowledges, is removed, comes back empty in the same term; its old answer arrives then. Counted, it
    would commit entries that two of three disks do not hold."""
    group = Group(3)
    group.elect(1)
    old: list[Message] = []

    def keep(message: Message) -> Message | None:
        if message.kind is APP_RESP and message.sender == 3:
            old.append(message)
            return None
        return message

    group.carry = keep
    group.propose(1, b"a", b"b")
    group.carry = lambda message: message
    session = group[1].raft.members.progress[3].session
    group.change(1, _remove(3))
    group.crash(3)
    group.change(1, _add(3))
    term = group[1].raft.term
    progress = group[1].raft.members.progress[3]
    assert progress.session != session
    assert (progress.match, old[-1].index > 0, old[-1].term) == (0, True, term)
    for message in old:
        group[1].raw.step(message)
    assert progress.match == 0
    group.cut.add(2)
    committed = group[1].raft.log.committed
    group.propose(1, b"c")
    assert group[1].raft.log.committed == committed


def test_a_late_rejection_or_heartbeat_answer_of_an_earlier_membership_too() -> None:
    group = Group(3)
    group.elect(1)
    stale = group[1].raft.members.progress[3].session
    group.change(1, _remove(3))
    group.crash(3)
    group.change(1, _add(3))
    progress = group[1].raft.members.progress[3]
    progress.recent_active = False
    before = (progress.match, progress.next, progress.paused)
    term = group[1].raft.term
    for message in (
        Message(APP_RESP, to=1, sender=3, term=term, index=progress.next - 1, reject=True, session=stale),
        Message(MessageKind.HEARTBEAT_RESP, to=1, sender=3, term=term, session=stale),
    ):
        group[1].raw.step(message)
        assert (progress.match, progress.next, progress.paused, progress.recent_active) == (*before, False)


def test_every_progress_has_a_session_of_its_own() -> None:
    group = Group(3)
    seen: set[int] = set()
    for leader in (1, 2, 1, 3):
        group.elect(leader)
        sessions = {(leader, one.session) for one in group[leader].raft.members.progress.values()}
        assert len(sessions) == 3
        assert not {hash(one) for one in sessions} & seen
        seen |= {hash(one) for one in sessions}


# ---- vote and term not persisted


def test_nothing_is_promised_before_it_is_durable() -> None:
    """Votes, acknowledgements, and the leader's count of its own disk."""
    group = Group(3)
    group.elect(1)
    for member in group.members.values():
        member.stalled = True
    group[1].raw.propose(b"a")
    group.collect(1)
    appends, group.flying = group.flying, []
    assert [one.kind for one in appends] == [APP, APP]  # the leader's own disk may take its time
    for message in appends:
        group.deliver(message)
    group.collect(2)
    group.collect(3)
    assert group.flying == []
    committed = group[1].raft.log.committed
    group.flush(2)
    assert [one.kind for one in group.flying] == [APP_RESP]
    group.deliver(group.flying.pop())
    assert group[1].raft.log.committed == committed, "one disk of three"
    group.flush(1)
    assert group[1].raft.log.committed == committed + 1


def test_a_crash_loses_only_what_was_not_promised() -> None:
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a")
    group[2].stalled = True
    group.propose(1, b"b")
    assert group[2].log == group[1].log
    group.crash(2)
    group.restart(2)
    assert len(group[2].log) == len(group[1].log) - 1
    assert group[2].raft.term == 1
    assert group[2].raft.lead == 0
    group[2].stalled = False
    group.tick(1, 2)
    assert group[2].log == group[1].log


# ---- truncation without a real conflict


def test_a_delayed_append_does_not_truncate() -> None:
    group = Group({2: storage((1, 1, 1, 1), hard=HardState(1, 0, 0))})
    for index, entries in ((0, (entry(1, 1, b"1.1"),)), (1, (entry(1, 2, b"1.2"), entry(1, 3, b"1.3"))), (2, ())):
        log_term = 1 if index else 0
        group[2].raw.step(Message(APP, to=2, sender=1, term=1, log_term=log_term, index=index, entries=entries))
        assert len(group[2].log) == 4
    group.collect(2)
    assert [one.index for one in group.flying] == [1, 3, 2]


def test_a_real_conflict_is_resolved_in_the_leaders_favour() -> None:
    group = Group({2: storage((1, 1, 2, 2), hard=HardState(2, 0, 1))})
    append = Message(APP, to=2, sender=1, term=3, log_term=1, index=2, entries=(entry(3, 3),))
    group[2].raw.step(append)
    assert group[2].log == [1, 1, 3]


def test_entries_that_do_not_follow_are_rejected() -> None:
    group = Group({2: storage((1, 1))})
    group[2].raw.step(Message(APP, to=2, sender=1, term=1, log_term=1, index=5, entries=(entry(1, 6),)))
    group.collect(2)
    (answer,) = group.flying
    assert (answer.reject, answer.index, answer.reject_hint, answer.log_term) == (True, 5, 2, 1)
    assert group[2].log == [1, 1]


# ---- a group of two that commits alone


@pytest.mark.parametrize(("size", "alive"), [(2, 1), (4, 2), (3, 1), (5, 2)])
def test_no_minority_or_half_commits(size: int, alive: int) -> None:
    group = Group(size)
    group.elect(1)
    committed = group[1].raft.log.committed
    group.cut = set(range(alive + 1, size + 1))
    group.propose(1, b"alone")
    group.tick(1, 30)
    assert group[1].raft.log.committed == committed
    group.cut.pop()
    group.tick(1, 3)
    assert group[1].data == [b"alone"]


def test_commit_is_monotone() -> None:
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a", b"b", b"c")
    committed = group[2].raft.log.committed
    session = group[1].raft.members.progress[2].session
    for kind in (MessageKind.HEARTBEAT, APP):
        group[2].raw.step(Message(kind, to=2, sender=1, term=1, log_term=1, index=committed, commit=1, session=session))
        assert group[2].raft.log.committed == committed


# ---- changes of the configuration


def test_a_change_waits_for_the_one_before() -> None:
    """The bug of one-server-at-a-time changes: a second one before the first is committed and applied."""
    group = Group(3)
    group.elect(1)
    group.cut |= {2, 3}
    assert group[1].raw.propose_conf_change(_add(4)) == 2
    assert "may not be applied" in group[1].raw.conf_change_refusal(_add(5))
    assert group[1].raw.propose_conf_change(_add(5)) == 0
    assert not group[1].entries()[-1].data, "an empty entry takes its place"
    group.cut.clear()
    group.settle()
    group.tick(1, 2)
    assert group[1].raw.status().conf_state.voters == (1, 2, 3, 4)
    assert group[1].raw.conf_change_refusal(_add(5)) == ""


def test_a_new_leader_takes_no_change_before_it_has_applied_what_it_found() -> None:
    """There might be one in it."""
    group = Group(3)
    group.elect(1)
    group.cut.add(3)
    group.carry = lambda message: message if message.kind is not APP_RESP else None
    group.propose(1, b"a")
    group.cut = {1}
    group.carry = lambda message: message if message.kind is not APP else None
    group.elect(2)
    assert group[2].raw.propose_conf_change(_add(4)) == 0
    group.carry = lambda message: message
    group.tick(2, 2)
    assert group[2].raw.propose_conf_change(_add(4)) > 0


def test_a_dropped_change_does_not_block_the_next() -> None:
    group = Group(3, max_uncommitted_size=10)
    group.elect(1)
    group.cut |= {2, 3}
    group[1].raw.propose(b"0123456789")
    before = group[1].raw.status().pending_conf_index
    with pytest.raises(Exception, match="not committed"):
        group[1].raw.propose_conf_change(_add(4))
    assert group[1].raw.status().pending_conf_index == before


def test_a_change_that_cannot_be_applied_is_refused_when_proposed() -> None:
    group = Group(1)
    group.elect(1)
    assert group[1].raw.conf_change_refusal(_remove(1)) == "removed all voters"
    assert group[1].raw.propose_conf_change(_remove(1)) == 0
    many = tuple(ConfChangeSingle(ChangeKind.ADD_LEARNER_NODE, one) for one in range(2, 19))
    assert "members" in group[1].raw.conf_change_refusal(ConfChangeV2(changes=many))


def test_without_validation_it_changes_nothing_at_any_member() -> None:
    group = Group(3, disable_conf_change_validation=True)
    group.elect(1)
    everybody = tuple(ConfChangeSingle(ChangeKind.REMOVE_NODE, one) for one in (1, 2, 3))
    group.change(1, ConfChangeV2(changes=everybody))
    assert {member.raw.status().conf_state for member in group.members.values()} == {ConfState((1, 2, 3))}
    group.propose(1, b"a")
    assert group[3].data == [b"a"]


def test_a_joint_configuration_needs_both_majorities() -> None:
    """{1 2 3} to {1 4 5}: with 4 and 5 away nothing is committed, whatever 2 and 3 say."""
    group = Group(3)
    group.elect(1)
    for member in (4, 5):
        group.join(member)
    steps = [ConfChangeSingle(ChangeKind.REMOVE_NODE, one) for one in (2, 3)]
    steps += [ConfChangeSingle(ChangeKind.ADD_NODE, one) for one in (4, 5)]
    group.change(1, ConfChangeV2(Transition.JOINT_EXPLICIT, tuple(steps)))
    group.tick(1, 3)
    assert group[5].raw.status().conf_state == ConfState((1, 4, 5), voters_outgoing=(1, 2, 3))
    for away, commits in (({4, 5}, False), ({2, 3}, False), ({3, 5}, True)):
        group.cut = away
        committed = group[1].raft.log.committed
        group.propose(1, b"x")
        assert (group[1].raft.log.committed > committed) == commits
        group.cut = set()
        group.tick(1, 3)
    group.change(1, ConfChangeV2())
    group.cut = {2, 3}
    group.propose(1, b"y")
    assert group[4].data[-1] == b"y"
    assert group[5].raw.status().conf_state == ConfState((1, 4, 5))


@pytest.mark.parametrize("step_down", [True, False])
def test_a_leader_that_removes_itself(step_down: bool) -> None:
    group = Group(3, step_down_on_removal=step_down)
    group.elect(1)
    group.change(1, _remove(1))
    assert (group[1].role() is Role.LEADER) is not step_down
    group[2].raw.campaign()
    group.settle()
    assert group[2].role() is Role.LEADER
    group.propose(2, b"a")
    assert group[3].data == [b"a"]


def test_a_member_with_an_unapplied_change_does_not_campaign() -> None:
    group = Group(3)
    group.elect(1)
    group[2].stalled = True
    group.change(1, _add(4))
    group.tick(1)
    assert group[2].raft.log.committed > group[2].raft.log.applied
    group[2].raw.campaign()
    assert group[2].role() is Role.FOLLOWER
    group[2].stalled = False
    group.flush(2)
    group.settle()
    group[2].raw.campaign()
    assert group[2].role() is Role.CANDIDATE


def test_a_learner_receives_everything_and_counts_for_nothing() -> None:
    group = Group(1)
    group.elect(1)
    group.join(2)
    group.change(1, ConfChange(ChangeKind.ADD_LEARNER_NODE, 2))
    group.tick(1, 2)
    group.propose(1, b"a")
    assert group[2].data == [b"a"]
    group.cut.add(2)
    group.propose(1, b"b")
    assert group[1].data == [b"a", b"b"]
    group.cut.discard(2)
    group.change(1, _add(2))
    group.tick(1, 2)
    group.cut.add(2)
    group.propose(1, b"c")
    assert group[1].data == [b"a", b"b"]


# ---- snapshots


def test_a_follower_behind_the_log_is_brought_up_by_a_snapshot() -> None:
    group = Group(3)
    group.elect(1)
    group.crash(3)
    group.propose(1, b"a", b"b", b"c")
    leader = group[1]
    leader.storage.create_snapshot(leader.raft.log.applied, leader.raw.status().conf_state, b"state")
    leader.storage.compact(leader.raft.log.applied)
    group.restart(3)
    group.tick(1, 3)
    assert group[3].storage.snapshot() == leader.storage.snapshot()
    group.propose(1, b"d")
    assert group[3].data == [b"d"]
    assert group[3].raft.log.applied == leader.raft.log.applied


def test_a_snapshot_that_is_not_needed_is_ignored() -> None:
    group = Group(3)
    group.elect(1)
    group.propose(1, b"a")
    before = list(group[2].entries())
    old = Snapshot(1, 1, ConfState((1, 2, 3)))
    group[2].raw.step(Message(MessageKind.SNAP, to=2, sender=1, term=1, snapshot=old))
    assert list(group[2].entries()) == before
    group.collect(2)
    assert [one.index for one in group.flying] == [2]


def test_a_new_member_takes_a_snapshot_from_before_it_was_added() -> None:
    """There may be no other for a long time."""
    group = Group(1)
    group.elect(1)
    group.propose(1, b"a")
    leader = group[1]
    leader.storage.create_snapshot(leader.raft.log.applied, leader.raw.status().conf_state)
    leader.storage.compact(leader.raft.log.applied)
    group.join(2)
    group.change(1, _add(2))
    group.tick(1, 3)
    assert group[2].raw.status().conf_state == ConfState((1, 2))
    group.propose(1, b"b")
    assert group[2].data == [b"b"]


def test_a_lagging_disk_does_not_mix_up_logs_of_three_leaders() -> None:
    """A, B, A at one index, all in flight: the answer to the first A must not make the last one stable."""
    group = Group({1: storage((1,), voters=(1, 2, 3), hard=HardState(1, 0, 1))})
    member = group[1]
    member.stalled = True
    for term, leader, of in ((2, 2, 2), (3, 3, 3), (4, 2, 2)):
        append = Message(APP, to=1, sender=leader, term=term, log_term=1, index=1, entries=(entry(of, 2),))
        member.raw.step(append)
        group.collect(1)
    first, second, third = member.waiting
    member.waiting.clear()
    assert [[one.term for one in request.entries] for request in (first, second, third)] == [[2], [3], [2]]
    for request, stable in ((first, False), (second, False), (third, True)):
        for response in member.save(request):
            if response.to == 1:
                member.raw.step(response)
        assert (not member.raft.log.has_any_unstable()) == stable
        assert member.log == [1, 2]


def test_a_snapshot_that_our_log_reaches_only_commits() -> None:
    group = Group({2: storage((1, 1, 1), hard=HardState(1, 0, 1))})
    snapshot = Snapshot(2, 1, ConfState((1, 2, 3)))
    group[2].raw.step(Message(MessageKind.SNAP, to=2, sender=1, term=1, snapshot=snapshot))
    assert (group[2].raft.log.committed, group[2].log) == (2, [1, 1, 1])


def test_a_snapshot_saved_in_an_earlier_term_is_installed_all_the_same() -> None:
    """Not so entries: they may have been overwritten. And nobody campaigns before it is installed."""
    group = Group(3)
    member = group[3]
    member.stalled = True
    snapshot = Snapshot(9, 1, ConfState((1, 2, 3)))
    member.raw.step(Message(MessageKind.SNAP, to=3, sender=1, term=1, snapshot=snapshot))
    group.collect(3)
    member.raw.step(Message(MessageKind.HEARTBEAT, to=3, sender=2, term=2))
    member.raw.campaign()
    assert member.role() is Role.FOLLOWER
    group.flush(3)
    assert (member.raft.log.applied, member.raft.log.snapshot) == (9, None)
    member.raw.campaign()
    assert member.role() is Role.CANDIDATE


def test_with_fewer_voters_more_may_be_committed_at_once() -> None:
    """x is with 1 and 2 of {1 2 3 4}; once 4 is removed, that is a majority."""
    group = Group(4)
    group.elect(1)
    group.cut.add(4)

    def not_x_to_3(message: Message) -> Message | None:
        return None if message.to == 3 and any(one.data == b"x" for one in message.entries) else message

    group.carry = not_x_to_3
    group[1].raw.propose_conf_change(_remove(4))
    group.propose(1, b"x")
    assert group[1].data == [b"x"]


def test_a_joint_configuration_is_left_once_by_a_leader_that_finds_it() -> None:
    """Not while there may be another change in what it has not applied."""
    group = Group(3, max_committed_size_per_ready=1)
    group.elect(1)
    group.join(4)
    group.cut.add(3)
    group.carry = lambda message: message if message.kind is not APP_RESP else None
    add = ConfChangeSingle(ChangeKind.ADD_NODE, 4)
    group[1].raw.propose_conf_change(ConfChangeV2(Transition.JOINT_IMPLICIT, (add,)))
    group.propose(1, b"a", b"b")
    group.cut = {1}
    group.carry = lambda message: message
    group.elect(2)
    group.tick(2, 3)
    assert group[4].raw.status().conf_state == ConfState((1, 2, 3, 4))
    rest = [(one.kind.name, one.data) for one in group[2].entries()[-2:]]
    assert rest == [("NORMAL", b""), ("CONF_CHANGE_V2", b"")]


def test_what_is_uncommitted_is_counted_anew_in_each_term() -> None:
    group = Group(3, max_uncommitted_size=4)
    group.elect(1)
    group.cut |= {2, 3}
    group.propose(1, b"1234")
    group.cut = {1}
    group.elect(2)
    group.cut = set()
    group.tick(2, 2)
    group.elect(1)
    assert group[1].raw.status().uncommitted_size == 0
    group.propose(1, b"5678")
    assert group[2].data == [b"5678"]


# ---- groups that came to a stop for ever (found by `test_random_runs`)


def _disk(last: int, commit: int) -> MemoryStorage:
    """In a joint configuration that leaves 1 as the only voter; entry 3 leaves it, what follows is not committed."""
    joint = ConfState((1,), voters_outgoing=(1, 2, 3), learners_next=(2, 3), auto_leave=True)
    disk = MemoryStorage()
    log = [Entry(1, 3, EntryKind.CONF_CHANGE_V2), entry(1, 4, b"4"), entry(1, 5, b"5")]
    disk.load(HardState(1, 0, commit), Snapshot(2, 1, joint), 2, 1, log[: last - 2])
    return disk


@pytest.mark.parametrize("pre_vote", [True, False])
def test_those_who_may_no_longer_lead_tell_the_last_voter_what_is_committed(pre_vote: bool) -> None:
    """2 and 3 have left the configuration, 1 does not know: it needs their votes, which their longer logs refuse."""
    group = Group({1: _disk(3, 2), 2: _disk(5, 3), 3: _disk(5, 3)}, pre_vote=pre_vote)
    group.settle()
    assert [group[one].raft.promotable() for one in (1, 2, 3)] == [True, False, False]
    for _ in range(2):
        group[1].raw.campaign()
        group.settle()
    assert group[1].role() is Role.LEADER
    group.tick(1, 2)
    assert [group[one].log for one in (1, 2, 3)] == [group[1].log] * 3


def test_a_joint_configuration_is_left_after_a_transfer_that_failed() -> None:
    group = Group(3)
    group.elect(1)
    group.join(4)
    group.cut.add(3)
    add = ConfChangeSingle(ChangeKind.ADD_NODE, 4)
    group[1].raw.propose_conf_change(ConfChangeV2(Transition.JOINT_IMPLICIT, (add,)))
    group[1].raw.transfer_leader(3)
    group.settle()
    group.tick(1)
    assert group[1].raw.status().conf_state.voters_outgoing == (1, 2, 3)
    for _ in range(12):
        group.tick(1)
    assert group[1].raw.status().conf_state == ConfState((1, 2, 3, 4))
