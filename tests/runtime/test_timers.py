"""The heap of deadlines, the sleeper, the lag monitor's percentiles."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Now
from edgenet_node.runtime.lag import Lag, LagMonitor
from edgenet_node.runtime.timers import Deadlines, Sleeper
from edgenet_node.testing.clock import EPOCH_WALL, TrioClock
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.world import until


@pytest.mark.parametrize("seed", range(5))
async def test_each_deadline_fires_once_in_time_and_in_order(seed: int, autojump_clock: MockClock) -> None:
    seed_scheduler(seed)
    rng = random.Random(seed)
    deadlines = Deadlines(TrioClock())
    fired: list[tuple[float, Any]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        expected: list[tuple[float, int]] = []
        for number in range(2000):
            when = round(rng.uniform(0.0, 20.0), 3)
            timer = deadlines.at(when, lambda n, at=when: fired.append((at, n)), number)  # type: ignore[misc]
            if rng.random() < 0.8:
                deadlines.drop(timer)
                deadlines.drop(timer)
            else:
                expected.append((when, number))
        assert len(deadlines) == len(expected)
        assert len(deadlines._heap) < 3 * len(expected) + 200, "dropped entries are cleared away"
        await until(lambda: trio.current_time() > 20.1)
        assert fired == sorted(expected)
        assert len(deadlines) == 0
        nursery.cancel_scope.cancel()


async def test_an_earlier_deadline_wakes_the_timer(autojump_clock: MockClock) -> None:
    deadlines = Deadlines(TrioClock())
    fired: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        await trio.testing.wait_all_tasks_blocked()
        for when in (9.0, 3.0, 6.0, math.inf):
            deadlines.at(when, lambda _argument: fired.append(trio.current_time()))
        await until(lambda: len(fired) == 3)
        assert fired == [3.0, 6.0, 9.0]
        nursery.cancel_scope.cancel()


async def test_the_ports_clock_may_differ_from_trios_by_a_constant(autojump_clock: MockClock) -> None:
    class Ahead:
        def now(self) -> Now:
            return Now(trio.current_time() + 1000.0, 0.0)

    deadlines = Deadlines(Ahead())
    fired: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        deadlines.at(1005.0, lambda _argument: fired.append(trio.current_time()))
        await until(lambda: bool(fired))
        assert fired == [5.0]
        nursery.cancel_scope.cancel()


async def test_a_wake_before_the_wait_is_remembered_once(autojump_clock: MockClock) -> None:
    sleeper = Sleeper()
    sleeper.wake()
    sleeper.wake()
    await sleeper.wait()
    with trio.move_on_after(1.0) as scope:
        await sleeper.wait()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper.wait)
        await trio.testing.wait_all_tasks_blocked()
        sleeper.wake()


async def test_skew_moves_wall_time_only(autojump_clock: MockClock) -> None:
    true, skewed = TrioClock().now(), TrioClock(skew_s=-30.0).now()
    assert skewed.mono == true.mono == trio.current_time()
    assert skewed.wall == true.wall - 30.0 == EPOCH_WALL + true.mono - 30.0


def test_lag_percentiles_are_over_the_last_samples() -> None:
    monitor = LagMonitor(samples_max=100)
    assert monitor.snapshot() == Lag()
    for _ in range(500):
        monitor.add(1.0)
    for number in range(100):
        monitor.add(number / 1000)
    lag = monitor.snapshot()
    assert lag.samples == 100
    assert lag.p50_ms == pytest.approx(50.0)
    assert lag.p99_ms == pytest.approx(98.0)
    assert lag.max_ms == pytest.approx(99.0)


async def test_the_lag_monitor_sees_a_loop_that_was_held(mock_clock: MockClock) -> None:
    monitor = LagMonitor(interval_s=0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.25)
        await trio.testing.wait_all_tasks_blocked()
        assert monitor.snapshot().max_ms == pytest.approx(200.0)
        nursery.cancel_scope.cancel()
