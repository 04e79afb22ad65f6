"""Naive oracles of the privacy kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from fractions import Fraction

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def clipped_sum(examples: npt.ArrayLike, limit: float, steps: int) -> list[int]:
    """`sum_i trunc(x_i steps / max(limit, |x_i|))`, with correctly rounded sums of squares (Abadi et al. 2016)."""
    rows = np.asarray(examples, np.float64)
    total = [0] * rows.shape[1]
    for row in rows.tolist():
        length = math.sqrt(math.fsum(v * v for v in row))
        total = [t + math.trunc(v * (steps / max(limit, length))) for t, v in zip(total, row, strict=True)]
    return total


def discrete_gaussian(deviation_squared: Fraction, support: int) -> list[Decimal]:
    """Probabilities of -support..support, proportional to `exp(-k^2 / (2 deviation^2))` (Canonne et al. 2020)."""
    with localcontext() as context:
        context.prec = 60
        variance = Decimal(deviation_squared.numerator) / Decimal(deviation_squared.denominator)
        densities = [(-Decimal(k * k) / (2 * variance)).exp() for k in range(support + 1)]
        total = densities[0] + 2 * sum(densities[1:])
        return [densities[abs(k)] / total for k in range(-support, support + 1)]


def private_mean(sums: Sequence[int], noise: Sequence[int], limit: float, steps: int, expected: float) -> F64:
    """`(sum + noise) limit / (steps expected)` for each coordinate."""
    return np.array([(s + n) * limit / (steps * expected) for s, n in zip(sums, noise, strict=True)], np.float64)


def gaussian_delta(epsilon: float, deviation: float, sensitivity: float = 1.0) -> float:
    """`integral of max(0, p(x) - e^epsilon q(x))`, p and q Gaussians a sensitivity apart: the definition, by Simpson's
    rule on twenty deviations to each side of where p outweighs q."""
    spread = sensitivity / deviation
    start = epsilon / spread - spread / 2.0  # of the likelihood ratio, with q at 0 and p at `spread`
    start = max(start + spread, spread - 20.0)
    points = 200_000
    x = np.linspace(start, max(start, spread) + 20.0, points + 1)
    gain = np.exp(-0.5 * (x - spread) ** 2) - np.exp(epsilon - 0.5 * x * x)
    weights = np.ones(points + 1)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    step = (x[-1] - x[0]) / points
    return float((np.maximum(gain, 0.0) * weights).sum() * step / 3.0 / math.sqrt(2.0 * math.pi))


def calibrate_deviation(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Where `Phi(s/2d - e d/s) - e^e Phi(-s/2d - e d/s)` (Balle and Wang 2018) crosses delta: [1e-3, 1e3] halved."""

    def phi(t: float) -> float:
        return 0.5 * math.erfc(-t / math.sqrt(2.0))

    low, high = 1e-3 * sensitivity, 1e3 * sensitivity
    for _ in range(200):
        d = math.sqrt(low * high)
        s = sensitivity
        excess = phi(s / (2 * d) - epsilon * d / s) - math.exp(epsilon) * phi(-s / (2 * d) - epsilon * d / s)
        low, high = (d, high) if excess > delta else (low, d)
    return high


def renyi_divergence(noise_multiplier: float, sampling_rate: float, order: int) -> float:
    """`log sum_k C(a,k) (1-q)^(a-k) q^k e^((k^2-k)/2z^2) / (a-1)` in 60 decimal digits (Mironov et al. 2019)."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, MAX_EMAX, MIN_EMIN
        q, z = Decimal(sampling_rate), Decimal(noise_multiplier)
        total = sum(
            Decimal(math.comb(order, k)) * (1 - q) ** (order - k) * q**k * (Decimal(k * k - k) / (2 * z * z)).exp()
            for k in range(order + 1)
        )
        return float(Decimal(total).ln() / (order - 1))


def epsilon_spent(divergences: Sequence[float], delta: float, orders: Sequence[int]) -> float:
    """`min_a D_a + log((a-1)/a) - (log delta + log a)/(a-1)` (Canonne et al. 2020, proposition 12), or 0 where the
    total variation, at most `sqrt(1 - e^-D_a)`, is within delta."""
    if any(math.sqrt(-math.expm1(-d)) <= delta for d in divergences):
        return 0.0
    bounds = [
        d + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1)
        for d, a in zip(divergences, orders, strict=True)
    ]
    return max(0.0, min(bounds))
