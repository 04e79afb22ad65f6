"""Requirements of raft that no vector can show, against algorithm and actor. Names carry the ids of the spec."""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any

import pytest

from edgenet_node.effects import Call, Done, Early, Effect, Envelope, Event, Now, Reply, Saved, Send, Tick
from edgenet_node.errors import NotFound, Refused
from edgenet_node.messages.network import Blame
from edgenet_node.messages.raft import FoundCommittee
from edgenet_node.raft.algorithm.confchange import ChangeKind, ConfChange, ConfChangeSingle, ConfChangeV2
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.rawnode import Role
from edgenet_node.raft.core import RaftCore
from edgenet_node.raft.sessions import Sessions, session_key
from edgenet_node.raft.settings import RaftSettings
from edgenet_node.raft.snapshots import Fetching
from edgenet_node.wire.raft import (
    SNAPSHOT_CHUNK_BYTES_MAX,
    CommandResult,
    ConfState,
    Entry,
    EntryKind,
    FetchSnapshot,
    GetRoster,
    Message,
    MessageKind,
    RaftFrame,
    RosterEntry,
    Snapshot,
    SnapshotChunk,
    SubmitCommand,
)

from .committee import ELECTION_TICKS, Microscope

K = MessageKind
OWN, OTHER = "1" * 46, "2" * 46
TRANSFER = b"CampaignTransfer"


# -- elections


def test_raft_16_a_member_asks_before_it_raises_the_term() -> None:
    member = Microscope(term=4)
    member.tick(2 * ELECTION_TICKS)
    asked = [message for message in member.early if message.kind is K.PRE_VOTE]
    assert {message.to for message in asked} == {2, 3}
    assert {(message.term, message.index, message.log_term) for message in asked} == {(5, 1, 1)}
    assert not [message for message in member.early if message.kind is K.VOTE]
    assert (member.term, member.saved.vote) == (4, 0)
    member.sync()
    member.step(K.PRE_VOTE_RESP, 2, term=5)
    assert {message.term for message in member.sent(K.VOTE)} == {5}
    assert (member.saved.term, member.saved.vote) == (5, 1)


def test_raft_16_granting_a_pre_vote_changes_nothing() -> None:
    member = Microscope(term=4)
    member.step(K.PRE_VOTE, term=9, index=1, log_term=1)
    member.sync()
    [answer] = member.sent(K.PRE_VOTE_RESP)
    assert (answer.term, answer.reject) == (9, False)
    assert (member.term, member.saved.vote) == (4, 0)


def test_raft_17_one_vote_a_term_to_a_complete_log_and_durable_first() -> None:
    member = Microscope(terms=(2, 3), term=3)
    member.step(K.VOTE, 2, term=5, index=3, log_term=3)
    assert not member.early
    assert (member.saved.term, member.saved.vote) == (5, 2)
    member.sync()
    assert [(one.to, one.term, one.reject) for one in member.sent(K.VOTE_RESP)] == [(2, 5, False)]
    member.step(K.VOTE, 3, term=5, index=9, log_term=4)
    member.step(K.VOTE, 2, term=5, index=3, log_term=3)  # the same again
    member.sync()
    assert [(one.to, one.reject) for one in member.sent(K.VOTE_RESP)] == [(3, True), (2, False)]
    for index, log_term in ((9, 2), (2, 3), (0, 0)):
        member.step(K.VOTE, 3, term=member.term + 1, index=index, log_term=log_term)
        member.sync()
        assert [one.reject for one in member.sent(K.VOTE_RESP)] == [True]
    restarted = Microscope(terms=(2, 3), term=5, vote=2)
    restarted.step(K.VOTE, 3, term=5, index=3, log_term=3)
    restarted.sync()
    assert [one.reject for one in restarted.sent(K.VOTE_RESP)] == [True]


def test_raft_17_a_pre_vote_of_an_earlier_term_is_rejected_aloud() -> None:
    member = Microscope(term=4)
    member.step(K.PRE_VOTE, term=3, index=9, log_term=3)
    member.sync()
    assert [(one.term, one.reject) for one in member.sent(K.PRE_VOTE_RESP)] == [(4, True)]


def test_raft_18_a_leader_without_a_quorum_steps_down() -> None:
    member = Microscope()
    member.lead()
    member.tick(2 * ELECTION_TICKS)
    assert member.node.status().lead != 1
    member = Microscope()
    member.lead()
    for _ in range(4 * ELECTION_TICKS):
        member.acknowledge(3, 1)
    assert member.node.status().lead == 1


