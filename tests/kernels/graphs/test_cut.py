"""`graphs.min_cut/1`, `graphs.tension/1`: all cuts of small graphs, planted cuts of large ones, tension's shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.graphs.cut import min_cut, tension
from edgenet_node.kernels.reference import graphs as reference


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[float]]:
    nodes = draw(st.integers(2, 8))
    ends = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(ends, ends), max_size=24))
    weights = draw(st.lists(st.integers(0, 5).map(float), min_size=len(edges), max_size=len(edges)))
    return nodes, edges, weights


@given(graphs())
def test_cut_is_the_least_of_all(graph: tuple[int, list[tuple[int, int]], list[float]]) -> None:
    nodes, edges, weights = graph
    sources, targets = [a for a, _ in edges], [b for _, b in edges]
    cut = min_cut(nodes, sources, targets, weights)
    assert cut.value == reference.min_cut(nodes, edges, weights)
    assert 0 < cut.side.sum() < nodes
    assert cut.value == sum(w for (a, b), w in zip(edges, weights, strict=True) if cut.side[a] != cut.side[b])


@given(st.integers(0, 2**32))
def test_real_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(0, 7, 20), rng.integers(0, 7, 20)
    weights = rng.random(20) * 10.0 ** rng.integers(-3, 4, 20)
    edges = list(zip(sources.tolist(), targets.tolist(), strict=True))
    wanted = reference.min_cut(7, edges, weights.tolist())
    assert min_cut(7, sources, targets, weights).value == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(st.integers(0, 2**32), st.integers(3, 40))
def test_planted_cut_is_found(seed: int, size: int) -> None:
    """Two rings, every edge of weight 10, joined by two edges of weight 1: no other cut is below 12."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(2 * size)
    ring = np.arange(size)
    sources = np.concatenate([ring, ring + size, [0, 1]])
    targets = np.concatenate([(ring + 1) % size, (ring + 1) % size + size, [size, size + 2]])
    weights = np.concatenate([np.full(2 * size, 10.0), [1.0, 1.0]])
    cut = min_cut(2 * size, names[sources], names[targets], weights)
    assert cut.value == 2.0
    assert set(np.flatnonzero(cut.side).tolist()) in [set(names[:size].tolist()), set(names[size:].tolist())]


@pytest.mark.parametrize("steps", [(1,), (1, 7), (1, 2, 3, 4)])
def test_regular_graphs_of_equal_weights(steps: tuple[int, ...]) -> None:
    """Circulant graphs are as connected as their degree (Mader 1971). Sums of 0.1 round differently in every order."""
    nodes = np.arange(60)
    sources, targets = np.tile(nodes, len(steps)), np.concatenate([(nodes + step) % 60 for step in steps])
    for apart in (0, 60):  # alone, and with an equal graph that no edge reaches
        both = np.concatenate([sources, sources + apart]), np.concatenate([targets, targets + apart])
        cut = min_cut(60 + apart, *both, np.full(both[0].size, 0.1))
        wanted = 0.0 if apart else 2 * 2 * len(steps) * 0.1
        assert cut.value == pytest.approx(wanted, abs=1e-12)
        assert 0 < cut.side.sum() < 60 + apart


def test_without_weights_each_edge_counts_one_and_two_nodes_are_needed() -> None:
    assert min_cut(4, [0, 1, 2, 3, 0], [1, 2, 3, 0, 2]).value == 2.0
    assert min_cut(2, [], []).value == 0.0
    with pytest.raises(UsageError):
        min_cut(1, [], [])


@given(graphs(), st.integers(0, 23), st.floats(0, 5))
def test_tension_never_rises_with_a_weight(
    graph: tuple[int, list[tuple[int, int]], list[float]], place: int, more: float
) -> None:
    nodes, edges, weights = graph
    sources, targets = [a for a, _ in edges], [b for _, b in edges]
    before = tension(min_cut(nodes, sources, targets, weights).value, 4.0)
    if edges:
        weights[place % len(edges)] += more
    after = tension(min_cut(nodes, sources, targets, weights).value, 4.0)
    assert 0.0 <= after <= before + 1e-12 <= 1.0 + 1e-12


@given(st.floats(0, 1e9), st.floats(-1, 1e9))
def test_tension_is_its_reference(value: float, usual: float) -> None:
    assert tension(value, usual) == reference.tension(value, usual)
    assert tension(usual, usual) == 0.0
    assert tension(0.0, usual) == (1.0 if usual > 0 else 0.0)
