from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edgenet_node.adapters.process_executor.context import WorkerContext
from edgenet_node.errors import ComputeFailed, EdgenetError, Overloaded, TimedOut, UsageError, WorkerDied
from edgenet_node.ports.executor import Executor
from edgenet_node.testing.inline_executor import Crash, Delay, Fail, InlineExecutor, Lie, Refuse


def add(context: WorkerContext, a: Any, b: Any) -> Any:
    return a + b


def age(context: WorkerContext) -> int:
    calls: list[int] = context.resident("calls", list)
    calls.append(1)
    return len(calls)


def scribble(context: WorkerContext, values: Any) -> None:
    values[0] = 1


def make() -> InlineExecutor:
    return InlineExecutor({"add": add, "age": age, "scribble": scribble, "target": f"{__name__}:add"})


async def call(executor: Executor, fn: str, *args: Any, timeout_s: float = 10.0) -> Any:
    return await executor.run("worker", fn, args, timeout_s=timeout_s)


async def outcomes(executor: InlineExecutor, fn: str, args: Sequence[Any], count: int) -> list[str]:
    for _ in range(count):
        try:
            await call(executor, fn, *args)
        except EdgenetError:
            continue
    return [c.outcome for c in executor.calls]


async def test_it_runs_what_is_registered() -> None:
    executor = make()
    assert await call(executor, "add", 1, 2) == 3
    assert await call(executor, "target", "a", "b") == "ab"
    assert [(c.fn, c.args, c.outcome) for c in executor.calls] == [
        ("add", [1, 2], "value"),
        ("target", ["a", "b"], "value"),
    ]
    with pytest.raises(UsageError, match="no function"):
        await call(executor, "other")
    with pytest.raises(UsageError, match="timeout_s"):
        await call(executor, "add", 1, 2, timeout_s=math.nan)


async def test_values_travel_as_in_the_real_one() -> None:
    executor = make()
    assert await call(executor, "add", (1,), (2,)) == [1, 2]
    total = await call(executor, "add", np.arange(100_000.0), 1)
    assert total.flags.writeable
    assert np.array_equal(total, np.arange(100_000.0) + 1)
    with pytest.raises(UsageError, match="object cannot travel"):
        await call(executor, "add", object(), 1)
    with pytest.raises(ComputeFailed, match="read-only"):
        await call(executor, "scribble", np.zeros(3))
    with pytest.raises(ComputeFailed, match="TypeError"):
        await call(executor, "add", 1, "text")


async def test_faults_meet_the_next_calls_one_each() -> None:
    executor = make()
    executor.on("add", Crash(), Delay(0), Fail("ValueError: no"), Refuse(retry_after_s=3), Lie(lambda v: v + 1))
    with pytest.raises(WorkerDied):
        await call(executor, "add", 1, 2)
    assert await call(executor, "add", 1, 2) == 3
    with pytest.raises(ComputeFailed, match="ValueError: no"):
        await call(executor, "add", 1, 2)
    with pytest.raises(Overloaded) as refused:
        await call(executor, "add", 1, 2)
    assert refused.value.retry_after_s == 3
    assert await call(executor, "add", 1, 2) == 4
    assert await call(executor, "add", 1, 2) == 3
    assert [c.outcome for c in executor.calls] == ["died", "value", "failed", "refused", "value", "value"]
    stats = executor.stats()
    assert (stats.busy, stats.queued, stats.restarts, stats.completed) == (0, 0, 1, 4)


async def test_a_crash_loses_the_residents() -> None:
    executor = make()
    executor.on("age", Delay(0), Delay(0), Crash(after=True))
    assert [await call(executor, "age"), await call(executor, "age")] == [1, 2]
    with pytest.raises(WorkerDied):
        await call(executor, "age")
    assert await call(executor, "age") == 1


async def test_delays_pass_in_virtual_time(autojump_clock: MockClock) -> None:
    executor = make()
    executor.on("add", Delay(5), Delay(11), Delay(math.inf))
    start = trio.current_time()
    assert await call(executor, "add", 1, 2) == 3
    assert trio.current_time() - start == 5
    for _ in range(2):
        with pytest.raises(TimedOut):
            await call(executor, "add", 1, 2)
    assert trio.current_time() - start == 25
    assert [c.outcome for c in executor.calls] == ["value", "timed out", "timed out"]


async def test_a_call_can_be_withdrawn() -> None:
    executor = make()
    executor.on("add", Delay(math.inf), Delay(math.inf), Delay(math.inf))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(partial(call, executor, "add", 1, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert (executor.stats().busy, executor.stats().queued) == (2, 1)
        nursery.cancel_scope.cancel()
    assert [c.outcome for c in executor.calls] == ["cancelled"] * 3
    assert executor.stats().busy == 0


async def test_odds_are_reproducible_and_yield_to_what_is_due() -> None:
    runs = []
    for _ in range(2):
        executor = make()
        executor.sometimes("add", 0.3, Crash(), random.Random(5))
        executor.on("add", Fail())
        runs.append(await outcomes(executor, "add", [1, 2], 200))
    assert runs[0] == runs[1]
    assert runs[0][0] == "failed"
    assert 30 < runs[0].count("died") < 90
    assert runs[0].count("died") + runs[0].count("value") == 199


def test_inline_never_pauses() -> None:
    """The runtime steps it to its end in place: no checkpoint, whatever it costs elsewhere."""
    executor = InlineExecutor({"add": add}, cost_s=lambda fn, args: 5.0)
    executor.on("add", Delay(3.0))
    with pytest.raises(StopIteration) as ended:
        executor.run("inline", "add", (1, 2), timeout_s=1.0).send(None)
    assert ended.value.value == 3
    executor.on("add", Fail())
    with pytest.raises(ComputeFailed):
        executor.run("inline", "add", (1, 2), timeout_s=1.0).send(None)


async def test_computations_cost_time_and_queue_for_workers(autojump_clock: MockClock) -> None:
    executor = InlineExecutor({"add": add}, workers=2, cost_s=lambda fn, args: 2.0)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(partial(call, executor, "add", number, 1))
    assert trio.current_time() == pytest.approx(6.0)
    assert [one.outcome for one in executor.calls] == ["value"] * 5
