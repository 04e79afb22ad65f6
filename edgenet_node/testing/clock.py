"""Simulated time: trio's own clock (a `MockClock` in tests), with a fixed epoch and a skew for each node."""

from __future__ import annotations

import trio

from ..effects import Now

EPOCH_WALL = 1_700_000_000.0
"""Unix time at trio time 0. Any round number: runs must not depend on today's date."""


class TrioClock:
    """A `ports.clock.Clock`. Wall time runs with monotonic time, `skew_s` ahead of the true one (which is what the
    other nodes of a simulation with skew 0 see)."""

    def __init__(self, *, skew_s: float = 0.0, epoch_wall: float = EPOCH_WALL) -> None:
        self.skew_s = skew_s
        self._epoch_wall = epoch_wall

    def now(self) -> Now:
        mono = trio.current_time()
        return Now(mono, self._epoch_wall + mono + self.skew_s)
