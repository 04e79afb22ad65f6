"""The executing side, step by step: what it runs, what it refuses, whom it blames."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from edgenet_node.effects import Cancel, Compute, Done, Effect, Envelope, Event, Now, Reply, Tick
from edgenet_node.errors import Cancelled, ComputeFailed, Conflict, InvariantError, Malformed, Overloaded, Refused
from edgenet_node.messages.market import LeaseEnded, LeaseGranted
from edgenet_node.messages.network import LoadChanged, PeerDown
from edgenet_node.messages.tasks import GetServingStats, TaskStats
from edgenet_node.tasks.handlers import pack_items
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.tasks.registry import Registry
from edgenet_node.tasks.serving import ChunkTag, OwnLoad, ServingCore
from edgenet_node.tasks.settings import ServingSettings
from edgenet_node.wire.codec import decode
from edgenet_node.wire.task import Run, RunResult, Stop, Stopped

LEASE = b"l" * 16
INPUT = pack_items([b"one", b"two"])


def run(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "lease": LEASE, "task": "t_1", "chunk": 1, "kind": "echo", "spec": b"", "input": INPUT, "items": 2, "units": 2,
        "timeout_s": 30.0,
    }  # fmt: skip
    return Run(**{**fields, **changes})


class Seller:
    def __init__(self, **settings: Any) -> None:
        self.core = ServingCore(ServingSettings(**settings), Registry([EchoHandler()]), Random(1))
        self.mono = 10.0
        self.asks = 0
        self.core.restore([], self.now())
        self.step(LeaseGranted(LEASE, "buyer", "echo", 3, 100, 1000.0))

    def now(self) -> Now:
        return Now(self.mono, 1e9 + self.mono)

    def step(self, body: Any, sender: str = "") -> list[Effect]:
        self.asks += 1
        return self.core.step(Envelope(body, self.asks, sender), self.now())

    def done(self, tag: ChunkTag, value: Any = INPUT, error: Exception | None = None) -> list[Effect]:
        return self.core.step(Envelope(Done(tag, value, error)), self.now())

    def error(self, query: Run, sender: str = "buyer") -> Exception:
        (reply,) = self.step(query, sender)
        assert isinstance(reply, Reply)
        assert reply.error is not None
        return reply.error


def test_a_chunk_under_a_lease_runs_and_answers() -> None:
    seller = Seller()
    tag = ChunkTag("buyer", "t_1", 1)
    assert seller.step(run(), "buyer") == [
        Compute(tag, "worker", "echo.run", (INPUT,), 30.0),
        Event(LoadChanged(1)),
    ]
    asked = seller.asks
    seller.mono += 1.0
    assert seller.done(tag) == [Reply(asked, RunResult(INPUT, 2)), Event(LoadChanged(0))]
    assert seller.step(GetServingStats()) == [Reply(seller.asks, TaskStats({}, 0, 0, 1, 2, 0))]


@pytest.mark.parametrize(
    ("changes", "sender", "error", "text"),
    [
        ({"lease": b"x" * 16}, "buyer", Refused, "no such lease"),
        ({}, "thief", Refused, "no such lease"),
        ({"kind": "embedding"}, "buyer", Refused, "the lease is for echo"),
        ({"units": 101}, "buyer", Refused, "100 units left"),
        ({"units": 1}, "buyer", Refused, "costs 2 units"),
        ({"items": 3}, "buyer", Malformed, "2 items in place of 3"),
        ({"items": 0}, "buyer", Malformed, "0 items"),
        ({"items": 513}, "buyer", Malformed, "513 items"),
        ({"input": b"\xc1"}, "buyer", Malformed, ""),
        ({"input": INPUT[:-1]}, "buyer", Malformed, ""),
        ({"input": bytes(512 * 1024 + 1)}, "buyer", Malformed, "bytes"),
        ({"spec": b"?"}, "buyer", Malformed, "spec"),
        ({"timeout_s": 0.0}, "buyer", Malformed, "no time"),
        ({"timeout_s": float("nan")}, "buyer", Malformed, "no time"),
    ],
)
def test_bad_chunks_are_refused_in_one_line(changes: dict[str, Any], sender: str, error: type, text: str) -> None:
    seller = Seller()
    found = seller.error(run(**changes), sender)
    assert isinstance(found, error)
    assert text in str(found)
    assert "\n" not in str(found)
    if isinstance(found, Malformed):
        assert found.peer == sender
    assert isinstance(seller.step(run(), "buyer")[0], Compute), "the node goes on"


def test_leases_end_expire_and_run_out() -> None:
    seller = Seller()
    seller.step(run(units=2), "buyer")
    seller.step(LeaseEnded(LEASE))
    assert isinstance(seller.error(run(chunk=2)), Refused)
    seller = Seller()
    seller.mono = 1000.0
    assert "expired" in str(seller.error(run()))
    seller = Seller()
    for chunk in range(12):
        seller.step(run(chunk=chunk, units=2), "buyer")
        seller.done(ChunkTag("buyer", "t_1", chunk))
    assert "76 units left" in str(seller.error(run(chunk=99, units=77)))


def test_a_failed_computation_is_answered_and_not_charged() -> None:
    seller = Seller()
    seller.step(run(units=100), "buyer")
    failure = ComputeFailed("echo.run: ValueError: no")
    out = seller.done(ChunkTag("buyer", "t_1", 1), None, failure)
    assert out[0] == Reply(seller.asks, error=failure)
    assert isinstance(seller.step(run(chunk=2, units=100), "buyer")[0], Compute)
    assert isinstance(seller.done(ChunkTag("buyer", "t_1", 2), "not bytes")[0], Reply)
    assert seller.done(ChunkTag("buyer", "t_1", 2)) == [], "a late completion"


def test_the_same_chunk_again_joins_and_another_of_its_name_is_refused() -> None:
    seller = Seller(joins_max=2)
    seller.step(run(), "buyer")
    first = seller.asks
    assert seller.step(run(), "buyer") == []
    assert isinstance(seller.error(run(input=pack_items([b"x", b"y"]))), Conflict)
    assert isinstance(seller.error(run()), Conflict), "no more than two may wait"
    seller.mono += 1
    replies = [one for one in seller.done(ChunkTag("buyer", "t_1", 1)) if isinstance(one, Reply)]
    assert [one.to for one in replies] == [first, first + 1]


def test_stop_withdraws_a_chunk_of_the_same_buyer_only() -> None:
    seller = Seller()
    seller.step(run(), "buyer")
    asked = seller.asks
    assert seller.step(Stop("t_1", 1), "thief") == [Reply(seller.asks, Stopped(known=False))]
    out = seller.step(Stop("t_1", 1), "buyer")
    assert out[0] == Cancel(ChunkTag("buyer", "t_1", 1))
    assert isinstance(out[1], Reply)
    assert out[1].to == asked
    assert isinstance(out[1].error, Cancelled)
    assert out[2] == Reply(seller.asks, Stopped(known=True))


def test_a_buyer_that_is_gone_has_nothing_running() -> None:
    seller = Seller()
    seller.step(run(), "buyer")
    out = seller.step(PeerDown("buyer"))
    assert out[0] == Cancel(ChunkTag("buyer", "t_1", 1))
    assert seller.step(PeerDown("buyer"))[1:] == []


def test_full_is_full_for_one_buyer_and_for_all() -> None:
    seller = Seller(chunks_max=3, chunks_per_buyer_max=2)
    seller.step(LeaseGranted(b"m" * 16, "other", "echo", 3, 100, 1000.0))
    for chunk in range(2):
        assert isinstance(seller.step(run(chunk=chunk), "buyer")[0], Compute)
    found = seller.error(run(chunk=3))
    assert isinstance(found, Overloaded)
    assert found.retry_after_s > 0
    assert isinstance(seller.step(run(lease=b"m" * 16), "other")[0], Compute)
    assert isinstance(seller.error(run(lease=b"m" * 16, chunk=2), "other"), Overloaded)


def test_the_table_of_leases_is_bounded() -> None:
    seller = Seller(leases_max=10)
    for number in range(50):
        seller.step(LeaseGranted(number.to_bytes(16, "big"), "buyer", "echo", 3, 100, 1000.0))
    assert len(seller.core._leases) == 10


def test_load_is_announced_at_once_and_then_once_an_interval() -> None:
    seller = Seller(load_interval_s=0.5)
    assert Event(LoadChanged(1)) in seller.step(OwnLoad(1))
    assert seller.step(OwnLoad(2)) == []
    assert seller.step(OwnLoad(3)) == []
    assert seller.core.wake_at() == seller.mono + 0.5
    seller.mono += 0.5
    assert seller.step(Tick()) == [Event(LoadChanged(3))]
    assert seller.core.wake_at() > seller.mono + 1
    seller.mono += 0.1
    assert seller.step(OwnLoad(4)) == []
    assert seller.step(OwnLoad(3)) == []
    assert seller.core.wake_at() > seller.mono + 1


def test_a_lying_node_returns_what_looks_right() -> None:
    seller = Seller(lie=True)
    seller.step(run(), "buyer")
    reply = seller.done(ChunkTag("buyer", "t_1", 1))[0]
    assert isinstance(reply, Reply)
    items = decode(reply.value.output, list[bytes], bytes_max=1000)
    assert len(items) == 2
    assert b"one" not in items


def test_an_unknown_body_is_a_fault_of_the_wiring() -> None:
    with pytest.raises(InvariantError):
        Seller().step(object())
