"""Table of the graph kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graphs import attention, convolution, cut, flow, rows, sampling
from ..reference import graphs as reference
from .kernel import Arguments, Example, Kernel

TEST = "tests/kernels/graphs"
BENCHMARK = "scripts/bench_kernels/graphs.py"

TABLE: Mapping[str, Kernel] = {
    "graphs.gcn/1": Kernel(
        function=convolution.gcn,
        reference=reference.gcn,
        shapes="(n, f), smoothing, (f, g), (g,) -> (n, g)",
        dtype="float32",
        test=f"{TEST}/test_message_passing.py",
        benchmark=BENCHMARK,
        compiled="graphs:gcn",
    ),
    "graphs.gat/1": Kernel(
        function=attention.gat,
        reference=reference.gat,
        shapes="(n, f), neighbours, weights, (m, e), (m,) -> (n, h f)",
        dtype="float32",
        test=f"{TEST}/test_message_passing.py",
        benchmark=BENCHMARK,
        compiled="graphs:gat",
    ),
    "graphs.sage/1": Kernel(
        function=sampling.sage,
        reference=reference.sage,
        shapes="(n, f), sample, (f, g), (f, g), (g,) -> (n, g)",
        dtype="float32",
        test=f"{TEST}/test_message_passing.py",
        benchmark=BENCHMARK,
        compiled="graphs:sage",
    ),
    "graphs.sample/1": Kernel(
        function=sampling.sample,
        reference=reference.sample,
        shapes="rows, k, (n, k) float64 -> sample",
        dtype="int64",
        test=f"{TEST}/test_message_passing.py",
        benchmark=BENCHMARK,
    ),
    "graphs.min_cut/1": Kernel(
        function=cut.min_cut,
        reference=reference.min_cut,
        shapes="n, (m,), (m,), (m,) -> value, (n,) bool",
        dtype="float64",
        test=f"{TEST}/test_cut.py",
        benchmark=BENCHMARK,
    ),
    "graphs.tension/1": Kernel(
        function=cut.tension,
        reference=reference.tension,
        shapes="cut, reference -> tension",
        dtype="float64",
        test=f"{TEST}/test_cut.py",
        benchmark=BENCHMARK,
    ),
    "graphs.max_flow/1": Kernel(
        function=flow.max_flow,
        reference=reference.max_flow,
        shapes="n, (m,), (m,), (m,), source, sink -> value, (m,), (n,) bool",
        dtype="float64",
        test=f"{TEST}/test_flow.py",
        benchmark=BENCHMARK,
    ),
    "graphs.vertex_disjoint_paths/1": Kernel(
        function=flow.vertex_disjoint_paths,
        reference=reference.vertex_disjoint_paths,
        shapes="n, (m,), (m,), source, sink -> paths",
        dtype="int64",
        test=f"{TEST}/test_flow.py",
        benchmark=BENCHMARK,
    ),
}


def _graph(rng: np.random.Generator, *, self_loops: bool) -> rows.Rows:
    return rows.from_edges(20, rng.integers(0, 20, 70), rng.integers(0, 20, 70), self_loops=self_loops)


def _normal(rng: np.random.Generator, *shape: int) -> rows.F32:
    return rng.standard_normal(shape, np.float32)


def _gcn(rng: np.random.Generator) -> Arguments:
    smoothing = convolution.plan(_graph(rng, self_loops=True))
    return (_normal(rng, 20, 6), smoothing, _normal(rng, 6, 4), _normal(rng, 4)), {}


def _gat(rng: np.random.Generator) -> Arguments:
    weights = attention.Weights(
        projection=_normal(rng, 6, 8),
        source=_normal(rng, 2, 4),
        target=_normal(rng, 2, 4),
        bias=_normal(rng, 8),
        edge_projection=_normal(rng, 3, 8),
        edge=_normal(rng, 2, 4),
    )
    neighbours = attention.plan(_graph(rng, self_loops=True))
    return (_normal(rng, 20, 6), neighbours, weights, _normal(rng, 70, 3), _normal(rng, 70)), {}


def _sage(rng: np.random.Generator) -> Arguments:
    sample = sampling.sample(_graph(rng, self_loops=False), 3, rng.random((20, 3)))
    return (_normal(rng, 20, 6), sample, _normal(rng, 6, 4), _normal(rng, 6, 4), _normal(rng, 4)), {}


EXAMPLES: Mapping[str, Example] = {
    "graphs.gcn/1": _gcn,
    "graphs.gat/1": _gat,
    "graphs.sage/1": _sage,
}
