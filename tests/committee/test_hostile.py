"""Peers that lie: every message of the committee with hostile fields, to a member and to a follower; answers that are
forged, out of order, replayed or without end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from edgenet_node.committee.chain import digest
from edgenet_node.committee.settings import CommitteeSettings
from edgenet_node.crypto.hashing import merkle_root, sha256
from edgenet_node.errors import EdgenetError, Malformed, Refused
from edgenet_node.identity.keys import Identity
from edgenet_node.messages.committee import Decide, RegistryView
from edgenet_node.messages.network import Blame
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.committee import (
    PROPOSAL_BYTES_MAX,
    Certificate,
    CertifiedHead,
    CommitteeSet,
    GetHead,
    GetRows,
    GetSignature,
    Head,
    HeadReply,
    Link,
    MemberRow,
    MemberSignature,
    Notice,
    PrepareToJoin,
    RegistryRow,
    RequestChange,
    Rows,
)
from edgenet_node.wire.raft import RosterEntry, SubmitCommand
from edgenet_node.wire.registry import GOSSIP_BYTES_MAX, WireTable

from .test_regressions import link, signed_head
from .test_swarm import formed
from .world import SETTINGS, Swarm

STRANGER = Identity(sha256(b"stranger"))
NO_KEY = "1" * 46
"""A PeerId by its form, of no Ed25519 key."""

MEMBER, FOLLOWER = 1, 4


class Watched:
    """A committee of three that has come to rest, and who is blamed from now on."""

    def __init__(self, nodes: int = 5, size: int = 3, seed: int = 1) -> None:
        self.swarm = formed(nodes, size, seed)
        self.swarm.until(lambda: all(len(self.swarm.view(number).members) == nodes for number in range(nodes)))
        self.swarm.until(lambda: len({self._rest(one) for one in map(self.swarm.view, range(nodes))}) == 1)
        self.swarm.until(lambda: all(None not in self._rest(one) for one in map(self.swarm.view, range(nodes))))
        self.blames: list[Blame] = []
        self.swarm.world.on_event.append(lambda _host, body: self._note(body))

    @staticmethod
    def _rest(view: RegistryView) -> tuple[str, int | None]:
        """Its history, if that is certified."""
        head = view.head
        return view.history, head.index if head is not None and head.history == view.history else None

    def _note(self, body: Any) -> None:
        if isinstance(body, Blame):
            self.blames.append(body)

    def record(self, number: int) -> Any:
        core: Any = self.swarm.hosts[number].drivers["committee"].core
        return core._record

    def state(self, number: int) -> Any:
        one = self.record(number)
        return dict(one.state.rows), one.state.history, list(one.chain.links), one.certified, one.pending, one.alarms[:]

    def ask(self, number: int, sender: str, query: Any) -> Any:
        """The answer or the error of one node to a peer."""
        found: list[Any] = []
        self.swarm.hosts[number].serve(sender, query, lambda value, error: found.append(error or value))
        self.swarm.until(lambda: bool(found))
        return found[0]

    def lie(self, number: int, answer: Callable[[Any], Any]) -> None:
        """From now on this node answers peers so; None: as it would."""
        host = self.swarm.hosts[number]
        honest = host.serve

        def serve(sender: str, query: Any, answered: Any) -> None:
            found = answer(query)
            if found is None:
                honest(sender, query, answered)
            elif isinstance(found, Exception):
                answered(None, found)
            else:
                answered(found, None)

        host.serve = serve  # type: ignore[method-assign, assignment]


def hostile(rng: random.Random, watched: Watched) -> Any:
    """One message with random fields, some of them copied from honest ones."""
    record = watched.record(0)
    tip = record.chain.tip
    keys = [*(one.public for one in watched.swarm.identities), STRANGER.public, bytes(32), b"\xff" * 32]

    def number() -> int:
        return rng.choice([0, 1, 2, 7, 2**31 - 1])

    def index() -> int:
        return rng.choice([0, 1, int(record.cursor), int(record.certified.head.index), 2**62])

    def hashed() -> bytes:
        return rng.choice([rng.randbytes(32), digest(tip), digest(record.certified.head)])

    def some_set() -> Any:
        members = tuple(sorted(set(rng.sample(keys, rng.randint(1, 7)))))
        return rng.choice([tip, CommitteeSet(rng.choice([0, 1, 2**32 - 1]), number(), members, hashed())])

    def certificate() -> Any:
        places = sorted(rng.sample(range(7), rng.randint(1, 7)))
        forged = Certificate(0, number(), tuple(MemberSignature(one, rng.randbytes(64)) for one in places))
        return rng.choice([forged, record.certified.certificate])

    def links() -> tuple[Link, ...]:
        made = [Link(some_set(), rng.choice([None, certificate()])) for _ in range(rng.randint(1, 4))]
        return tuple(rng.choice([made, [*record.chain.links, *made], [*made, *record.chain.links]]))

    peers = [*watched.swarm.peers, STRANGER.peer_id, NO_KEY]
    head = CertifiedHead(
        structs.replace(record.certified.head, number=number(), index=index(), root=hashed()), certificate()
    )
    roster = tuple(RosterEntry(rng.randint(1, 9), rng.choice(peers)) for _ in range(rng.randint(0, 4)))
    command = SubmitCommand("registry", rng.randbytes(16), rng.randint(0, 2**62), 0, rng.randbytes(rng.randint(0, 99)))
    return rng.choice(
        [
            GetHead(rng.choice([-1, 0, 1, 2**31 - 1])),
            GetRows(index(), rng.choice(["", "member/", "\U0001f600" * 128, "\x00", "zz"])),
            GetSignature(rng.choice(["set", "head"]), index(), hashed()),
            PrepareToJoin(rng.choice([0, 1, 2**32 - 1]), links(), roster),
            RequestChange((rng.choice(peers),), tuple(rng.sample(peers, 2)), rng.choice(["", NO_KEY])),
            Notice(0, 2**62, NO_KEY, 2**62, head, rng.choice([None, command])),
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_hostile_messages_raise_nothing_and_change_nothing(seed: int) -> None:
    watched, rng, table = Watched(seed=seed + 1), random.Random(seed), WireTable()
    before = {number: watched.state(number) for number in (MEMBER, FOLLOWER)}
    for _ in range(250):
        body = hostile(rng, watched)
        decode(encode(body), type(body), bytes_max=2**20)
        sender = rng.choice([STRANGER.peer_id, NO_KEY, watched.swarm.peers[FOLLOWER], watched.swarm.peers[3]])
        for number in (MEMBER, FOLLOWER):
            if isinstance(body, Notice):
                proposal = None if number == MEMBER else body.proposal  # garbage in the log is refused elsewhere
                watched.swarm.hosts[number].hear(sender, structs.replace(body, proposal=proposal))
                continue
            found = watched.ask(number, sender, body)
            if isinstance(found, Exception):
                assert isinstance(found, EdgenetError)
                assert table.encode_error(found)
            else:
                assert isinstance(body, GetHead | GetRows), body
                assert table.encode_reply(type(body), found)
    watched.swarm.run(3)
    assert not watched.swarm.violations
    assert {number: watched.state(number) for number in (MEMBER, FOLLOWER)} == before
    assert {one.peer for one in watched.blames} <= {STRANGER.peer_id, NO_KEY, *watched.swarm.peers[3:]}


def test_members_only_means_members() -> None:
    watched = Watched()
    subject = watched.record(MEMBER).certified.head
    for sender in (STRANGER.peer_id, NO_KEY, watched.swarm.peers[FOLLOWER]):
        for query in (
            GetSignature("head", subject.index, digest(subject)),
            RequestChange((STRANGER.peer_id, watched.swarm.peers[3])),
        ):
            assert isinstance(watched.ask(MEMBER, sender, query), Refused)


# ---- being asked to join


@pytest.mark.parametrize("sender", [STRANGER.peer_id, NO_KEY])
def test_strangers_make_nobody_a_member(sender: str) -> None:
    watched = Watched()
    record = watched.record(FOLLOWER)
    links = tuple(record.chain.links)
    usurped = CommitteeSet(0, 2, (STRANGER.public,), digest(record.chain.tip))
    forged = Link(usurped, Certificate(0, 1, (MemberSignature(0, STRANGER.sign(b"committee-set", digest(usurped))),)))
    first = Link(CommitteeSet(0, 0, (STRANGER.public,), links[0].set.previous))
    for chain in (links, (*links, forged), (first,), (first, *links[1:]), links[1:], links[:1], links * 2):
        found = watched.ask(FOLLOWER, sender, PrepareToJoin(0, chain, ()))
        assert isinstance(found, Refused | Malformed), found
    view = watched.swarm.view(FOLLOWER).raft
    assert view is not None
    assert view.member == 0


def test_a_member_asks_with_the_whole_chain_or_in_vain() -> None:
    watched = Watched()
    links = tuple(watched.record(FOLLOWER).chain.links)
    other = Link(CommitteeSet(0, 0, (STRANGER.public,), links[0].set.previous))
    for epoch, chain in ((1, links), (0, links[:1]), (0, (other, *links[1:]))):
        found = watched.ask(FOLLOWER, watched.swarm.peers[1], PrepareToJoin(epoch, chain, ()))
        assert isinstance(found, Refused | Malformed), found


# ---- gossip


def test_a_head_of_another_swarm_and_one_that_proves_nothing_are_blamed() -> None:
    watched = Watched()
    certified = watched.record(0).certified
    elsewhere = structs.replace(certified, head=structs.replace(certified.head, swarm="cd" * 21))
    unproven = structs.replace(certified, head=structs.replace(certified.head, index=10_000))
    for number in (MEMBER, FOLLOWER):
        before = watched.state(number)
        for head in (elsewhere, unproven):
            watched.swarm.hosts[number].hear(STRANGER.peer_id, Notice(0, head=head))
        watched.swarm.run(0.5)
        assert watched.state(number) == before
    assert [one.peer for one in watched.blames] == [STRANGER.peer_id] * 4


def test_an_old_head_is_no_news() -> None:
    watched = Watched()
    old = watched.record(0).certified
    watched.swarm.ask(0, Decide("ban", peer=STRANGER.peer_id))
    watched.swarm.until(lambda: watched.record(FOLLOWER).certified.head.index > old.head.index)
    before = watched.state(FOLLOWER)
    for number in (MEMBER, FOLLOWER):
        watched.swarm.hosts[number].hear(watched.swarm.peers[3], Notice(0, head=old))
    watched.swarm.run(1)
    assert watched.state(FOLLOWER) == before
    assert watched.blames == []


def test_a_proposal_by_gossip_has_its_limit() -> None:
    watched = Watched()
    log: Any = watched.swarm.hosts[MEMBER].drivers["raft"].core
    before = log.member.node.status().commit
    proposal = SubmitCommand("registry", bytes(16), 1, 0, bytes(PROPOSAL_BYTES_MAX))
    notice = {"epoch": 0, "proposal": structs.replace(proposal, command=bytes(PROPOSAL_BYTES_MAX + 1))}
    with pytest.raises(Malformed):  # whose author the transport blames
        decode(encode(notice), Notice, bytes_max=GOSSIP_BYTES_MAX)
    for number in (MEMBER, FOLLOWER):
        watched.swarm.hosts[number].hear(STRANGER.peer_id, Notice(0, proposal=proposal))
    watched.swarm.run(1)
    assert watched.blames == []
    assert log.member.node.status().commit == before + 1


def test_hints_of_unknown_sets_are_not_all_followed() -> None:
    """Each would have every node of the swarm ask somebody."""
    watched = Watched()
    head = watched.record(0).certified
    unknown = structs.replace(head, head=structs.replace(head.head, number=99))
    asked: list[Any] = []
    for number in range(4):
        watched.lie(number, lambda query: asked.append(query) if isinstance(query, GetHead) else None)
    for _ in range(100):
        watched.swarm.hosts[FOLLOWER].hear(STRANGER.peer_id, Notice(0, head=unknown))
        watched.swarm.run(0.01)
    assert len(asked) <= 3


# ---- answers to a follower


class Follower:
    """Node 4 asks node 3, and nobody else: what node 3 answers is a test's business."""

    def __init__(self) -> None:
        self.watched = watched = Watched()
        self.swarm = swarm = watched.swarm
        for number in range(3):
            swarm.world.network.cut(swarm.peers[number], swarm.peers[4])
        core: Any = swarm.hosts[4].drivers["committee"].core
        core._following._peers = {swarm.peers[3]: None}
        self.own = watched.record(4)
        self.before = watched.state(4)

    def told(self, head: HeadReply, rows: Callable[[GetRows], Any] = lambda _query: None) -> None:
        """What it is answered from now on."""
        self.watched.lie(
            3, lambda query: head if isinstance(query, GetHead) else rows(query) if isinstance(query, GetRows) else None
        )

    def run(self) -> None:
        self.swarm.run(5)
        assert not self.swarm.violations

    @property
    def blamed(self) -> bool:
        assert {one.peer for one in self.watched.blames} <= {self.swarm.peers[3]}
        return bool(self.watched.blames)


