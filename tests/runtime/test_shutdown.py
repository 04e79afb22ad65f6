"""A graceful stop drains, settles and flushes within its grace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Ask, Compute, Done, Effect, Envelope, Limits, Now, Put, Reply, Tell
from edgenet_node.errors import Cancelled, EdgenetError, InvariantError, StoreError
from edgenet_node.runtime import NodeFailed
from edgenet_node.testing.store import MemoryStore
from edgenet_node.testing.world import until

from .test_operations import Functions
from .toys import Add, Get, Happened, Memo, Note, Script, part, running


async def test_what_was_accepted_is_finished(autojump_clock: MockClock) -> None:
    """Asks that wait for an operation and a commit are answered; nothing new comes in; the store is closed last."""
    waiting: dict[str, int] = {}

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Add):
            tag = str(e.reply_to)
            waiting[tag] = e.reply_to
            return [Compute(tag, "worker", "slow", (0.5,), 5.0)]
        done = e.body
        assert isinstance(done, Done)
        return [Put("t", done.tag, b""), Reply(waiting[done.tag], done.value)]

    store = MemoryStore(delay_s=lambda: 0.2)
    async with running(part(Script(step), accepts=(Add,)), store=store, executor=Functions()) as node:
        bus = node.runtime.bus
        answers: list[Any] = []
        for _ in range(10):
            bus.ask_soon(Add(1), math.inf, lambda value, error: answers.append((value, error)))
        node.runtime.request_stop(grace_s=10.0)
        await until(lambda: bus.draining)
        with pytest.raises(Cancelled):
            await bus.ask(Add(1), 1.0)
        await node.ended.wait()
        assert node.failure is None
        assert answers == [(0.5, None)] * 10
        assert len(store.rows()["toy"]) == 10
        assert trio.current_time() < 2.0
        with pytest.raises(StoreError):
            await store.load("toy")


async def test_what_does_not_end_is_cancelled_at_the_grace(autojump_clock: MockClock) -> None:
    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        return [Compute("t", "worker", "slow", (1000.0,), 2000.0)] if isinstance(e.body, Add) else []

    executor = Functions()
    async with running(part(Script(step)), executor=executor) as node:
        answers: list[Any] = []
        node.runtime.bus.ask_soon(Add(1), math.inf, lambda value, error: answers.append(error))
        await until(lambda: executor.running == 1)
        start = trio.current_time()
        node.runtime.request_stop(grace_s=3.0)
        await node.ended.wait()
        assert trio.current_time() - start == pytest.approx(3.0, abs=0.1)
        assert executor.running == 0
        assert [type(error) for error in answers] == [Cancelled]
        assert node.failure is None


async def test_parts_may_still_ask_one_another_while_draining(autojump_clock: MockClock) -> None:
    waiting: list[int] = []

    def step(e: Envelope[Any], now: Now) -> list[Effect]:
        if isinstance(e.body, Done):
            return [Reply(waiting[0], e.body.value)]
        waiting.append(e.reply_to)
        return [Ask("t", Get(), 5.0)]

    other = Script(lambda e, _now: [Reply(e.reply_to, 7)])
    async with running(part(Script(step), accepts=(Add,)), part(other, name="other", accepts=(Get,))) as node:
        answers: list[Any] = []
        node.runtime.bus.ask_soon(Add(1), math.inf, lambda value, error: answers.append((value, error)))
        node.runtime.request_stop(grace_s=5.0)
        await node.ended.wait()
        assert answers == [(7, None)]


async def test_intakes_are_closed(autojump_clock: MockClock) -> None:
    core = Script(lambda _e, _now: [])
    async with running(part(core, hears=(Happened,))) as node:
        bus = node.runtime.bus
        bus.ask_soon(Get(), math.inf, lambda _value, _error: None)
        node.runtime.request_stop(grace_s=1.0)
        await until(lambda: bus.draining)
        refused: list[Any] = []
        assert bus.tell(Note("late")) is False
        assert bus.ask_soon(Get(), math.inf, lambda _value, error: refused.append(error)) == 0
        bus.event(Happened(1))
        assert node.runtime.listener.on_gossip("/edgenet/aa/Note/1", "peer", b"") == "ignore"
        await node.ended.wait()
        assert [type(error) for error in refused] == [Cancelled]
        assert core.seen == [Get()]


async def test_a_stop_does_not_hang_on_a_waiting_tell(autojump_clock: MockClock) -> None:
    """The receiver is stuck behind a store that is slower than the grace."""
    fast = Script(lambda e, _now: [Tell(Memo(e.body.text), wait=True)])
    slow = Script(lambda e, _now: [Put("t", e.body.text, b"")])
    async with running(
        part(fast, name="fast", accepts=(Note,), tells=(Memo,)),
        part(slow, name="slow", accepts=(Memo,), limits=Limits(mailbox_max=1, batch_max=1, outbox_max=1)),
        store=MemoryStore(delay_s=lambda: 3.0),
    ) as node:
        for number in range(20):
            node.runtime.bus.tell(Note(str(number)))
        node.runtime.request_stop(grace_s=1.0)
        await node.ended.wait()
        assert node.failure is None
        assert trio.current_time() < 10.0


async def test_a_disk_that_never_answers_ends_the_node_with_a_word(autojump_clock: MockClock) -> None:
    class Stuck(MemoryStore):
        async def commit(self, part: str, saves: Any) -> None:
            await trio.sleep_forever()

    core = Script(lambda e, _now: [Put("t", "k", b"")])
    async with running(part(core), store=Stuck()) as node:
        node.runtime.bus.tell(Note("save"))
        node.runtime.request_stop(grace_s=1.0)
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert "last rows were not written" in str(node.failure)


async def test_a_store_that_fails_to_close_is_told(autojump_clock: MockClock) -> None:
    class Broken(MemoryStore):
        async def close(self) -> None:
            raise StoreError("checkpoint failed")

    async with running(part(Script(lambda _e, _now: [])), store=Broken()) as node:
        node.runtime.request_stop(grace_s=1.0)
        await node.ended.wait()
        assert isinstance(node.failure, NodeFailed)
        assert "checkpoint failed" in str(node.failure)


async def test_a_runtime_runs_once(autojump_clock: MockClock) -> None:
    async with running(part(Script(lambda _e, _now: []))) as node:
        with pytest.raises(InvariantError, match="once"):
            await node.runtime.run()
        node.runtime.request_stop(0.0)
        node.runtime.request_stop(0.0)
        await node.ended.wait()
        with pytest.raises(EdgenetError):
            await node.runtime.bus.ask(Get(), 1.0)
