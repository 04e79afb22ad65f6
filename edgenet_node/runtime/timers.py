"""Waiting without garbage: one task that sleeps until it is woken, and one heap of deadlines for the whole node.

An ask costs a heap entry instead of a task with a cancel scope. Dropped entries stay in the heap until they come up or
until they are more than half of it (amortised O(log n) as in asyncio's timer heap).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import trio

from ..ports.clock import Clock

COMPACT_MIN = 64
"""Entries below which compacting the heap is not worth its pass."""


class Sleeper:
    """One task waits, anyone wakes it; a wake that comes first is remembered. No allocation for each wait."""

    __slots__ = ("_pending", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._pending = False

    def wake(self) -> None:
        task = self._task
        if task is None:
            self._pending = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Return once `wake` was called since the last `wait`. Always a checkpoint."""
        if self._pending:
            self._pending = False
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


Timer = list[Any]
"""[when, sequence, action or None once dropped, argument]; opaque to callers."""


class Deadlines:
    """Calls `action(argument)` at monotonic time `when`, unless dropped before. Actions must not raise or block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._sequence = 0
        self._dropped = 0
        self._armed = math.inf
        self._scope: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._dropped

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> Timer:
        self._sequence += 1
        timer: Timer = [when, self._sequence, action, argument]
        if when == math.inf:
            timer[2] = None
            return timer
        heapq.heappush(self._heap, timer)
        if when < self._armed and self._scope is not None:
            self._armed = when
            self._scope.deadline = trio.current_time() + (when - self._clock.now().mono)
        return timer

    def drop(self, timer: Timer) -> None:
        if timer[2] is None:
            return
        timer[2] = timer[3] = None
        self._dropped += 1
        if self._dropped > COMPACT_MIN and self._dropped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    async def run(self) -> None:
        while True:
            self._fire()
            self._armed = self._heap[0][0] if self._heap else math.inf
            wait_s = self._armed - self._clock.now().mono
            # Trio's own time and the port's may differ by a constant; only the difference is used.
            with trio.CancelScope(deadline=trio.current_time() + max(wait_s, 0.0)) as self._scope:
                await trio.sleep_forever()

    def _fire(self) -> None:
        now = self._clock.now().mono
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)
            action, argument = timer[2], timer[3]
            if action is None:
                self._dropped -= 1
                continue
            timer[2] = timer[3] = None
            action(argument)
