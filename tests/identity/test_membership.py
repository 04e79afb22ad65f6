"""Membership: two or more cores wired together by hand; what each decides about the other."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec import structs

from edgenet_node.crypto.fingerprints import Genesis
from edgenet_node.effects import Ask, Call, Done, Effect, Envelope, Event, Now, Publish, Put, Reply, Row, Tell, Tick
from edgenet_node.errors import Conflict, Malformed, Refused, WrongSwarm
from edgenet_node.identity.keys import Identity
from edgenet_node.identity.membership import MembershipCore
from edgenet_node.identity.settings import MembershipSettings
from edgenet_node.messages.committee import Admission, AdmissionChanged
from edgenet_node.messages.network import (
    Admit,
    Blame,
    ConnectionInfo,
    GetPeers,
    GetSwarm,
    LearnAddresses,
    PardonPeer,
    PeerConnected,
    PeerDisconnected,
    PeerDown,
    PeerOffers,
    PeerUp,
    PeerView,
    RefusePeer,
    SetSwarm,
    SwarmAdopted,
    SwarmInfo,
)
from edgenet_node.wire.codec import encode
from edgenet_node.wire.hello import Hello, PeerRecord, SignedRecord, Welcome
from edgenet_node.wire.peers import Capability, ListMembers, Presence

T0 = Now(0.0, 1_700_000_000.0)


class Node:
    """A core with an identity; remembers what it told the world."""

    def __init__(self, n: int, *, founds: bool = False, pinned: str = "", rows: list[Row] | None = None) -> None:
        self.identity = Identity(bytes([n]) * 32)
        self.peer = self.identity.peer_id
        settings = MembershipSettings("1.0", (Capability("embedding", "m", 1),), workers=1)
        rng = random.Random(n)
        self.core = MembershipCore(self.identity, settings, rng, founds=founds, pinned=pinned)
        self.said: list[Any] = []
        self.rows: dict[tuple[str, str], bytes] = {}
        self.calls: list[Call] = []
        self.now = T0
        self.take(self.core.restore(rows or [], T0))

    def give(self, body: Any, sender: str = "", reply_to: int = 0) -> Any:
        return self.take(self.core.step(Envelope(body, reply_to, sender), self.now))

    def take(self, effects: list[Effect]) -> Any:
        answer: Any = None
        for effect in effects:
            match effect:
                case Tell(body) | Event(body) | Publish(body):
                    self.said.append(body)
                case Put(table, key, value):
                    self.rows[table, key] = value
                case Call():
                    self.calls.append(effect)
                case Reply():
                    answer = effect
                case Ask(("addresses",)):
                    self.give(Done(("addresses",), (f"/ip4/127.0.0.1/tcp/1/p2p/{self.peer}",)))
        return answer

    def tick(self, seconds: float) -> None:
        self.now = Now(self.now.mono + seconds, self.now.wall + seconds)
        assert self.core.wake_at() > -1
        self.give(Tick())

    def state(self, peer: str) -> PeerView:
        views = {view.peer: view for view in self.give(GetPeers(), reply_to=1).value}
        view: PeerView = views[peer]
        return view

    def swarm(self) -> SwarmInfo:
        info: SwarmInfo = self.give(GetSwarm(), reply_to=1).value
        return info


def dial(a: Node, b: Node) -> None:
    """a connects to b and says hello."""
    b.give(PeerConnected(a.peer, outbound=False))
    a.give(PeerConnected(b.peer, outbound=True))
    deliver(a, b)


def deliver(a: Node, b: Node) -> None:
    [call] = [call for call in a.calls if call.peer == b.peer]
    a.calls.remove(call)
    answer: Reply = b.give(call.query, sender=a.peer, reply_to=7)
    a.give(Done(call.tag, answer.value, answer.error))


def test_two_of_one_swarm_admit_each_other_and_learn_addresses() -> None:
    founder, other = Node(1, founds=True), Node(2)
    dial(other, founder)
    for one, peer in ((founder, other.peer), (other, founder.peer)):
        assert Admit(peer) in one.said
        assert PeerUp(peer) in one.said
    assert SetSwarm(founder.swarm().swarm) in other.said
    assert SwarmAdopted(founder.swarm().swarm, founder.peer) in other.said
    assert any(isinstance(one, LearnAddresses) and one.peer == founder.peer for one in other.said)
    assert other.swarm().origin == "adopted"
    assert founder.swarm().origin == "founded"


def test_adoption_is_saved_and_binds_after_a_restart() -> None:
    founder, stranger, fresh = Node(1, founds=True), Node(9, founds=True), Node(2)
    dial(fresh, founder)
    rows = [Row(table, key, value) for (table, key), value in fresh.rows.items()]
    again = Node(2, rows=rows)
    assert again.swarm().swarm == founder.swarm().swarm
    dial(again, stranger)
    assert again.state(stranger.peer).state == "refused"
    assert "wrong swarm" in again.state(stranger.peer).reason
    assert any(isinstance(one, RefusePeer) for one in again.said)


def test_the_refusing_side_says_why_and_drops_the_connection_after_its_answer() -> None:
    a, b = Node(1, founds=True), Node(2, founds=True)
    b.give(PeerConnected(a.peer, outbound=False))
    answer = b.give(Hello(a.swarm().swarm, "1.0"), sender=a.peer, reply_to=3)
    assert isinstance(answer.error, WrongSwarm)
    assert b.swarm().swarm in answer.error.message
    assert not any(isinstance(one, RefusePeer) for one in b.said)
    b.tick(0.6)
    assert any(isinstance(one, RefusePeer) and one.peer == a.peer for one in b.said)
    assert not any(isinstance(one, Admit | PeerUp) for one in b.said)


def test_a_pinned_node_takes_only_that_swarm() -> None:
    right, wrong = Node(1, founds=True), Node(2, founds=True)
    pinned = Node(3, pinned=right.swarm().swarm)
    dial(pinned, wrong)
    assert pinned.swarm().swarm == ""
    assert pinned.state(wrong.peer).state == "refused"
    dial(pinned, right)
    assert pinned.swarm() == structs.replace(right.swarm(), origin="pinned")


def test_a_founder_keeps_its_swarm_over_restarts() -> None:
    founder = Node(1, founds=True)
    rows = [Row(table, key, value) for (table, key), value in founder.rows.items()]
    for founds in (True, False):
        again = Node(1, founds=founds, rows=rows)
        assert again.swarm() == founder.swarm()


def test_a_node_cannot_be_pinned_to_another_swarm_than_its_own() -> None:
    founder, fresh = Node(1, founds=True), Node(2)
    dial(fresh, founder)
    rows = [Row(table, key, value) for (table, key), value in fresh.rows.items()]
    with pytest.raises(Conflict):
        Node(2, pinned="ab" * 21, rows=rows)


def test_a_fresh_node_welcomes_nobody_but_asks_to_come_back() -> None:
    a, b = Node(1), Node(2)
    b.give(PeerConnected(a.peer, outbound=False))
    answer = b.give(Hello("", "1.0"), sender=a.peer, reply_to=3)
    assert isinstance(answer.error, Refused)
    assert answer.error.retry_after_s > 0
    a.give(PeerConnected(b.peer, outbound=True))
    a.give(Done(("hello", b.peer), error=answer.error))
    a.calls.clear()
    a.tick(1.1)
    assert [call.peer for call in a.calls] == [b.peer]


def test_two_that_dial_each_other_at_once_both_say_hello() -> None:
    """Each counts the two connections as one, and may have seen the other's first."""
    founder, a, b = Node(1, founds=True), Node(2), Node(3)
    dial(a, founder)
    dial(b, founder)
    a.give(PeerConnected(b.peer, outbound=False))
    b.give(PeerConnected(a.peer, outbound=False))
    assert not a.calls
    for one in (a, b):
        one.tick(0.6)
    deliver(a, b)
    deliver(b, a)
    assert (a.state(b.peer).state, b.state(a.peer).state) == ("member", "member")
    assert [one.said.count(PeerUp(other.peer)) for one, other in ((a, b), (b, a))] == [1, 1]