def head_reply(follower: Follower, **changes: Any) -> HeadReply:
    return structs.replace(HeadReply((), False, (), follower.own.certified), **changes)


def test_a_roster_of_strange_names_is_passed_over() -> None:
    follower = Follower()
    roster = (RosterEntry(5, NO_KEY), RosterEntry(6, STRANGER.peer_id))
    reply = head_reply(follower, roster=roster)
    follower.told(reply)
    follower.run()
    assert follower.watched.state(4) == follower.before
    assert not follower.blamed


def test_forged_links_are_blamed_and_not_taken() -> None:
    tip = Watched().record(0).chain.tip
    following = CommitteeSet(0, 2, (STRANGER.public,), digest(tip))
    signature = MemberSignature(0, STRANGER.sign(b"committee-set", digest(following)))
    forged = Certificate(0, 1, (signature,))
    for one in (
        Link(following, forged),
        Link(following),
        Link(structs.replace(following, number=3), forged),
        Link(structs.replace(following, number=1), forged),
        Link(structs.replace(following, epoch=2), None),
        Link(structs.replace(following, epoch=1, number=1), None),
    ):
        follower = Follower()
        reply = head_reply(follower, links=(one,))
        follower.told(reply)
        follower.run()
        assert follower.blamed
        assert follower.watched.state(4) == follower.before
        assert follower.own.chain.offered is None


