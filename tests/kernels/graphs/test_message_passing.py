"""`graphs.gcn/1`, `graphs.gat/1`, `graphs.sage/1`, `graphs.sample/1`: oracles, equivariance, gates, hubs, samples."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.graphs import attention, convolution, diagonals, rows, sampling
from edgenet_node.kernels.reference import graphs as reference

Array = npt.NDArray[np.float32]


class Numpy:
    gcn = staticmethod(convolution.gcn)
    gat = staticmethod(attention.gat)
    sage = staticmethod(sampling.sage)


@pytest.fixture(params=["numpy", "numba"], scope="module")
def backend(request: pytest.FixtureRequest) -> type[Numpy] | ModuleType:
    if request.param == "numpy":
        return Numpy
    pytest.importorskip("numba")
    from edgenet_node.kernels.compiled import graphs

    return graphs


def network(seed: int, nodes: int, edges: int, hub: bool) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Random edges; with a hub that hears everybody, so that tails of the diagonals occur."""
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(0, nodes, edges), rng.integers(0, nodes, edges)
    if hub:
        sources, targets = np.concatenate([sources, np.arange(nodes)]), np.concatenate([targets, np.zeros(nodes, int)])
    apart = sources != targets
    return sources[apart], targets[apart]


def pairs(sources: npt.NDArray[np.intp], targets: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    return list(zip(sources.tolist(), targets.tolist(), strict=True))


GRAPHS = st.tuples(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 150), st.booleans())


@given(graph=GRAPHS, weighted=st.booleans())
def test_gcn_is_its_reference(backend: Any, graph: tuple[int, int, int, bool], weighted: bool) -> None:
    seed, nodes, _, _ = graph
    sources, targets = network(*graph)
    rng = np.random.default_rng(seed)
    weights = rng.random(sources.size).astype(np.float32) + 0.1 if weighted else np.ones(sources.size, np.float32)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((nodes, 5), (5, 3), (3,)))
    x = np.repeat(x, 2, axis=1)[:, ::2]
    plan = convolution.plan(rows.from_edges(nodes, sources, targets, weights, self_loops=True))
    got = backend.gcn(x, plan, weight, bias)
    wanted = reference.gcn(x, pairs(sources, targets), weights.tolist(), weight, bias)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@given(graph=GRAPHS, edged=st.booleans(), gated=st.booleans(), scale=st.sampled_from([1.0, 100.0]))
def test_gat_is_its_reference(
    backend: Any, graph: tuple[int, int, int, bool], edged: bool, gated: bool, scale: float
) -> None:
    seed, nodes, _, _ = graph
    sources, targets = network(*graph)
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    weights = attention.Weights(
        projection=normal(4, 6), source=scale * normal(2, 3), target=normal(2, 3), edge_projection=normal(2, 6),
        edge=normal(2, 3),
    )  # fmt: skip
    x, features = normal(nodes, 4), normal(sources.size, 2)
    gate = rng.choice([-np.inf, -2.0, 1.0, np.inf], sources.size).astype(np.float32) if gated else None
    plan = attention.plan(rows.from_edges(nodes, sources, targets))
    got = backend.gat(x, plan, weights, features if edged else None, gate)
    assert weights.edge_projection is not None
    assert weights.edge is not None
    logits = ((features @ weights.edge_projection).reshape(-1, 2, 3).astype(np.float64) * weights.edge).sum(axis=2)
    wanted = reference.gat(
        x, pairs(sources, targets), weights.projection, weights.source, weights.target,
        edge_logits=logits if edged else None, gate=gate,
    )  # fmt: skip
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * scale)


def test_gat_weights_sum_to_one_and_an_open_gate_is_none(backend: Any) -> None:
    """With equal features everywhere the attended feature is that feature."""
    sources, targets = network(1, 30, 200, hub=True)
    plan = attention.plan(rows.from_edges(30, sources, targets, self_loops=True))
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(8, np.float32)
    weights = attention.Weights(
        projection=rng.standard_normal((4, 8), np.float32),
        source=rng.standard_normal((2, 4), np.float32),
        target=rng.standard_normal((2, 4), np.float32),
        bias=bias,
        edge_projection=rng.standard_normal((3, 8), np.float32),
        edge=rng.standard_normal((2, 4), np.float32),
    )
    features = rng.standard_normal((sources.size, 3), np.float32)
    same = np.tile(rng.standard_normal(4, np.float32), (30, 1))
    wanted = np.tile(same[0] @ weights.projection, (30, 1)) + bias
    np.testing.assert_allclose(backend.gat(same, plan, weights, features), wanted, rtol=1e-4, atol=1e-5)
    x = rng.standard_normal((30, 4), np.float32)
    open_ = np.full(sources.size, np.inf, np.float32)
    plain = backend.gat(x, plan, weights, features)
    np.testing.assert_allclose(backend.gat(x, plan, weights, features, open_), plain, rtol=1e-5, atol=1e-6)
    alone = backend.gat(x, plan, weights, features, -open_)  # only the added self-loops are left
    np.testing.assert_allclose(alone, x @ weights.projection + bias, rtol=1e-4, atol=1e-5)


