"""Naive float64 oracles of the dense kernels: one function per mechanism, written to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def _rows(x: npt.ArrayLike) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(x, np.float64).tolist()
    return rows


def matmul(a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
    """`c_ij = sum_k a_ik b_kj`, each sum rounded once."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    out = np.zeros((left.shape[0], right.shape[1]))
    for i, row in enumerate(left.tolist()):
        for j, column in enumerate(right.T.tolist()):
            out[i, j] = math.fsum(x * y for x, y in zip(row, column, strict=True))
    return out


def dot(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """`sum_i a_i b_i` in rational arithmetic, rounded once."""
    pairs = zip(np.asarray(a, np.float64).tolist(), np.asarray(b, np.float64).tolist(), strict=True)
    return float(sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0)))


def dot_segments(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The inner product of the whole: what segments come to, however they are cut."""
    return dot(a, b)


def summary(values: npt.ArrayLike) -> tuple[int, list[float], list[float], list[float]]:
    """Count, and sum, minimum, maximum of each column; the minimum of nothing is infinity."""
    rows = _rows(values)
    columns = np.asarray(values, np.float64).T.tolist()
    return (
        len(rows),
        [math.fsum(column) for column in columns],
        [min(column, default=math.inf) for column in columns],
        [max(column, default=-math.inf) for column in columns],
    )


def moments(values: npt.ArrayLike) -> tuple[int, list[float], list[float]]:
    """Count, mean, sum of squared distances from the mean of each column, by Welford's recurrence (1962):
    mean_n = mean_(n-1) + (x - mean_(n-1)) / n, s_n = s_(n-1) + (x - mean_(n-1)) (x - mean_n), with rationals."""
    means, squares = [], []
    for column in np.asarray(values, np.float64).T.tolist():
        mean, square = Fraction(0), Fraction(0)
        for n, x in enumerate(map(Fraction, column), start=1):
            before = x - mean
            mean += before / n
            square += before * (x - mean)
        means.append(float(mean))
        squares.append(float(square))
    return len(_rows(values)), means, squares


def vector_op(operation: str, x: npt.ArrayLike, y: npt.ArrayLike | None = None) -> F64:
    """`add`, `multiply`, `relu`, `sigmoid` (stable: e^-|x| never overflows) of whole vectors."""
    values = np.asarray(x, np.float64)
    if operation == "add":
        return values + np.asarray(y, np.float64)
    if operation == "multiply":
        return values * np.asarray(y, np.float64)
    if operation == "relu":
        return np.maximum(values, 0.0)
    small = np.exp(-np.abs(values))
    positive: F64 = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return positive


def silu(x: npt.ArrayLike) -> F64:
    """`x / (1 + e^-x)` (Elfwing, Uchibe and Doya 2018)."""
    return np.asarray(x, np.float64) * vector_op("sigmoid", x)


def softmax_rows(x: npt.ArrayLike) -> F64:
    """`e^x_i / sum_j e^x_j` over the last axis, with the maximum subtracted."""
    values = np.asarray(x, np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    quotient: F64 = powers / powers.sum(axis=-1, keepdims=True)
    return quotient


def rms_norm(x: npt.ArrayLike, gain: npt.ArrayLike, eps: float = 1e-6) -> F64:
    """`x / sqrt(mean(x^2) + eps) * gain` over the last axis (Zhang and Sennrich 2019)."""
    values = np.asarray(x, np.float64)
    normed: F64 = values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + eps) * np.asarray(gain, np.float64)
    return normed


def layer_norm_rows(x: npt.ArrayLike, gain: npt.ArrayLike, shift: npt.ArrayLike, eps: float = 1e-5) -> F64:
    """`(x - mean) / sqrt(variance + eps) * gain + shift` over the last axis (Ba, Kiros and Hinton 2016)."""
    values = np.asarray(x, np.float64)
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    normed: F64 = centred / np.sqrt(variance + eps) * np.asarray(gain, np.float64) + np.asarray(shift, np.float64)
    return normed


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
    """`a b / (|a| |b|)` row by row; 0 where a row has length 0."""
    out = []
    for x, y in zip(_rows(a), _rows(b), strict=True):
        lengths = math.hypot(*x) * math.hypot(*y)
        out.append(math.fsum(p * q for p, q in zip(x, y, strict=True)) / lengths if lengths else 0.0)
    return np.array(out, np.float64)


def is_product(a: npt.ArrayLike, b: npt.ArrayLike, claimed: npt.ArrayLike, slack: Sequence[float]) -> list[bool]:
    """Row by row: is no entry of `claimed` off by more than `slack` of its row? By computing the product."""
    apart = np.abs(matmul(a, b) - np.asarray(claimed, np.float64))
    return [bool(row.max(initial=0.0) <= most) for row, most in zip(apart, slack, strict=True)]
