"""Asks, tells, events, services: who gets what, and exactly one answer for each accepted ask."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Effect, Envelope, Limits, Now, Progress, Reply, Tell
from edgenet_node.errors import Conflict, LocalError, NotFound, Overloaded, TimedOut
from edgenet_node.runtime import Supervision
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.world import until

from .toys import Add, Get, Happened, Memo, Note, Script, part, running


def _answer(e: Envelope[Any], now: Now) -> list[Effect]:
    return [Reply(e.reply_to, e.body.amount)] if isinstance(e.body, Add) else []


def _silent(e: Envelope[Any], now: Now) -> list[Effect]:
    return []


async def test_an_ask_gets_the_reply_or_the_error(autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Add):
            return [Reply(e.reply_to, e.body.amount * 2), Reply(e.reply_to, 0)]
        return [Reply(e.reply_to, error=NotFound("no such thing"))]

    async with running(part(Script(step))) as node:
        assert await node.runtime.bus.ask(Add(21), 1.0) == 42
        with pytest.raises(NotFound):
            await node.runtime.bus.ask(Get(), 1.0)


async def test_an_answered_ask_leaves_no_deadline_behind(autojump_clock: MockClock) -> None:
    async with running(part(Script(_answer))) as node:
        for _ in range(300):
            await node.runtime.bus.ask(Add(1), 1000.0)
        assert len(node.runtime._deadlines) == 0
        assert len(node.runtime._deadlines._heap) < 200


async def test_silence_ends_at_the_deadline(autojump_clock: MockClock) -> None:
    async with running(part(Script(_silent))) as node:
        start = trio.current_time()
        with pytest.raises(TimedOut):
            await node.runtime.bus.ask(Get(), 3.0)
        assert trio.current_time() - start == pytest.approx(3.0)
        counters = node.runtime.bus.counters()
        assert counters.parts["toy"].timed_out == 1
        assert counters.asks_open == 0


async def test_asks_are_limited_until_they_are_answered(autojump_clock: MockClock) -> None:
    waiting: list[int] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Add):
            waiting.append(e.reply_to)
            return []
        return [Reply(to, 1) for to in waiting]

    async with running(part(Script(step), limits=Limits(mailbox_max=4))) as node:
        bus = node.runtime.bus
        answers: list[Any] = []
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(_collect, bus.ask(Add(1), 9.0), answers)
            await until(lambda: len(waiting) == 4)
            with pytest.raises(Overloaded) as refused:
                await bus.ask(Add(1), 9.0)
            assert refused.value.retry_after_s > 0
            bus.tell(Note("answer them"))
        assert answers == [1, 1, 1, 1]
        assert bus.counters().parts["toy"].refused == 1


async def _collect(awaitable: Any, into: list[Any]) -> None:
    into.append(await awaitable)


async def test_peers_leave_room_for_the_owner(autojump_clock: MockClock) -> None:
    async with running(part(Script(_silent), limits=Limits(mailbox_max=8))) as node:
        bus = node.runtime.bus
        taken = [bus.tell(Note("spam"), sender="peer") for _ in range(8)]
        assert taken == [True] * 6 + [False] * 2
        assert bus.tell(Note("mine"))
        assert bus.counters().parts["toy"].shed == 2


async def test_what_is_shed_is_counted(autojump_clock: MockClock) -> None:
    core = Script(_silent)
    async with running(part(core, hears=(Happened,), limits=Limits(mailbox_max=5))) as node:
        bus = node.runtime.bus
        for number in range(9):
            bus.event(Happened(number))
        assert [bus.tell(Note("full")) for _ in range(2)] == [False, False]
        await until(lambda: len(core.seen) == 5)
        assert core.seen == [Happened(number) for number in range(5)]
        assert bus.counters().parts["toy"].shed == 6


async def test_an_asker_that_is_cancelled_is_forgotten(autojump_clock: MockClock) -> None:
    core = Script(_silent)
    async with running(part(core)) as node:
        with trio.CancelScope() as scope:
            scope.cancel()
            await node.runtime.bus.ask(Get(), 9.0)
        assert scope.cancelled_caught
        assert node.runtime.bus.counters().asks_open == 0
        await until(lambda: node.runtime.bus.counters().parts["toy"].expired == 1)
        assert core.seen == []


async def test_the_callback_form(autojump_clock: MockClock) -> None:
    async with running(part(Script(_answer), limits=Limits(mailbox_max=1))) as node:
        bus = node.runtime.bus
        answers: list[tuple[Any, Any]] = []
        deadline = trio.current_time() + 1.0
        first = bus.ask_soon(Add(7), deadline, lambda value, error: answers.append((value, error)))
        assert first > 0
        refused = bus.ask_soon(Add(8), deadline, lambda value, error: answers.append((value, error)))
        assert refused == 0
        assert isinstance(answers[0][1], Overloaded)
        await until(lambda: len(answers) == 2)
        assert answers[1] == (7, None)
        withdrawn = bus.ask_soon(Add(9), deadline, lambda value, error: answers.append((value, error)))
        bus.withdraw(withdrawn)
        await until(lambda: bus.counters().parts["toy"].expired == 1)
        assert await bus.ask(Add(1), 1.0) == 1
        assert len(answers) == 2


async def test_a_callback_that_raises_harms_nobody(autojump_clock: MockClock) -> None:
    def fall_over(value: Any, error: Exception | None) -> None:
        raise ValueError("the asker's bug")

    async with running(part(Script(_answer))) as node:
        node.runtime.bus.ask_soon(Add(1), trio.current_time() + 1.0, fall_over)
        assert await node.runtime.bus.ask(Add(2), 1.0) == 2
        assert node.runtime.bus.counters().parts["toy"].restarts == 0


async def test_progress_comes_in_order_and_before_the_answer(autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Progress(e.reply_to, 1), Progress(e.reply_to, 2), Reply(e.reply_to, 3), Progress(e.reply_to, 4)]

    async with running(part(Script(step))) as node:
        seen: list[int] = []
        assert await node.runtime.bus.ask_stream(Get(), 1.0, seen.append) == 3
        assert seen == [1, 2]


async def test_a_progress_callback_that_raises_ends_its_own_ask(autojump_clock: MockClock) -> None:
    def refuse(value: Any) -> None:
        raise Conflict("the browser is gone")

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Progress(e.reply_to, 1), Reply(e.reply_to, 3)]

    async with running(part(Script(step))) as node:
        with pytest.raises(Conflict):
            await node.runtime.bus.ask_stream(Get(), 1.0, refuse)
        assert await node.runtime.bus.ask(Get(), 1.0) == 3


async def test_services_take_tells_and_answer_queries(autojump_clock: MockClock) -> None:
    told: list[Memo] = []

    async def add(query: Add) -> int:
        if query.amount < 0:
            raise ValueError("negative")
        await trio.lowlevel.checkpoint()
        return query.amount + 1

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Tell(Memo("from a core"))]

    async with running(part(Script(step), accepts=(Note,)), services={Memo: told.append, Add: add}) as node:
        bus = node.runtime.bus
        bus.tell(Note("go"))
        await until(lambda: told == [Memo("from a core")])
        assert await bus.ask(Add(1), 1.0) == 2
        with pytest.raises(LocalError, match="ValueError: negative"):
            await bus.ask(Add(-1), 1.0)
        assert bus.counters().services_running == 0


async def test_a_slow_service_is_cancelled_at_the_deadline(autojump_clock: MockClock) -> None:
    cancelled = trio.Event()

    async def never(query: Get) -> int:
        try:
            return await trio.sleep_forever()
        finally:
            cancelled.set()

    async with running(services={Get: never}) as node:
        with pytest.raises(TimedOut):
            await node.runtime.bus.ask(Get(), 2.0)
        await cancelled.wait()
        assert node.runtime.bus.idle


async def test_a_handler_that_raises_is_counted(autojump_clock: MockClock) -> None:
    def fall_over(body: Memo) -> None:
        raise ValueError("an adapter's bug")

    async with running(services={Memo: fall_over}) as node:
        assert node.runtime.bus.tell(Memo("x")) is False
        assert node.runtime.bus.counters().services_failed == 1


async def test_events_reach_parts_and_listeners(autojump_clock: MockClock) -> None:
    one, other = Script(_silent), Script(_silent)
    heard: list[Happened] = []
    async with running(
        part(one, name="one", accepts=(), hears=(Happened,)), part(other, name="other", accepts=(), hears=(Happened,))
    ) as node:
        forget = node.runtime.bus.listen(Happened, heard.append)
        node.runtime.bus.event(Happened(1))
        forget()
        node.runtime.bus.event(Happened(2))
        await until(lambda: len(one.seen) == len(other.seen) == 2)
        assert heard == [Happened(1)]


@pytest.mark.parametrize("seed", range(10))
async def test_every_ask_is_answered_exactly_once(seed: int, autojump_clock: MockClock) -> None:
    """Random delays, crashes, timeouts, a small mailbox: one answer each, whatever it is."""
    seed_scheduler(seed)
    rng = random.Random(seed)
    due: list[tuple[float, int]] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Add):
            if rng.random() < 0.01:
                raise ArithmeticError("as told")
            due.append((now.mono + rng.random() * 0.2, e.reply_to))
            return []
        ripe = [to for at, to in due if at <= now.mono]
        due[:] = [(at, to) for at, to in due if at > now.mono]
        return [Reply(to, to) for to in ripe for _ in range(rng.randint(1, 2))]

    def wake_at() -> float:
        return min((at for at, _ in due), default=float("inf"))

    answers: list[int] = [0] * 300
    async with running(
        part(lambda: Script(step, wake_at=wake_at), limits=Limits(mailbox_max=32)),
        seed=seed,
        supervision=Supervision(restarts_max=100),
    ) as node:
        bus = node.runtime.bus

        def count(number: int, value: Any, error: Exception | None) -> None:
            answers[number] += 1

        for number, start in enumerate(sorted(rng.random() for _ in answers)):
            await until(lambda at=start: trio.current_time() >= at)  # type: ignore[misc]
            bus.ask_soon(Add(number), trio.current_time() + rng.choice([0.05, 0.5]), partial(count, number))
        await until(lambda: bus.idle)
        assert answers == [1] * 300
