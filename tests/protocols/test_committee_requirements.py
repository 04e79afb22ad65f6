"""Requirements of protocols/committee about what members and followers do, held against the real cores."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec import structs

from edgenet_node.committee.chain import digest
from edgenet_node.committee.record import STATE_BYTES_MAX, Record, Whole
from edgenet_node.committee.state import EMPTY_HISTORY
from edgenet_node.crypto.hashing import merkle_root
from edgenet_node.errors import NotFound, Overloaded, Refused
from edgenet_node.messages.committee import Decide
from edgenet_node.messages.raft import CommittedEntry, Propose
from edgenet_node.wire.codec import decode_canonical, encode
from edgenet_node.wire.committee import (
    ROWS_REPLY_BYTES_MAX,
    CommitteeSet,
    GetHead,
    GetRows,
    GetSignature,
    Link,
    Notice,
    Prepared,
    PrepareToJoin,
    RequestChange,
    SetNumber,
)
from edgenet_node.wire.raft import ConfState, EntryKind, SubmitCommand
from edgenet_node.wire.registry import WireTable

from ..committee.test_hostile import FOLLOWER, MEMBER, STRANGER, Watched
from ..committee.test_regressions import KEYS, conf_entry, link
from ..committee.test_state import SWARM, command
from ..committee.test_swarm import leader_of
from ..committee.world import SETTINGS, Swarm

FOUNDER = KEYS[0]
JOINT, THREE_VOTERS = ConfState((1, 2, 3), (), (1,)), ConfState((1, 2, 3))


def normal(index: int, data: bytes) -> CommittedEntry:
    return CommittedEntry(index, 1, EntryKind.NORMAL, data)


def grown() -> tuple[Record, Link]:
    """A registry of three members, from the third entry on."""
    record = Record(SWARM, FOUNDER.public, ())
    three = link(KEYS[:3], record.chain.tip, [FOUNDER])
    record.take(conf_entry(2, JOINT, encode(three.set)), 0)
    record.take(conf_entry(3, THREE_VOTERS, encode(three)), 0)
    return record, three


# ---- heads


def test_committee_9_a_head_of_an_earlier_set_is_dropped_without_blame() -> None:
    watched = Watched()
    core: Any = watched.swarm.hosts[0].drivers["committee"].core
    first = core._record.chain.links[0].set
    certified = watched.record(0).certified
    old = structs.replace(
        certified,
        head=structs.replace(certified.head, number=first.number, index=10_000),
        certificate=structs.replace(certified.certificate, number=first.number),
    )
    for number in (MEMBER, FOLLOWER):
        before = watched.state(number)
        watched.swarm.hosts[number].hear(STRANGER.peer_id, Notice(0, head=old))
        watched.swarm.run(1)
        assert watched.state(number) == before
    assert watched.blames == []


# ---- the registry


def test_committee_13_the_set_in_office_at_the_entry_decides() -> None:
    record, three = grown()
    ban = {"peer": KEYS[7].peer_id}
    applied = record.take(normal(4, command(KEYS[1], "ban", SWARM, 1, **ban)), 0).applied
    assert applied is not None
    assert not applied.refused
    alone = link([FOUNDER], three.set, KEYS[:2])
    record.take(conf_entry(5, ConfState((1,), (), (1, 2, 3)), encode(alone.set)), 0)
    for index, refused in ((6, False), (8, True)):  # still in office in the joint configuration; not after it
        applied = record.take(normal(index, command(KEYS[1], "ban", SWARM, index, **ban)), 0).applied
        assert applied is not None
        assert bool(applied.refused) is refused
        if index == 6:
            record.take(conf_entry(7, ConfState((1,)), encode(alone)), 0)


def test_committee_14_sequences_of_register_and_of_decisions_are_counted_apart() -> None:
    record = Record(SWARM, FOUNDER.public, ())
    for index, kind, sequence, refused in (
        (2, "mark", 9, False),
        (3, "register", 5, False),
        (4, "register", 5, True),
        (5, "mark", 9, True),
        (6, "mark", 10, False),
        (7, "register", 0, True),
    ):
        applied = record.take(normal(index, command(FOUNDER, kind, SWARM, sequence)), 0).applied
        assert applied is not None
        assert bool(applied.refused) is refused, index


def test_committee_18_an_epoch_begins_only_in_the_log_of_that_epoch() -> None:
    for raft_epoch, begins in ((0, False), (1, True), (2, False)):
        record, _ = grown()
        record.take(normal(4, command(KEYS[1], "epoch", SWARM, 1)), raft_epoch)
        assert (record.chain.tip.epoch, record.chain.tip.number) == ((1, 2) if begins else (0, 1))
        assert ("set/2" in record.state.rows) is begins
        if begins:
            assert record.chain.tip.members == (KEYS[1].public,)
            assert record.state.rows["set/2"] == encode(Link(record.chain.tip))


def test_committee_19_sets_are_writes_like_all_others() -> None:
    record, three = grown()
    written = encode({"set/1": encode(three)})
    assert record.state.history == hashlib.sha256(EMPTY_HISTORY + (3).to_bytes(8, "big") + written).digest()
    before = record.state.history
    record.take(normal(4, b"no command"), 0)
    assert record.state.history == before


# ---- signing


def test_committee_20_a_member_signs_the_head_that_it_has() -> None:
    watched = Watched()
    certified = watched.record(MEMBER).certified.head
    sender = watched.swarm.peers[0]
    found = watched.ask(MEMBER, sender, GetSignature("head", certified.index, digest(certified)))
    own = watched.swarm.identities[MEMBER]
    assert watched.record(0).chain.tip.members[found.place] == own.public
    assert found.signature == own.sign(b"registry-head", digest(certified))
    assert isinstance(watched.ask(MEMBER, sender, GetSignature("head", certified.index, b"d" * 32)), Refused)
    assert isinstance(watched.ask(MEMBER, sender, GetSignature("head", 10_000, b"d" * 32)), Overloaded)


def test_committee_21_no_set_is_signed_that_no_change_brought() -> None:
    watched = Watched()
    tip = watched.record(MEMBER).chain.tip
    following = CommitteeSet(0, tip.number + 1, tip.members, digest(tip))
    found = watched.ask(MEMBER, watched.swarm.peers[0], GetSignature("set", 9, digest(following)))
    assert isinstance(found, Overloaded)


# ---- changing the committee


def test_committee_23_who_may_be_prepared_and_by_whom() -> None:
    watched = Watched()
    swarm, links = watched.swarm, tuple(watched.record(0).chain.links)
    query = PrepareToJoin(0, links, ())
    assert isinstance(watched.ask(MEMBER, swarm.peers[0], query), Refused), "a member with a log"
    for sender in (STRANGER.peer_id, swarm.peers[3]):
        assert isinstance(watched.ask(FOLLOWER, sender, query), Refused)
    for bad in (structs.replace(query, epoch=1), structs.replace(query, links=links[:1])):
        assert isinstance(watched.ask(FOLLOWER, swarm.peers[0], bad), Refused)
    found = watched.ask(FOLLOWER, swarm.peers[1], query)
    assert isinstance(found, Prepared)
    assert 0 < found.member < 2**63
    view = swarm.view(FOLLOWER).raft
    assert view is not None
    assert (view.member, view.last) == (found.member, 0)
    careful = Swarm(2, own_settings={1: structs.replace(SETTINGS, serves=False)})
    careful.until(lambda: careful.view(1).head is not None)
    errors: list[Any] = []
    core: Any = careful.hosts[0].drivers["committee"].core
    alone = PrepareToJoin(0, tuple(core._record.chain.links), ())
    careful.hosts[1].serve(careful.peers[0], alone, lambda _value, error: errors.append(error))
    careful.until(lambda: bool(errors))
    assert isinstance(errors[0], Refused)


def test_committee_24_the_entry_that_leaves_proves_the_new_set() -> None:
    founding = Record(SWARM, FOUNDER.public, ()).chain.tip
    three, other = link(KEYS[:3], founding, [FOUNDER]), link(KEYS[1:4], founding, [FOUNDER])
    wrong = Link(other.set, three.certificate)
    for body in (b"", b"\x80", encode(three.certificate), encode(Link(three.set)), encode(wrong)):
        record = Record(SWARM, FOUNDER.public, ())
        record.take(conf_entry(2, JOINT, encode(three.set)), 0)
        assert record.pending == three.set
        record.take(conf_entry(3, THREE_VOTERS, body), 0)
        pending: CommitteeSet | None = record.pending
        assert pending is None
        assert record.chain.tip == founding
        assert len(record.alarms) == 1
        assert set(record.state.rows) == {"set/0"}
    record, three = grown()
    assert record.chain.tip == three.set
    assert record.state.rows["set/1"] == encode(three)


def test_committee_25_changes_are_the_leaders_and_have_to_make_a_committee() -> None:
    watched = Watched()
    swarm = watched.swarm
    leader = leader_of(swarm, range(3))
    other, third = (number for number in range(3) if number != leader)
    sender = swarm.peers[other]
    for query in (
        RequestChange(),
        RequestChange((swarm.peers[other],)),
        RequestChange((), (swarm.peers[FOLLOWER], swarm.peers[other])),
        RequestChange((), (swarm.peers[other],)),
    ):
        found = watched.ask(leader, sender, query)
        assert isinstance(found, Refused), query
        assert WireTable().encode_error(found).find(b"refused") > 0
    good = RequestChange((swarm.peers[3], swarm.peers[4]))
    assert isinstance(watched.ask(other, swarm.peers[third], good), Overloaded)
    assert not isinstance(watched.ask(leader, sender, good), Exception)
    swarm.until(lambda: all(len(swarm.view(number).committee) == 5 for number in range(5)))


# ---- following


def test_committee_26_links_come_in_portions_after_what_the_asker_has() -> None:
    watched = Watched()
    for number in (MEMBER, FOLLOWER):
        chain = watched.record(number).chain
        whole = watched.ask(number, STRANGER.peer_id, GetHead(-1))
        assert (whole.links, whole.more) == (tuple(chain.links), False)
        assert whole.head == watched.record(number).certified
        newest: SetNumber = chain.tip.number
        assert watched.ask(number, STRANGER.peer_id, GetHead(newest)).links == ()
        assert watched.ask(number, STRANGER.peer_id, GetHead(2**31 - 1)).links == ()
    chain = watched.record(FOLLOWER).chain
    chain.links = chain.links * 50
    first = watched.ask(FOLLOWER, STRANGER.peer_id, GetHead(-1))
    assert (len(first.links), first.more) == (64, True)
    rest = watched.ask(FOLLOWER, STRANGER.peer_id, GetHead(63))
    assert (len(rest.links), rest.more) == (36, False)


@pytest.mark.parametrize(("count", "size"), [(1300, 10), (200, 8_000)])
def test_committee_27_rows_come_in_order_and_in_portions(count: int, size: int) -> None:
    watched = Watched()
    state = watched.record(FOLLOWER).state
    state.load({f"member/{place:05}": bytes(size) for place in range(count)}, 50, EMPTY_HISTORY)
    found: list[Any] = []
    more, after = True, ""
    while more:
        page = watched.ask(FOLLOWER, STRANGER.peer_id, GetRows(50, after))
        assert 0 < len(page.rows) <= 512
        assert sum(len(one.value) for one in page.rows) <= ROWS_REPLY_BYTES_MAX
        assert WireTable().encode_reply(GetRows, page)
        found += page.rows
        more, after = page.more, page.rows[-1].key
    assert {one.key: one.value for one in found} == state.rows
    assert merkle_root([encode(one) for one in found]) == state.root()
    assert isinstance(watched.ask(FOLLOWER, STRANGER.peer_id, GetRows(49)), NotFound)


# ---- the topic, snapshots


def test_committee_28_hints_move_nothing() -> None:
    watched = Watched()
    before = [watched.state(number) for number in (MEMBER, FOLLOWER)]
    views = [watched.swarm.view(number).raft for number in (MEMBER, FOLLOWER)]
    for number in (MEMBER, FOLLOWER):
        watched.swarm.hosts[number].hear(STRANGER.peer_id, Notice(9, 2**62, STRANGER.peer_id, 2**62))
    watched.swarm.run(2)
    assert [watched.state(number) for number in (MEMBER, FOLLOWER)] == before
    for number, view in zip((MEMBER, FOLLOWER), views, strict=True):
        after = watched.swarm.view(number).raft
        assert view is not None
        assert after is not None
        assert (after.epoch, after.term, after.leader) == (view.epoch, view.term, view.leader)
    assert watched.blames == []


def test_committee_29_a_proposal_that_every_member_hears_is_applied_once() -> None:
    watched = Watched()
    swarm = watched.swarm
    body = command(STRANGER, "register", swarm.info.swarm, 2**52)
    proposal = SubmitCommand("registry", bytes(16), 1, 1, body)
    for number in range(3):
        swarm.hosts[number].hear(swarm.peers[FOLLOWER], Notice(0, proposal=proposal))
    swarm.run(2)
    rows = dict(swarm.view(0).members)
    assert rows[STRANGER.peer_id].sequence == 2**52
    assert swarm.ask(FOLLOWER, Propose("registry", bytes(16), 1, 1, body)).duplicate
    assert not swarm.ask(3, Propose("registry", bytes(16), 1, 1, body)).duplicate, "another author's session"


def test_committee_31_the_state_for_a_snapshot_is_whole() -> None:
    record, three = grown()
    alone = link([FOUNDER], three.set, KEYS[:2])
    record.take(conf_entry(4, ConfState((1,), (), (1, 2, 3)), encode(alone.set)), 0)
    whole = decode_canonical(record.whole(), Whole, bytes_max=STATE_BYTES_MAX)
    assert list(whole.rows) == sorted(record.state.rows)
    other = Record(SWARM, FOUNDER.public, ())
    other.install(record.whole())
    for one in (record, other):
        one.take(conf_entry(5, ConfState((1,)), encode(alone)), 0)
    assert (other.head(), other.pending, other.chain.links) == (record.head(), None, record.chain.links)


def test_committee_10_a_ban_is_seen_with_a_later_head() -> None:
    watched = Watched()
    before = watched.record(FOLLOWER).place
    watched.swarm.ask(0, Decide("ban", peer=STRANGER.peer_id))
    watched.swarm.until(lambda: watched.record(FOLLOWER).place > before)
    assert f"member/{STRANGER.peer_id}" in watched.record(FOLLOWER).state.rows
