"""Rényi accounting of the Poisson-subsampled Gaussian mechanism, at integer orders.

Composition adds; conversion to (epsilon, delta) takes the best order. State is one array of spent divergences, which
the caller adds to: `spent = spent + renyi_divergences(...)` a release.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Wide = npt.NDArray[np.float64]
Orders = npt.NDArray[np.int64]

# Integer orders: dense where training budgets live, sparse above, where epsilon is small and hardly depends on the
# order.
ORDERS: Orders = np.array([*range(2, 129), 160, 192, 256, 384, 512, 1024, 2048, 4096, 8192], np.int64)
ORDERS.flags.writeable = False
STEPS_MAX = 1 << 62
PRECISION = 1e-9  # relative, of a calibrated noise multiplier


def renyi_divergences(noise_multiplier: float, sampling_rate: float, orders: Orders = ORDERS) -> Wide:
    """Rényi divergence of one release at each of `orders` (integers >= 2): (len(orders),), in nats.

    `D_a = log(sum_k C(a, k) (1-q)^(a-k) q^k exp((k^2 - k) / (2 z^2))) / (a - 1)` for deviation z times the clipping
    length and each example taking part with probability q. Infinite for z = 0, zero for q = 0. O(sum of orders).
    Source: Mironov, Talwar and Zhang 2019 (1908.10530, section 3.3). 0 <= q <= 1, z >= 0 (`ValueError`).
    """
    if not (0.0 <= sampling_rate <= 1.0 and noise_multiplier >= 0.0):
        raise ValueError(f"no such release: sampling rate {sampling_rate}, noise multiplier {noise_multiplier}")
    if sampling_rate == 0.0:
        return np.zeros(orders.size)
    if noise_multiplier == 0.0:
        return np.full(orders.size, np.inf)
    if sampling_rate == 1.0:
        whole: Wide = orders / (2.0 * noise_multiplier**2)
        return whole
    return np.array([_divergence(noise_multiplier, sampling_rate, int(order)) for order in orders])


def _divergence(noise_multiplier: float, rate: float, order: int) -> float:
    k = np.arange(order + 1)
    exponents = (k * k - k) / (2.0 * noise_multiplier**2)
    logs = _log_binomials(order) + (order - k) * math.log1p(-rate) + k * math.log(rate)
    # The binomial weights sum to 1, so A - 1 = sum weight (exp(exponent) - 1): small divergences keep their digits.
    small = exponents < 1.0
    near = float(np.sum(np.exp(logs[small]) * np.expm1(exponents[small])))
    far = logs[~small] + exponents[~small]
    top = float(far.max()) if far.size else -math.inf
    if top < 600.0:
        above = float(np.sum(np.exp(far) - np.exp(logs[~small])))
        return math.log1p(near + above) / (order - 1)
    return (top + math.log(float(np.exp(far - top).sum()))) / (order - 1)


@lru_cache(maxsize=256)
def _log_binomials(order: int) -> Wide:
    factorials = np.array([math.lgamma(i + 1.0) for i in range(order + 1)])
    logs: Wide = factorials[-1] - factorials - factorials[::-1]
    return logs


def epsilon_spent(divergences: Wide, delta: float, orders: Orders = ORDERS) -> float:
    """The least epsilon that `divergences` at `orders` prove for `delta`, 0 < delta < 1 (`ValueError`).

    `min_a D_a + log((a-1)/a) - (log delta + log a) / (a-1)`, at least 0 (Canonne, Kamath and Steinke 2020, 2004.00010,
    proposition 12); and 0 where `delta^2 >= 1 - exp(-D_a)` for some order, which bounds the total variation
    (Bretagnolle and Huber 1979, as D_a is at least the Kullback-Leibler divergence).
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta {delta} is not between 0 and 1")
    if float(divergences.min()) <= -math.log1p(-delta * delta):
        return 0.0
    bounds = divergences + np.log1p(-1.0 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return max(0.0, float(bounds.min()))


def delta_spent(divergences: Wide, epsilon: float, orders: Orders = ORDERS) -> float:
    """The least delta that `divergences` at `orders` prove for `epsilon` >= 0; the converse of `epsilon_spent`.

    `min_a exp((a-1)(D_a - epsilon)) / (a-1) * (1 - 1/a)^a` and `sqrt(1 - exp(-D_a))`, at most 1.
    """
    logs = (orders - 1) * (divergences - epsilon) - np.log(orders - 1) + orders * np.log1p(-1.0 / orders)
    total_variation = math.sqrt(-math.expm1(-float(divergences.min())))
    return min(1.0, math.exp(min(0.0, float(logs.min()))), total_variation)


def steps_within(epsilon: float, delta: float, noise_multiplier: float, sampling_rate: float) -> int:
    """How many releases stay within (epsilon, delta): the largest n with `epsilon_spent(n D) <= epsilon`, or 2^62."""
    one = renyi_divergences(noise_multiplier, sampling_rate)
    if epsilon_spent(one, delta) > epsilon:
        return 0
    low, high = 1, 2
    while high < STEPS_MAX and epsilon_spent(high * one, delta) <= epsilon:
        low, high = high, 2 * high
    if high >= STEPS_MAX:
        return STEPS_MAX
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon_spent(middle * one, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def calibrate_noise_multiplier(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The least noise multiplier with which `steps` releases stay within (epsilon, delta), rounded up by at most 1e-9.

    epsilon > 0, 0 < delta < 1, steps >= 1 (`ValueError`).
    """
    if not (epsilon > 0.0 and 0.0 < delta < 1.0 and steps >= 1):
        raise ValueError(f"no noise keeps {steps} releases within ({epsilon}, {delta})")

    def spent(multiplier: float) -> float:
        return epsilon_spent(steps * renyi_divergences(multiplier, sampling_rate), delta)

    low, high = 0.0, 1.0
    while spent(high) > epsilon:
        low, high = high, 2.0 * high
    while high - low > PRECISION * high:
        middle = (low + high) / 2.0
        if spent(middle) > epsilon:
            low = middle
        else:
            high = middle
    return high
