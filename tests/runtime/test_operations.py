"""Operations: exactly one `Done` each, none after `Cancel`, none for an earlier life."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import (
    Ask,
    Call,
    Cancel,
    Compute,
    Done,
    Early,
    Effect,
    Envelope,
    Limits,
    Now,
    Part,
    Place,
    Put,
    Reply,
    Row,
    Transfer,
)
from edgenet_node.errors import (
    ComputeFailed,
    InvariantError,
    LocalError,
    NotFound,
    Overloaded,
    TimedOut,
    Unreachable,
)
from edgenet_node.ports.executor import ExecutorStats
from edgenet_node.runtime import Supervision
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.network import Link
from edgenet_node.testing.store import MemoryStore
from edgenet_node.testing.world import until

from .toys import Add, Get, Note, Script, part, running


class Functions:
    """An executor: `echo` returns, `fail` raises, `crash` raises a foreign error, `slow` takes `args[0]` seconds."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.ran: list[str] = []

    async def run(self, place: Place, fn: str, args: Sequence[Any], *, timeout_s: float, affinity: str = "") -> Any:
        self.ran.append(f"{place} {fn}")
        if fn == "fail":
            raise ComputeFailed("as told")
        if fn == "crash":
            raise KeyError("foreign")
        if fn == "slow":
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await trio.sleep(args[0])
            finally:
                self.running -= 1
        return args[0]

    def stats(self) -> ExecutorStats:
        return ExecutorStats(1, self.running, 0, 0, 0, len(self.ran))


