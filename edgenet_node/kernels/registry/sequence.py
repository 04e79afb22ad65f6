"""Table of the hyperbolic, Hopfield and selective state space kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..attention import hopfield, hyperbolic, selective
from ..attention.workspace import Array
from ..reference import sequence as reference
from .kernel import Arguments, Example, Kernel

TEST = "tests/kernels/sequence"
BENCHMARK = "scripts/bench_kernels/sequence.py"

TABLE: Mapping[str, Kernel] = {
    "sequence.poincare_distance/1": Kernel(
        function=hyperbolic.distance,
        reference=reference.distance,
        shapes="(n, d), (m, d), curvature -> (n, m)",
        dtype="float32",
        test=f"{TEST}/test_hyperbolic.py",
        benchmark=BENCHMARK,
    ),
    "sequence.hyperbolic/1": Kernel(
        function=hyperbolic.hyperbolic,
        reference=reference.hyperbolic,
        shapes="(n_q, d), (n_k, d), (n_k, d_v), curvature, temperature -> (n_q, d_v)",
        dtype="float32",
        test=f"{TEST}/test_hyperbolic.py",
        benchmark=BENCHMARK,
    ),
    "sequence.einstein_midpoint/1": Kernel(
        function=hyperbolic.einstein_midpoint,
        reference=reference.einstein_midpoint,
        shapes="(m, n), (n, d), curvature -> (m, d)",
        dtype="float32",
        test=f"{TEST}/test_hyperbolic.py",
        benchmark=BENCHMARK,
    ),
    "sequence.exp_map/1": Kernel(
        function=hyperbolic.exp_map,
        reference=reference.exp_map,
        shapes="(..., d), (..., d), curvature -> (..., d)",
        dtype="float32",
        test=f"{TEST}/test_hyperbolic.py",
        benchmark=BENCHMARK,
    ),
    "sequence.log_map/1": Kernel(
        function=hyperbolic.log_map,
        reference=reference.log_map,
        shapes="(..., d), (..., d), curvature -> (..., d)",
        dtype="float32",
        test=f"{TEST}/test_hyperbolic.py",
        benchmark=BENCHMARK,
    ),
    "sequence.hopfield/1": Kernel(
        function=hopfield.hopfield,
        reference=reference.hopfield,
        shapes="(n, d), (q, d), beta -> (q, d)",
        dtype="float32",
        test=f"{TEST}/test_hopfield.py",
        benchmark=BENCHMARK,
    ),
    "sequence.hierarchical_hopfield/1": Kernel(
        function=hopfield.hierarchical_hopfield,
        reference=reference.hierarchical_hopfield,
        shapes="groups of (n, d), (d,), beta -> (d,)",
        dtype="float32",
        test=f"{TEST}/test_hopfield.py",
        benchmark=BENCHMARK,
    ),
    "sequence.selective_scan/1": Kernel(
        function=selective.selective_scan,
        reference=reference.selective_scan,
        shapes="(t, d), (t, d), (n, d), (t, n), (t, n), (d,), (n, d) -> (t, d), (n, d)",
        dtype="float32",
        test=f"{TEST}/test_selective.py",
        benchmark=BENCHMARK,
        compiled="sequence:selective_scan",
    ),
    "sequence.mamba/1": Kernel(
        function=selective.mamba,
        reference=reference.mamba,
        shapes="(t, f), block, memory -> (t, f), memory",
        dtype="float32",
        test=f"{TEST}/test_selective.py",
        benchmark=BENCHMARK,
    ),
}


def _scan(rng: np.random.Generator) -> Arguments:
    steps, channels, states = 12, 8, 4

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    delta, rates = selective.softplus(normal(steps, channels)), -np.exp(normal(states, channels))
    parts = (normal(steps, channels), delta, rates, normal(steps, states), normal(steps, states), normal(channels))
    return (*parts, normal(states, channels)), {"gate": normal(steps)}


EXAMPLES: Mapping[str, Example] = {"sequence.selective_scan/1": _scan}