def test_a_fresh_node_does_not_take_the_swarm_of_whoever_dials_it() -> None:
    founder, fresh = Node(1, founds=True), Node(2)
    fresh.give(PeerConnected(founder.peer, outbound=False))
    fresh.tick(0.6)
    assert not fresh.calls
    assert fresh.swarm().swarm == ""


def test_a_fresh_node_greets_its_bootstrap_peer_also_when_that_one_dialled() -> None:
    founder, fresh = Node(1, founds=True), Node(2)
    settings = MembershipSettings("1", chosen=frozenset({founder.peer}))
    core = MembershipCore(fresh.identity, settings, random.Random(1), founds=False, pinned="")
    core.restore([], T0)
    effects = core.step(Envelope(PeerConnected(founder.peer, outbound=False)), T0)
    assert [effect.peer for effect in effects if isinstance(effect, Call)] == [founder.peer]


def test_no_operation_is_repeated_while_it_is_in_flight() -> None:
    """The runtime takes that for a broken core, and is right to."""
    node, other = Node(1, founds=True), Node(2)
    core = MembershipCore(node.identity, MembershipSettings("1"), random.Random(1), founds=True, pinned="")
    flying = [effect.tag for effect in core.restore([], T0) if isinstance(effect, Ask | Call)]
    now = T0
    for body in (*[PeerConnected(other.peer, outbound=True), PeerDisconnected(other.peer)] * 4, *[Tick()] * 40):
        now = Now(now.mono + 1.0, now.wall + 1.0)
        effects = core.step(Envelope(body, 0, ""), now)
        flying += [effect.tag for effect in effects if isinstance(effect, Ask | Call)]
    assert sorted(flying) == [("addresses",), ("admission",), ("connections",), ("hello", other.peer)]


