"""Table of the statistics kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..reference import statistics as reference
from ..statistics import (
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
from .kernel import Arguments, Example, Kernel

POSTERIORS = "tests/kernels/statistics/test_posteriors.py"
INTERVALS = "tests/kernels/statistics/test_intervals.py"
STREAMS = "tests/kernels/statistics/test_streams.py"
GEOMETRY = "tests/kernels/statistics/test_geometry.py"


def _kernel(
    function: Callable[..., Any],
    oracle: Callable[..., Any],
    shapes: str,
    test: str,
    dtype: str = "float64",
    compiled: str = "",
) -> Kernel:
    return Kernel(
        function=function,
        reference=oracle,
        shapes=shapes,
        dtype=dtype,
        test=test,
        benchmark="scripts/bench_kernels/statistics.py",
        compiled=compiled,
    )


TABLE: Mapping[str, Kernel] = {
    "statistics.beta_cdf/1": _kernel(incomplete_beta.cdf, reference.beta_cdf, "x, a, b -> float", POSTERIORS),
    "statistics.beta_quantile/1": _kernel(
        incomplete_beta.quantile, reference.beta_quantile, "probability, a, b -> float", POSTERIORS
    ),
    "statistics.beta_update/1": _kernel(
        beta.update, reference.beta_posterior, "state, successes, failures -> state", POSTERIORS
    ),
    "statistics.normal_update/1": _kernel(
        normal.update, reference.normal_posterior, "state, x, weight -> state", POSTERIORS
    ),
    "statistics.best_rate/1": _kernel(thompson.best_rate, reference.best_rate, "two of (n,) -> index", POSTERIORS),
    "statistics.least_mean/1": _kernel(thompson.least_mean, reference.least_mean, "four of (n,) -> index", POSTERIORS),
    "statistics.conformal_margin/1": _kernel(
        conformal.margin, reference.conformal_margin, "scores (n,), alpha -> float", INTERVALS
    ),
    "statistics.escape_probability/1": _kernel(
        sampling.escape_probability, reference.escape_probability, "three counts -> float", INTERVALS
    ),
    "statistics.clopper_pearson/1": _kernel(
        sampling.clopper_pearson, reference.clopper_pearson, "two counts, confidence -> (low, high)", INTERVALS
    ),
    "statistics.page_hinkley/1": _kernel(
        page_hinkley.update, reference.page_hinkley, "state, x -> state, drift", STREAMS
    ),
    "statistics.adwin/1": _kernel(adwin.update, reference.adwin_splits, "state, x -> state, cut", STREAMS),
    "statistics.holt_winters/1": _kernel(holt_winters.update, reference.holt_winters, "state, x -> state", STREAMS),
    "statistics.simhash/1": _kernel(
        lsh.signatures, reference.simhash, "(n, d), (k, d) -> (n, k/8) uint8", GEOMETRY, "float32"
    ),
    "statistics.band_keys/1": _kernel(
        lsh.band_keys, reference.band_keys, "(n, k/8) uint8, bands, rows -> (n, bands)", GEOMETRY, "uint64"
    ),
    "statistics.k_means_seed/1": _kernel(
        clusters.seed, reference.k_means_seed, "(n, d), k, generator -> (k, d)", GEOMETRY, "float32"
    ),
    "statistics.k_means_assign/1": _kernel(
        clusters.assign, reference.k_means_assign, "(n, d), (k, d) -> (n,), (n,) float64", GEOMETRY, "float32"
    ),
    "statistics.centre_sums/1": _kernel(
        clusters.centre_sums,
        reference.centre_sums,
        "(n, d), labels (n,), k -> (k, d) float64, (k,)",
        GEOMETRY,
        "float32",
        "statistics:centre_sums",
    ),
    "statistics.lloyd/1": _kernel(clusters.lloyd, reference.lloyd, "(n, d), (k, d) -> clusters", GEOMETRY, "float32"),
}


def _centre_sums(rng: np.random.Generator) -> Arguments:
    return (rng.standard_normal((20, 4), np.float32), rng.integers(0, 3, 20), 3), {}


EXAMPLES: Mapping[str, Example] = {"statistics.centre_sums/1": _centre_sums}
