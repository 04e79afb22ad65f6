"""Sums, extremes, means and variances of columns, by segments that are joined: a hierarchy of any shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from .workspace import Array

F64 = npt.NDArray[np.float64]


class Summary(Struct, frozen=True, eq=False):
    """Of `count` rows, by column: `total` (d,) float64, `low` and `high` (d,) float32. Of no rows: 0, inf, -inf."""

    count: int
    total: F64
    low: Array
    high: Array

    @property
    def mean(self) -> F64:
        """`total / count`: joined segments thereby weigh by their lengths, where a mean of means would not. NaN for no
        rows."""
        with np.errstate(invalid="ignore"):
            return np.divide(self.total, self.count)


class Moments(Struct, frozen=True, eq=False):
    """Of `count` rows, by column, (d,) float64: `mean`, and `squares`, the sum of squared distances from it."""

    count: int
    mean: F64
    squares: F64

    def variance(self, freedom: int = 0) -> F64:
        """`squares / (count - freedom)`: of the population with 0, its unbiased estimate with 1. NaN where that divides
        by 0 or less."""
        return self.squares / (self.count - freedom) if self.count > freedom else np.full(self.mean.shape, np.nan)


def summarise(values: Array) -> Summary:
    """One segment, (n, d) float32: sums in float64. O(n d)."""
    if values.shape[0] == 0:
        width = values.shape[1]
        return Summary(0, np.zeros(width), np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32))
    return Summary(
        values.shape[0], np.add.reduce(values, axis=0, dtype=np.float64), values.min(axis=0), values.max(axis=0)
    )


def join_summaries(parts: Sequence[Summary]) -> Summary:
    """All segments as one; at least one is given. Associative up to the rounding of float64. O(parts d)."""
    return Summary(
        sum(part.count for part in parts),
        np.add.reduce([part.total for part in parts], axis=0),
        np.minimum.reduce([part.low for part in parts]),
        np.maximum.reduce([part.high for part in parts]),
    )


def moments(values: Array) -> Moments:
    """One segment, (n, d) float32, in two passes: the mean, then squared distances, corrected by the square of what the
    mean was off (Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", eq. 1.7). O(n d)."""
    count, width = values.shape
    if count == 0:
        return Moments(0, np.zeros(width), np.zeros(width))
    mean = np.add.reduce(values, axis=0, dtype=np.float64) / count
    away = values - mean
    squares = np.add.reduce(np.square(away), axis=0) - np.square(away.sum(axis=0)) / count
    return Moments(count, mean, np.maximum(squares, 0.0))


def join_moments(parts: Sequence[Moments]) -> Moments:
    """All segments as one; at least one is given (Chan, Golub and LeVeque 1983, eq. 2.1; with parts of one row it is
    Welford's step, 1962). O(parts d)."""
    count, mean, squares = parts[0].count, parts[0].mean, parts[0].squares
    for part in parts[1:]:
        if part.count == 0:
            continue
        whole = count + part.count
        delta = part.mean - mean
        mean = mean + delta * (part.count / whole)
        squares = squares + part.squares + np.square(delta) * (count * part.count / whole)
        count = whole
    return Moments(count, mean, squares)
