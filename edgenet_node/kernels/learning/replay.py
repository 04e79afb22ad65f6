"""Prioritised experience replay (Schaul et al. 2016): what surprised most is learnt from again most often.

`P(i) = p_i^alpha / sum_k p_k^alpha`, `p_i = |delta_i| + epsilon`, drawn with replacement; the bias that this puts into
an average is undone by `w_i = (N P(i))^-beta`, scaled by the largest of the batch (section 3.4, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from . import sum_tree
from .sum_tree import Slots, Tree

ALPHA = 0.6  # Schaul et al. 2016, table 3, proportional variant
BETA = 0.4
EPSILON = 1e-6  # keeps what was learnt perfectly within reach
PRIORITY_MAX = 1e6  # one absurd error must not own the buffer, nor make a sum lose the others


class Sample(Struct, frozen=True, eq=False):
    """`slots` (m,) in [0, N), and the weight (m,), in (0, 1], by which each one's gradient is multiplied."""

    slots: Slots
    weights: npt.NDArray[np.float64]


def anneal(step: int, steps: int, beta: float = BETA) -> float:
    """beta rises in a straight line to 1 at `steps`, where the correction is complete; 1 from then on."""
    share = 1.0 if steps <= 0 else min(1.0, max(0.0, step / steps))
    return beta + (1.0 - beta) * share


def priority_weights(errors: npt.NDArray[np.float64], alpha: float = ALPHA) -> npt.NDArray[np.float64]:
    """`(|delta| + epsilon)^alpha`, with |delta| cut at 1e6; an error that is not a number counts as the largest."""
    size = np.abs(np.nan_to_num(errors, nan=PRIORITY_MAX, posinf=PRIORITY_MAX, neginf=PRIORITY_MAX))
    powers: npt.NDArray[np.float64] = np.power(np.minimum(size, PRIORITY_MAX) + EPSILON, alpha)
    return powers


def importance(weights: npt.NDArray[np.float64], total: float, count: int, beta: float) -> npt.NDArray[np.float64]:
    """`(N P)^-beta / max` of a batch whose tree weights are `weights` (m,), m > 0, of a sum `total` over `count`."""
    raw = np.power(count * weights / total, -beta)
    scaled: npt.NDArray[np.float64] = raw / raw.max()
    return scaled


class PrioritisedReplay:
    """A ring of `capacity` slots. It keeps priorities only: the caller keeps the items, by slot, so the two cannot
    drift apart. O(log capacity) each operation, 16 to 32 bytes a slot."""

    __slots__ = ("_alpha", "_find", "_largest", "_next", "_refresh", "_size", "_tree", "capacity")

    def __init__(
        self,
        capacity: int,
        alpha: float = ALPHA,
        *,
        find: Callable[[Tree, npt.NDArray[np.float64]], Slots] = sum_tree.find,
        refresh: Callable[[Tree, Slots, npt.NDArray[np.float64]], None] = sum_tree.refresh,
    ) -> None:
        """`find`, `refresh`: those of `sum_tree`, or their compiled versions. `UsageError` for no capacity."""
        self.capacity = capacity
        self._tree = sum_tree.empty(capacity)
        self._alpha = alpha
        self._find = find
        self._refresh = refresh
        self._next = self._size = 0
        self._largest = 1.0

    def __len__(self) -> int:
        return self._size

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._tree[1])

    def probabilities(self) -> npt.NDArray[np.float64]:
        """P(i) of the slots in use, (N,)."""
        leaves = self._tree.size // 2
        chances: npt.NDArray[np.float64] = self._tree[leaves : leaves + self._size] / self.total
        return chances

    def add(self, error: float | None = None) -> int:
        """Take the next slot, the oldest one once all are used, and return it: the caller puts the item there.

        Without an `error` it gets the largest priority seen, so that it is learnt from at least once (algorithm 1).
        """
        slot = self._next
        self._next = (slot + 1) % self.capacity
        self._size = min(self._size + 1, self.capacity)
        self.update(np.array([slot]), np.array([self._largest if error is None else error]))
        return slot

    def sample(self, count: int, generator: np.random.Generator, beta: float = BETA) -> Sample:
        """`count` independent draws. `UsageError` while nothing has been added."""
        if self._size == 0 or count < 1:
            raise UsageError(f"cannot draw {count} of {self._size} items")
        slots = self._find(self._tree, generator.random(count) * self._tree[1])
        chosen = self._tree[self._tree.size // 2 + slots]
        return Sample(slots=slots, weights=importance(chosen, self.total, self._size, beta))

    def update(self, slots: Slots, errors: npt.NDArray[np.float64]) -> None:
        """New errors of `slots` after learning from them; of a slot named twice the last counts. `UsageError` for a
        slot that is not in use."""
        if slots.size == 0:
            return
        if int(slots.min()) < 0 or int(slots.max()) >= self._size:
            raise UsageError(f"slots {int(slots.min())} to {int(slots.max())} of {self._size}")
        sizes = np.abs(errors[np.isfinite(errors)])
        self._largest = min(PRIORITY_MAX, max(self._largest, float(sizes.max(initial=0.0))))
        self._refresh(self._tree, slots, priority_weights(errors, self._alpha))
