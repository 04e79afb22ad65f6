"""Naive oracles of the statistics kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def beta_cdf(x: float, a: float, b: float) -> float:
    """`I_x(a, b) = x^a (1-x)^b / (a B(a, b)) (1 + sum_n prod_{i<=n} x (a + b + i)/(a + 1 + i))`: DLMF 8.17.7 and
    15.8.1, a sum of positive terms; from the nearer end."""
    if x > a / (a + b):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    if x <= 0.0:
        return 0.0
    total = term = 1.0
    n = 0
    while term > 1e-18 * total:
        term *= x * (a + b + n) / (a + 1.0 + n)
        total += term
        n += 1
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a * total


def beta_quantile(probability: float, a: float, b: float) -> float:
    """By bisection of `beta_cdf`."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if beta_cdf(middle, a, b) < probability else (low, middle)
    return 0.5 * (low + high)


def beta_posterior(outcomes: Sequence[bool], keep: float, prior: tuple[float, float]) -> tuple[float, float]:
    """`a0 + sum_t keep^(T-t) y_t` and likewise of failures: all outcomes at once, the last one with weight 1."""
    last = len(outcomes) - 1
    a = math.fsum(keep ** (last - t) for t, success in enumerate(outcomes) if success)
    b = math.fsum(keep ** (last - t) for t, success in enumerate(outcomes) if not success)
    return prior[0] + a, prior[1] + b