class Issuer:
    """Issues what it is told and remembers what came back."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.effects: dict[str, list[Effect]] = {}

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Done):
            self.done.append(e.body)
            return []
        return self.effects[e.body.text]

    def part(self, **fields: Any) -> Part:
        return part(Script(self.step), accepts=(Note,), **fields)


async def test_each_kind_completes_with_value_or_error(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["all"] = [
        Ask("answered", Add(5), 1.0),
        Ask("silent", Get(), 1.0),
        Compute("echoed", "worker", "echo", (1,), 1.0),
        Compute("failed", "thread", "fail", (), 1.0),
        Compute("crashed", "worker", "crash", (), 1.0),
        Compute("late", "worker", "slow", (9.0,), 1.0),
        Compute("inline", "inline", "echo", (2,), 1.0),
        Compute("inline failed", "inline", "fail", (), 1.0),
        Call("nobody", "stranger", Add(1), 1.0),
        Transfer("nothing", "stranger", "00" * 32, 10, 1.0),
    ]
    other = Script(lambda e, _now: [Reply(e.reply_to, e.body.amount)] if isinstance(e.body, Add) else [])
    async with running(issuer.part(), part(other, name="other", accepts=(Add, Get)), executor=Functions()) as node:
        node.runtime.bus.tell(Note("all"))
        await until(lambda: len(issuer.done) == 10)
        outcome = {done.tag: done.value if done.error is None else type(done.error) for done in issuer.done}
        assert outcome == {
            "answered": 5,
            "silent": TimedOut,
            "echoed": 1,
            "failed": ComputeFailed,
            "crashed": LocalError,
            "late": TimedOut,
            "inline": 2,
            "inline failed": ComputeFailed,
            "nobody": Unreachable,
            "nothing": Unreachable,
        }
        assert all(done.value is None for done in issuer.done if done.error is not None)
        assert node.runtime.bus.counters().parts["toy"].completed == 10


async def test_inline_runs_in_place(autojump_clock: MockClock) -> None:
    """Its `Done` is the very next thing the core sees, before a message that was queued meanwhile."""
    order: list[str] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        order.append(type(e.body).__name__)
        return [Compute("t", "inline", "echo", (1,), 1.0)] if isinstance(e.body, Add) else []

    executor = Functions()
    async with running(part(Script(step), accepts=(Add, Note)), executor=executor) as node:
        node.runtime.bus.ask_soon(Add(1), trio.current_time() + 1.0, lambda _value, _error: None)
        await until(lambda: len(order) == 2)
        assert order == ["Add", "Done"]
        assert executor.ran == ["inline echo"]


async def test_an_inline_computation_that_pauses_is_a_defect(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["go"] = [Compute("t", "inline", "slow", (1.0,), 1.0)]
    async with running(issuer.part(), executor=Functions()) as node:
        node.runtime.bus.tell(Note("go"))
        await until(lambda: len(issuer.done) == 1)
        assert isinstance(issuer.done[0].error, InvariantError)


async def test_slots_are_limited_and_waiting_counts_against_the_deadline(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["go"] = [Compute(number, "worker", "slow", (1.0,), 2.5) for number in range(7)]
    executor = Functions()
    limits = Limits(operations_max=2, operations_queued_max=4)
    async with running(issuer.part(limits=limits), executor=executor) as node:
        start = trio.current_time()
        node.runtime.bus.tell(Note("go"))
        await until(lambda: len(issuer.done) == 7, timeout_s=10.0)
        assert executor.most == 2
        values = sorted(done.tag for done in issuer.done if done.error is None)
        assert values == [0, 1, 2, 3]
        errors = {done.tag: type(done.error) for done in issuer.done if done.error is not None}
        assert errors == {4: TimedOut, 5: TimedOut, 6: Overloaded}
        overloaded = next(done.error for done in issuer.done if done.tag == 6)
        assert isinstance(overloaded, Overloaded)
        assert overloaded.retry_after_s > 0
        assert trio.current_time() - start == pytest.approx(2.5, abs=0.05)


async def test_operations_without_end_are_a_crash(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["flood"] = [Compute(number, "worker", "slow", (1.0,), 2.5) for number in range(13)]
    limits = Limits(operations_max=2, operations_queued_max=4)
    async with running(issuer.part(limits=limits), executor=Functions()) as node:
        node.runtime.bus.tell(Note("flood"))
        await until(lambda: node.runtime.bus.counters().parts["toy"].restarts == 1)
        assert issuer.done == []


async def test_a_cancelled_tag_is_free_at_once_and_never_done(autojump_clock: MockClock) -> None:
    """Also when its step still waits for its commit, and when its `Done` is already queued."""
    issuer = Issuer()
    issuer.effects["reissue"] = [
        Compute("t", "inline", "echo", ("old",), 1.0),
        Cancel("t"),
        Compute("t", "worker", "slow", (0.1,), 1.0),
        Cancel("never heard of"),
    ]
    issuer.effects["saved"] = [Put("t", "k", b""), Compute("u", "worker", "echo", ("unsaved",), 1.0)]
    issuer.effects["withdraw"] = [Cancel("u")]
    executor = Functions()
    store = MemoryStore(delay_s=lambda: 1.0)
    async with running(issuer.part(), executor=executor, store=store) as node:
        for text in ("reissue", "saved", "withdraw"):
            node.runtime.bus.tell(Note(text))
        await until(lambda: store.commits == 1 and bool(issuer.done))
        await until(lambda: node.runtime.bus.counters().parts["toy"].outbox == 0)
        assert issuer.done == [Done("t", 0.1)]
        assert executor.ran == ["worker slow"]


async def test_a_queued_completion_is_withdrawn(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["start"] = [Early(Compute("t", "inline", "echo", (1,), 1.0))]
    issuer.effects["cancel"] = [Cancel("t")]
    async with running(issuer.part(), executor=Functions()) as node:
        # Both are in the mailbox before the first is stepped, so the completion queues behind the second.
        node.runtime.bus.tell(Note("start"))
        node.runtime.bus.tell(Note("cancel"))
        await until(lambda: node.runtime.bus.counters().parts["toy"].steps == 2)
        await until(lambda: node.runtime.bus.counters().parts["toy"].mailbox == 0)
        assert issuer.done == []


async def test_a_refused_ask_completes_with_overloaded(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["go"] = [Ask(number, Add(number), 1.0) for number in range(3)]
    busy = part(Script(lambda _e, _now: []), name="busy", accepts=(Add,), limits=Limits(mailbox_max=2))
    async with running(issuer.part(), busy) as node:
        node.runtime.bus.tell(Note("go"))
        await until(lambda: len(issuer.done) == 3)
        errors = {done.tag: done.error for done in issuer.done}
        assert isinstance(errors[2], Overloaded)
        assert errors[2].retry_after_s > 0
        assert isinstance(errors[0], TimedOut)
        assert isinstance(errors[1], TimedOut)


async def test_completions_are_not_shed_by_a_full_mailbox(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["go"] = [Compute(number, "inline", "echo", (number,), 1.0) for number in range(20)]
    limits = Limits(mailbox_max=2, batch_max=1)
    async with running(issuer.part(limits=limits), executor=Functions()) as node:
        issuer.effects["fill"] = []
        node.runtime.bus.tell(Note("go"))
        node.runtime.bus.tell(Note("fill"))
        assert not node.runtime.bus.tell(Note("fill"))
        await until(lambda: len(issuer.done) == 20)
        assert [done.value for done in issuer.done] == list(range(20))


class Ledger:
    """What the gamblers of one run did. A core's own assertion would only crash it, so faults are written down."""

    def __init__(self) -> None:
        self.lives = 0
        self.crashed: set[int] = set()
        self.open: set[Any] = set()
        self.done = 0
        self.cancelled = 0
        self.faults: list[str] = []

    def alive(self) -> set[Any]:
        return {tag for tag in self.open if tag[0] not in self.crashed}


