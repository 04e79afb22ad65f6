"""k-means: D^2 seeding (Arthur and Vassilvitskii 2007, "k-means++") and Lloyd's iterations (1982).

With the seeding alone the expected cost is at most 8 (ln k + 2) times the least possible (their theorem 1.1); each of
Lloyd's iterations lowers it or leaves it. Cost: the sum of squared distances to the nearest centre.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.intp]
F64 = npt.NDArray[np.float64]
BLOCK_BYTES = 256 * 1024  # distances of one block of points: it stays in the cache, which halves the time
ITERATIONS_MAX = 100
TOLERANCE = 1e-4  # relative gain of an iteration below which the next one is not worth it


class Clusters(Struct, frozen=True, eq=False):
    """`centres` (k, d), `labels` (n,), `cost`; `iterations` run."""

    centres: Array
    labels: Labels
    cost: float
    iterations: int


def seed(points: Array, k: int, generator: np.random.Generator) -> Array:
    """k of the `points` (n, d): the first uniform, each next with probability proportional to its squared distance from
    the nearest one chosen. Once every point is a centre (fewer than k distinct ones) the rest are uniform.
    O(n k d). `UsageError` unless 1 <= k <= n."""
    if not 1 <= k <= points.shape[0]:
        raise UsageError(f"{points.shape[0]} points do not make {k} clusters")
    centres = np.empty((k, points.shape[1]), np.float32)
    centres[0] = points[generator.integers(points.shape[0])]
    scratch = np.empty(points.shape, np.float32)  # fresh pages for every centre would cost more than the arithmetic
    nearest = _squares(points, centres[0], scratch)
    for place in range(1, k):
        cumulative = np.cumsum(nearest)
        if cumulative[-1] > 0.0:
            # side="right" passes over points of distance zero, which are centres already.
            chosen = int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
            chosen = min(chosen, int(np.flatnonzero(nearest)[-1]))
        else:
            chosen = int(generator.integers(points.shape[0]))
        centres[place] = points[chosen]
        np.minimum(nearest, _squares(points, centres[place], scratch), out=nearest)
    return centres


def assign(points: Array, centres: Array) -> tuple[Labels, F64]:
    """The nearest centre of each point, and its squared distance: (n, d), (k, d) -> (n,), (n,) float64.

    `|x|^2` is the same for all centres, so `|c|^2/2 - x.c` decides, one matrix product for a block of points, both
    moved to the middle of the centres so that no digits are lost to a distant origin; centres that tie but for float32
    rounding are told apart by it. The distance returned is computed from the difference itself. O(n k d).
    """
    labels = np.empty(points.shape[0], np.intp)
    squares = np.empty(points.shape[0], np.float64)
    middle = centres.mean(axis=0)
    moved = centres - middle
    halves = 0.5 * np.vecdot(moved, moved)
    block = max(1, BLOCK_BYTES // (4 * max(centres.shape)))
    for first in range(0, points.shape[0], block):
        part = points[first : first + block]
        scores = (part - middle) @ moved.T
        np.subtract(halves, scores, out=scores)
        chosen = labels[first : first + block] = np.argmin(scores, axis=1)
        difference = part - centres[chosen]
        squares[first : first + block] = np.vecdot(difference, difference)
    return labels, squares


def centre_sums(points: Array, labels: Labels, k: int) -> tuple[F64, npt.NDArray[np.int64]]:
    """Sums (k, d) float64 and counts (k,) of the points (n, d) by label (n,). O(n d + k)."""
    sums = np.zeros((k, points.shape[1]), np.float64)
    counts = np.bincount(labels, minlength=k)
    order = np.argsort(labels, kind="stable")
    present = np.flatnonzero(counts)
    if present.size:
        starts = (np.cumsum(counts) - counts)[present]
        sums[present] = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64)
    return sums, counts


def lloyd(
    points: Array,
    centres: Array,
    *,
    iterations: int = ITERATIONS_MAX,
    tolerance: float = TOLERANCE,
    centre_sums: Callable[[Array, Labels, int], tuple[F64, npt.NDArray[np.int64]]] = centre_sums,
) -> Clusters:
    """Move each centre to the mean of its points until no iteration gains `tolerance` of the cost.

    A centre without points goes to the point that is farthest from its own (never to zero), so no cluster stays empty
    while there are distinct points left. `centre_sums`: this module's, or its compiled version. O(iterations n k d).
    `UsageError` for no points or centres.
    """
    if points.shape[0] == 0 or centres.shape[0] == 0:
        raise UsageError(f"{points.shape[0]} points do not make {centres.shape[0]} clusters")
    labels, squares = assign(points, centres)
    cost, run = float(squares.sum()), 0
    while run < iterations:
        run += 1
        moved = _moved(points, centres, labels, squares, centre_sums)
        next_labels, next_squares = assign(points, moved)
        next_cost = float(next_squares.sum())
        if next_cost > cost:
            break  # rounding only: the best is kept
        gained = cost - next_cost
        centres, labels, squares, cost = moved, next_labels, next_squares, next_cost
        if gained <= tolerance * cost:
            break
    return Clusters(centres=centres, labels=labels, cost=cost, iterations=run)


def k_means(points: Array, k: int, generator: np.random.Generator, *, restarts: int = 1) -> Clusters:
    """Seeding and Lloyd, the cheapest of `restarts`. `UsageError` unless 1 <= k <= n and restarts >= 1."""
    if restarts < 1:
        raise UsageError(f"k-means with {restarts} starts")
    runs = [lloyd(points, seed(points, k, generator)) for _ in range(restarts)]
    return min(runs, key=lambda result: result.cost)


def _moved(
    points: Array,
    centres: Array,
    labels: Labels,
    squares: F64,
    sums_of: Callable[[Array, Labels, int], tuple[F64, npt.NDArray[np.int64]]],
) -> Array:
    sums, counts = sums_of(points, labels, centres.shape[0])
    moved = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        farthest = np.argsort(-squares, kind="stable")[: empty.size]
        moved[empty[: farthest.size]] = points[farthest]
        moved[empty[farthest.size :]] = centres[empty[farthest.size :]]
    return moved


def _squares(points: Array, centre: Array, scratch: Array) -> F64:
    difference = np.subtract(points, centre, out=scratch)
    squares: F64 = np.vecdot(difference, difference).astype(np.float64)
    return squares
