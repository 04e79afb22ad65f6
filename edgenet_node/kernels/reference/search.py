"""Naive float64 oracles of search and verification: one function per mechanism, written to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def normalise(rows: npt.ArrayLike) -> F64:
    """Each row divided by its Euclidean length; zero rows stay zero."""
    values = np.asarray(rows, np.float64)
    out = np.zeros_like(values)
    for i, row in enumerate(values):
        length = math.sqrt(math.fsum(v * v for v in row.tolist()))
        if length > 0:
            out[i] = row / length
    return out


def score(row: F64, query: F64, metric: str) -> float:
    """How well one row answers one query; higher is better."""
    if metric == "l2":
        return -float(((row - query) ** 2).sum())
    length = float(np.linalg.norm(query)) if metric == "cosine" else 1.0
    return float(row @ query) / length if length > 0 else 0.0


def top_k(
    matrix: npt.ArrayLike, query: npt.ArrayLike, k: int, metric: str, allowed: Sequence[int] | None = None
) -> list[tuple[float, int]]:
    """(score, index) of the `k` best rows for one query, by sorting all of them; equal scores by lower index."""
    rows, wanted = np.asarray(matrix, np.float64), np.asarray(query, np.float64)
    indices = range(len(rows)) if allowed is None else allowed
    ranked = sorted((-score(rows[i], wanted, metric), i) for i in indices)
    return [(-negated, i) for negated, i in ranked[: max(0, k)]]


def merge_top_k(parts: Sequence[tuple[Sequence[float], Sequence[int]]], k: int) -> list[tuple[float, int]]:
    """All (score, id) pairs sorted, each id once with its best score."""
    pairs = [(s, i) for scores, ids in parts for s, i in zip(scores, ids, strict=True)]
    best = {i: max(s for s, j in pairs if j == i) for _, i in pairs}
    return sorted(((s, i) for i, s in best.items()), key=lambda pair: (-pair[0], pair[1]))[:k]


def agrees(a: npt.ArrayLike, b: npt.ArrayLike, tolerance: float) -> bool:
    """One row against another: finite, cosine >= 1 - tolerance, lengths within tolerance of the longer."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return False
    length_left, length_right = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    if length_left == 0 or length_right == 0:
        return length_left == length_right
    cosine = float(left @ right) / (length_left * length_right)
    return cosine >= 1 - tolerance and abs(length_left - length_right) <= tolerance * max(length_left, length_right)


def upper_bound(checked: int, mismatches: int, total: int, confidence: float) -> float:
    """The largest share of wrong items under which the sample has a chance of at least 1 - confidence: tries them all.

    Probabilities within 1e-9 of 1 - confidence count as reaching it, so that ties do not hang on rounding.
    """
    if total == 0:
        return 0.0
    ways = math.comb(total, checked)
    for wrong in range(total - (checked - mismatches), mismatches, -1):
        seen = sum(math.comb(wrong, i) * math.comb(total - wrong, checked - i) for i in range(mismatches + 1))
        if seen / ways >= (1 - confidence) * (1 - 1e-9):
            return wrong / total
    return mismatches / total
