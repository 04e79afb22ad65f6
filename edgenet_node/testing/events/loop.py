"""The event loop: a heap of moments. Nothing runs beside anything else; equal moments run in the order of asking."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Any

from ...errors import InvariantError

Act = Callable[[Any], None]
Script = Generator[float, None, None]
"""A sequence of acts in time: it yields the simulated seconds that it wants to sleep."""

Timer = list[Any]
"""`[moment, number, act, argument]`: a heap entry. A cancelled one has no act."""

EVENTS_PER_SECOND_MAX = 8_000
"""Simulated: several times what a busy committee of seven needs. A world that spins must end, too."""


class Loop:
    """`now` is true simulated time, in seconds from the start; nodes see it through clocks of their own."""

    __slots__ = ("_heap", "_look_at", "_looked", "_number", "events", "now", "stopped")

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self.stopped = False
        self._heap: list[Timer] = []
        self._look_at = EVENTS_PER_SECOND_MAX
        self._looked = 0.0
        self._number = 0

    def at(self, moment: float, act: Act, argument: Any = None) -> Timer:
        """Run `act(argument)` then; not before all that is due earlier. A moment in the past is now."""
        self._number = number = self._number + 1
        timer: Timer = [max(self.now, moment), number, act, argument]
        heapq.heappush(self._heap, timer)
        return timer

    def after(self, delay_s: float, act: Act, argument: Any = None) -> Timer:
        return self.at(self.now + delay_s, act, argument)

    def drop(self, timer: Timer) -> None:
        timer[2] = None

    def spawn(self, script: Script) -> None:
        """Play a script from now on."""
        self.at(self.now, self._play, script)

    def _play(self, script: Script) -> None:
        try:
            delay_s = next(script)
        except StopIteration:
            return
        self.at(self.now + delay_s, self._play, script)

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """All that is due until then. True when `done()`, asked after every event, said so, or `stopped` was set."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            moment, _, act, argument = pop(heap)
            if act is None:
                continue
            self.now = moment
            self.events += 1
            if self.events >= self._look_at:
                self._look()
            act(argument)
            if self.stopped or (done is not None and done()):
                return True
        self.now = max(self.now, until)
        return False

    def _look(self) -> None:
        if self.now < self._looked + 1.0:
            raise InvariantError(f"{EVENTS_PER_SECOND_MAX} events in one simulated second: the world spins")
        self._look_at = self.events + EVENTS_PER_SECOND_MAX
        self._looked = self.now