def test_raft_18_who_hears_of_a_leader_ignores_candidates_but_those_it_sent() -> None:
    member = Microscope()
    member.step(K.HEARTBEAT, 2, term=1)
    member.sync()
    member.sent(K.HEARTBEAT_RESP)
    for kind in (K.VOTE, K.PRE_VOTE):
        member.step(kind, 3, term=7, index=9, log_term=6)
        member.sync()
        assert (member.term, member.early, member.promised) == (1, [], [])
    member.step(K.VOTE, 3, term=7, index=9, log_term=6, context=TRANSFER)
    member.sync()
    assert [one.reject for one in member.sent(K.VOTE_RESP)] == [False]
    late = Microscope()
    late.step(K.HEARTBEAT, 2, term=1)
    late.sync()
    late.tick(ELECTION_TICKS)
    late.step(K.VOTE, 3, term=7, index=9, log_term=6)
    late.sync()
    assert len(late.sent(K.VOTE_RESP)) == 1


@pytest.mark.parametrize("kind", [K.APP, K.HEARTBEAT])
def test_raft_18_a_leader_of_an_earlier_term_is_told(kind: MessageKind) -> None:
    member = Microscope(term=4)
    member.step(kind, term=3)
    member.sync()
    assert [one.term for one in member.sent(K.APP_RESP)] == [4]


# -- replication


def test_raft_19_a_leader_begins_with_an_empty_entry_and_commits_earlier_ones_with_it() -> None:
    """Figure 8 of the paper: entry 2 of term 1 lies with a majority, and is not committed by that."""
    member = Microscope(terms=(1,))
    member.lead()
    appended = [message for message in member.early if message.kind is K.APP]
    assert {tuple(message.entries) for message in appended} == {(Entry(2, 3),)}
    member.acknowledge(2, 2)
    assert member.commit == 1
    member.acknowledge(2, 3)
    assert member.commit == 3


def test_raft_19_a_joint_configuration_needs_a_quorum_of_each_half() -> None:
    member = Microscope(ConfState((1, 2, 3), (), (1, 4, 5)))
    member.lead()
    member.acknowledge(2, 2)
    member.acknowledge(3, 2)
    assert member.commit == 1
    member.acknowledge(5, 2)
    assert member.commit == 2


def test_raft_20_a_follower_rejects_what_does_not_follow_and_says_where_it_may_agree() -> None:
    member = Microscope(terms=(1, 1, 4, 4), term=5)  # entries 2 to 5
    for index, log_term, hint, hint_term in ((9, 5, 5, 4), (5, 3, 3, 1), (4, 5, 4, 4), (5, 5, 5, 4)):
        member.step(K.APP, term=5, index=index, log_term=log_term)
        member.sync()
        [answer] = member.sent(K.APP_RESP)
        assert (answer.reject, answer.index) == (True, index)
        assert (answer.reject_hint, answer.log_term) == (hint, hint_term)
    assert member.last == 5


def test_raft_20_only_what_conflicts_is_removed() -> None:
    member = Microscope(terms=(1, 1, 4, 4), term=5)
    member.step(K.APP, term=5, index=1, log_term=1, entries=(Entry(1, 2),), commit=9)
    member.sync()
    assert [one.index for one in member.sent(K.APP_RESP)] == [2]
    assert (member.last, member.commit) == (5, 2)
    member.step(K.APP, term=5, index=2, log_term=1, entries=(Entry(1, 3), Entry(5, 4)), commit=3)
    member.sync()
    assert [one.index for one in member.sent(K.APP_RESP)] == [4]
    assert [member.storage.term(index) for index in range(2, member.last + 1)] == [1, 1, 5]
    assert member.commit == 3
    member.step(K.APP, term=5, index=1, log_term=1, entries=(Entry(2, 2),))
    assert (member.storage.term(2), member.last) == (1, 4)


def test_raft_21_an_acknowledgement_waits_for_the_disk() -> None:
    member = Microscope()
    member.step(K.APP, term=6, index=1, log_term=1, entries=(Entry(6, 2),))
    assert not [one for one in member.early if one.kind is K.APP_RESP]
    assert (member.saved.term, member.last) == (6, 2)
    member.sync()
    assert [one.index for one in member.promised] == [2]


def test_raft_21_a_leader_sends_first_and_counts_itself_when_it_has_saved() -> None:
    member = Microscope()
    member.lead()
    member.acknowledge(2, 2)
    assert member.commit == 2
    member.sent(K.APP)
    member.node.propose(b"x")
    member.take()
    assert [len(one.entries) for one in member.early if one.to == 2] == [1]
    member.acknowledge(2, 3)
    assert member.commit == 2
    member.sync()
    assert member.commit == 3


