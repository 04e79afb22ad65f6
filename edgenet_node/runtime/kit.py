"""What every part of one node shares, handed down as one value."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from ..ports.clock import Clock
from ..ports.executor import Executor
from ..ports.store import RowStore
from .bus import Bus
from .timers import Deadlines
from .wiring import Wiring


class Supervision(Struct, frozen=True):
    """A crashed core is rebuilt after a pause that doubles from `backoff_min_s` to `backoff_max_s`, less up to half of
    it (jitter). More than `restarts_max` crashes of one part within `window_s` end the node."""

    backoff_min_s: float = 0.05
    backoff_max_s: float = 10.0
    restarts_max: int = 5
    window_s: float = 60.0


class Kit(Struct, frozen=True):
    """`fail` ends the node with this error; the first one wins."""

    bus: Bus
    wiring: Wiring
    store: RowStore
    executor: Executor
    deadlines: Deadlines
    clock: Clock
    rng: random.Random
    supervision: Supervision
    fail: Callable[[Exception], None]