def normal_posterior(
    values: Sequence[float], prior: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """(m, k, a, b) after all values at once (Murphy 2007, eq. 85 to 89): `k = k0 + n`, `m = (k0 m0 + n mean)/k`,
    `a = a0 + n/2`, `b = b0 + sum (x - mean)^2 / 2 + k0 n (mean - m0)^2 / (2 k)`."""
    m0, k0, a0, b0 = prior
    n = len(values)
    if n == 0:
        return prior
    mean = math.fsum(values) / n
    spread = math.fsum((x - mean) ** 2 for x in values)
    scale = b0 + 0.5 * spread + 0.5 * k0 * n * (mean - m0) ** 2 / (k0 + n)
    return (k0 * m0 + n * mean) / (k0 + n), k0 + n, a0 + 0.5 * n, scale


def best_rate(a: Sequence[float], b: Sequence[float], generator: np.random.Generator) -> int:
    """One draw for each option in turn; the first of the highest (Russo et al. 2018, algorithm 3.2)."""
    draws = [float(generator.beta(*pair)) for pair in zip(a, b, strict=True)]
    return draws.index(max(draws))


def least_mean(
    mean: Sequence[float],
    count: Sequence[float],
    shape: Sequence[float],
    scale: Sequence[float],
    generator: np.random.Generator,
) -> int:
    """`sigma^2 = b / Gamma(a)` for each option in turn, then `mu = m + sqrt(sigma^2 / k) z`; the first of the
    lowest."""
    variances = [s / float(generator.gamma(a)) for a, s in zip(shape, scale, strict=True)]
    draws = [
        m + math.sqrt(v / k) * float(generator.standard_normal())
        for m, v, k in zip(mean, variances, count, strict=True)
    ]
    return draws.index(min(draws))


def conformal_margin(scores: Sequence[float], miscoverage: float) -> float:
    """The least score that is at least `(n + 1)(1 - alpha)` of the scores, itself included; inf if none is (Lei et al.
    2018, section 2.2). Alpha within (0, 1)."""
    wanted = (len(scores) + 1) * (1.0 - miscoverage) - 1e-9
    reaching = [s for s in scores if sum(other <= s for other in scores) >= wanted]
    return min(reaching, default=math.inf)


def page_hinkley(values: Sequence[float], delta: float, settle: int) -> tuple[float, float]:
    """The statistics for a rise and a fall after all values, from every possible beginning (Page 1954): the largest
    `sum_{i=s}^t (x_i - mean_{i-1} - delta)` over s >= settle, or 0."""
    rises, falls = [], []
    for i in range(settle, len(values)):
        mean = math.fsum(values[:i]) / i
        rises.append(values[i] - mean - delta)
        falls.append(mean - values[i] - delta)
    sums = [[math.fsum(part[s:]) for s in range(len(part))] for part in (rises, falls)]
    return max([0.0, *sums[0]]), max([0.0, *sums[1]])


def adwin_splits(values: Sequence[float], confidence: float, side: int) -> list[int]:
    """Every place at which the window's two parts, of at least `side` values, have means farther apart than
    `sqrt(ln(4 n / confidence) / (2 m))`, 1/m = 1/n0 + 1/n1 (Bifet and Gavaldà 2007, section 3.1, ADWIN0)."""
    n, found = len(values), []
    for old in range(side, n - side + 1):
        gap = abs(math.fsum(values[:old]) / old - math.fsum(values[old:]) / (n - old))
        if gap > math.sqrt(0.5 * (1 / old + 1 / (n - old)) * math.log(4 * n / confidence)):
            found.append(old)
    return found


def holt_winters(
    values: Sequence[float], level: float, trend: float, season: Sequence[float], parameters: tuple[float, float, float]
) -> tuple[float, float, list[float]]:
    """The component form (Winters 1960) with weights (a, b*, g*): `l' = a (x - s) + (1 - a)(l + b)`,
    `b' = b* (l' - l) + (1 - b*) b`, `s' = g* (x - l') + (1 - g*) s`. `season[0]` belongs to the next value."""
    a, b_star, g_star = parameters
    seasons = list(season)
    for x in values:
        s = seasons.pop(0)
        following = a * (x - s) + (1 - a) * (level + trend)
        trend = b_star * (following - level) + (1 - b_star) * trend
        seasons.append(g_star * (x - following) + (1 - g_star) * s)
        level = following
    return level, trend, seasons


def escape_probability(total: int, wrong: int, checked: int) -> float:
    """`C(N - w, c) / C(N, c)` in whole numbers."""
    return math.comb(total - wrong, checked) / math.comb(total, checked)


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The rates at which `successes` or more, and `successes` or fewer, have half of 1 - confidence (Clopper and
    Pearson 1934), by bisection of the binomial sums."""

    def at_most(count: int, rate: float) -> float:
        return math.fsum(math.comb(trials, i) * rate**i * (1 - rate) ** (trials - i) for i in range(count + 1))

    tail, bounds = 0.5 * (1.0 - confidence), []
    for count, wanted in ((successes - 1, 1.0 - tail), (successes, tail)):
        low, high = 0.0, 1.0
        for _ in range(80):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if at_most(count, middle) > wanted else (low, middle)
        bounds.append(low)
    return bounds[0] if successes else 0.0, bounds[1] if successes < trials else 1.0


def simhash(vectors: npt.ArrayLike, planes: npt.ArrayLike) -> list[list[int]]:
    """Bit i is 1 where `x . plane_i >= 0` (Charikar 2002)."""
    normals = np.asarray(planes, np.float64)
    return [[int(float(np.dot(x, plane)) >= 0.0) for plane in normals] for x in np.asarray(vectors, np.float64)]


def band_keys(bits: Sequence[Sequence[int]], bands: int, rows: int) -> list[list[int]]:
    """Each band's bits read as a binary number."""
    return [[int("".join(map(str, b[j * rows : (j + 1) * rows])), 2) for j in range(bands)] for b in bits]


def k_means_seed(points: npt.ArrayLike, k: int, generator: np.random.Generator) -> F64:
    """D^2 sampling by a scan (Arthur and Vassilvitskii 2007, section 2.2), for at least k distinct points."""
    rows = np.asarray(points, np.float64)
    centres = [rows[int(generator.integers(len(rows)))]]
    while len(centres) < k:
        weights = [min(float(((x - c) ** 2).sum()) for c in centres) for x in rows]
        target, passed = generator.random() * math.fsum(weights), 0.0
        for x, weight in zip(rows, weights, strict=True):
            passed += weight
            if passed > target:
                centres.append(x)
                break
    return np.array(centres)


def k_means_assign(points: npt.ArrayLike, centres: npt.ArrayLike) -> tuple[list[int], list[float]]:
    """The first nearest centre of each point and its squared distance."""
    labels, squares = [], []
    for x in np.asarray(points, np.float64):
        each = [float(((x - c) ** 2).sum()) for c in np.asarray(centres, np.float64)]
        squares.append(min(each))
        labels.append(each.index(squares[-1]))
    return labels, squares


def k_means_cost(points: npt.ArrayLike, centres: npt.ArrayLike) -> float:
    """Sum of squared distances to the nearest centre."""
    return math.fsum(k_means_assign(points, centres)[1])


def centre_sums(points: npt.ArrayLike, labels: Sequence[int], k: int) -> tuple[F64, list[int]]:
    """Point by point."""
    rows = np.asarray(points, np.float64)
    sums, counts = np.zeros((k, rows.shape[1])), [0] * k
    for x, label in zip(rows, labels, strict=True):
        sums[label] += x
        counts[label] += 1
    return sums, counts


def lloyd(points: npt.ArrayLike, centres: npt.ArrayLike, iterations: int) -> F64:
    """That many iterations; a centre without points stays (Lloyd 1982)."""
    rows, current = np.asarray(points, np.float64), np.array(centres, np.float64)
    for _ in range(iterations):
        labels, _ = k_means_assign(rows, current)
        sums, counts = centre_sums(rows, labels, len(current))
        current = np.array([s / c if c else old for s, c, old in zip(sums, counts, current, strict=True)])
    return current