def test_raft_22_answers_to_another_view_count_for_nothing() -> None:
    member = Microscope()
    member.lead()
    session = member.session(2)
    for wrong in (session + 1, 0, member.session(3)):
        member.step(K.APP_RESP, 2, term=member.term, index=2, session=wrong)
    assert member.commit == 1
    member.step(K.APP_RESP, 2, term=member.term, index=2, session=session)
    assert member.commit == 2
    follower = Microscope()
    follower.step(K.APP, term=6, index=1, log_term=1, session=77)
    follower.step(K.APP, term=6, index=9, log_term=6, session=78)
    follower.step(K.HEARTBEAT, term=6, session=79)
    follower.sync()
    sent = sorted(one.session for one in (*follower.early, *follower.promised))
    assert sent == [77, 78, 79]


def test_raft_22_a_member_that_comes_back_is_a_new_view() -> None:
    member = Microscope()
    member.lead()
    member.acknowledge(2, 2)
    member.acknowledge(3, 2)
    before = member.session(3)
    for kind in (ChangeKind.REMOVE_NODE, ChangeKind.ADD_NODE):
        member.node.propose_conf_change(ConfChange(kind, 3))
        member.take()
        member.sync()
        member.acknowledge(2, member.last)
    assert member.session(3) != before


# -- membership


def _appended(member: Microscope) -> list[tuple[EntryKind, bool]]:
    """Kind of each entry behind the leader's first one, and whether it has data."""
    entries = member.storage.entries(3, member.last + 1, 1 << 20) if member.last > 2 else ()
    return [(entry.kind, bool(entry.data)) for entry in entries]


def test_raft_23_one_change_at_a_time_and_each_counts_when_applied() -> None:
    member = Microscope()
    member.lead()
    member.acknowledge(2, 2)
    for learner in (4, 5):
        member.node.propose_conf_change(ConfChange(ChangeKind.ADD_LEARNER_NODE, learner))
    member.take()
    assert _appended(member) == [(EntryKind.CONF_CHANGE, True), (EntryKind.NORMAL, False)]
    assert 4 not in member.node.status().progress
    member.sync()
    member.acknowledge(2, member.last)
    assert 4 in member.node.status().progress
    member.node.propose_conf_change(ConfChange(ChangeKind.ADD_LEARNER_NODE, 5))
    member.take()
    assert _appended(member)[2:] == [(EntryKind.CONF_CHANGE, True)]


def test_raft_23_a_joint_configuration_is_left_by_itself() -> None:
    member = Microscope()
    member.lead()
    member.acknowledge(2, 2)
    changes = (ConfChangeSingle(ChangeKind.ADD_NODE, 4), ConfChangeSingle(ChangeKind.REMOVE_NODE, 3))
    member.node.propose_conf_change(ConfChangeV2(changes=changes))
    member.take()
    member.sync()
    member.acknowledge(2, 3)
    assert member.applied[-1].kind is EntryKind.CONF_CHANGE_V2
    assert _appended(member) == [(EntryKind.CONF_CHANGE_V2, True), (EntryKind.CONF_CHANGE_V2, False)]


def test_raft_23_what_does_not_fit_becomes_an_empty_entry() -> None:
    member = Microscope(ConfState((1, 2, 3), tuple(range(4, 17))))
    member.lead()
    member.acknowledge(2, 2)
    for change in (ConfChange(ChangeKind.ADD_LEARNER_NODE, 17), ConfChangeV2()):
        member.node.propose_conf_change(change)
    member.take()
    assert _appended(member) == [(EntryKind.NORMAL, False)] * 2


def test_raft_23_no_campaign_with_a_committed_change_that_is_not_applied() -> None:
    member = Microscope()
    member.applies = False
    change = Entry(1, 2, EntryKind.CONF_CHANGE_V2)
    member.step(K.APP, term=1, index=1, log_term=1, entries=(change,), commit=2)
    member.sync()
    member.tick(4 * ELECTION_TICKS)
    assert member.commit == 2
    assert not member.sent(K.PRE_VOTE)


# -- reads, handing over


