"""Who leads: feature rows 4.1, 4.2, 4.7 and the cases that ruvector-raft's tests list."""

from __future__ import annotations

import pytest

from edgenet_node.errors import UsageError
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.rawnode import Config, HardState, Role
from edgenet_node.wire.raft import Message, MessageKind

from .group import Group, storage

VOTE, VOTE_RESP, PRE_VOTE, PRE_VOTE_RESP = (
    MessageKind.VOTE,
    MessageKind.VOTE_RESP,
    MessageKind.PRE_VOTE,
    MessageKind.PRE_VOTE_RESP,
)


def _votes(member: int, candidate: int, *, reject: bool = False) -> Message:
    return Message(VOTE_RESP, to=candidate, sender=member, term=1, reject=reject)


def test_a_single_member_wins_at_once() -> None:
    group = Group(1)
    group.elect(1)
    group.propose(1, b"alone")
    assert group[1].data == [b"alone"]


@pytest.mark.parametrize(("size", "needed"), [(2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_of_votes_wins(size: int, needed: int) -> None:
    group = Group(size)
    group.cut = set(range(2, size + 1))
    group[1].raw.campaign()
    group.settle()
    for granted in range(2, needed + 1):
        assert group[1].role() is Role.CANDIDATE
        group[1].raw.step(_votes(granted, 1))
    assert group[1].role() is Role.LEADER


def test_its_own_vote_counts_once_it_is_durable() -> None:
    group = Group(3)
    group[1].stalled = True
    group.cut = {2, 3}
    group[1].raw.campaign()
    group.settle()
    group[1].raw.step(_votes(2, 1))
    assert group[1].role() is Role.CANDIDATE
    group.flush(1)
    assert group[1].role() is Role.LEADER
    assert group[1].storage.initial_state()[0] == HardState(1, 1, 0)


def test_a_member_votes_once_however_often_it_answers() -> None:
    group = Group(5)
    group.cut = {2, 3, 4, 5}
    group[1].raw.campaign()
    group.settle()
    for _ in range(5):
        group[1].raw.step(_votes(2, 1))
    assert group[1].role() is Role.CANDIDATE
    group[1].raw.step(_votes(2, 1, reject=True))  # nor does it change its mind
    group[1].raw.step(_votes(3, 1))
    assert group[1].role() is Role.LEADER


def test_a_majority_of_rejections_ends_it() -> None:
    group = Group(3)
    group.cut = {2, 3}
    group[1].raw.campaign()
    group.settle()
    group[1].raw.step(_votes(2, 1, reject=True))
    assert group[1].role() is Role.CANDIDATE
    group[1].raw.step(_votes(3, 1, reject=True))
    assert (group[1].role(), group[1].raft.term) == (Role.FOLLOWER, 1)


def test_votes_of_an_earlier_term_count_for_nothing() -> None:
    group = Group(3)
    group.cut = {2, 3}
    for _ in range(2):
        group[1].raw.campaign()
        group.settle()
    assert group[1].raft.term == 2
    group[1].raw.step(_votes(2, 1))
    assert group[1].role() is Role.CANDIDATE


def _answer(terms: tuple[int, ...], request: Message, hard: HardState | None = None) -> Message:
    group = Group({2: storage(terms, hard=hard)})
    group[2].raw.step(request)
    group.collect(2)
    (answer,) = group.flying
    return answer


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
@pytest.mark.parametrize(
    ("log_term", "index", "granted"),
    [(2, 3, True), (2, 4, True), (3, 1, True), (2, 2, False), (1, 9, False), (0, 0, False)],
)
def test_a_vote_needs_a_log_as_complete_as_ours(kind: MessageKind, log_term: int, index: int, granted: bool) -> None:
    request = Message(kind, to=2, sender=1, term=4, log_term=log_term, index=index)
    answer = _answer((1, 2, 2), request, HardState(2))
    assert answer.reject is not granted
    assert answer.kind is (VOTE_RESP if kind is VOTE else PRE_VOTE_RESP)


def test_a_stale_term_is_denied() -> None:
    request = Message(PRE_VOTE, to=2, sender=1, term=3, log_term=9, index=9)
    answer = _answer((1,), request, HardState(5))
    assert (answer.reject, answer.term) == (True, 5)
    group = Group({2: storage((1,), hard=HardState(5))})
    group[2].raw.step(Message(VOTE, to=2, sender=1, term=3, log_term=9, index=9))
    assert not group[2].raw.has_ready()


@pytest.mark.parametrize(("candidate", "granted"), [(1, True), (3, False)])
def test_one_vote_a_term_and_again_to_the_same_candidate(candidate: int, granted: bool) -> None:
    request = Message(VOTE, to=2, sender=candidate, term=5, log_term=9, index=9)
    assert _answer((1,), request, HardState(5, 1)).reject is not granted


def test_the_vote_outlives_a_restart() -> None:
    """It is durable before it is given: otherwise two leaders could win one term."""
    group = Group(3)
    group[2].stalled = True
    group[2].raw.step(Message(VOTE, to=2, sender=1, term=1))
    group.collect(2)
    assert group.flying == []
    group[2].stalled = False
    group.flush(2)
    assert [one.kind for one in group.flying] == [VOTE_RESP]
    group[2].start()
    assert (group[2].raft.term, group[2].raft.vote) == (1, 1)
    group.flying.clear()
    group[2].raw.step(Message(VOTE, to=2, sender=3, term=1))
    group.collect(2)
    assert [one.reject for one in group.flying] == [True]


def test_who_gives_its_vote_waits_before_it_campaigns_itself() -> None:
    group = Group(3)
    for _ in range(9):
        group[2].raw.tick()
    group[2].raw.step(Message(VOTE, to=2, sender=1, term=1))
    assert group[2].raft.election_elapsed == 0
    for _ in range(9):
        group[2].raw.tick()
    group[2].raw.step(Message(VOTE, to=2, sender=1, term=1))  # again: the answer was lost
    assert group[2].raft.election_elapsed == 0


def test_a_pre_vote_changes_nothing_at_the_voter() -> None:
    group = Group(3, pre_vote=True)
    group[2].raw.step(Message(PRE_VOTE, to=2, sender=1, term=7))
    group.collect(2)
    assert (group[2].raft.term, group[2].raft.vote) == (0, 0)
    assert [(one.term, one.reject) for one in group.flying] == [(7, False)]


def test_a_member_that_was_cut_off_does_not_depose_the_leader() -> None:
    """With pre-vote its term does not rise; with check-quorum the others do not even listen."""
    group = Group(3, pre_vote=True, check_quorum=True)
    group.elect(1)
    group.cut.add(3)
    group.tick(3, 60)
    assert (group[3].role(), group[3].raft.term) == (Role.PRE_CANDIDATE, 1)
    group.cut.discard(3)
    group.tick(3, 20)
    group.tick(1)
    assert [member.raft.term for member in group.members.values()] == [1, 1, 1]
    assert (group[1].role(), group[3].raft.lead) == (Role.LEADER, 1)


def test_a_leader_that_nobody_hears_steps_down() -> None:
    group = Group(3, check_quorum=True)
    group.elect(1)
    for _ in range(25):
        group.tick(1)
    assert group[1].role() is Role.LEADER
    group.cut |= {2, 3}
    group.tick(1, 20)
    assert (group[1].role(), group[1].raft.lead) == (Role.FOLLOWER, 0)


def test_the_election_timeout_is_drawn_anew_and_within_bounds() -> None:
    group = Group(3)
    drawn = set()
    for term in range(1, 200):
        group[1].raft.become_follower(term, 2)
        drawn.add(group[1].raft.election_timeout)
    assert drawn == set(range(10, 20))


def test_heartbeats_keep_followers_from_campaigning() -> None:
    group = Group(3)
    group.elect(1)
    for _ in range(60):
        group.tick(1)
        for member in (2, 3):
            group.tick(member)
    assert [member.raft.term for member in group.members.values()] == [1, 1, 1]
    group.cut.add(1)
    for _ in range(40):
        group.tick(2)
        group.tick(3)
    assert {group[2].role(), group[3].role()} == {Role.LEADER, Role.FOLLOWER}


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    """Feature row 4.2: the source ignored appends of its own term."""
    group = Group(3)
    group[2].raw.campaign()
    group[2].raw.step(Message(MessageKind.APP, to=2, sender=1, term=1))
    assert (group[2].role(), group[2].raft.lead) == (Role.FOLLOWER, 1)


def test_who_does_not_lead_takes_no_command() -> None:
    group = Group(3)
    for role in ("no leader", "candidate"):
        with pytest.raises(ProposalDropped):
            group[2].raw.propose(role.encode())
        group[2].raw.campaign()
    group = Group(3, disable_proposal_forwarding=True)
    group.elect(1)
    with pytest.raises(ProposalDropped):
        group[2].raw.propose(b"x")
    group = Group(3)
    group.elect(1)
    group.propose(2, b"sent on")
    assert [member.data for member in group.members.values()] == [[b"sent on"]] * 3


def test_leadership_is_handed_over() -> None:
    """To who has caught up; meanwhile proposals are dropped. Leases do not stand in the way."""
    group = Group(3, pre_vote=True, check_quorum=True)
    group.elect(1)
    group.cut.add(3)
    group.propose(1, b"a")
    group[1].raw.transfer_leader(3)
    with pytest.raises(ProposalDropped):
        group[1].raw.propose(b"b")
    group.cut.discard(3)
    group.settle()
    group.tick(1)
    assert (group[1].role(), group[3].role()) == (Role.FOLLOWER, Role.LEADER)
    group.propose(3, b"c")
    assert group[1].data == [b"a", b"c"]


def test_handing_over_ends_after_an_election_timeout() -> None:
    group = Group(3)
    group.elect(1)
    group.cut.add(3)
    group[1].raw.transfer_leader(3)
    group.tick(1, 10)
    assert group[1].raw.status().lead_transferee == 0
    group.propose(1, b"a")
    assert group[2].data == [b"a"]


def test_a_follower_may_ask_the_leader_to_hand_over() -> None:
    group = Group(3)
    group.elect(1)
    group[2].raw.transfer_leader(3)
    group.settle()
    assert group[3].role() is Role.LEADER


def test_a_learner_or_stranger_does_not_lead() -> None:
    group = Group(1)
    group.elect(1)
    stranger = group.join(2)
    stranger.raw.campaign()
    assert stranger.role() is Role.FOLLOWER
    group[1].raw.transfer_leader(2)
    assert group[1].raw.status().lead_transferee == 0


@pytest.mark.parametrize(
    "options",
    [
        {"id": 0},
        {"id": 2**63},
        {"id": 1, "heartbeat_tick": 0},
        {"id": 1, "election_tick": 1},
        {"id": 1, "max_inflight_messages": 0},
        {"id": 1, "max_inflight_bytes": 1},
        {"id": 1, "read_only": "lease"},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Config(**options)  # type: ignore[arg-type]
