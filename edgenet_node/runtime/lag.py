"""The loop's own lag: how late a task runs that asked to run at a given time."""

from __future__ import annotations

import trio
from msgspec import Struct

INTERVAL_S = 0.05
"""20 samples a second: enough to see a 5 ms stall, about 0.1 % of one core."""

SAMPLES_MAX = 1200
"""One minute of samples."""


class Lag(Struct, frozen=True):
    """Milliseconds over the window; 0 while there are no samples."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    samples: int = 0


class LagMonitor:
    """Run `run` as a task; read `snapshot()` at any time. Not started by `Runtime`: a simulation has no use for it."""

    def __init__(self, *, interval_s: float = INTERVAL_S, samples_max: int = SAMPLES_MAX) -> None:
        self._interval_s = interval_s
        self._samples_max = samples_max
        self._ring: list[float] = []
        self._next = 0

    async def run(self) -> None:
        while True:
            due = trio.current_time() + self._interval_s
            await trio.sleep_until(due)
            self.add(max(0.0, trio.current_time() - due))

    def add(self, lag_s: float) -> None:
        if len(self._ring) < self._samples_max:
            self._ring.append(lag_s)
            return
        self._ring[self._next] = lag_s
        self._next = (self._next + 1) % self._samples_max

    def snapshot(self) -> Lag:
        """Nearest-rank percentiles over the window."""
        if not self._ring:
            return Lag()
        ordered = sorted(self._ring)
        last = len(ordered) - 1
        return Lag(
            p50_ms=1000.0 * ordered[round(0.50 * last)],
            p99_ms=1000.0 * ordered[round(0.99 * last)],
            max_ms=1000.0 * ordered[last],
            samples=len(ordered),
        )