def test_raft_25_a_read_waits_for_an_entry_of_the_term_and_for_a_quorum() -> None:
    member = Microscope()
    member.lead()
    member.step(K.READ_INDEX, 3, entries=(Entry(0, 0, data=b"mine"),))
    member.acknowledge(3, 1)
    assert not member.sent(K.READ_INDEX_RESP)
    member.acknowledge(2, 2)
    assert not [one for one in member.early if one.kind is K.READ_INDEX_RESP]
    asked = next(one for one in member.early if one.kind is K.HEARTBEAT and one.to == 2 and one.context)
    member.step(K.HEARTBEAT_RESP, 2, term=member.term, session=asked.session)
    assert not [one for one in member.early if one.kind is K.READ_INDEX_RESP]
    member.step(K.HEARTBEAT_RESP, 2, term=member.term, session=asked.session, context=asked.context)
    [answer] = member.sent(K.READ_INDEX_RESP)
    assert (answer.to, answer.index, answer.entries[0].data) == (3, 2, b"mine")


def test_raft_25_a_follower_repeats_the_context() -> None:
    member = Microscope()
    member.step(K.HEARTBEAT, term=1, context=b"anything at all")
    assert [one.context for one in member.sent(K.HEARTBEAT_RESP)] == [b"anything at all"]


def test_raft_28_leadership_is_handed_to_a_member_that_has_everything() -> None:
    member = Microscope()
    member.lead()
    member.acknowledge(2, 2)
    member.sent(K.APP)
    member.node.transfer_leader(3)
    member.take()
    assert not [one for one in member.early if one.kind is K.TIMEOUT_NOW]
    with pytest.raises(ProposalDropped):
        member.node.propose(b"x")
    member.acknowledge(3, 2)
    assert [one.to for one in member.sent(K.TIMEOUT_NOW)] == [3]
    for _ in range(ELECTION_TICKS):
        member.acknowledge(2, 2)
    member.node.propose(b"x")


def test_raft_28_who_is_told_to_campaigns_at_once() -> None:
    member = Microscope(term=4)
    member.step(K.HEARTBEAT, 2, term=4)
    member.sent(K.HEARTBEAT)
    member.step(K.TIMEOUT_NOW, 2, term=4)
    assert member.node.status().role is Role.CANDIDATE
    assert {(one.term, one.context) for one in member.sent(K.VOTE)} == {(5, TRANSFER)}


# -- sessions of commands


def test_raft_27_what_is_applied_once_is_not_applied_again() -> None:
    table = Sessions(2, 3)
    one, two, three = (session_key(peer, bytes(16)) for peer in (OWN, OTHER, "3" * 46))
    assert len({one, two, three}) == 3
    assert [table.apply(one, sequence, 0, index) for index, sequence in enumerate((5, 4, 5, 4), 10)] == [
        *(True, True),
        *(False, False),
    ]
    assert table.apply(one, 6, 5, 14)
    assert not table.apply(one, 4, 0, 15)  # below `low`
    assert not table.apply(one, 3, 0, 16)
    # `low` does not pass the command that carries it.
    assert table.apply(two, 7, 100, 17)
    assert table.apply(two, 8, 0, 18)
    # Sequences above the window's size push out the smallest.
    for sequence in (9, 10, 11):
        assert table.apply(two, sequence, 0, sequence + 20)
    assert not table.apply(two, 8, 0, 40)
    # The session that was idle for longest goes.
    assert table.apply(three, 1, 0, 41)
    assert table.find(one, 6) is None


# -- the actor: a committee of one


