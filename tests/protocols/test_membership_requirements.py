"""Requirements of hello and peers that no vector can show. Names carry the ids of the specs."""

from __future__ import annotations

import random

import pytest

from edgenet_node.crypto.fingerprints import Genesis, found_swarm
from edgenet_node.effects import Call, Done, Event, Reply, Tell
from edgenet_node.identity.keys import Identity
from edgenet_node.identity.membership import MembershipCore
from edgenet_node.identity.records import RecordBook
from edgenet_node.identity.settings import MembershipSettings
from edgenet_node.messages.network import Admit, Blame, LearnAddresses, PeerConnected, PeerOffers
from edgenet_node.wire.codec import encode
from edgenet_node.wire.hello import Hello, PeerRecord, SignedRecord, Welcome
from edgenet_node.wire.peers import ListMembers, Members, Presence

from .cores import ME, PEER, T0, THIRD, give, one

# -- hello and peers: one membership core, its peer played by the test


def membership(*, founds: bool = True) -> MembershipCore:
    core = MembershipCore(ME, MembershipSettings("1.0"), random.Random(1), founds=founds, pinned="")
    core.restore([], T0)
    return core


def genesis_of(identity: Identity) -> Genesis:
    """The one that `membership` founds when it has that identity."""
    return found_swarm(identity, epoch=0, created_ms=int(T0.wall * 1000))


def record_of(identity: Identity, swarm: str, seq: int = 1, signer: Identity | None = None) -> SignedRecord:
    body = encode(PeerRecord(identity.public, swarm, seq, [f"/ip4/192.0.2.1/tcp/1/p2p/{identity.peer_id}"]))
    return SignedRecord(body, (signer or identity).sign(b"peer-record", body))


SWARM = genesis_of(ME).name
OTHER_SWARM = genesis_of(THIRD).name


def dialled(core: MembershipCore) -> Call:
    call: Call = one(Call, give(core, PeerConnected(PEER.peer_id, outbound=True)))
    return call


def welcome(genesis: Genesis, *, swarm: str = "") -> Welcome:
    name = swarm or genesis.name
    return Welcome(name, genesis, "1.0", record_of(PEER, name), [])


def test_hello_1_the_dialling_side_calls_and_the_other_waits() -> None:
    core = membership()
    assert give(core, PeerConnected(PEER.peer_id, outbound=False)) == []
    call = dialled(core)
    assert call.peer == PEER.peer_id
    assert isinstance(call.query, Hello)
    assert call.query.swarm == SWARM


def test_hello_3_another_swarm_is_told_so_and_not_admitted() -> None:
    core = membership()
    effects = give(core, Hello(OTHER_SWARM, "1.0"), PEER.peer_id, 7)
    error = one(Reply, effects).error
    assert error.code == "wrong_swarm"
    assert SWARM in error.message
    assert OTHER_SWARM in error.message
    assert Tell(Admit(PEER.peer_id)) not in effects


@pytest.mark.parametrize("case", ["of another peer", "signed by another", "of another swarm"])
def test_hello_4_a_record_that_is_not_the_callers_own_is_refused_and_blamed(case: str) -> None:
    record = {
        "of another peer": record_of(THIRD, SWARM),
        "signed by another": record_of(PEER, SWARM, signer=THIRD),
        "of another swarm": record_of(PEER, OTHER_SWARM),
    }[case]
    effects = give(membership(), Hello(SWARM, "1.0", record), PEER.peer_id, 7)
    assert one(Reply, effects).error.code == "malformed"
    assert [event.body.peer for event in effects if isinstance(event, Event) and isinstance(event.body, Blame)]
    assert Tell(Admit(PEER.peer_id)) not in effects


def test_hello_6_the_newest_record_counts_and_an_old_one_is_no_offence() -> None:
    book = RecordBook(8)
    older, newer = record_of(PEER, SWARM, seq=5), record_of(PEER, SWARM, seq=6)
    for record, fresh in ((older, True), (newer, True), (older, False), (newer, False)):
        entry = book.take(record, SWARM)
        assert entry is not None
        assert entry.fresh is fresh
    assert book.get(PEER.peer_id) == newer


@pytest.mark.parametrize("case", ["good", "another name", "forged signature"])
def test_hello_7_a_fresh_node_adopts_only_a_genesis_that_verifies(case: str) -> None:
    core = membership(founds=False)
    call = dialled(core)
    assert call.query.swarm == ""
    genesis = genesis_of(THIRD)
    answer = {
        "good": welcome(genesis),
        "another name": welcome(genesis, swarm=SWARM),
        "forged signature": welcome(
            Genesis(genesis.genesis, genesis.founder, genesis.epoch, genesis.created_ms, bytes(64))
        ),
    }[case]
    effects = give(core, Done(call.tag, answer))
    assert (Tell(Admit(PEER.peer_id)) in effects) is (case == "good")


def test_hello_8_a_node_without_a_swarm_asks_to_come_back() -> None:
    error = one(Reply, give(membership(founds=False), Hello("", "1.0"), PEER.peer_id, 7)).error
    assert error.code == "refused"
    assert error.retry_after_s > 0


def test_hello_9_a_node_of_a_swarm_does_not_change_it() -> None:
    core = membership()
    call = dialled(core)
    effects = give(core, Done(call.tag, welcome(genesis_of(THIRD))))
    assert Tell(Admit(PEER.peer_id)) not in effects
    assert one(Call, give(membership(), PeerConnected(PEER.peer_id, outbound=True))).query.swarm == SWARM


def admitted() -> MembershipCore:
    core = membership()
    give(core, Hello(SWARM, "1.0", record_of(PEER, SWARM)), PEER.peer_id, 7)
    return core


def test_peers_1_presence_must_carry_its_authors_record() -> None:
    core = admitted()
    effects = give(core, Presence(record_of(PEER, SWARM, seq=2), [], 1, 0, "1.0"), PEER.peer_id)
    offers = [event.body for event in effects if isinstance(event, Event)]
    assert offers == [PeerOffers(PEER.peer_id, (), 1, 0)]
    stolen = give(core, Presence(record_of(THIRD, SWARM), [], 1, 0, "1.0"), PEER.peer_id)
    assert not [event for event in stolen if isinstance(event, Event) and isinstance(event.body, PeerOffers)]


def test_peers_3_no_more_records_than_were_asked_for() -> None:
    core = admitted()
    for number in range(10, 14):
        other = Identity(bytes([number]) * 32)
        give(core, Hello(SWARM, "1.0", record_of(other, SWARM)), other.peer_id, 7)
    for wanted, found in ((1, 1), (3, 3), (64, 5)):
        members = one(Reply, give(core, ListMembers(wanted), PEER.peer_id, 7)).value
        assert isinstance(members, Members)
        assert len(members.records) == found


def test_peers_4_records_are_judged_one_by_one() -> None:
    core = admitted()
    good, bad = record_of(THIRD, SWARM), record_of(Identity(bytes([9]) * 32), SWARM, signer=PEER)
    effects = give(core, Done(("exchange", PEER.peer_id), Members([bad, good])))
    learnt = [tell.body.peer for tell in effects if isinstance(tell, Tell) and isinstance(tell.body, LearnAddresses)]
    assert learnt == [THIRD.peer_id]
    assert not [event for event in effects if isinstance(event, Event) and isinstance(event.body, Blame)]