def test_two_committees_of_one_genesis_raise_an_alarm_and_nobody_is_followed() -> None:
    follower = Follower()
    founder = follower.swarm.identities[0]
    other = link([founder, STRANGER, follower.swarm.identities[3]], follower.own.chain.links[0].set, [founder])
    reply = head_reply(follower, links=(other,))
    follower.told(reply)
    follower.run()
    assert not follower.blamed
    assert follower.watched.state(4)[:5] == follower.before[:5]
    [alarm] = follower.own.alarms
    assert "two committees of one genesis" in alarm


def test_a_head_that_an_old_set_signs_is_not_taken() -> None:
    follower = Follower()
    first = follower.own.chain.links[0].set
    forged = structs.replace(follower.own.certified.head, number=0, index=10_000, root=merkle_root([]))
    reply = head_reply(follower, head=signed_head(forged, first, [follower.swarm.identities[0]]))
    follower.told(reply, paged(Rows((), more=False)))
    follower.run()
    assert follower.watched.state(4) == follower.before


def newer(follower: Follower, rows: dict[str, bytes]) -> CertifiedHead:
    """A head over these rows that the committee itself certified."""
    tip, swarm = follower.own.chain.tip, follower.swarm
    root = merkle_root([encode(RegistryRow(key, rows[key])) for key in sorted(rows)])
    head = Head(swarm.info.swarm, tip.epoch, tip.number, 10_000, root, b"h" * 32)
    return signed_head(head, tip, swarm.identities[:3])


