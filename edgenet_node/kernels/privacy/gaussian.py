"""One Gaussian release: delta of a deviation, and the least deviation for (epsilon, delta).

`delta = Phi(s/2d - e d/s) - exp(e) Phi(-s/2d - e d/s)` for sensitivity s, deviation d, epsilon e: exact, for every
epsilon (Balle and Wang 2018, 1805.06530, theorem 8). The classic `s sqrt(2 ln(1.25/delta)) / e` is valid below epsilon
1 only, and wasteful there.

This is the figure of one release of continuous noise. For the integers of `noise` the accountant's bounds are exact and
these are not proven: calibrate by `calibrate_noise_multiplier` where a promise hangs on it, and compare with these.
"""

from __future__ import annotations

import math

FRACTION_FROM = 4.0  # above it the continued fraction of `_scaled_erfc` has converged to 2e-16 after its terms
FRACTION_TERMS = 60
SMALL_SPREAD = 1e-3  # below it the series of `_small_spread` is exact to 1e-15
BISECTIONS = 200  # halves the bracket until its ends are neighbours


def _scaled_erfc(x: float) -> float:
    """`exp(x^2) erfc(x)` for x >= 0, relative error below 1e-14; finite however large x is (A&S 7.1.14)."""
    if x < FRACTION_FROM:
        return math.exp(x * x) * math.erfc(x)
    tail = 0.0
    for term in range(FRACTION_TERMS, 0, -1):
        tail = 0.5 * term / (x + tail)
    return 1.0 / (math.sqrt(math.pi) * (x + tail))


def gaussian_delta(epsilon: float, deviation: float, sensitivity: float = 1.0) -> float:
    """The least delta for which noise of `deviation` is (epsilon, delta)-private; epsilon >= 0, deviation > 0.

    Relative error below 1e-9 where delta > 1e-100. The two terms are written with the tail ratio
    R(t) = (1 - Phi(t)) / phi(t), as exp(e) phi(b) = phi(a): they neither overflow nor vanish before their difference
    does.
    """
    spread = sensitivity / deviation
    if spread == 0.0:
        return 0.0
    a = spread / 2.0 - epsilon / spread
    b = spread / 2.0 + epsilon / spread
    root = math.sqrt(2.0)
    density = math.exp(-0.5 * a * a) / 2.0
    second = density * _scaled_erfc(b / root)
    if spread < SMALL_SPREAD:
        return _small_spread(spread, epsilon / spread, density)
    if a > 0.0:
        return min(1.0, max(0.0, 1.0 - density * _scaled_erfc(a / root) - second))
    return max(0.0, density * _scaled_erfc(-a / root) - second)


def _small_spread(spread: float, middle: float, density: float) -> float:
    """`phi(a) (R(t - s/2) - R(t + s/2))` by its series in s: the difference itself would lose its digits.

    t = `middle`, `density` = phi(a) sqrt(pi/2); R' = t R - 1 and the third derivative is (2 + t^2) R' + t R.
    """
    ratio = math.sqrt(math.pi / 2.0) * _scaled_erfc(middle / math.sqrt(2.0))
    slope = middle * ratio - 1.0
    third = (2.0 + middle * middle) * slope + middle * ratio
    return max(0.0, -density * math.sqrt(2.0 / math.pi) * (spread * slope + spread**3 / 24.0 * third))


def calibrate_deviation(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """The least deviation that is (epsilon, delta)-private, rounded up; epsilon >= 0, 0 < delta < 1 (`ValueError`)."""
    if not (epsilon >= 0.0 and math.isfinite(epsilon) and 0.0 < delta < 1.0):
        raise ValueError(f"no Gaussian noise is ({epsilon}, {delta})-private: epsilon >= 0 and 0 < delta < 1")
    low, high = 0.0, 1.0
    while gaussian_delta(epsilon, high) > delta:
        low, high = high, 2.0 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if gaussian_delta(epsilon, middle) > delta:
            low = middle
        else:
            high = middle
    return high * sensitivity


def gaussian_epsilon(delta: float, deviation: float, sensitivity: float = 1.0) -> float:
    """The least epsilon for which noise of `deviation` is (epsilon, delta)-private, rounded up; 0 < delta < 1."""
    if gaussian_delta(0.0, deviation, sensitivity) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, deviation, sensitivity) > delta:
        low, high = high, 2.0 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if gaussian_delta(middle, deviation, sensitivity) > delta:
            low = middle
        else:
            high = middle
    return high
