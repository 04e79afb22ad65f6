"""The real clock: trio's monotonic time, so that sleeping and reckoning agree, and the system's wall time."""

from __future__ import annotations

import time

import trio

from ..effects import Now


class SystemClock:
    """A `ports.clock.Clock`; only inside trio."""

    def now(self) -> Now:
        return Now(trio.current_time(), time.time())