def paged(*pages: Rows) -> Callable[[GetRows], Any]:
    """One after the other; the last again and again."""
    left = list(pages)
    return lambda _query: left.pop(0) if len(left) > 1 else left[0]


def row(key: str, value: bytes = b"\xc0") -> RegistryRow:
    return RegistryRow(key, value)


PAGES: dict[str, tuple[Rows, ...]] = {
    "out of order": (Rows((row("member/b"), row("member/a")), more=False),),
    "twice": (Rows((row("member/a"), row("member/a")), more=False),),
    "again on the next page": (
        Rows((row("member/a"), row("member/b")), more=True),
        Rows((row("member/b"),), more=False),
    ),
    "of another registry": (Rows((row("member/a"),), more=False),),
    "none": (Rows((), more=False),),
    "none, and more": (Rows((), more=True),),
}


@pytest.mark.parametrize("name", PAGES)
def test_rows_that_the_head_does_not_prove_are_blamed(name: str) -> None:
    follower = Follower()
    reply = head_reply(follower, head=newer(follower, dict(follower.own.state.rows)))
    rows = paged(*PAGES[name])
    follower.told(reply, rows)
    follower.run()
    assert follower.blamed
    assert follower.watched.state(4) == follower.before


def test_rows_without_end_are_cut_off() -> None:
    follower = Follower()
    reply = head_reply(follower, head=newer(follower, dict(follower.own.state.rows)))
    served: list[int] = []

    def rows(query: GetRows) -> Rows:
        start = int(query.after.removeprefix("member/") or 0) + 1
        served.append(start)
        return Rows(tuple(row(f"member/{start + place:09}", bytes(8 * 1024)) for place in range(64)), more=True)

    follower.told(reply, rows)
    follower.swarm.until(lambda: follower.blamed)
    assert max(served) * 8 * 1024 <= 65 * 1024 * 1024
    assert follower.watched.state(4) == follower.before
    assert not follower.swarm.violations


