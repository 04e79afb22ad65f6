"""Checking work by sample: what escapes, how much to check, and how much checking makes cheating unprofitable."""

from __future__ import annotations

import math

from ...errors import UsageError
from .incomplete_beta import quantile

EXACT_MAX = 100_000  # factors multiplied one by one: 10 ms


def escape_probability(total: int, wrong: int, checked: int) -> float:
    """The chance that `checked` of `total` results, drawn without replacement, hold none of the `wrong` ones.

    Hypergeometric: `C(N - w, c) / C(N, c) = prod_{i < min(w, c)} (N - max(w, c) - i) / (N - i)`, since it is symmetric
    in w and c. Relative error below 1e-10 (by logarithms of factors; 1e-7 by log-gamma where both exceed 100,000).
    `UsageError` for counts that cannot be.
    """
    if not (0 <= wrong <= total and 0 <= checked <= total):
        raise UsageError(f"no such check: {checked} of {total} with {wrong} wrong")
    fewer, more = sorted((wrong, checked))
    if fewer > total - more:
        return 0.0
    if fewer <= EXACT_MAX:
        return math.exp(math.fsum(math.log1p(-more / (total - i)) for i in range(fewer)))
    logs = math.lgamma(total - more + 1), math.lgamma(total - fewer + 1), math.lgamma(total + 1)
    return min(1.0, math.exp(logs[0] + logs[1] - logs[2] - math.lgamma(total - fewer - more + 1)))


def checks_needed(total: int, wrong: int, escape: float) -> int:
    """The fewest checks after which at most `escape` is the chance that none of `wrong` is found; `total` at most, and
    0 for no wrong ones. O(log total) of `escape_probability`. `UsageError` unless 0 <= escape <= 1."""
    if not (0.0 <= escape <= 1.0 and 0 <= wrong <= total):
        raise UsageError(f"no such check: {wrong} wrong of {total}, escape {escape}")
    if wrong == 0:
        return 0
    enough, few = total, -1
    while enough - few > 1:
        middle = (enough + few) // 2
        if escape_probability(total, wrong, middle) <= escape:
            enough = middle
        else:
            few = middle
    return enough


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval for a rate (Clopper and Pearson 1934): covers it with chance at least `confidence`,
    whatever the rate. `Beta^-1(alpha/2; s, n - s + 1)` and `Beta^-1(1 - alpha/2; s + 1, n - s)`. `UsageError` for
    counts that cannot be."""
    if not (0 <= successes <= trials and 0.0 < confidence < 1.0):
        raise UsageError(f"no such sample: {successes} of {trials}, confidence {confidence}")
    tail = 0.5 * (1.0 - confidence)
    low = quantile(tail, successes, trials - successes + 1) if successes else 0.0
    # As 1 minus the quantile of failures: near 1 the tail keeps its digits.
    high = 1.0 - quantile(tail, trials - successes, successes + 1) if successes < trials else 1.0
    return low, high


def deterring_rate(gain: float, slash: float) -> float:
    """The check rate above which cheating loses on average: `p slash > (1 - p) gain` means `p > gain / (gain + slash)`.

    1.0 if nothing is at stake. `UsageError` for amounts below 0.
    """
    if not (gain >= 0.0 and slash >= 0.0):
        raise UsageError(f"no such stakes: gain {gain}, slash {slash}")
    if gain == 0.0:
        return 0.0
    return gain / (gain + slash)
