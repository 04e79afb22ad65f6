"""A uniform sample of everything a stream has shown, in fixed room (Vitter 1985; skips by Li 1994, "algorithm L").

After n >= k items each one is held with probability k/n, whatever came after it. The kernel decides the slot; the
caller keeps the items. A reservoir is no window: what is in it is old and new alike, so the recent past that `shift`
compares with it must be kept apart.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError

Array = npt.NDArray[np.float32]
SD_MIN = 1e-6  # relative to the largest spread: a column steadier than this is compared by that instead
SKIP_MAX = 1 << 62  # a count that no stream reaches


class Reservoir(Struct, frozen=True):
    """`seen` items so far; `key`: W of algorithm L, the largest of the k smallest of uniform keys; `upcoming`: number
    of the next item that will be taken, counted from 0."""

    capacity: int
    seen: int = 0
    key: float = 1.0
    upcoming: int = 0


def empty(capacity: int) -> Reservoir:
    """`UsageError` for no capacity."""
    if capacity < 1:
        raise UsageError(f"a reservoir of {capacity} items")
    return Reservoir(capacity=capacity)


def offer(state: Reservoir, generator: np.random.Generator) -> tuple[Reservoir, int | None]:
    """The slot that the next item takes, or None: it is let go. O(1), and random numbers only for items that are taken:
    k (1 + ln(n/k)) of n on average."""
    number, seen = state.seen, state.seen + 1
    if number < state.upcoming:
        return Reservoir(state.capacity, seen, state.key, state.upcoming), None
    if seen < state.capacity:
        return Reservoir(state.capacity, seen, state.key, seen), number
    slot = number if number < state.capacity else int(generator.integers(state.capacity))
    # 1 - random() lies in (0, 1]: its logarithm is finite.
    key = state.key * math.exp(math.log(1.0 - generator.random()) / state.capacity)
    log_rest = math.log1p(-key) if key < 1.0 else -math.inf
    gap = math.log(1.0 - generator.random()) / log_rest if log_rest < 0.0 else float(SKIP_MAX)
    return Reservoir(state.capacity, seen, key, seen + int(min(gap, float(SKIP_MAX)))), slot


def shift(held: Array, recent: Array) -> float:
    """How far the `recent` window (w, d) has moved from what is `held` (n, d): mean over columns of |difference of
    means| / standard deviation of `held`. 0 if either is empty or nothing ever varied and nothing moved.

    A column that does not vary in `held` is measured by 1e-6 of the largest spread; if none varies, any move is inf.
    """
    if held.shape[0] == 0 or recent.shape[0] == 0 or held.shape[1] == 0:
        return 0.0
    moved = np.abs(recent.mean(axis=0, dtype=np.float64) - held.mean(axis=0, dtype=np.float64))
    spread = held.std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, SD_MIN * spread.max())
    if not spread.any():
        return math.inf if moved.any() else 0.0
    return float(np.mean(moved / spread))