class Alone:
    """A core that founded a committee, with a disk that is done at once."""

    def __init__(self) -> None:
        settings = RaftSettings(consumers=("registry",))
        self.core = RaftCore(OWN, settings, random.Random(0), random.Random(1).randbytes)
        self.now = Now(0.0, 0.0)
        self.replies: dict[int, Reply] = {}
        self.blames: list[Blame] = []
        self.sent: list[Send] = []
        self.calls: list[Call] = []
        self.saved: list[Any] = []
        self.run(self.core.restore((), self.now))
        self.ask(1, FoundCommittee())
        for _ in range(100):
            self.advance(0.1)
        self.member: int = self.replies[1].value

    def ask(self, reply_to: int, body: Any, sender: str = "") -> None:
        self.run(self.core.step(Envelope(body, reply_to, sender), self.now))
        self.advance(0.0)

    def frame(self, *messages: Message, epoch: int = 0, sender: str = OTHER) -> None:
        self.ask(0, RaftFrame(epoch, messages), sender)

    def advance(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        while self.saved or self.core.wake_at() <= self.now.mono:
            done, self.saved = self.saved, []
            for tag in done:
                self.run(self.core.step(Envelope(Done(tag)), self.now))
            if (due := self.core.wake_at()) <= self.now.mono:
                self.run(self.core.step(Envelope(Tick()), self.now))
                assert self.core.wake_at() > due

    def run(self, effects: list[Effect]) -> None:
        for effect in effects:
            one = effect.effect if isinstance(effect, Early) else effect
            match one:
                case Saved(tag):
                    self.saved.append(tag)
                case Reply(to=to):
                    self.replies[to] = one
                case Event(Blame() as blame):
                    self.blames.append(blame)
                case Send():
                    self.sent.append(one)
                case Call():
                    self.calls.append(one)


def test_raft_5_frames_of_others_and_for_others_are_dropped() -> None:
    alone = Alone()
    stranger = Message(K.VOTE, to=alone.member, sender=77, term=9, log_term=8, index=99)
    alone.frame(stranger)
    alone.frame(stranger, epoch=1)
    alone.frame(Message(K.VOTE, to=alone.member - 1, sender=77, term=9))
    assert alone.sent == []
    assert alone.blames == []
    state = alone.core.member
    assert state is not None
    assert state.node.status().term < 9


def test_raft_5_a_message_in_another_name_is_blamed() -> None:
    alone = Alone()
    state = alone.core.member
    assert state is not None
    forged = Message(K.VOTE, to=alone.member, sender=5, term=9)
    state.roster.learn([RosterEntry(5, "5" * 46)])
    alone.frame(forged)
    assert [blame.peer for blame in alone.blames] == [OTHER]
    assert state.node.status().term < 9


def test_raft_15_24_rosters_and_snapshots_are_for_members() -> None:
    alone = Alone()
    for number, query in enumerate((GetRoster(), FetchSnapshot("0" * 64, 0)), 2):
        alone.ask(number, query, OTHER)
        assert isinstance(alone.replies[number].error, Refused)
    alone.ask(4, GetRoster(), OWN)
    roster = alone.replies[4].value
    assert [(entry.member, entry.peer) for entry in roster.roster] == [(alone.member, OWN)]
    assert 0 < alone.member < 2**63
    state = alone.core.member
    assert state is not None
    snapshot = state.journal.storage.newest()
    alone.ask(5, FetchSnapshot(snapshot.digest, 0), OWN)
    assert alone.replies[5].value == SnapshotChunk(snapshot.data)
    alone.ask(6, FetchSnapshot("0" * 64, 0), OWN)
    assert isinstance(alone.replies[6].error, NotFound)


def test_raft_24_a_snapshot_is_taken_when_its_bytes_are_there_and_fit() -> None:
    data = random.Random(2).randbytes(700_000)
    offered = Snapshot(9, 4, ConfState((1,)), len(data), hashlib.sha256(data).hexdigest())
    message = Message(K.SNAP, 2, 1, 5, snapshot=offered)
    now = Now(0.0, 0.0)
    for source, taken in ((data, True), (data[:-1] + b"x", False)):
        fetching = Fetching(RaftSettings())
        calls = fetching.offer(message, OTHER)
        found = None
        while calls:
            [call] = calls
            assert isinstance(call, Call)
            assert (call.peer, call.query.digest) == (OTHER, offered.digest)
            chunk = source[call.query.offset : call.query.offset + SNAPSHOT_CHUNK_BYTES_MAX]
            calls, found = fetching.chunk(call.tag[1], chunk, None, now)
        assert (found is not None) is taken
        if found is not None and found.snapshot is not None:
            assert found.snapshot.data == data
    fetching = Fetching(RaftSettings())
    [call] = fetching.offer(message, OTHER)
    assert isinstance(call, Call)
    assert fetching.chunk(call.tag[1], b"", NotFound("a newer one"), now) == ([], None)
    assert fetching.wake_at == math.inf


def test_raft_26_a_submission_is_answered_when_applied_and_once() -> None:
    alone = Alone()
    submit = SubmitCommand("registry", bytes(16), 1, 0, b"x")
    alone.ask(2, submit, OTHER)
    first = alone.replies[2].value
    assert isinstance(first, CommandResult)
    assert not first.duplicate
    state = alone.core.member
    assert state is not None
    assert state.applied.index >= first.index
    alone.ask(3, submit, OTHER)
    assert alone.replies[3].value.duplicate
    assert alone.replies[3].value.index == first.index
    alone.ask(4, submit, "3" * 46)  # the same numbers of another peer
    assert not alone.replies[4].value.duplicate
    nobody = RaftCore(OWN, RaftSettings(), random.Random(0), random.Random(1).randbytes)
    [reply] = nobody.step(Envelope(submit, 7, OTHER), Now(0.0, 0.0))
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, Refused)
