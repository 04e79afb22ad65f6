"""Does a result agree with ours, and what does a clean sample say about the rest?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

TERM_MIN = 1e-18  # terms below this share of their sum no longer change a float64
DEVIATIONS = 8.0  # of a sum of random signs that are allowed: beyond it lies a share of 2 exp(-32) = 3e-14
UNIT = 2.0**-24  # the rounding of one float32 operation
SMALLEST = float(np.finfo(np.float32).tiny)  # what a CPU may flush to zero, for each product
ROUNDING = 1e-9  # of the log-gamma terms: a probability this close to 1 - confidence counts as possible, to be safe


def agreement(
    ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], tolerance: float
) -> npt.NDArray[np.bool_]:
    """Row by row of (n, d): cosine >= 1 - tolerance, and norms that differ by at most tolerance of the larger one.

    Computed in float64. Rows with NaN or an infinity on either side never agree; two zero rows do, a zero row and
    another do not. Arrays of different shapes agree nowhere: the answer has the length of `ours`.
    """
    if ours.shape != theirs.shape:
        return np.zeros(ours.shape[0], np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        a = np.asarray(ours, np.float32).astype(np.float64)
        b = np.asarray(theirs, np.float32).astype(np.float64)
        finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        norm_a, norm_b = np.sqrt(np.vecdot(a, a)), np.sqrt(np.vecdot(b, b))
        aligned = np.vecdot(a, b) >= (1.0 - tolerance) * norm_a * norm_b
        same_length = np.abs(norm_a - norm_b) <= tolerance * np.maximum(norm_a, norm_b)
        both_or_neither = (norm_a > 0) == (norm_b > 0)
        verdict: npt.NDArray[np.bool_] = finite & aligned & same_length & both_or_neither
    return verdict


def freivalds(
    a: npt.NDArray[np.float32],
    b: npt.NDArray[np.float32],
    claimed: npt.NDArray[np.float32],
    signs: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Row by row: may `claimed` (m, n) be A B, for a (m, k) and b (k, n), as far as random `signs` (n, t) can tell?

    A row passes if |A (B r) - C r| is within `slack` for each column r of `signs`, +1 or -1 at random, drawn after C
    was claimed (Freivalds 1977, "Probabilistic Machines Can Use Less Running Time"; over the reals with a bound):

        slack_i = 8 k u / (1 - k u) sum_j |a_ij| |b_j|,  u = 2^-24, |b_j| the length of row j of B.

    k u / (1 - k u) times |A| |B| bounds what rounding does to each entry in any order of summation (Higham 2002, sec.
    3.1), the sum is at least the length of that row of |A| |B|, and signs that do not know the errors add them up to
    more than 8 lengths with a probability below 3e-14 (Hoeffding). So an honest row passes. A row with an entry that is
    off by more than slack_i passes with a probability of at most 2^-t: of two signs of that entry one fails. Smaller
    errors may pass. NaN and infinities do not. In float64; O((m + n) k t + m n t) in place of O(m n k).
    """
    left, right, product = (part.astype(np.float64) for part in (a, b, claimed))
    depth = a.shape[1]
    lengths = np.sqrt(np.vecdot(right, right))
    with np.errstate(invalid="ignore"):
        apart = np.abs(left @ (right @ signs) - product @ signs).max(axis=1, initial=0.0)
    flushed = depth * SMALLEST * math.sqrt(b.shape[1])
    slack = DEVIATIONS * (depth * UNIT / (1.0 - depth * UNIT) * (np.abs(left) @ lengths) + flushed)
    verdict: npt.NDArray[np.bool_] = np.isfinite(claimed).all(axis=1) & (apart <= slack)
    return verdict


def upper_bound(checked: int, mismatches: int, total: int, confidence: float) -> float:
    """The largest share of wrong items among `total` that the sample leaves possible, at one-sided `confidence`.

    Of `total` results, `checked` were drawn at random without replacement and `mismatches` of those were wrong. The
    answer is W/total for the largest W with P(X <= mismatches) >= 1 - confidence, X hypergeometric (Clopper-Pearson's
    construction for a finite population): exact, hence 1.0 with nothing checked and mismatches/total with all checked.
    It counts the wrong ones that were found. O(log total) evaluations of the distribution. `UsageError` for counts that
    cannot be and a confidence outside (0, 1). `total` 0 gives 0.0.
    """
    if not (0 <= mismatches <= checked <= total and 0.0 < confidence < 1.0):
        raise UsageError(f"no such sample: {mismatches} of {checked} checked of {total}, confidence {confidence}")
    if total == 0:
        return 0.0
    unlikely = (1.0 - confidence) * (1.0 - ROUNDING)
    possible, impossible = mismatches, total - (checked - mismatches) + 1
    while impossible - possible > 1:
        wrong = (possible + impossible) // 2
        if _at_most(mismatches, wrong, checked, total) >= unlikely:
            possible = wrong
        else:
            impossible = wrong
    return possible / total


def _at_most(found: int, wrong: int, checked: int, total: int) -> float:
    """P(X <= found) for X wrong ones in `checked` draws, summed outwards from `found`, away from the mode."""
    mode = (checked + 1) * (wrong + 1) // (total + 2)
    if found < mode:
        return math.fsum(_terms(range(found, -1, -1), wrong, checked, total))
    return 1.0 - math.fsum(_terms(range(found + 1, min(wrong, checked) + 1), wrong, checked, total))


def _terms(counts: range, wrong: int, checked: int, total: int) -> Iterator[float]:
    """Hypergeometric probabilities over `counts`, which lead away from the mode; stops where they vanish."""
    so_far = 0.0
    for count in counts:
        if checked - count > total - wrong:
            continue
        term = math.exp(
            _log_choose(wrong, count) + _log_choose(total - wrong, checked - count) - _log_choose(total, checked)
        )
        so_far += term
        yield term
        if term < TERM_MIN * so_far:
            return


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