def test_a_hello_that_belongs_to_a_lost_connection_does_not_end_the_matter() -> None:
    founder, other = Node(1, founds=True), Node(2)
    other.give(PeerConnected(founder.peer, outbound=True))
    [lost] = other.calls
    other.give(PeerDisconnected(founder.peer))
    other.calls.clear()
    other.give(PeerConnected(founder.peer, outbound=True))
    assert not other.calls
    other.give(Done(lost.tag, error=Refused("gone")))
    other.tick(0.6)
    assert len(other.calls) == 1


def test_hellos_on_one_connection_are_bounded() -> None:
    a, b = Node(1), Node(2)
    a.give(PeerConnected(b.peer, outbound=True))
    count = 0
    while a.calls:
        count += 1
        assert count < 50
        tag = a.calls.pop().tag
        a.give(Done(tag, error=Refused("later", retry_after_s=0.1)))
        a.tick(20.0)
    assert count == MembershipSettings("1").hello_tries_max


def forged(kind: str, founder: Node, victim: Node) -> SignedRecord:
    swarm = founder.swarm().swarm if kind != "other swarm" else "ab" * 21
    owner = founder if kind == "somebody else's" else victim
    body = encode(PeerRecord(owner.identity.public, swarm, 5, ["/ip4/127.0.0.1/tcp/9"]))
    signature = owner.identity.sign(b"peer-record" if kind != "other domain" else b"x", body)
    if kind == "tampered":
        body = body.replace(b"tcp/9", b"tcp/8")
    return SignedRecord(body if kind != "garbage" else b"\xc1", signature)


@pytest.mark.parametrize("kind", ["tampered", "other swarm", "other domain", "somebody else's", "garbage"])
def test_a_hello_with_a_false_record_is_refused_and_blamed(kind: str) -> None:
    founder, victim = Node(1, founds=True), Node(2)
    founder.give(PeerConnected(victim.peer, outbound=False))
    hello = Hello(founder.swarm().swarm, "1", forged(kind, founder, victim))
    answer = founder.give(hello, sender=victim.peer, reply_to=3)
    assert isinstance(answer.error, Malformed)
    assert any(isinstance(one, Blame) and one.peer == victim.peer for one in founder.said)
    assert Admit(victim.peer) not in founder.said


def test_a_welcome_with_a_false_genesis_is_refused() -> None:
    founder, fresh = Node(1, founds=True), Node(2)
    fresh.give(PeerConnected(founder.peer, outbound=True))
    [call] = fresh.calls
    real: Welcome = founder.give(call.query, sender=fresh.peer, reply_to=3).value
    genesis = Genesis(b"\1" * 21, real.genesis.founder, 0, 1, real.genesis.signature)
    fresh.give(Done(call.tag, Welcome(genesis.name, genesis, "1", real.record, [])))
    assert fresh.swarm().swarm == ""
    assert fresh.state(founder.peer).state == "refused"


def test_presence_of_a_member_becomes_an_offer_and_a_stranger_s_does_not() -> None:
    founder, other = Node(1, founds=True), Node(2)
    dial(other, founder)
    other.tick(1.0)
    presence = next(one for one in reversed(other.said) if isinstance(one, Presence))
    founder.give(presence, sender=other.peer)
    assert PeerOffers(other.peer, (Capability("embedding", "m", 1),), 1, 0) in founder.said
    third = Node(3, founds=True)
    third.give(presence, sender=other.peer)
    assert not any(isinstance(one, PeerOffers) for one in third.said)


