"""Rules that treat each coordinate alone: mean, weighted mean, median, trimmed mean.

Sorting n numbers in each of d columns is n log^2 n / 4 comparisons of whole rows, done by a network: each comparator is
one minimum and one maximum of two rows in the cache, without branches and without a transposed copy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .workspace import TILE, Workspace

Array = npt.NDArray[np.float32]
Comparators = tuple[tuple[int, int], ...]


def mean(updates: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`sum_i x_i / n` over the rows of updates (n, d): (d,). One liar moves it anywhere: for trusted rows only. O(n d).

    Rows are divided before they are summed, so that the mean of finite rows is finite.
    """
    space = _space(workspace, updates.shape[0])
    weights = space.weights[: updates.shape[0]]
    weights.fill(1.0 / updates.shape[0])
    return np.matmul(weights, updates, out=out)


def weighted_mean(
    updates: Array, weights: npt.NDArray[np.float64], *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`sum_i w_i x_i / sum_i w_i` for weights (n,) >= 0, not all 0: (d,). O(n d). FedAvg: McMahan et al. 2017.

    The weights are what this node thinks of the peers (`capped_weights`), never what a peer says of itself.
    """
    space = _space(workspace, updates.shape[0])
    shares = space.weights[: updates.shape[0]]
    np.divide(weights, weights.sum(), out=shares, casting="same_kind")
    return np.matmul(shares, updates, out=out)


def capped_weights(scores: npt.NDArray[np.float64], share_max: float) -> npt.NDArray[np.float64]:
    """Shares (n,) that sum to 1, proportional to `scores` (n,) >= 0 but none above `share_max`.

    What a capped peer loses goes to the others in proportion (water filling). If n share_max <= 1, or there are no
    positive scores to carry the rest, shares are as equal as the cap allows: uniform. O(n^2) at worst.
    """
    count = scores.size
    if count * share_max <= 1 or not scores.sum() > 0:
        return np.full(count, 1.0 / count)
    shares: npt.NDArray[np.float64] = scores / scores.max()
    shares /= shares.sum()
    capped = np.zeros(count, np.bool_)
    while (shares > share_max * (1 + 1e-12)).any():
        capped |= shares > share_max
        rest = 1.0 - share_max * np.count_nonzero(capped)
        free = shares[~capped].sum()
        if not free > 0:
            return np.full(count, 1.0 / count)
        shares = np.where(capped, share_max, shares * (rest / free))
    return shares


def median(updates: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """Coordinate-wise median of updates (n, d): (d,); the mean of the two middle values for even n. O(n log^2 n d).

    With fewer than n/2 liars each coordinate stays between honest values. Source: Yin et al. 2018 (1803.01498).
    """
    count = updates.shape[0]
    return _middle(updates, (count - 1) // 2, count // 2 + 1, out, workspace)


def trimmed_mean(
    updates: Array, adversaries: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """Mean of each coordinate without its f = `adversaries` least and f largest values: (d,). O(n log^2 n d).

    n > 2 f (`ValueError`). With at most f liars each coordinate stays between honest values. Source: Yin et al. 2018
    (1803.01498, definition 2).
    """
    count = updates.shape[0]
    if adversaries < 0 or count <= 2 * adversaries:
        raise ValueError(f"a trimmed mean of {count} updates cannot drop {adversaries} at each end")
    return _middle(updates, adversaries, count - adversaries, out, workspace)


def _middle(updates: Array, start: int, stop: int, out: Array | None, workspace: Workspace | None) -> Array:
    """Mean of the values of rank start..stop-1 in each column."""
    count, width = updates.shape
    result = out if out is not None else np.empty(width, np.float32)
    space = _space(workspace, count)
    network = comparators(count, start, stop)
    share = np.float32(1.0 / (stop - start))
    for first in range(0, width, TILE):
        tile = space.columns[: count + 1, : min(TILE, width - first)]
        np.copyto(tile[:count], updates[:, first : first + TILE])
        rows = list(tile)
        spare = rows.pop()
        for low, high in network:
            a, b = rows[low], rows[high]
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            rows[low], spare = spare, a
        total = result[first : first + TILE]
        np.multiply(rows[start], share, out=total)
        for row in rows[start + 1 : stop]:
            np.multiply(row, share, out=row)
            np.add(total, row, out=total)
    return result


def comparators(count: int, start: int, stop: int) -> Comparators:
    """Batcher's odd-even merge sort of `count` rows, without the comparators that ranks start..stop-1 do not need.

    Each pair (i, j), i < j, puts the smaller value in row i. Source: Knuth, TAOCP 3, algorithm 5.2.2M.
    """
    pairs = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    needed = set(range(start, stop))
    kept = []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return tuple(reversed(kept))


def _space(workspace: Workspace | None, peers: int) -> Workspace:
    space = workspace if workspace is not None else Workspace(peers)
    space.reserve(peers)
    return space
