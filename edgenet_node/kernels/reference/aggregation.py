"""Naive oracles of the aggregation kernels, float64."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def _rows(updates: npt.ArrayLike) -> F64:
    return np.asarray(updates, np.float64)


def mean(updates: npt.ArrayLike) -> F64:
    """`sum_i x_i / n`, each coordinate correctly rounded."""
    rows = _rows(updates)
    return np.array([math.fsum(column) / len(rows) for column in rows.T.tolist()])


def weighted_mean(updates: npt.ArrayLike, weights: Sequence[float]) -> F64:
    """`sum_i w_i x_i / sum_i w_i` (McMahan et al. 2017)."""
    rows, total = _rows(updates), math.fsum(weights)
    return np.array([math.fsum(w * v for w, v in zip(weights, c, strict=True)) / total for c in rows.T.tolist()])


def median(updates: npt.ArrayLike) -> F64:
    """The middle value of each coordinate, or the mean of the two middle ones (Yin et al. 2018)."""
    return np.array([statistics.median(column) for column in _rows(updates).T.tolist()])


def trimmed_mean(updates: npt.ArrayLike, adversaries: int) -> F64:
    """The mean of each coordinate without its f least and f largest values (Yin et al. 2018)."""
    columns = _rows(updates).T.tolist()
    return np.array([statistics.fmean(sorted(c)[adversaries : len(c) - adversaries]) for c in columns])


def squared_distances(updates: npt.ArrayLike) -> F64:
    """`|x_i - x_j|^2`, by differences."""
    rows = _rows(updates)
    return np.array([[float(((a - b) ** 2).sum()) for b in rows] for a in rows])


def krum_scores(updates: npt.ArrayLike, adversaries: int) -> list[float]:
    """Sum of squared distances to the n - f - 2 nearest others (Blanchard et al. 2017)."""
    distances = squared_distances(updates).tolist()
    count = len(distances)
    others = [sorted(d for j, d in enumerate(row) if j != i) for i, row in enumerate(distances)]
    return [math.fsum(row[: count - adversaries - 2]) for row in others]


def krum(updates: npt.ArrayLike, adversaries: int) -> F64:
    """The update of least Krum score (Blanchard et al. 2017)."""
    scores = krum_scores(updates, adversaries)
    chosen: F64 = _rows(updates)[scores.index(min(scores))]
    return chosen


def multi_krum(updates: npt.ArrayLike, adversaries: int, chosen: int) -> F64:
    """The mean of the `chosen` updates of least Krum score (Blanchard et al. 2017)."""
    scores = krum_scores(updates, adversaries)
    best = sorted(range(len(scores)), key=lambda i: (scores[i], i))[:chosen]
    return mean(_rows(updates)[best])


def geometric_median(updates: npt.ArrayLike, rounds: int = 2000) -> F64:
    """Weiszfeld in the space of the updates, from the coordinate-wise median: `z <- sum w x / sum w`,
    `w = 1 / max(nu, |x - z|)` (Pillutla, Kakade and Harchaoui 2022)."""
    rows = _rows(updates)
    point = median(rows)
    nu = 1e-9 * (1e-300 + float(np.abs(rows).max(initial=0.0)))
    for _ in range(rounds):
        weights = 1.0 / np.maximum(np.linalg.norm(rows - point, axis=1), nu)
        point = weights @ rows / weights.sum()
    return point


def centred_clipping(updates: npt.ArrayLike, centre: npt.ArrayLike, radius: float, rounds: int) -> F64:
    """`v <- v + mean_i (x_i - v) min(1, radius / |x_i - v|)` (Karimireddy, He and Jaggi 2021)."""
    rows, point = _rows(updates), np.asarray(centre, np.float64)
    for _ in range(rounds):
        moves = []
        for row in rows:
            length = float(np.linalg.norm(row - point))
            moves.append((row - point) * (min(1.0, radius / length) if length else 1.0))
        point = point + np.mean(moves, axis=0)
    return point


def cap_norms(updates: npt.ArrayLike, limit: float) -> F64:
    """`x_i min(1, limit / |x_i|)`."""
    lengths = [math.sqrt(math.fsum(v * v for v in row)) for row in _rows(updates).tolist()]
    return np.array([row * (limit / s if s > limit else 1.0) for row, s in zip(_rows(updates), lengths, strict=True)])


def bucketing(updates: npt.ArrayLike, order: Sequence[int], size: int) -> F64:
    """Means of consecutive groups of `size` rows in `order` (Karimireddy, He and Jaggi 2022)."""
    rows = _rows(updates)
    return np.array([mean(rows[list(order[i : i + size])]) for i in range(0, len(order), size)])


def nearest_neighbour_mixing(updates: npt.ArrayLike, adversaries: int) -> F64:
    """Each row replaced by the mean of its n - f nearest rows, itself first (Allouah et al. 2023)."""
    rows = _rows(updates)
    return np.array([_nearest_mean(rows, i, len(rows) - adversaries) for i in range(len(rows))])


def nearest_neighbour_average(updates: npt.ArrayLike, adversaries: int) -> F64:
    """The mean of the n - f rows nearest to row 0, itself first (Farhadkhani et al. 2023)."""
    rows = _rows(updates)
    return _nearest_mean(rows, 0, len(rows) - adversaries)


def _nearest_mean(rows: F64, at: int, keep: int) -> F64:
    apart = [(-1.0 if j == at else float(((row - rows[at]) ** 2).sum()), j) for j, row in enumerate(rows)]
    return mean(rows[[j for _, j in sorted(apart)[:keep]]])


def metropolis_weights(adjacency: npt.ArrayLike) -> F64:
    """`1 / (1 + max(deg_i, deg_j))` for neighbours, the rest on the diagonal (Xiao, Boyd and Kim 2007)."""
    links = np.asarray(adjacency, np.bool_).tolist()
    count = len(links)
    degrees = [sum(1 for j in range(count) if j != i and links[i][j]) for i in range(count)]
    weights = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i != j and links[i][j]:
                weights[i, j] = 1.0 / (1.0 + max(degrees[i], degrees[j]))
        weights[i, i] = 1.0 - math.fsum(weights[i].tolist())
    return weights


def outlier_shares(updates: npt.ArrayLike, sent: npt.ArrayLike) -> list[float]:
    """Share of each peer's comparable coordinates (sent by 3 or more, MAD above 0) with |g - med| > 3 * 1.4826 MAD,
    among those who sent the coordinate (Iglewicz and Hoaglin 1993)."""
    rows, here = _rows(updates), np.asarray(sent, np.bool_)
    beyond, compared = [0] * len(rows), [0] * len(rows)
    for column in range(rows.shape[1]):
        peers = [i for i in range(len(rows)) if here[i, column]]
        if len(peers) < 3:
            continue
        values = [float(rows[i, column]) for i in peers]
        middle = statistics.median(values)
        deviation = 1.4826 * statistics.median(abs(v - middle) for v in values)
        for i, v in zip(peers, values, strict=True):
            compared[i] += deviation > 0
            beyond[i] += deviation > 0 and abs(v - middle) > 3 * deviation
    return [b / max(c, 1) for b, c in zip(beyond, compared, strict=True)]
