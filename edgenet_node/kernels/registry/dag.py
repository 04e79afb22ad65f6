"""Table of the task graph kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..dag import lorentz, mechanisms, selector, topology
from ..reference import dag as reference
from .kernel import Arguments, Example, Kernel

TEST = "tests/kernels/dag"
BENCHMARK = "scripts/bench_kernels/dag.py"

TABLE: Mapping[str, Kernel] = {
    "dag.order/1": Kernel(
        function=topology.order,
        reference=reference.order,
        shapes="(n + 1,), (m,) int64 -> (n,) int64",
        dtype="int64",
        test=f"{TEST}/test_topology.py",
        benchmark=BENCHMARK,
        compiled="dag:order",
    ),
    "dag.timing/1": Kernel(
        function=topology.timing,
        reference=reference.timing,
        shapes="(n + 1,), (m,) int64, (n,) -> (n,), (n,), makespan, path",
        dtype="float64",
        test=f"{TEST}/test_topology.py",
        benchmark=BENCHMARK,
        compiled="dag:timing",
    ),
    "dag.cone/1": Kernel(
        function=topology.cone,
        reference=reference.cone,
        shapes="(n + 1,), (m,) int64, node -> (k,), (k,) int64",
        dtype="int64",
        test=f"{TEST}/test_topology.py",
        benchmark=BENCHMARK,
        compiled="dag:cone",
    ),
    "dag.topological/1": Kernel(
        function=mechanisms.topological,
        reference=reference.topological,
        shapes="plan -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.causal_cone/1": Kernel(
        function=mechanisms.causal_cone,
        reference=reference.causal_cone,
        shapes="plan, node -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.critical_path/1": Kernel(
        function=mechanisms.critical_path,
        reference=reference.critical_path,
        shapes="plan -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.mincut_gated/1": Kernel(
        function=mechanisms.mincut_gated,
        reference=reference.mincut_gated,
        shapes="plan, (n,), gate packet -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.hierarchical_lorentz/1": Kernel(
        function=lorentz.hierarchical_lorentz,
        reference=reference.hierarchical_lorentz,
        shapes="plan, node -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.parallel_branch/1": Kernel(
        function=mechanisms.parallel_branch,
        reference=reference.parallel_branch,
        shapes="plan -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.temporal_btsp/1": Kernel(
        function=mechanisms.temporal_btsp,
        reference=reference.temporal_btsp,
        shapes="plan, (k,) int64, (k,), (k,) -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.importance/1": Kernel(
        function=mechanisms.importance,
        reference=reference.importance,
        shapes="plan, (n,), (n,) bool -> (n,)",
        dtype="float64",
        test=f"{TEST}/test_mechanisms.py",
        benchmark=BENCHMARK,
    ),
    "dag.ucb1/1": Kernel(
        function=selector.choose,
        reference=reference.ucb1,
        shapes="counts, totals -> arm",
        dtype="float64",
        test=f"{TEST}/test_selector.py",
        benchmark=BENCHMARK,
    ),
}


def _rows(rng: np.random.Generator) -> tuple[topology.Index, topology.Index]:
    ends = np.sort(rng.integers(0, 12, (20, 2)), axis=1)
    return topology.children(12, [(a, b) for a, b in ends.tolist() if a != b])


def _order(rng: np.random.Generator) -> Arguments:
    return _rows(rng), {}


def _timing(rng: np.random.Generator) -> Arguments:
    return (*_rows(rng), rng.random(12)), {}


def _cone(rng: np.random.Generator) -> Arguments:
    return (*_rows(rng), 2), {}


EXAMPLES: Mapping[str, Example] = {
    "dag.order/1": _order,
    "dag.timing/1": _timing,
    "dag.cone/1": _cone,
}
