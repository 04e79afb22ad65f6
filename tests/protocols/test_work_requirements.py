"""Requirements of auction, task and index that no vector can show. Names carry the ids of the specs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edgenet_node.crypto.fingerprints import peer_id
from edgenet_node.effects import Call, Cancel, Compute, Done, Effect, Publish, Reply, Tell, Tick
from edgenet_node.errors import Conflict, EdgenetError, Malformed, Refused
from edgenet_node.identity.keys import Identity
from edgenet_node.market.core import MarketCore
from edgenet_node.market.settings import MarketSettings
from edgenet_node.memory.grants import check_reader
from edgenet_node.messages.market import Acquire, LeaseEnded, LeaseGranted
from edgenet_node.messages.network import PeerDown, PeerOffers, PeerUp
from edgenet_node.tasks.handlers import pack_items
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.tasks.registry import Registry
from edgenet_node.tasks.serving import ServingCore
from edgenet_node.tasks.settings import ServingSettings
from edgenet_node.wire.auction import Announce, Offer, OfferReceipt, Release, Released
from edgenet_node.wire.peers import Capability
from edgenet_node.wire.task import Run, RunResult, Stop, Stopped

from .cores import BUYER, ME, OTHER, T0, give, one

# -- auction: a buyer and a seller in one market core

EMBED = Capability("embedding", "minilm", 10)


def market() -> MarketCore:
    numbers = iter(range(1, 1000))
    core = MarketCore(MarketSettings(), ME.peer_id, (EMBED,), 2, lambda n: next(numbers).to_bytes(n, "big"))
    core.restore([], T0)
    for peer in (BUYER, OTHER):
        give(core, PeerUp(peer))
        give(core, PeerOffers(peer, (EMBED,), 2, 0))
    return core


def announce(**changes: Any) -> Announce:
    fields: dict[str, Any] = {"auction": bytes(16), "kind": "embedding", "model": "minilm", "units": 9, "reserve": 10}
    return Announce(**(fields | changes))


def granted(core: MarketCore) -> tuple[Call, Offer]:
    call = one(Call, give(core, announce(), BUYER))
    return call, call.query


def ended(effects: list[Effect]) -> list[bytes]:
    return [tell.body.lease for tell in effects if isinstance(tell, Tell) and isinstance(tell.body, LeaseEnded)]


@pytest.mark.parametrize("changes", [{"reserve": 9}, {"kind": "lora"}, {"model": ""}, {"model": "other"}], ids=str)
def test_auction_3_a_seller_that_cannot_or_will_not_is_silent(changes: dict[str, Any]) -> None:
    assert give(market(), announce(**changes), BUYER) == []
    _, offer = granted(market())
    assert offer.price <= announce().reserve


def offered(core: MarketCore, auction: bytes, peer: str, **changes: Any) -> bool:
    fields: dict[str, Any] = {"lease": bytes(16), "price": 10, "units": 9, "expires_s": 60.0, "workers": 1, "load": 0}
    effects = give(core, Offer(auction, **(fields | changes)), peer, 9)
    receipts = [effect.value for effect in effects if isinstance(effect, Reply) and effect.to == 9]
    [receipt] = receipts
    assert isinstance(receipt, OfferReceipt)
    return receipt.wanted


def open_auction(core: MarketCore) -> bytes:
    publish = one(Publish, give(core, Acquire("embedding", "minilm", 9, 10, 8), reply_to=1))
    auction: bytes = publish.body.auction
    return auction


def test_auction_4_a_buyer_wants_only_what_it_asked_for() -> None:
    core = market()
    auction = open_auction(core)
    assert not offered(core, bytes(range(16)), BUYER)
    assert not offered(core, auction, BUYER, price=11)
    assert not offered(core, auction, BUYER, units=0)
    assert not offered(core, auction, Identity(bytes([9]) * 32).peer_id)
    assert offered(core, auction, BUYER)


def test_auction_5_a_lease_that_is_not_wanted_or_released_is_free() -> None:
    for receipt in (OfferReceipt(False), None):
        core = market()
        call, offer = granted(core)
        error = None if receipt else Refused("no")
        assert ended(give(core, Done(call.tag, receipt, error))) == [offer.lease]
    core = market()
    call, offer = granted(core)
    assert ended(give(core, Done(call.tag, OfferReceipt(True)))) == []
    assert ended(give(core, Release(offer.lease), BUYER, 7)) == [offer.lease]


def test_auction_6_only_the_buyer_releases_its_lease_and_twice_is_no_error() -> None:
    core = market()
    _, offer = granted(core)
    assert give(core, Release(offer.lease), OTHER, 7) == [Reply(7, Released())]
    assert ended(give(core, Release(offer.lease), BUYER, 7)) == [offer.lease]
    assert give(core, Release(offer.lease), BUYER, 7) == [Reply(7, Released())]


def test_auction_7_a_lease_id_belongs_to_the_peer_that_named_it_first() -> None:
    core = market()
    auction = open_auction(core)
    assert offered(core, auction, BUYER, lease=b"L" * 16)
    assert not offered(core, auction, OTHER, lease=b"L" * 16)


def test_auction_8_a_lease_ends_at_its_time_and_with_its_buyer() -> None:
    core = market()
    _, offer = granted(core)
    assert ended(give(core, Tick(), at=offer.expires_s - 0.1)) == []
    assert ended(give(core, Tick(), at=offer.expires_s)) == [offer.lease]
    core = market()
    _, offer = granted(core)
    assert ended(give(core, PeerDown(BUYER))) == [offer.lease]


# -- task: the executing side, with `echo`

LEASE = b"L" * 16


def serving() -> ServingCore:
    handlers = Registry([EchoHandler()])
    core = ServingCore(ServingSettings(), handlers, random.Random(1))
    give(core, LeaseGranted(LEASE, BUYER, "echo", 10, 5, 100.0))
    return core


def run(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "lease": LEASE, "task": "t", "chunk": 0, "kind": "echo", "spec": b"", "input": pack_items([b"x"]), "items": 1,
        "units": 1, "timeout_s": 9.0,
    }  # fmt: skip
    return Run(**(fields | changes))


def refusal(core: ServingCore, query: Run, sender: str = BUYER, at: float = 0.0) -> EdgenetError | None:
    replies = [effect for effect in give(core, query, sender, 7, at) if isinstance(effect, Reply)]
    return replies[0].error if replies else None  # type: ignore[return-value]


def test_task_4_a_chunk_needs_a_lease_of_its_sender_that_covers_it() -> None:
    assert refusal(serving(), run()) is None
    for query, sender, at in (
        (run(lease=b"M" * 16), BUYER, 0.0),
        (run(), OTHER, 0.0),
        (run(kind="embedding"), BUYER, 0.0),
        (run(units=6), BUYER, 0.0),
        (run(), BUYER, 100.0),
    ):
        error = refusal(serving(), query, sender, at)
        assert isinstance(error, Refused), query


def test_task_5_input_that_its_kind_does_not_admit_is_malformed() -> None:
    for query in (
        run(input=b""),
        run(items=2),
        run(spec=b"x"),
        run(input=pack_items([b"x"]) + b"\0"),
        run(timeout_s=0.0),
    ):
        assert isinstance(refusal(serving(), query), Malformed), query


def test_task_6_the_seller_counts_the_units_and_takes_no_more_than_offered() -> None:
    core = serving()
    assert isinstance(refusal(core, run(units=0)), Refused)
    compute = one(Compute, give(core, run(units=5), BUYER, 7))
    result = one(Reply, give(core, Done(compute.tag, b"out"))).value
    assert result == RunResult(b"out", 1)
    assert refusal(core, run(units=4, chunk=1)) is None


def test_task_7_stop_withdraws_the_senders_chunk_and_nobody_elses() -> None:
    core = serving()
    compute = one(Compute, give(core, run(), BUYER, 7))
    assert one(Reply, give(core, Stop("t", 0), OTHER, 8)).value == Stopped(False)
    effects = give(core, Stop("t", 0), BUYER, 8)
    assert Cancel(compute.tag) in effects
    answers = {effect.to: effect for effect in effects if isinstance(effect, Reply)}
    assert answers[8].value == Stopped(True)
    assert answers[7].error is not None
    assert answers[7].error.code == "cancelled"  # type: ignore[attr-defined]


def test_task_8_the_same_chunk_sent_again_is_run_once() -> None:
    core = serving()
    compute = one(Compute, give(core, run(), BUYER, 7))
    assert not [effect for effect in give(core, run(), BUYER, 8) if isinstance(effect, (Compute, Reply))]
    assert isinstance(refusal(core, run(input=pack_items([b"y"]))), Conflict)
    done = give(core, Done(compute.tag, b"out"))
    assert {effect.to for effect in done if isinstance(effect, Reply)} == {7, 8}


# -- index


def test_index_4_the_owner_and_its_readers_may_search_and_nobody_else() -> None:
    owner = peer_id(ME.public)
    check_reader(owner, owner, [])
    check_reader(BUYER, owner, [BUYER])
    check_reader(BUYER, owner, ["*"])
    for readers in ([], [OTHER], [owner]):
        with pytest.raises(Refused):
            check_reader(BUYER, owner, readers)
