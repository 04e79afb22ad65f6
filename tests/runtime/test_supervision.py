"""Crashes: who is answered, what is kept, what is dropped, when the node gives up. And ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Compute, Done, Effect, Envelope, Limits, Now, Put, Reply, Row, Tell, Tick
from edgenet_node.errors import ConfigError, EdgenetError, InvariantError, LocalError
from edgenet_node.runtime import NodeFailed, Supervision
from edgenet_node.runtime.drive import SLICE_S
from edgenet_node.testing.clock import TrioClock
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.store import MemoryStore
from edgenet_node.testing.world import until

from .toys import Add, Get, Memo, Note, Script, Services, part, running

BOOM = Note("boom")


class Fragile:
    """Counts what it adds, durably; `Note("boom")` kills it; `Get` is never answered."""

    def __init__(self) -> None:
        self.total = 0

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self.total = len(rows)
        return []

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Add():
                self.total += 1
                return [Put("t", str(self.total), b""), Reply(e.reply_to, self.total)]
            case Note(text=text) if text.startswith("boom"):
                raise ArithmeticError(text)
        return []

    def wake_at(self) -> float:
        return math.inf


async def test_a_crash_answers_commits_drops_and_goes_on(autojump_clock: MockClock) -> None:
    """Earlier steps of the batch stand, every open ask is answered, other messages stay queued."""
    after = Script(lambda _e, _now: [])
    lives: list[Any] = []

    def make() -> Any:
        lives.append(Fragile() if not lives else after)
        return lives[-1]

    store = MemoryStore(delay_s=lambda: 0.5)
    async with running(part(make), store=store) as node:
        bus = node.runtime.bus
        answers: dict[str, tuple[Any, Any]] = {}

        def ask(name: str, query: Any) -> None:
            bus.ask_soon(query, 60.0, lambda value, error: answers.update({name: (value, error)}))

        ask("earlier", Add(1))
        ask("waiting", Get())
        bus.tell(BOOM)
        ask("queued", Add(1))
        bus.tell(Note("stays"))
        await until(lambda: after.seen == [Note("stays")])
        assert answers["earlier"] == (1, None)
        for name in ("waiting", "queued"):
            error = answers[name][1]
            assert isinstance(error, LocalError)
            assert error.retry_after_s > 0
        assert list(store.rows()["toy"]) == [("t", "1")]
        assert bus.counters().parts["toy"].restarts == 1
        assert bus.idle


async def test_a_message_that_crashes_twice_is_quarantined(autojump_clock: MockClock) -> None:
    async with running(part(Fragile), supervision=Supervision(restarts_max=2)) as node:
        bus = node.runtime.bus
        for _ in range(10):
            bus.tell(BOOM)
        await until(lambda: bus.counters().parts["toy"].quarantined == 8)
        assert bus.counters().parts["toy"].restarts == 2
        assert await bus.ask(Add(1), 5.0) == 1
        assert bus.tell(Note("harmless"))
        assert node.failure is None


async def test_a_quarantined_query_is_answered(autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if e.body == Add(13):
            raise ArithmeticError("unlucky")
        return [Reply(e.reply_to, e.body.amount)]

    async with running(part(Script(step))) as node:
        for _ in range(2):
            with pytest.raises(LocalError, match="failed while"):
                await node.runtime.bus.ask(Add(13), 5.0)
        with pytest.raises(LocalError, match="crashed toy twice"):
            await node.runtime.bus.ask(Add(13), 5.0)
        assert await node.runtime.bus.ask(Add(14), 5.0) == 14
        assert node.runtime.bus.counters().parts["toy"].restarts == 2


async def test_a_completion_that_crashes_twice_comes_as_a_failure(autojump_clock: MockClock) -> None:
    """The core re-issues it in `restore`; a completion may not be dropped, so it is turned into an error."""
    got: list[Done] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Done):
            got.append(e.body)
            if e.body.error is None:
                raise ArithmeticError("it cannot take this value")
        return []

    def restore(_rows: Sequence[Row]) -> list[Effect]:
        return [Compute("again", "worker", "echo", (7,), 1.0)]

    executor = InlineExecutor({"echo": lambda _context, value: value})
    async with running(part(lambda: Script(step, restore=restore)), executor=executor) as node:
        await until(lambda: len(got) == 3)
        assert [done.value for done in got] == [7, 7, None]
        assert isinstance(got[2].error, LocalError)
        assert node.runtime.bus.counters().parts["toy"].restarts == 2


async def test_too_many_crashes_in_a_window_end_the_node(autojump_clock: MockClock) -> None:
    rules = Supervision(restarts_max=3, window_s=30.0)
    async with running(part(Fragile), supervision=rules) as node:
        for number in range(4):
            node.runtime.bus.tell(Note(f"boom {number}"))
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert node.failure.exit_code == 1
        assert "toy crashed 4 times in 30 s, last on Note: ArithmeticError: boom" in str(node.failure)
        assert isinstance(node.failure.__cause__, ArithmeticError)


async def test_old_crashes_are_forgiven(autojump_clock: MockClock) -> None:
    rules = Supervision(restarts_max=2, window_s=10.0)
    async with running(part(Fragile), supervision=rules) as node:
        for number in range(12):
            node.runtime.bus.tell(Note(f"boom {number}"))
            next_at = trio.current_time() + 6.0
            await until(lambda at=next_at: trio.current_time() >= at)  # type: ignore[misc]
        assert node.runtime.bus.counters().parts["toy"].restarts == 12
        assert node.failure is None


async def test_the_pause_doubles_with_jitter_up_to_its_limit(autojump_clock: MockClock) -> None:
    restored: list[float] = []

    def restore(_rows: Sequence[Row]) -> list[Effect]:
        restored.append(trio.current_time())
        return []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        raise ArithmeticError(e.body.text)

    rules = Supervision(backoff_min_s=1.0, backoff_max_s=8.0, restarts_max=100, window_s=1000.0)
    async with running(part(lambda: Script(step, restore=restore)), supervision=rules) as node:
        for number in range(6):
            node.runtime.bus.tell(Note(f"boom {number}"))
        await until(lambda: len(restored) == 7)
    pauses = [after - before for before, after in pairwise(restored)]
    for pause, whole in zip(pauses, [1, 2, 4, 8, 8, 8], strict=True):
        assert whole / 2 <= pause <= whole


@pytest.mark.parametrize("where", ["make", "restore", "wake_at"])
async def test_a_core_that_cannot_even_start_ends_the_node(where: str, autojump_clock: MockClock) -> None:
    def fall_over(*_arguments: Any) -> Any:
        raise ConfigError("not like this")

    def make() -> Script:
        if where == "make":
            fall_over()
        hooks: dict[str, Callable[..., Any]] = {where: fall_over} if where != "make" else {}
        return Script(lambda _e, _now: [], **hooks)

    async with running(part(make), supervision=Supervision(restarts_max=2)) as node:
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert "its start: ConfigError: not like this" in str(node.failure) or where == "wake_at"


async def test_a_fail_stop_part_ends_the_node_at_once(autojump_clock: MockClock) -> None:
    told: list[Memo] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if e.body == BOOM:
            raise ArithmeticError("boom")
        return [Put("t", "k", b""), Tell(Memo("earlier"))]

    store = MemoryStore(delay_s=lambda: 0.1)
    services: Services = {Memo: told.append}
    async with running(part(Script(step), accepts=(Note,), fail_stop=True), store=store, services=services) as node:
        node.runtime.bus.tell(Note("saved"))
        node.runtime.bus.tell(BOOM)
        await node.ended.wait()
        assert isinstance(node.failure, InvariantError)
        assert "toy failed on Note" in str(node.failure)
        assert told == []


async def test_when_the_node_fails_every_open_ask_is_answered(autojump_clock: MockClock) -> None:
    calm = part(Script(lambda _e, _now: []), name="calm", accepts=(Get,))
    async with running(part(Fragile, accepts=(Add, Note), fail_stop=True), calm) as node:
        errors: list[EdgenetError] = []

        async def ask() -> None:
            with pytest.raises(EdgenetError) as caught:
                await node.runtime.bus.ask(Get(), 1000.0)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: node.runtime.bus.counters().asks_open == 1)
            node.runtime.bus.tell(BOOM)
        assert [error.code for error in errors] == ["cancelled"]
        assert trio.current_time() < 100.0


# ---- ticks


async def test_ticks_come_when_they_are_wanted(autojump_clock: MockClock) -> None:
    wanted = [5.0, 7.0, 7.5, math.inf]
    came: list[float] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Tick):
            came.append(now.mono)
            wanted.pop(0)
        elif isinstance(e.body, Add):
            wanted.insert(0, float(e.body.amount))
        return []

    async with running(part(Script(step, wake_at=lambda: wanted[0]))) as node:
        node.runtime.bus.ask_soon(Add(2), 100.0, lambda _value, _error: None)
        await until(lambda: wanted == [math.inf])
        assert came == [2.0, 5.0, 7.0, 7.5]


async def test_a_tick_that_does_not_advance_is_an_error(autojump_clock: MockClock) -> None:
    due = [1.0]
    async with running(
        part(lambda: Script(lambda _e, _now: [], wake_at=lambda: due[0])), supervision=Supervision(restarts_max=2)
    ) as node:
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert isinstance(node.failure.__cause__, InvariantError)
        assert "did not advance wake_at" in str(node.failure)


async def test_wake_at_must_be_a_number(autojump_clock: MockClock) -> None:
    async with running(
        part(lambda: Script(lambda _e, _now: [], wake_at=lambda: math.nan)), supervision=Supervision(restarts_max=1)
    ) as node:
        await node.ended.wait()
        assert "wake_at is not a number" in str(node.failure)


async def test_a_slow_core_yields_after_its_slice(autojump_clock: MockClock) -> None:
    """Every look at this clock costs a millisecond, as if each step took that long."""

    class Creeping(TrioClock):
        crept_s = 0.0

        def now(self) -> Now:
            self.crept_s += 0.001
            now = super().now()
            return Now(now.mono + self.crept_s, now.wall)

    core = Script(lambda _e, _now: [])
    async with running(part(core), clock=Creeping()) as node:
        for number in range(100):
            node.runtime.bus.tell(Note(str(number)))
        await until(lambda: len(core.seen) == 100)
        counters = node.runtime.bus.counters().parts["toy"]
        assert counters.batch_largest <= SLICE_S / 0.001
        assert counters.batches >= 50


async def test_a_flood_delays_neither_ticks_nor_other_parts(autojump_clock: MockClock) -> None:
    """Two cores that feed one another without end; a third one ticks and answers all the same."""
    ticks: list[float] = []

    def tick(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Tick):
            ticks.append(now.mono)
        return [Reply(e.reply_to, len(ticks))]

    state = {"due": 0.0}

    def ticking(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Tick):
            state["due"] = now.mono + 1.0
        return tick(e, now)

    rounds = {"left": 20_000}

    def forward(message: type) -> Callable[[Envelope[Any], Now], list[Effect]]:
        def step(e: Envelope[Any], now: Now) -> list[Effect]:
            rounds["left"] -= 1
            return [Tell(message("again")), Tell(message("again"))] if rounds["left"] > 0 else []

        return step

    async with running(
        part(Script(forward(Memo)), name="ping", accepts=(Note,)),
        part(Script(forward(Note)), name="pong", accepts=(Memo,)),
        part(Script(ticking, wake_at=lambda: state["due"]), name="calm", accepts=(Get,)),
    ) as node:
        node.runtime.bus.tell(Note("go"))
        answered_at: list[int] = []
        while rounds["left"] > 0:
            await node.runtime.bus.ask(Get(), 5.0)
            answered_at.append(rounds["left"])
        assert len(answered_at) > 5
        assert ticks
        limits = Limits()
        largest = max(counters.batch_largest for counters in node.runtime.bus.counters().parts.values())
        assert largest <= limits.batch_max + 1
