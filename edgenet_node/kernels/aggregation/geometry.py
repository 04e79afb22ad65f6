"""Rules that treat an update as a point: Krum, geometric median, centred clipping, nearest neighbours.

All of them need only the inner products of the updates: those are one product of matrices, in float64 so that distances
between close rows far from the origin keep their digits and no float32 row overflows. Everything after is n x n, until
one last weighted sum of the rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .workspace import TILE, Workspace

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

SMOOTHING = 1e-6  # of the median distance: below it a row counts as reached (Pillutla's nu, made scale-free)
FAR = 1e6  # median distances
PROGRESS = 1e-12  # relative fall of the objective below which more rounds do not pay
WEISZFELD_ROUNDS = 1000  # n x n work each; the stop above comes after ten to fifty of them
CLIPPING_ROUNDS = 3  # Karimireddy et al. 2021 see no gain from more


def inner_products(
    updates: Array, *, centre: Array | None = None, out: Wide | None = None, workspace: Workspace | None = None
) -> Wide:
    """`(x_i - c) . (x_j - c)` for rows of updates (n, d), c = `centre` (d,) or 0: (n, n) float64. O(n^2 d)."""
    count, width = updates.shape
    space = _space(workspace, count)
    result = out if out is not None else np.empty((count, count))
    part = space.products[0, : count * count].reshape(count, count)
    result[...] = 0
    for first in range(0, width, TILE):
        columns = min(TILE, width - first)
        tile = space.wide[: count * columns].reshape(count, columns)
        np.copyto(tile, updates[:, first : first + columns])
        if centre is not None:
            c = space.columns[0, :columns]
            np.copyto(c, centre[first : first + columns])
            for row in tile:
                np.subtract(row, c, out=row)
        np.matmul(tile, tile.T, out=part)
        np.add(result, part, out=result)
    return result


def squared_distances(updates: Array, *, out: Wide | None = None, workspace: Workspace | None = None) -> Wide:
    """`|x_i - x_j|^2` for rows of updates (n, d): (n, n) float64, zero diagonal. O(n^2 d).

    Absolute error about 1e-15 (|x_i|^2 + |x_j|^2), against float32 inputs that are themselves rounded to 6e-8.
    """
    result = inner_products(updates, out=out, workspace=workspace)
    squares = result.diagonal().copy()
    np.multiply(result, -2.0, out=result)
    np.add(result, squares[:, None], out=result)
    np.add(result, squares[None, :], out=result)
    np.maximum(result, 0.0, out=result)
    np.fill_diagonal(result, 0.0)
    return result


def krum_scores(distances: Wide, adversaries: int) -> Wide:
    """For each row of squared distances (n, n): the sum over its n - f - 2 nearest others. (n,). O(n^2 log n).

    n >= 2 f + 3 (`ValueError`). Source: Blanchard et al. 2017 (1703.02757, section 4).
    """
    count = distances.shape[0]
    if adversaries < 0 or count < 2 * adversaries + 3:
        raise ValueError(f"Krum of {count} updates cannot stand {adversaries} adversaries: it needs 2f + 3")
    nearest = np.sort(distances, axis=1)[:, 1 : count - adversaries - 1]  # the first is the row itself, at 0
    scores: Wide = nearest.sum(axis=1)
    return scores


def krum(updates: Array, adversaries: int, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """The update of least `krum_scores`, the first among equals: (d,). O(n^2 d). Source: Blanchard et al. 2017."""
    scores = krum_scores(squared_distances(updates, workspace=workspace), adversaries)
    result = out if out is not None else np.empty(updates.shape[1], np.float32)
    np.copyto(result, updates[int(np.argmin(scores))])
    return result


def multi_krum(
    updates: Array,
    adversaries: int,
    *,
    chosen: int | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """Mean of the `chosen` updates of least `krum_scores` (n - f by default; equal scores by lower row): (d,).

    1 <= chosen <= n - f (`ValueError`): more would include liars for certain. O(n^2 d). Source: Blanchard et al. 2017.
    """
    count = updates.shape[0]
    wanted = count - adversaries if chosen is None else chosen
    scores = krum_scores(squared_distances(updates, workspace=workspace), adversaries)
    if not 1 <= wanted <= count - adversaries:
        raise ValueError(f"multi-Krum can average 1 to {count - adversaries} of {count} updates, not {wanted}")
    weights = np.zeros(count, np.float32)
    weights[np.argsort(scores, kind="stable")[:wanted]] = 1.0 / wanted
    return np.matmul(weights, updates, out=out)


def geometric_median(updates: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """The point z that makes `sum_i max(|x_i - z|, nu)` least, smoothed below nu: (d,). O(n^2 d).

    Weiszfeld: `z <- sum_i w_i x_i / sum_i w_i`, w_i = 1 / max(nu, |x_i - z|), with nu = 1e-6 of the median distance,
    until the objective falls by less than 1e-12 of itself. z is a combination of the rows, so a round costs n^2 from
    the inner products. They are taken around the medoid, and the start weighs rows by the inverse of their distances to
    all others, so that no row, however far, pulls the start away. With fewer than n/2 liars |z - honest mean| is at
    most 2 (n - f) / (n - 2 f) times the honest radius. Source: Pillutla, Kakade and Harchaoui 2022 (1912.13445).
    """
    products = inner_products(updates, workspace=workspace)
    return np.matmul(median_weights(products).astype(np.float32), updates, out=out)


def median_weights(products: Wide) -> Wide:
    """Weights (n,), summing to 1, of the rows in their smoothed geometric median, from inner products (n, n).

    Rows further from the medoid than a million median distances are drawn in to that: only their direction matters, to
    one part in a million, and their squares would drown the others' digits.
    """
    apart = _distances(products)
    sums = apart.sum(axis=1)
    medoid = int(np.argmin(sums))
    scale = float(np.median(apart[medoid]))
    if scale == 0:  # half the rows or more are one point: that is the median
        same = (apart[medoid] == 0).astype(np.float64)
        equal: Wide = same / same.sum()
        return equal
    nu = SMOOTHING * scale
    drawn = FAR * scale / np.maximum(apart[medoid], FAR * scale)
    around = products - products[medoid] - products[:, medoid, None] + products[medoid, medoid]
    around *= drawn[:, None] * drawn
    squares = around.diagonal()
    weights: Wide = 1.0 / sums
    weights /= weights.sum()
    best = np.inf
    for _ in range(WEISZFELD_ROUNDS):
        pulled = around @ weights
        lengths = np.sqrt(np.maximum(squares - 2.0 * pulled + weights @ pulled, 0.0))
        objective = float(np.where(lengths > nu, lengths, 0.5 * (lengths * lengths / nu + nu)).sum())
        if objective >= best * (1.0 - PROGRESS):
            break
        best = objective
        weights = 1.0 / np.maximum(lengths, nu)
        weights /= weights.sum()
    weights = weights * drawn
    weights[medoid] += 1.0 - weights.sum()
    return weights


def _distances(products: Wide) -> Wide:
    squares = products.diagonal()
    lengths: Wide = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * products, 0.0))
    np.fill_diagonal(lengths, 0.0)
    return lengths


def centred_clipping(
    updates: Array,
    centre: Array,
    radius: float,
    *,
    rounds: int = CLIPPING_ROUNDS,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`v <- v + mean_i (x_i - v) min(1, radius / |x_i - v|)`, `rounds` times from v = `centre` (d,): (d,). O(n^2 d).

    `centre` is the last round's aggregate. A round moves v by at most `radius`, and f of n liars by at most
    f/n `radius`, whatever they send. v - centre is a combination of the x_i - centre, so rounds after the inner
    products cost n^2. Source: Karimireddy, He and Jaggi 2021 (2012.10333, algorithm 2).
    """
    count = updates.shape[0]
    products = inner_products(updates, centre=centre, workspace=workspace)
    squares = products.diagonal()
    weights = np.zeros(count)
    for _ in range(rounds):
        pulled = products @ weights
        apart = np.sqrt(np.maximum(squares - 2.0 * pulled + weights @ pulled, 0.0))
        shrink = radius / np.maximum(apart, radius) / count
        weights = weights * (1.0 - shrink.sum()) + shrink
    result = np.matmul(weights.astype(np.float32), updates, out=out)
    kept = np.float32(1.0 - weights.sum())
    space = _space(workspace, count)
    for first in range(0, result.size, TILE):
        part = result[first : first + TILE]
        held = space.columns[0, : part.size]
        np.multiply(centre[first : first + TILE], kept, out=held)
        np.add(part, held, out=part)
    return result


def _space(workspace: Workspace | None, peers: int) -> Workspace:
    space = workspace if workspace is not None else Workspace(peers)
    space.reserve(peers)
    return space
