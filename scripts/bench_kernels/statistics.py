"""Rows of the statistics kernels. State kernels are timed for one update of a warmed state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels.statistics import (
    adwin,
    beta,
    clusters,
    conformal,
    holt_winters,
    incomplete_beta,
    lsh,
    normal,
    page_hinkley,
    sampling,
    thompson,
)

from .case import Case, Factory, Run


def _call(function: Callable[..., Any], *arguments: Any) -> Factory:
    return lambda: lambda: function(*arguments)


def _thompson(rate: bool) -> Factory:
    def build() -> Run:
        generator = np.random.default_rng(1)
        a, b = generator.uniform(1, 50, (2, 100))
        if rate:
            return lambda: thompson.best_rate(a, b, generator)
        return lambda: thompson.least_mean(a, b, a, b, generator)

    return build


def _margin() -> Run:
    scores = np.random.default_rng(2).random(1000)
    return lambda: conformal.margin(scores, 0.1)


def _page_hinkley() -> Run:
    state, _ = page_hinkley.update(page_hinkley.start(), 0.5)
    return lambda: page_hinkley.update(state, 0.5)


def _adwin() -> Run:
    state = adwin.start()
    for x in np.random.default_rng(3).random(10_000).tolist():
        state, _ = adwin.update(state, x)
    return lambda: adwin.update(state, 0.5)


def _holt_winters() -> Run:
    state = holt_winters.start([float(i % 24) for i in range(48)], 24)
    return lambda: holt_winters.update(state, 3.0)


def _simhash(dimensions: int = 256, bits: int = 128, count: int = 1000) -> Run:
    generator = np.random.default_rng(4)
    planes = lsh.hyperplanes(bits, dimensions, generator)
    x = generator.standard_normal((count, dimensions), np.float32)
    return lambda: lsh.signatures(x, planes)


def _simhash_torch() -> Run:
    import torch

    generator = torch.Generator().manual_seed(4)
    x, planes = torch.randn(1000, 256, generator=generator), torch.randn(128, 256, generator=generator)
    weights = 2 ** torch.arange(7, -1, -1, dtype=torch.uint8)
    return lambda: ((x @ planes.T >= 0).view(1000, 16, 8) * weights).sum(dim=2, dtype=torch.uint8)


def _band_keys() -> Run:
    bits = np.random.default_rng(5).integers(0, 256, (1000, 16)).astype(np.uint8)
    return lambda: lsh.band_keys(bits, 16, 8)


def _clustered() -> tuple[clusters.Array, clusters.Array]:
    generator = np.random.default_rng(6)
    middles = generator.standard_normal((50, 64), np.float32) * np.float32(3)
    points = middles[generator.integers(0, 50, 10_000)] + generator.standard_normal((10_000, 64), np.float32)
    return points, clusters.seed(points, 50, generator)


def _seed() -> Run:
    points, _ = _clustered()
    return lambda: clusters.seed(points, 50, np.random.default_rng(7))


def _assign() -> Run:
    points, centres = _clustered()
    return lambda: clusters.assign(points, centres)


def _assign_torch() -> Run:
    import torch

    points, centres = (torch.from_numpy(part) for part in _clustered())
    return lambda: torch.cdist(points, centres).min(dim=1)


def _sums() -> Run:
    points, centres = _clustered()
    labels, _ = clusters.assign(points, centres)
    return lambda: clusters.centre_sums(points, labels, 50)


def _sums_fast() -> Run:
    from edgenet_node.kernels.compiled import statistics as compiled

    points, centres = _clustered()
    labels, _ = clusters.assign(points, centres)
    return lambda: compiled.centre_sums(points, labels, 50)


def _sums_torch() -> Run:
    import torch

    points, centres = _clustered()
    labels = torch.from_numpy(clusters.assign(points, centres)[0])
    wide = torch.from_numpy(points)
    return lambda: torch.zeros(50, 64).index_add_(0, labels, wide)


def _lloyd() -> Run:
    points, centres = _clustered()
    return lambda: clusters.lloyd(points, centres, iterations=5, tolerance=0.0)


_PRIOR = normal.NormalInverseGamma(0.0, 1.0, 2.0, 1.0)

CASES: list[Case] = [
    Case("statistics.beta_cdf/1", "a 31, b 11", _call(incomplete_beta.cdf, 0.7, 31.0, 11.0)),
    Case("statistics.beta_quantile/1", "a 31, b 11", _call(incomplete_beta.quantile, 0.05, 31.0, 11.0)),
    Case("statistics.beta_update/1", "one", _call(beta.update, beta.UNIFORM, 1.0, 0.0)),
    Case("statistics.normal_update/1", "one", _call(normal.update, _PRIOR, 1.0)),
    Case("statistics.best_rate/1", "100 options", _thompson(rate=True)),
    Case("statistics.least_mean/1", "100 options", _thompson(rate=False)),
    Case("statistics.conformal_margin/1", "1000 scores", _margin),
    Case("statistics.page_hinkley/1", "one value", _page_hinkley),
    Case("statistics.adwin/1", "one value, window 10k", _adwin),
    Case("statistics.holt_winters/1", "one value, period 24", _holt_winters),
    Case("statistics.escape_probability/1", "10k, 100 wrong", _call(sampling.escape_probability, 10_000, 100, 300)),
    Case("statistics.clopper_pearson/1", "3 of 100", _call(sampling.clopper_pearson, 3, 100, 0.95)),
    Case(
        "statistics.simhash/1",
        "1000 x 256, 128 bits",
        _simhash,
        torch=_simhash_torch,
        limit_us=lambda roof: roof.flops_us(2.0 * 1000 * 256 * 128),
        seed_target="<1 ms",
    ),
    Case("statistics.band_keys/1", "1000 x 128 bits, 16 bands", _band_keys, seed_target="<1 ms"),
    Case(
        "statistics.k_means_seed/1",
        "10k x 64, k 50",
        _seed,
        limit_us=lambda roof: 50 * roof.read_us(4.0 * 10_000 * 64),
    ),
    Case(
        "statistics.k_means_assign/1",
        "10k x 64, k 50",
        _assign,
        torch=_assign_torch,
        limit_us=lambda roof: roof.flops_us(2.0 * 10_000 * 64 * 50),
    ),
    Case(
        "statistics.centre_sums/1",
        "10k x 64, k 50",
        _sums,
        _sums_fast,
        _sums_torch,
        limit_us=lambda roof: roof.read_us(4.0 * 10_000 * 64),
    ),
    Case("statistics.lloyd/1", "10k x 64, k 50, 5 steps", _lloyd),
]