class Gambler:
    """Issues random operations, cancels some, crashes sometimes; a life's tags carry its number."""

    def __init__(self, rng: random.Random, ledger: Ledger) -> None:
        ledger.lives += 1
        self.life = ledger.lives
        self.rng = rng
        self.ledger = ledger
        self.number = 0

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def wake_at(self) -> float:
        return float("inf")

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        ledger = self.ledger
        if isinstance(e.body, Done):
            tag = e.body.tag
            if tag[0] != self.life:
                ledger.faults.append(f"{tag} came to life {self.life}")
            if tag not in ledger.open:
                ledger.faults.append(f"{tag} completed twice, or after it was cancelled")
            ledger.open.discard(tag)
            ledger.done += 1
            return []
        if self.rng.random() < 0.02:
            ledger.crashed.add(self.life)
            raise ArithmeticError("as told")
        effects: list[Effect] = [self._operation() for _ in range(self.rng.randint(0, 3))]
        mine = sorted(tag for tag in ledger.open if tag[0] == self.life)
        if mine and self.rng.random() < 0.4:
            tag = self.rng.choice(mine)
            ledger.cancelled += 1
            effects.append(Cancel(tag))
            if self.rng.random() < 0.5:
                effects.append(Compute(tag, "worker", "slow", (self.rng.random(),), 0.5))
            else:
                ledger.open.discard(tag)
        if self.rng.random() < 0.3:
            effects.insert(0, Put("t", str(self.number), b""))
        return effects

    def _operation(self) -> Effect:
        self.number += 1
        tag = (self.life, self.number)
        self.ledger.open.add(tag)
        seconds = self.rng.choice([0.0, 0.1, 0.5])
        operation: Any = self.rng.choice(
            [
                Ask(tag, Add(1), seconds),
                Call(tag, "peer", Add(1), seconds),
                Compute(tag, "worker", "slow", (self.rng.random() * 0.5,), seconds),
                Compute(tag, "inline", "echo", (1,), seconds),
            ]
        )
        return Early(operation) if self.rng.random() < 0.1 else operation


class _Echo:
    """A peer that answers."""

    def on_connected(self, peer: str, outbound: bool) -> None: ...

    def on_disconnected(self, peer: str) -> None: ...

    def on_gossip(self, topic: str, author: str, data: bytes) -> Any: ...

    def on_blame(self, peer: str, reason: str) -> None: ...

    def on_message(self, stream: str, peer: str, data: bytes) -> None: ...

    async def on_call(self, channel: Any, peer: str, request: bytes) -> bytes:
        return b"\x92\x00\x01"


@pytest.mark.parametrize("seed", range(20))
async def test_exactly_one_done_whatever_happens(seed: int, autojump_clock: MockClock) -> None:
    """Random timeouts, cancellations, crashes, losses, a slow disk, few slots."""
    seed_scheduler(seed)
    rng = random.Random(seed)
    ledger = Ledger()

    def answer(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Reply(e.reply_to, 1)] if rng.random() < 0.7 else []

    gambler = part(
        lambda: Gambler(rng, ledger), accepts=(Note,), limits=Limits(operations_max=5, operations_queued_max=500)
    )
    async with running(
        gambler,
        part(Script(answer), name="other", accepts=(Add,)),
        executor=Functions(),
        store=MemoryStore(delay_s=lambda: rng.random() * 0.1),
        supervision=Supervision(restarts_max=1000),
        seed=seed,
        link=Link(loss=0.2),
    ) as node:
        peer = node.network.node("peer")
        peer.attach(_Echo())
        node.network.connect("self", "peer")
        peer.admit("self")
        for number in range(200):
            node.runtime.bus.tell(Note(str(number)))
            if rng.random() < 0.3:
                at = trio.current_time() + rng.random() * 0.2
                await until(lambda at=at: trio.current_time() >= at)  # type: ignore[misc]
        counters = node.runtime.bus.counters
        await until(lambda: counters().parts["toy"].mailbox == 0 and not ledger.alive())
        assert ledger.faults == []
        assert node.failure is None
        assert ledger.done > 20
        assert ledger.cancelled > 5
        assert counters().parts["toy"].restarts == len(ledger.crashed)


async def test_a_transfer_of_what_the_peer_lacks(autojump_clock: MockClock) -> None:
    issuer = Issuer()
    issuer.effects["go"] = [Transfer("t", "peer", "00" * 32, 10, 1.0)]
    async with running(issuer.part()) as node:
        node.network.node("peer")
        node.network.connect("self", "peer")
        node.runtime.bus.tell(Note("go"))
        await until(lambda: len(issuer.done) == 1)
        assert isinstance(issuer.done[0].error, NotFound)
