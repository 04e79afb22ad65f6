"""What the clocks of one node show: off by a skew, and running at a rate of their own."""

from __future__ import annotations

import math

from msgspec import Struct

from ...effects import Now

EPOCH_WALL = 1_700_000_000.0
"""Unix time when a simulation begins: runs must not depend on today's date."""


class ClockPlan(Struct, frozen=True):
    """`skew_s` of the wall clock; `drift`: seconds gained in each true second, by both clocks. A crystal drifts by
    1e-4 at most; a frozen or migrated virtual machine by anything."""

    skew_s: float = 0.0
    drift: float = 0.0


class NodeClock:
    """One life of a node: its monotonic clock starts at `mono_at_start` when true time is `started`."""

    __slots__ = ("_mono", "_rate", "_started", "_wall")

    def __init__(self, plan: ClockPlan, started: float, mono_at_start: float) -> None:
        self._rate = 1.0 + plan.drift
        self._started = started
        self._mono = mono_at_start
        self._wall = EPOCH_WALL + plan.skew_s + started * plan.drift + started

    def show(self, true: float) -> Now:
        elapsed = (true - self._started) * self._rate
        return Now(self._mono + elapsed, self._wall + elapsed)

    def true(self, mono: float) -> float:
        """When the monotonic clock will show at least `mono`."""
        if mono == math.inf:
            return mono
        found = self._started + (mono - self._mono) / self._rate
        # Rounding must not ring a timer before its time: the core would be asked to tick and have nothing to do.
        while self._mono + (found - self._started) * self._rate < mono:
            found += 1e-9
        return found
