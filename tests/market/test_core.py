"""Market: who is eligible, what an auction answers, how leases live and die."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgenet_node.effects import Ask, Call, Done, Effect, Envelope, Now, Publish, Reply, Tell, Tick
from edgenet_node.market.core import MarketCore
from edgenet_node.market.settings import MarketSettings
from edgenet_node.messages.market import Acquire, DropLease, LeaseEnded, LeaseGranted, Leases, UseLease
from edgenet_node.messages.network import GetPeers, PeerDown, PeerOffers, PeerUp, PeerView
from edgenet_node.messages.trust import GetStandings, Standing, StandingChanged
from edgenet_node.wire.auction import Announce, Offer, OfferReceipt, Release
from edgenet_node.wire.peers import Capability

EMBED = Capability("embedding", "minilm", 10)
T0 = Now(0.0, 1_700_000_000.0)


def counter() -> Callable[[int], bytes]:
    state = [0]

    def entropy(n: int) -> bytes:
        state[0] += 1
        return state[0].to_bytes(n, "big")

    return entropy


def market(**kwargs: Any) -> MarketCore:
    core = MarketCore(MarketSettings(**kwargs), "ME", (EMBED,), 2, counter())
    core.restore([], T0)
    return core


def join(core: MarketCore, peer: str, price: int = 10, load: int = 0) -> None:
    core.step(Envelope(PeerUp(peer)), T0)
    core.step(Envelope(PeerOffers(peer, (Capability("embedding", "minilm", price),), 2, load)), T0)


def wanted(**kwargs: Any) -> Acquire:
    fields: dict[str, Any] = {"units": 100, "reserve": 50, "executors_max": 8} | kwargs
    return Acquire("embedding", "minilm", **fields)


def offer(core: MarketCore, auction: bytes, peer: str, at: float = 0.01, **kwargs: Any) -> list[Effect]:
    fields: dict[str, Any] = {
        "lease": peer.encode().ljust(16, b"."),
        "price": 10,
        "units": 200,
        "expires_s": 60.0,
        "workers": 2,
        "load": 0,
    } | kwargs
    return core.step(Envelope(Offer(auction, **fields), reply_to=9, sender=peer), Now(at, T0.wall))


def open_auction(core: MarketCore, query: Acquire | None = None) -> bytes:
    [publish] = core.step(Envelope(query or wanted(), reply_to=1), T0)
    assert isinstance(publish, Publish)
    assert isinstance(publish.body, Announce)
    return publish.body.auction


def leases(effect: Effect) -> Leases:
    assert isinstance(effect, Reply)
    found: Leases = effect.value
    return found


def test_an_auction_closes_when_all_have_answered_best_price_first() -> None:
    core = market()
    join(core, "A")
    join(core, "B")
    auction = open_auction(core)
    assert offer(core, auction, "A", price=20) == [Reply(9, OfferReceipt(True))]
    receipt, answer = offer(core, auction, "B", price=5)
    assert receipt == Reply(9, OfferReceipt(True))
    assert [(one.peer, one.price) for one in leases(answer).leases] == [("B", 5), ("A", 20)]


def test_an_auction_closes_at_its_deadline_and_names_the_silent() -> None:
    core = market()
    join(core, "A")
    join(core, "B")
    auction = open_auction(core)
    offer(core, auction, "A")
    assert core.wake_at() == pytest.approx(0.4)
    [answer] = core.step(Envelope(Tick()), Now(0.4, T0.wall))
    assert [one.peer for one in leases(answer).leases] == ["A"]
    assert [(one.peer, one.reason) for one in leases(answer).declined] == [("B", "made no offer within 0.4 s")]


def test_held_leases_are_reused_without_a_new_auction_until_they_are_spent() -> None:
    core = market()
    join(core, "A")
    offer(core, open_auction(core), "A", units=100)
    [again] = core.step(Envelope(wanted(), reply_to=2), Now(1.0, T0.wall))
    assert leases(again).leases[0].peer == "A"
    lease = leases(again).leases[0].lease
    core.step(Envelope(UseLease(lease, 100)), Now(1.0, T0.wall))
    [announce] = core.step(Envelope(wanted(), reply_to=3), Now(1.0, T0.wall))
    assert isinstance(announce, Publish)


def test_with_nobody_able_the_auction_still_asks_and_then_says_why() -> None:
    core = market()
    core.step(Envelope(PeerUp("A")), T0)
    join(core, "B", price=99)
    join(core, "C")
    core.step(Envelope(PeerDown("C")), T0)
    join(core, "D")
    bad = Standing("D", "embedding", 1.0, newcomer=False, avoided=True, score=0.1, reason="lied")
    core.step(Envelope(StandingChanged(bad)), T0)
    [answer] = core.step(Envelope(wanted(), reply_to=1), T0)
    assert leases(answer).leases == ()
    assert {one.peer: one.reason for one in leases(answer).declined} == {
        "A": "does not offer embedding with minilm",
        "B": "asks 99 micro-rUv a unit, above the limit of 50",
        "C": "not connected",
        "D": "avoided: lied",
    }


def test_only_and_exclude_bind() -> None:
    core = market()
    for peer in "ABC":
        join(core, peer)
    auction = open_auction(core, wanted(only=("A", "Z"), exclude=()))
    assert offer(core, auction, "B") == [Reply(9, OfferReceipt(False))]
    [_, answer] = offer(core, auction, "A")
    assert [one.peer for one in leases(answer).leases] == ["A"]
    assert ("Z", "not known here") in [(one.peer, one.reason) for one in leases(answer).declined]
    [excluded] = core.step(Envelope(wanted(only=("A",), exclude=("A",)), reply_to=4), T0)
    assert leases(excluded).leases == ()


@pytest.mark.parametrize(
    "change", [{"price": 51}, {"units": 0}, {"expires_s": 1.0}, {"auction": b"x" * 16}], ids=lambda c: next(iter(c))
)
def test_offers_outside_the_terms_are_not_wanted(change: dict[str, Any]) -> None:
    core = market()
    join(core, "A")
    auction = open_auction(core)
    change = dict(change)
    assert offer(core, change.pop("auction", auction), "A", **change) == [Reply(9, OfferReceipt(False))]


def test_a_lease_of_another_peer_cannot_be_taken_over() -> None:
    core = market()
    join(core, "A")
    join(core, "B")
    auction = open_auction(core)
    offer(core, auction, "A", lease=b"L" * 16)
    assert offer(core, auction, "B", lease=b"L" * 16) == [Reply(9, OfferReceipt(False))]


def test_a_late_offer_still_becomes_a_lease() -> None:
    core = market()
    join(core, "A")
    auction = open_auction(core)
    core.step(Envelope(Tick()), Now(0.4, T0.wall))
    assert offer(core, auction, "A", at=1.0) == [Reply(9, OfferReceipt(True))]
    [answer] = core.step(Envelope(wanted(), reply_to=2), Now(2.0, T0.wall))
    assert leases(answer).leases[0].peer == "A"


def test_a_dropped_lease_is_released_at_the_seller_and_gone() -> None:
    core = market()
    join(core, "A")
    offer(core, open_auction(core), "A")
    lease = b"A".ljust(16, b".")
    [call] = core.step(Envelope(DropLease(lease, "done")), T0)
    assert isinstance(call, Call)
    assert (call.peer, call.query) == ("A", Release(lease))
    assert core.step(Envelope(DropLease(lease, "done")), T0) == []


def test_the_seller_offers_what_it_can_and_is_silent_otherwise() -> None:
    core = market()
    tell, call = core.step(Envelope(Announce(b"a" * 16, "embedding", "minilm", 50, 10), sender="BUYER"), T0)
    assert isinstance(tell, Tell)
    assert isinstance(tell.body, LeaseGranted)
    assert (tell.body.buyer, tell.body.price, tell.body.units) == ("BUYER", 10, 100)
    assert isinstance(call, Call)
    assert call.query.lease == tell.body.lease
    for announce in (
        Announce(b"b" * 16, "embedding", "minilm", 50, 9),
        Announce(b"c" * 16, "embedding", "other", 50, 10),
        Announce(b"d" * 16, "chess", "", 50, 10),
    ):
        assert core.step(Envelope(announce, sender="BUYER"), T0) == []
    assert core.step(Envelope(Announce(b"e" * 16, "embedding", "minilm", 50, 10), sender="ME"), T0) == []


@pytest.mark.parametrize("how", ["unwanted", "unreachable", "released", "expired", "gone"])
def test_every_end_of_a_grant_reaches_the_executing_side(how: str) -> None:
    core = market()
    tell, call = core.step(Envelope(Announce(b"a" * 16, "embedding", "minilm", 50, 10), sender="BUYER"), T0)
    assert isinstance(tell, Tell)
    assert isinstance(call, Call)
    lease = tell.body.lease
    if how == "unwanted":
        effects = core.step(Envelope(Done(call.tag, OfferReceipt(False))), T0)
    elif how == "unreachable":
        effects = core.step(Envelope(Done(call.tag, error=OSError())), T0)
    elif how == "released":
        assert core.step(Envelope(Release(lease), reply_to=1, sender="THIEF"), T0)[:-1] == []
        effects = core.step(Envelope(Release(lease), reply_to=1, sender="BUYER"), T0)[:-1]
    elif how == "expired":
        effects = [e for e in core.step(Envelope(Tick()), Now(120.0, T0.wall)) if isinstance(e, Tell)]
    else:
        effects = core.step(Envelope(PeerDown("BUYER")), T0)
    assert effects == [Tell(LeaseEnded(lease))]


def test_one_buyer_cannot_hold_every_lease() -> None:
    core = market(granted_per_buyer_max=3)
    ended = 0
    for n in range(10):
        effects = core.step(Envelope(Announce(bytes([n]) * 16, "embedding", "minilm", 5, 10), sender="B"), T0)
        ended += sum(isinstance(e, Tell) and isinstance(e.body, LeaseEnded) for e in effects)
    assert ended == 7


def test_a_rebuilt_market_learns_its_peers_and_whom_to_avoid() -> None:
    core = MarketCore(MarketSettings(), "ME", (EMBED,), 2, counter())
    asks = core.restore([], T0)
    assert [type(ask.query) for ask in asks if isinstance(ask, Ask)] == [GetPeers, GetStandings]
    views = tuple(
        PeerView(peer, peer, state, "1", (), (Capability("embedding", "minilm", 10),), 2, 0, 0.0)
        for peer, state in (("A", "member"), ("B", "known"), ("L", "member"))
    )
    core.step(Envelope(Done(("peers",), views)), T0)
    liar = Standing("L", "embedding", 1.0, newcomer=False, avoided=True, score=0.1, reason="lied")
    core.step(Envelope(Done(("standings", "embedding"), (liar,))), T0)
    auction = open_auction(core)
    [_, answer] = offer(core, auction, "A")
    assert [one.peer for one in leases(answer).leases] == ["A"]
    assert ("L", "avoided: lied") in [(one.peer, one.reason) for one in leases(answer).declined]
