"""What the simulator found, each as the smallest case that shows it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edgenet_node.effects import Ask, Compute, Done, Effect, Envelope, Now, Part, Put, Query, Reply, Row, Tick
from edgenet_node.errors import LocalError
from edgenet_node.market.core import MarketCore
from edgenet_node.market.settings import MarketSettings
from edgenet_node.messages.network import GetPeers, PeerView
from edgenet_node.runtime import Runtime
from edgenet_node.testing.clock import TrioClock
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.network import FakeNetwork
from edgenet_node.testing.store import MemoryStore
from edgenet_node.wire.peers import Capability
from edgenet_node.wire.registry import WireTable


def test_what_was_not_answered_is_asked_again() -> None:
    """A full disk takes membership down together with those that ask it: the question must outlive the answer."""
    capability = Capability("echo", "", 1)
    core = MarketCore(MarketSettings(), "own", (capability,), 1, random.Random(0).randbytes)
    first = core.restore((), Now(0.0, 0.0))
    ask = next(effect for effect in first if isinstance(effect, Ask) and isinstance(effect.query, GetPeers))
    assert core.step(Envelope(Done(ask.tag, error=LocalError("being rebuilt"))), Now(0.0, 0.0)) == []
    again: list[Effect] = []
    while not again:
        now = core.wake_at()
        again = [one for one in _tick(core, now) if isinstance(one, Ask) and isinstance(one.query, GetPeers)]
    assert now <= 2.0
    view = PeerView("peer", "", "member", "", (), (capability,), 1, 0, 0.0)
    core.step(Envelope(Done(ask.tag, (view,))), Now(now, 0.0))
    assert core._buyer.peers["peer"].connected


def _tick(core: MarketCore, mono: float) -> list[Effect]:
    return core.step(Envelope(Tick()), Now(mono, 0.0))


class Work(Query[int], frozen=True):
    pass


class Clerk:
    """Saves, and then asks somebody."""

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Work():
                return [Put("t", "k", b"v"), Compute("tag", "worker", "nothing", (), 1.0)]
            case _:
                return [Reply(e.reply_to, 0)]

    def wake_at(self) -> float:
        return float("inf")


async def test_a_node_that_is_cancelled_during_a_commit_ends_quietly(autojump_clock: MockClock) -> None:
    """The commit is shielded and ends later than the nursery that its operations would have started in."""
    store = MemoryStore(delay_s=lambda: 0.5)
    nothing: Callable[[object], None] = lambda context: None  # noqa: E731
    async with trio.open_nursery() as nursery:
        network = FakeNetwork(0)
        await nursery.start(network.run)
        runtime = Runtime(
            [Part("clerk", Clerk, accepts=(Work,))],
            store=store,
            network=network.node("a"),
            executor=InlineExecutor({"nothing": nothing}),
            clock=TrioClock(),
            rng=random.Random(0),
            wire=WireTable(),
        )
        await nursery.start(runtime.run)
        runtime.bus.tell(Work())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert store.durable_saves == {"clerk": 1}