@given(graph=GRAPHS, aggregator=st.sampled_from(["mean", "max"]), size=st.integers(0, 12), unit=st.booleans())
def test_sage_and_its_sample_are_their_references(
    backend: Any, graph: tuple[int, int, int, bool], aggregator: sampling.Aggregator, size: int, unit: bool
) -> None:
    seed, nodes, _, _ = graph
    plain = rows.from_edges(nodes, *network(*graph))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((nodes, 5), np.float32)
    one, other = rng.standard_normal((2, 5, 3)).astype(np.float32)
    heard = [plain.sources[a:b].tolist() for a, b in zip(plain.starts, plain.starts[1:], strict=False)]
    uniforms = rng.random((nodes, size))
    sampled = sampling.sample(plain, size, uniforms)
    chosen = reference.sample(heard, size, uniforms)
    assert sampled.counts[sampled.places].tolist() == [len(part) for part in chosen]
    got = backend.sage(x, sampled, one, other, aggregator=aggregator, unit=unit)
    wanted = reference.sage(x, chosen, one, other, aggregator, unit)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_a_sample_as_large_as_the_degrees_is_everybody() -> None:
    plain = rows.from_edges(20, *network(2, 20, 100, hub=True))
    size = int(np.diff(plain.starts).max())
    sampled = sampling.sample(plain, size, np.random.default_rng(2).random((20, size)))
    full = diagonals.from_rows(plain)
    x = np.random.default_rng(3).standard_normal((20, 4), np.float32)
    eye = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(
        sampling.sage(x, sampled, eye, eye), sampling.sage(x, full, eye, eye), rtol=1e-5, atol=1e-6
    )


def test_samples_are_distinct_and_uniform() -> None:
    """A node with 6 neighbours, samples of 2: each of the 15 pairs 1/15 of the time (chi-squared, 14 degrees)."""
    copies = 6000
    sources = np.tile(np.arange(6), copies)
    targets = np.repeat(np.arange(6, 6 + copies), 6)
    plain = rows.from_edges(6 + copies, sources, targets)
    sampled = sampling.sample(plain, 2, np.random.default_rng(4).random((6 + copies, 2)))
    first, second = (sampled.sources[a:b] for a, b in zip(sampled.bounds, sampled.bounds[1:], strict=False))
    counts = Counter(tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True))
    assert len(counts) == 15
    assert all(a != b for a, b in counts)
    assert sum((count - copies / 15) ** 2 / (copies / 15) for count in counts.values()) < 36.1  # p = 0.001


@given(seed=st.integers(0, 2**32))
def test_permutation_equivariance(backend: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources, targets = network(seed, 25, 90, hub=True)
    x = rng.standard_normal((25, 4), np.float32)
    new = rng.permutation(25)  # node i becomes new[i]
    moved = np.empty_like(x)
    moved[new] = x
    weight, other = rng.standard_normal((2, 4, 6)).astype(np.float32)
    heads = attention.Weights(projection=weight, source=other[:2, :3].copy(), target=other[2:, :3].copy())

    def layers(x: Array, sources: npt.NDArray[np.intp], targets: npt.NDArray[np.intp]) -> list[Array]:
        looped = rows.from_edges(25, sources, targets, self_loops=True)
        return [
            backend.gcn(x, convolution.plan(looped), weight),
            backend.gat(x, attention.plan(looped), heads),
            backend.sage(x, diagonals.from_rows(rows.from_edges(25, sources, targets)), weight, other),
        ]

    for before, after in zip(layers(x, sources, targets), layers(moved, new[sources], new[targets]), strict=True):
        np.testing.assert_allclose(after[new], before, rtol=1e-4, atol=1e-5)


def test_many_rows_take_several_blocks() -> None:
    """More rows than one block of 512 features holds, and a hub: sums by `np.add.at` in float64."""
    rng = np.random.default_rng(5)
    sources, targets = network(5, 700, 3000, hub=True)
    plan = diagonals.from_rows(rows.from_edges(700, sources, targets))
    x = rng.standard_normal((700, 512), np.float32)
    got = diagonals.gather(plan, x, out=np.empty_like(x), scratch=diagonals.Scratch(700, 512))
    wanted = np.zeros((700, 512))
    np.add.at(wanted, targets, x[sources].astype(np.float64))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert diagonals.block_rows(512) < 700
    assert plan.tails


def test_rows_keep_existing_loops() -> None:
    found = rows.from_edges(3, [0, 1, 2], [0, 2, 1], np.array([5.0, 1.0, 2.0], np.float32), self_loops=True)
    assert found.sources.tolist() == [0, 1, 2, 1, 2]
    assert found.targets.tolist() == [0, 1, 1, 2, 2]
    assert found.weights.tolist() == [5.0, 1.0, 2.0, 1.0, 1.0]
    assert found.edges.tolist() == [0, rows.LOOP, 2, 1, rows.LOOP]


def test_gcn_allocates_nothing_of_its_size() -> None:
    plan = convolution.plan(rows.from_edges(2000, *network(6, 2000, 8000, hub=False), self_loops=True))
    x, weight = np.ones((2000, 32), np.float32), np.ones((32, 32), np.float32)
    workspace, out = convolution.Workspace(2000, 32), np.empty((2000, 32), np.float32)
    for _ in range(2):
        convolution.gcn(x, plan, weight, out=out, workspace=workspace)
    tracemalloc.start()
    convolution.gcn(x, plan, weight, out=out, workspace=workspace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes  # numpy buffers a broadcast in pieces of at most 70 kB, whatever the size
