"""Additive Holt-Winters forecasts with prediction intervals (Holt 1957; Winters 1960).

In the error-correction form, the state-space model ETS(A,A,A) of Hyndman et al. 2008, section 2.5 and table 6.1:
`e = x - (l + b + s_m)`, `l <- l + b + alpha e`, `b <- b + beta e`, `s <- s_m + gamma e`. In the component form's
parameters (a, b*, g*) that is alpha = a, beta = a b*, gamma = g* (1 - a).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from msgspec import Struct

from ...errors import UsageError

PERIOD_MAX = 8760  # hours of a year; bounds the state to 70 kB


class Smoothing(Struct, frozen=True):
    """Usual region: 0 < alpha < 1, 0 <= beta <= alpha, 0 <= gamma <= 1 - alpha."""

    alpha: float = 0.3
    beta: float = 0.03
    gamma: float = 0.2


class HoltWinters(Struct, frozen=True):
    """`season[0]` belongs to the next value, `season[-1]` to the last one; `squares`: sum of squared one-step errors
    over `errors` of them."""

    smoothing: Smoothing
    level: float
    trend: float
    season: tuple[float, ...]
    squares: float = 0.0
    errors: int = 0

    @property
    def variance(self) -> float:
        """Of the one-step error; inf before the first."""
        return self.squares / self.errors if self.errors else math.inf


class Forecast(Struct, frozen=True):
    """Of the value `ahead` steps from now: the mean, and the interval around it."""

    ahead: int
    mean: float
    low: float
    high: float


def start(first: Sequence[float], period: int, smoothing: Smoothing | None = None) -> HoltWinters:
    """From exactly two periods of values: the trend is the change between the two, the season the mean distance from
    that line, with sum 0. The values are not counted as errors. `UsageError` for another length, values that are not
    finite, or parameters outside the usual region."""
    smoothing = Smoothing() if smoothing is None else smoothing
    a, b, g = smoothing.alpha, smoothing.beta, smoothing.gamma
    if not (0.0 < a < 1.0 and 0.0 <= b <= a and 0.0 <= g <= 1.0 - a + 1e-12):
        raise UsageError(f"smoothing parameters outside the usual region: {a}, {b}, {g}")
    if not 1 <= period <= PERIOD_MAX or len(first) != 2 * period or not all(map(math.isfinite, first)):
        raise UsageError(f"a season of {period} starts from twice as many finite values, not {len(first)}")
    means = math.fsum(first[:period]) / period, math.fsum(first[period:]) / period
    trend = (means[1] - means[0]) / period
    middle = 0.5 * (means[0] + means[1])

    def line(place: int) -> float:
        return middle + trend * (place - period + 0.5)

    raw = [0.5 * (first[i] - line(i) + first[i + period] - line(i + period)) for i in range(period)]
    centre = math.fsum(raw) / period
    return HoltWinters(
        smoothing=smoothing,
        level=line(2 * period - 1),
        trend=trend,
        season=tuple(value - centre for value in raw),
    )


def update(state: HoltWinters, x: float) -> HoltWinters:
    """The next value. NaN is a gap: time passes, nothing is learnt. O(period), for the copy. `UsageError` for an
    infinite value."""
    if math.isinf(x):
        raise UsageError("a series has an infinite value")
    expected = state.level + state.trend
    seasonal = state.season[0]
    if math.isnan(x):
        return HoltWinters(
            state.smoothing, expected, state.trend, (*state.season[1:], seasonal), state.squares, state.errors
        )
    error = x - (expected + seasonal)
    return HoltWinters(
        smoothing=state.smoothing,
        level=expected + state.smoothing.alpha * error,
        trend=state.trend + state.smoothing.beta * error,
        season=(*state.season[1:], seasonal + state.smoothing.gamma * error),
        squares=state.squares + error * error,
        errors=state.errors + 1,
    )


def forecast(
    state: HoltWinters, ahead: int, confidence: float = 0.95, floor: float = -math.inf, ceiling: float = math.inf
) -> Forecast:
    """`l + h b + s`, and the interval of a normal error with variance

    `v_h = v (1 + sum_{j=1}^{h-1} (alpha + beta j + gamma [j = 0 mod m])^2)` (Hyndman et al. 2008, table 6.1).

    All three are cut to [floor, ceiling], such as 0 for a demand. O(ahead). `UsageError` for ahead < 1 or a confidence
    outside (0, 1).
    """
    if ahead < 1 or not 0.0 < confidence < 1.0 or not floor <= ceiling:
        raise UsageError(f"no forecast {ahead} steps ahead at confidence {confidence} within [{floor}, {ceiling}]")
    period, s = len(state.season), state.smoothing
    mean = state.level + ahead * state.trend + state.season[(ahead - 1) % period]
    growth = math.fsum((s.alpha + s.beta * j + (s.gamma if j % period == 0 else 0.0)) ** 2 for j in range(1, ahead))
    half = NormalDist().inv_cdf(0.5 + 0.5 * confidence) * math.sqrt(state.variance * (1.0 + growth))

    def cut(value: float) -> float:
        return min(max(value, floor), ceiling)

    return Forecast(ahead=ahead, mean=cut(mean), low=cut(mean - half), high=cut(mean + half))