def test_members_tell_of_members_so_that_a_third_learns_their_addresses() -> None:
    founder, b, c = Node(1, founds=True), Node(2), Node(3)
    dial(b, founder)
    founder.give(next(one for one in reversed(b.said) if isinstance(one, Presence)), sender=b.peer)
    dial(c, founder)
    assert any(isinstance(one, LearnAddresses) and one.peer == b.peer for one in c.said)
    listed = founder.give(ListMembers(), sender=c.peer, reply_to=4).value.records
    assert len(listed) == 1


def test_a_peer_that_disconnects_is_down_once() -> None:
    founder, other = Node(1, founds=True), Node(2)
    dial(other, founder)
    founder.give(PeerDisconnected(other.peer))
    founder.give(PeerDisconnected(other.peer))
    assert founder.said.count(PeerDown(other.peer)) == 1
    assert founder.state(other.peer).state == "known"


def test_malformed_messages_add_up_to_a_refusal_that_ends() -> None:
    founder, other = Node(1, founds=True), Node(2)
    dial(other, founder)
    for _ in range(20):
        founder.give(Blame(other.peer, "garbage"))
    assert founder.state(other.peer).state == "refused"
    assert PeerDown(other.peer) in founder.said
    founder.give(PeerDisconnected(other.peer))
    founder.give(PeerConnected(other.peer, outbound=False))
    assert isinstance(founder.give(Hello("", "1"), sender=other.peer, reply_to=2).error, Refused)
    founder.tick(601.0)
    founder.give(PeerConnected(other.peer, outbound=False))
    assert founder.give(Hello("", "1"), sender=other.peer, reply_to=2).error is None


def test_a_rebuilt_membership_finds_its_peers_again() -> None:
    founder, member, stranger = Node(1, founds=True), Node(2), Node(3)
    dial(member, founder)
    rows = [Row(table, key, value) for (table, key), value in founder.rows.items()]
    again = Node(1, founds=True, rows=rows)
    connections = (
        ConnectionInfo(member.peer, outbound=False, admitted=True),
        ConnectionInfo(stranger.peer, True, False),
    )
    again.give(Done(("connections",), connections))
    assert PeerUp(member.peer) in again.said
    assert again.state(member.peer).state == "member"
    assert [call.peer for call in again.calls] == [stranger.peer]


def word(
    banned: dict[str, str] | None = None,
    *,
    listed: bool = False,
    admitted: tuple[str, ...] = (),
    committee: tuple[str, ...] = (),
) -> AdmissionChanged:
    return AdmissionChanged(Admission(listed, frozenset(admitted), banned or {}, frozenset(committee)))


def test_who_is_banned_is_dropped_and_not_let_in_again() -> None:
    a, b = Node(1, founds=True), Node(2)
    dial(b, a)
    assert a.state(b.peer).state == "member"
    a.give(word({b.peer: "wrong results"}))
    assert a.state(b.peer).state == "refused"
    assert any(isinstance(one, RefusePeer) and "wrong results" in one.reason for one in a.said)
    a.give(PeerDisconnected(b.peer))
    a.said.clear()
    refused = a.give(Hello(a.swarm().swarm, "1"), b.peer, 7)
    assert isinstance(refused.error, Refused)
    assert not any(isinstance(one, Admit) for one in a.said)
    a.give(word())
    assert PardonPeer(b.peer) in a.said, "or the transport would refuse it for minutes"
    dial(b, a)
    assert a.state(b.peer).state == "member"


def test_a_listed_swarm_lets_in_whom_its_committee_names() -> None:
    a, listed, member, stranger = Node(1, founds=True), Node(2), Node(3), Node(4)
    a.give(word(listed=True, admitted=(listed.peer,), committee=(member.peer,)))
    for other in (listed, member, stranger):
        dial(other, a)
    assert [a.state(other.peer).state for other in (listed, member, stranger)] == ["member", "member", "refused"]


def test_the_committee_is_let_in_whatever_it_says() -> None:
    a, member = Node(1, founds=True), Node(2)
    dial(member, a)
    a.give(word({member.peer: "by mistake"}, committee=(member.peer,)))
    assert a.state(member.peer).state == "member"