def test_a_registry_that_is_none_is_not_adopted_whoever_certified_it() -> None:
    for extra in (
        {"set/abc": b"\xc0"},
        {"member/x": b"\xc1"},
        {"parameter/admission": b"\xc0"},
        {"set/2": encode(Link(CommitteeSet(1, 2, (STRANGER.public,), bytes(32))))},
        {"nonsense/x": b"\xc0"},
        {f"member/{STRANGER.peer_id}": encode(MemberRow(bytes(32), "open"))},
    ):
        follower = Follower()
        known = {**follower.own.state.rows, **extra}
        reply = head_reply(follower, head=newer(follower, known))
        page = Rows(tuple(row(key, known[key]) for key in sorted(known)), more=False)
        follower.told(reply, paged(page))
        follower.run()
        assert follower.watched.state(4)[:5] == follower.before[:5], extra
        assert any("cannot be" in alarm for alarm in follower.own.alarms), extra
        assert not follower.blamed


def test_a_careful_follower_takes_no_head_of_few() -> None:
    swarm = Swarm(3, own_settings={2: CommitteeSettings(certified_by_min=4, pull_interval_s=SETTINGS.pull_interval_s)})
    swarm.until(lambda: swarm.view(1).head is not None)
    core: Any = swarm.hosts[0].drivers["committee"].core
    swarm.hosts[2].hear(swarm.peers[0], Notice(0, head=core._record.certified))
    swarm.run(5)
    assert swarm.view(2).head is None
