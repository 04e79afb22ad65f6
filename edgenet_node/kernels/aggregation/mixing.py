"""What comes before or instead of a rule: norm caps, buckets, nearest neighbours, gossip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .geometry import squared_distances
from .workspace import TILE, Workspace

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def cap_norms(updates: Array, limit: float, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`x_i min(1, limit / |x_i|)` for rows of updates (n, d): (n, d). `out` may be `updates`. O(n d).

    Lengths are summed in float64, so that rows of huge numbers are capped too. The result's length is at most
    limit (1 + 1e-6).
    """
    width = updates.shape[1]
    result = out if out is not None else np.empty(updates.shape, np.float32)
    space = workspace if workspace is not None else Workspace(1)
    for row, capped in zip(updates, result, strict=True):
        square = 0.0
        for first in range(0, width, TILE):
            part = space.wide[: min(TILE, width - first)]
            np.copyto(part, row[first : first + TILE])
            square += float(np.vecdot(part, part))
        length = float(np.sqrt(square))
        if length > limit:
            for first in range(0, width, TILE):  # in float64: the factor for huge rows is no normal float32
                part = space.wide[: min(TILE, width - first)]
                np.copyto(part, row[first : first + TILE])
                np.multiply(part, limit / length, out=part)
                np.copyto(capped[first : first + TILE], part, casting="same_kind")
        elif capped is not row:
            np.copyto(capped, row)
    return result


def bucketing(
    updates: Array,
    order: npt.NDArray[np.int64],
    size: int,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """Means of buckets of `size` rows of updates (n, d), in `order` (n,), a random permutation: (ceil(n/size), d).

    The last bucket may be smaller. Honest rows become alike, at the price of up to f bad buckets out of n/size. O(n d).
    Source: Karimireddy, He and Jaggi 2022 (2006.09365, algorithm 1).
    """
    buckets = -(-updates.shape[0] // size)
    result = out if out is not None else np.empty((buckets, updates.shape[1]), np.float32)
    for bucket in range(buckets):
        members = order[bucket * size : (bucket + 1) * size]
        share = np.float32(1.0 / members.size)
        np.multiply(updates[members[0]], share, out=result[bucket])
        for member in members[1:]:
            _add_share(result[bucket], updates[member], share, workspace)
    return result


def nearest_neighbour_mixing(
    updates: Array, adversaries: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """Each row replaced by the mean of the n - f rows nearest to it, itself first: (n, d). O(n^2 d).

    0 <= f < n/2 (`ValueError`). Equal distances by lower row. Brings honest rows together, so that the rule after it
    works on data that differ from peer to peer. Source: Allouah et al. 2023 (2302.01772, algorithm 2).
    """
    count = updates.shape[0]
    keep = _kept(count, adversaries)
    distances = squared_distances(updates, workspace=workspace)
    np.fill_diagonal(distances, -1.0)  # a copy of row i does not come before row i
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :keep]
    weights = np.zeros((count, count), np.float32)
    np.put_along_axis(weights, nearest, np.float32(1.0 / keep), axis=1)
    return np.matmul(weights, updates, out=out)


def nearest_neighbour_average(
    updates: Array, adversaries: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """Mean of the n - f rows nearest to row 0, which is this node's own: (d,). O(n d).

    0 <= f < n/2 (`ValueError`). The node's own row always counts, so liars can only choose among n - f nearest places.
    Source: MoNNA, Farhadkhani et al. 2023 (2209.10931, algorithm 1).
    """
    count = updates.shape[0]
    keep = _kept(count, adversaries)
    space = workspace if workspace is not None else Workspace(count)
    space.reserve(count)
    apart = np.zeros(count)
    for first in range(0, updates.shape[1], TILE):
        columns = min(TILE, updates.shape[1] - first)
        tile = space.wide[: count * columns].reshape(count, columns)
        np.copyto(tile, updates[:, first : first + columns])
        for row, values in enumerate(tile[1:], 1):
            np.subtract(values, tile[0], out=values)
            apart[row] += np.vecdot(values, values)
    apart[0] = -1.0
    weights = np.zeros(count, np.float32)
    weights[np.argsort(apart, kind="stable")[:keep]] = 1.0 / keep
    return np.matmul(weights, updates, out=out)


def worker_momentum(momentum: Array, gradient: Array, beta: float, *, out: Array | None = None) -> Array:
    """`beta m + (1 - beta) g`, each (d,): what a worker sends instead of its gradient. `out` may be `momentum`.

    Lowers the variance of honest updates, which is what attacks hide in. Source: Karimireddy et al. 2021 (2012.10333).
    """
    result = np.subtract(momentum, gradient, out=out)
    np.multiply(result, np.float32(beta), out=result)
    return np.add(result, gradient, out=result)


def metropolis_weights(adjacency: Bools) -> Wide:
    """`W_ij = 1 / (1 + max(deg_i, deg_j))` for neighbours, `W_ii = 1 - sum_j W_ij`: (n, n) float64.

    `adjacency` (n, n) symmetric; its diagonal is ignored. W is symmetric and doubly stochastic with a positive
    diagonal, so averaging by it keeps the mean and, on a connected graph, shrinks the rest by |lambda_2| < 1 a round. A
    node needs only its own degree and its neighbours'. Source: Xiao, Boyd and Kim 2007 (section 3).
    """
    links = adjacency & ~np.eye(adjacency.shape[0], dtype=np.bool_)
    degrees = links.sum(axis=1)
    weights = np.where(links, 1.0 / (1.0 + np.maximum(degrees[:, None], degrees[None, :])), 0.0)
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def gossip_step(
    weights: Wide, updates: Array, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`W x`: one synchronous round of averaging for rows x (n, d) of all nodes. O(n^2 d).

    One node alone gives its row of W (n,) and the rows it has.
    """
    return np.matmul(weights.astype(np.float32), updates, out=out)


def consensus_distance(updates: Array) -> float:
    """`sqrt(mean_i |x_i - mean|^2)`: how far the rows of updates (n, d) are from agreeing. Source: Kong et al. 2021."""
    centre = updates.mean(axis=0, dtype=np.float64)
    return float(np.sqrt(np.mean([np.square(row - centre).sum() for row in updates])))


def _kept(count: int, adversaries: int) -> int:
    if not 0 <= 2 * adversaries < max(1, count):
        raise ValueError(f"{adversaries} adversaries among {count}: nearest neighbours need an honest majority")
    return count - adversaries


def _add_share(total: Array, row: Array, share: np.float32, workspace: Workspace | None) -> None:
    space = workspace if workspace is not None else Workspace(1)
    for first in range(0, total.size, TILE):
        part = total[first : first + TILE]
        scaled = space.columns[0, : part.size]
        np.multiply(row[first : first + TILE], share, out=scaled)
        np.add(part, scaled, out=part)
