"""Table of the aggregation kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import aggregation
from ..reference import aggregation as oracle
from .kernel import Arguments, Example, Kernel

BENCHMARK = "scripts/bench_kernels/aggregation.py"

TABLE: Mapping[str, Kernel] = {
    "aggregation.mean/1": Kernel(
        function=aggregation.mean,
        reference=oracle.mean,
        shapes="(n, d) -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.weighted_mean/1": Kernel(
        function=aggregation.weighted_mean,
        reference=oracle.weighted_mean,
        shapes="(n, d), (n,) float64 -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.median/1": Kernel(
        function=aggregation.median,
        reference=oracle.median,
        shapes="(n, d) -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
        compiled="aggregation:median",
    ),
    "aggregation.trimmed_mean/1": Kernel(
        function=aggregation.trimmed_mean,
        reference=oracle.trimmed_mean,
        shapes="(n, d), f -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
        compiled="aggregation:trimmed_mean",
    ),
    "aggregation.squared_distances/1": Kernel(
        function=aggregation.squared_distances,
        reference=oracle.squared_distances,
        shapes="(n, d) -> (n, n) float64",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.krum/1": Kernel(
        function=aggregation.krum,
        reference=oracle.krum,
        shapes="(n, d), f -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.multi_krum/1": Kernel(
        function=aggregation.multi_krum,
        reference=oracle.multi_krum,
        shapes="(n, d), f -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.geometric_median/1": Kernel(
        function=aggregation.geometric_median,
        reference=oracle.geometric_median,
        shapes="(n, d) -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.centred_clipping/1": Kernel(
        function=aggregation.centred_clipping,
        reference=oracle.centred_clipping,
        shapes="(n, d), (d,), radius -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_rules.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.cap_norms/1": Kernel(
        function=aggregation.cap_norms,
        reference=oracle.cap_norms,
        shapes="(n, d), limit -> (n, d)",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.bucketing/1": Kernel(
        function=aggregation.bucketing,
        reference=oracle.bucketing,
        shapes="(n, d), (n,) int64, s -> (ceil(n/s), d)",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.nearest_neighbour_mixing/1": Kernel(
        function=aggregation.nearest_neighbour_mixing,
        reference=oracle.nearest_neighbour_mixing,
        shapes="(n, d), f -> (n, d)",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.nearest_neighbour_average/1": Kernel(
        function=aggregation.nearest_neighbour_average,
        reference=oracle.nearest_neighbour_average,
        shapes="(n, d), f -> (d,)",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.metropolis_weights/1": Kernel(
        function=aggregation.metropolis_weights,
        reference=oracle.metropolis_weights,
        shapes="(n, n) bool -> (n, n) float64",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
    "aggregation.outlier_shares/1": Kernel(
        function=aggregation.outlier_shares,
        reference=oracle.outlier_shares,
        shapes="(n, d), (n, d) bool -> (n,) float64",
        dtype="float32",
        test="tests/kernels/aggregation/test_mixing.py",
        benchmark=BENCHMARK,
    ),
}


def _updates(rng: np.random.Generator) -> Arguments:
    return (rng.standard_normal((7, 300)).astype(np.float32),), {}


def _trimmed(rng: np.random.Generator) -> Arguments:
    return (rng.standard_normal((7, 300)).astype(np.float32), 2), {}


EXAMPLES: Mapping[str, Example] = {
    "aggregation.median/1": _updates,
    "aggregation.trimmed_mean/1": _trimmed,
}
