"""Table of the privacy kernels."""

from __future__ import annotations

from collections.abc import Mapping

from .. import privacy
from ..reference import privacy as oracle
from .kernel import Kernel

BENCHMARK = "scripts/bench_kernels/privacy.py"

TABLE: Mapping[str, Kernel] = {
    "privacy.clipped_sum/1": Kernel(
        function=privacy.clipped_sum,
        reference=oracle.clipped_sum,
        shapes="(B, d) float32, limit, steps -> (d,) int64",
        dtype="int64",
        test="tests/kernels/privacy/test_mechanism.py",
        benchmark=BENCHMARK,
    ),
    "privacy.discrete_gaussian/1": Kernel(
        function=privacy.discrete_gaussian,
        reference=oracle.discrete_gaussian,
        shapes="table, random bytes, m -> (m,) int64",
        dtype="int64",
        test="tests/kernels/privacy/test_mechanism.py",
        benchmark=BENCHMARK,
    ),
    "privacy.private_mean/1": Kernel(
        function=privacy.private_mean,
        reference=oracle.private_mean,
        shapes="(d,) int64, limit, steps, expected, table, random bytes -> (d,)",
        dtype="float32",
        test="tests/kernels/privacy/test_mechanism.py",
        benchmark=BENCHMARK,
    ),
    "privacy.gaussian_delta/1": Kernel(
        function=privacy.gaussian_delta,
        reference=oracle.gaussian_delta,
        shapes="epsilon, deviation, sensitivity -> delta",
        dtype="float64",
        test="tests/kernels/privacy/test_gaussian.py",
        benchmark=BENCHMARK,
    ),
    "privacy.calibrate_deviation/1": Kernel(
        function=privacy.calibrate_deviation,
        reference=oracle.calibrate_deviation,
        shapes="epsilon, delta, sensitivity -> deviation",
        dtype="float64",
        test="tests/kernels/privacy/test_gaussian.py",
        benchmark=BENCHMARK,
    ),
    "privacy.renyi_divergences/1": Kernel(
        function=privacy.renyi_divergences,
        reference=oracle.renyi_divergence,
        shapes="z, q, (a,) int64 -> (a,)",
        dtype="float64",
        test="tests/kernels/privacy/test_accountant.py",
        benchmark=BENCHMARK,
    ),
    "privacy.epsilon_spent/1": Kernel(
        function=privacy.epsilon_spent,
        reference=oracle.epsilon_spent,
        shapes="(a,), delta, (a,) int64 -> epsilon",
        dtype="float64",
        test="tests/kernels/privacy/test_accountant.py",
        benchmark=BENCHMARK,
    ),
}
