"""Mistakes that were made once."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from msgspec import structs

from edgenet_node.committee.chain import HEAD_DOMAIN, SET_DOMAIN, Chain, certify, digest, genesis_set, sign_subject
from edgenet_node.committee.record import ALARMS_MAX, Record
from edgenet_node.committee.settings import CommitteeSettings
from edgenet_node.committee.state import COMMAND_DOMAIN, RegistryState
from edgenet_node.committee.submitting import Submitting
from edgenet_node.crypto.hashing import sha256
from edgenet_node.effects import Ask, Now
from edgenet_node.errors import Conflict, Malformed, Overloaded
from edgenet_node.identity.keys import Identity
from edgenet_node.messages.committee import ChangeCommittee, HandOver, RecoverAlone
from edgenet_node.messages.raft import CommittedEntry, Propose
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.committee import (
    AuthorRow,
    CertifiedHead,
    ChangeStarted,
    CommitteeSet,
    GetSignature,
    Head,
    Link,
    Notice,
    RegistryCommand,
    RequestChange,
    SignedCommand,
)
from edgenet_node.wire.raft import ConfState, EntryKind

from .test_state import FOUNDER, SWARM, Book
from .test_swarm import formed, leader_of
from .world import SETTINGS, Swarm

KEYS = sorted((Identity(sha256(bytes([number]))) for number in range(8)), key=lambda one: one.public)


def core_of(swarm: Swarm, number: int) -> Any:
    return swarm.hosts[number].drivers["committee"].core


def link(identities: list[Identity], before: CommitteeSet, by: list[Identity]) -> Link:
    members = tuple(sorted(one.public for one in identities))
    following = CommitteeSet(before.epoch, before.number + 1, members, digest(before))
    certificate = certify(before, [sign_subject(one, before, SET_DOMAIN, digest(following)) for one in by])
    assert certificate is not None
    return Link(following, certificate)


def signed_head(head: Head, signing: CommitteeSet, by: list[Identity]) -> CertifiedHead:
    certificate = certify(signing, [sign_subject(one, signing, HEAD_DOMAIN, digest(head)) for one in by])
    assert certificate is not None
    return CertifiedHead(head, certificate)


@pytest.mark.parametrize("later", [0, 10_000])
def test_a_set_that_is_out_of_office_certifies_nothing(later: int) -> None:
    """The founder was the first set: alone it could have stopped every member and led every follower astray."""
    swarm = formed(6, 4)
    swarm.until(lambda: all(view.head is not None and view.head.number == 1 for view in map(swarm.view, range(6))))
    certified = core_of(swarm, 1)._record.certified
    forged = structs.replace(certified.head, number=0, index=certified.head.index + later, root=b"f" * 32)
    head = signed_head(forged, core_of(swarm, 1)._record.chain.links[0].set, [swarm.identities[0]])
    for number in range(1, 6):
        swarm.hosts[number].hear(swarm.peers[0], Notice(0, head=head))
    swarm.run(8)
    assert not swarm.violations
    heads = [view.head for view in map(swarm.view, range(6))]
    assert all(head is not None and head.number == 1 and head.root != (b"f" * 32).hex() for head in heads)
    assert all(swarm.view(number).index < later or not later for number in range(6))


def test_an_answer_to_a_member_is_the_one_that_was_asked_for() -> None:
    swarm = formed(3, 3)
    leader = leader_of(swarm, range(3))
    found: list[Any] = []
    query = RequestChange(transfer=swarm.peers[(leader + 1) % 3])
    swarm.hosts[leader].serve(swarm.peers[(leader + 2) % 3], query, lambda value, _error: found.append(value))
    swarm.until(lambda: bool(found))
    assert found == [ChangeStarted()]
    assert swarm.ask(leader, HandOver(swarm.peers[leader])) is None


def test_a_row_that_nobody_could_read_again_is_not_written() -> None:
    book = Book()
    anna = KEYS[3]
    addresses = tuple("/" + f"{place:02}" * 127 + "/" for place in range(16))
    capabilities = tuple(f"k{place:02}" + "x" * 45 for place in range(64))
    assert not book.do(anna, "register", addresses=addresses, capabilities=capabilities).refused
    assert "row" in book.do(FOUNDER, "ban", peer=anna.peer_id, reason="\U0001f600" * 200).refused
    assert book.member(anna) is not None
    assert not book.do(FOUNDER, "ban", peer=anna.peer_id, reason="too much").refused


def test_a_command_has_one_form() -> None:
    body = encode(RegistryCommand("mark", SWARM, 1))
    signed = SignedCommand(FOUNDER.public, body, FOUNDER.sign(COMMAND_DOMAIN, body))
    parts = {"signature": signed.signature, "author": signed.author, "body": body}
    assert Book().take(msgpack.packb(parts)).refused
    assert not Book().take(encode(signed)).refused


def conf_entry(index: int, conf: ConfState, context: bytes) -> CommittedEntry:
    return CommittedEntry(index, 1, EntryKind.CONF_CHANGE_V2, b"", conf, context)


def test_who_adopts_a_head_between_a_change_and_its_end_ends_as_the_others() -> None:
    """Rows of a head do not tell which set is to come; the entry that leaves the joint configuration does."""
    founder = KEYS[0]
    one, other = Record(SWARM, founder.public, ()), Record(SWARM, founder.public, ())
    three = link(KEYS[:3], one.chain.tip, [founder])
    one.take(conf_entry(5, ConfState((1, 2, 3), (), (1,)), encode(three.set)), 0)
    other.finish(5)
    for record in (one, other):
        record.take(conf_entry(6, ConfState((1, 2, 3)), encode(three)), 0)
        assert record.chain.tip == three.set
        assert record.pending is None
        assert not record.alarms
    assert one.head() == other.head()


def test_alarms_have_an_end() -> None:
    founder = KEYS[0]
    record = Record(SWARM, founder.public, ())
    three = link(KEYS[:3], record.chain.tip, [founder])
    for index in range(2, 202, 2):
        record.take(conf_entry(index, ConfState((1, 2, 3), (), (1,)), encode(three.set)), 0)
        record.take(conf_entry(index + 1, ConfState((1, 2, 3)), b""), 0)
    assert len(record.alarms) == ALARMS_MAX


@pytest.mark.parametrize("size", [2, 6])
def test_two_and_six_are_no_committee(size: int) -> None:
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    bad = link(KEYS[:size], chain.tip, [founder])
    with pytest.raises(Malformed, match=str(size)):
        chain.extend([bad])
    record = Record(SWARM, founder.public, ())
    record.take(conf_entry(2, ConfState(tuple(range(1, size + 1)), (), (1,)), encode(bad.set)), 0)
    assert record.pending is None


def test_an_epoch_that_begins_before_our_newest_set_can_be_accepted() -> None:
    """Its only member had not heard of that set when the majority went."""
    founder = KEYS[0]
    chain = Chain(SWARM, founder.public)
    three = link(KEYS[:3], chain.tip, [founder])
    five = link(KEYS[:5], three.set, KEYS[:2])
    chain.extend([three, five])
    alone = Link(CommitteeSet(1, 2, (KEYS[1].public,), digest(three.set)))
    unfounded = Link(CommitteeSet(1, 2, (KEYS[6].public,), b"p" * 32))
    with pytest.raises(Malformed):
        chain.extend([unfounded])
    assert chain.extend([alone]) == 0
    offered: CommitteeSet | None = chain.offered
    assert offered == alone.set
    chain.accept(digest(alone.set).hex())
    assert chain.extend([alone]) == 1
    assert chain.tip == alone.set


def test_a_clock_that_was_set_back_does_not_silence_a_member() -> None:
    submitting = Submitting(FOUNDER, CommitteeSettings(), bytes)
    submitting.seen(5_000_000)
    [ask] = submitting.add(RegistryCommand("mark", SWARM, 0), 0, Now(0.0, 1000.0))
    assert isinstance(ask, Ask)
    assert isinstance(ask.query, Propose)
    signed = decode(ask.query.command, SignedCommand, bytes_max=10_000)
    assert decode(signed.body, RegistryCommand, bytes_max=10_000).sequence == 5_000_001


def test_a_restarted_member_goes_on_from_its_last_sequence() -> None:
    swarm = formed(1, 1)
    core = core_of(swarm, 0)
    [key] = [key for key in core._record.state.rows if key.startswith("author/")]
    swarm.hosts[0].crash()
    swarm.hosts[0].start()
    swarm.run(0.5)
    state: RegistryState = core_of(swarm, 0)._record.state
    assert core_of(swarm, 0)._submitting._last >= decode(state.rows[key], AuthorRow, bytes_max=100).sequence


def test_a_mark_that_was_lost_is_made_again() -> None:
    swarm = formed(1, 1)
    core, now = core_of(swarm, 0), Now(1e6, 1e6)
    core._record.certified = None
    core._office._mark_at = now.mono
    assert core._office.mark_due(core._record, now)
    assert not core._office.mark_due(core._record, now)
    assert core._office.wake_at < now.mono + 10
    assert core._office.mark_due(core._record, Now(now.mono + 10, now.wall))


def test_a_member_that_is_behind_does_not_refuse_one_that_it_will_know() -> None:
    """A refusal says that the registry is another one, and a leader that most refuse stops."""
    swarm = formed(4, 3)
    core = core_of(swarm, 1)
    core._record.chain.links = core._record.chain.links[:1]
    found: list[Exception | None] = []
    query = GetSignature("head", 3, b"d" * 32)
    swarm.hosts[1].serve(swarm.peers[2], query, lambda _value, error: found.append(error))
    swarm.run(0.05)
    [error] = found
    assert isinstance(error, Overloaded)


def test_a_member_signs_only_the_set_that_its_configuration_is() -> None:
    swarm = formed(4, 3)
    core = core_of(swarm, 1)
    tip = core._record.chain.tip
    other = CommitteeSet(0, 2, (swarm.identities[3].public,), digest(tip))
    core._record.pending = other
    found: list[Any] = []
    query = GetSignature("set", 3, digest(other))
    swarm.hosts[1].serve(swarm.peers[2], query, lambda value, error: found.append(value or error))
    swarm.run(0.05)
    assert isinstance(found[0], Overloaded)


def test_who_recovers_knows_its_epoch_before_it_reads_on() -> None:
    swarm = formed(3, 3)
    swarm.hosts[0].crash()
    swarm.hosts[2].crash()
    swarm.ask(1, RecoverAlone(), timeout_s=30)
    assert core_of(swarm, 1)._raft.epoch == 1


def test_a_certified_fork_is_reported_once() -> None:
    founder = KEYS[0]
    record = Record(SWARM, founder.public, ())
    record.chain.extend([link(KEYS[:3], genesis_set(SWARM, founder.public), [founder])])
    for _ in range(2):
        with pytest.raises(Conflict) as raised:
            record.chain.extend([link(KEYS[:4], genesis_set(SWARM, founder.public), [founder])])
        record.alarm(raised.value.message)
    assert len(record.alarms) == 1


def test_who_knows_newer_sets_than_its_rows_applies_the_log_as_the_others() -> None:
    """A follower learns links before it has the rows that go with them; then it is made a member."""
    founder = KEYS[0]
    one, other = Record(SWARM, founder.public, ()), Record(SWARM, founder.public, ())
    three = link(KEYS[:3], one.chain.tip, [founder])
    other.chain.extend([three])
    for record in (one, other):
        record.take(conf_entry(2, ConfState((1, 2, 3), (), (1,)), encode(three.set)), 0)
        record.take(conf_entry(3, ConfState((1, 2, 3)), encode(three)), 0)
    assert one.head() == other.head()
    assert not other.alarms


def test_a_careful_node_can_be_made_a_member() -> None:
    """It has followed no head of so few, and begins with the log's first entry."""
    careful = structs.replace(SETTINGS, certified_by_min=4)
    swarm = Swarm(4, own_settings={3: careful})
    swarm.until(lambda: swarm.view(0).head is not None)
    swarm.ask(0, ChangeCommittee(tuple(swarm.peers[1:3])))
    swarm.until(lambda: all(len(swarm.view(number).committee) == 3 for number in range(4)))
    swarm.run(3)
    swarm.ask(0, ChangeCommittee((swarm.peers[3],)))
    swarm.until(lambda: all(len(swarm.view(number).committee) == 4 for number in range(4)))
    swarm.until(lambda: len({(view.history, view.head.index) for view in map(swarm.view, range(4)) if view.head}) == 1)
    assert not swarm.violations
