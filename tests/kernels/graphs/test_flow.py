"""`graphs.max_flow/1`, `graphs.vertex_disjoint_paths/1`: conservation, max-flow min-cut, Menger."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.graphs.flow import max_flow, vertex_disjoint_paths
from edgenet_node.kernels.reference import graphs as reference


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[float]]:
    nodes = draw(st.integers(2, 7))
    ends = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(ends, ends), max_size=20))
    capacities = draw(st.lists(st.integers(0, 9).map(float), min_size=len(edges), max_size=len(edges)))
    return nodes, edges, capacities


@given(networks())
def test_flow_equals_the_minimum_cut(network: tuple[int, list[tuple[int, int]], list[float]]) -> None:
    nodes, edges, capacities = network
    flow = max_flow(nodes, [a for a, _ in edges], [b for _, b in edges], capacities, 0, 1)
    assert flow.value == reference.max_flow(nodes, edges, capacities, 0, 1)
    leaving = sum(c for (a, b), c in zip(edges, capacities, strict=True) if flow.side[a] and not flow.side[b])
    assert flow.value == leaving
    assert flow.side[0]
    assert not flow.side[1]


@given(networks(), st.integers(0, 2**32))
def test_flow_is_conserved_with_real_capacities(
    network: tuple[int, list[tuple[int, int]], list[float]], seed: int
) -> None:
    nodes, edges, _ = network
    capacities = np.random.default_rng(seed).random(len(edges))
    flow = max_flow(nodes, [a for a, _ in edges], [b for _, b in edges], capacities, 0, 1)
    assert (flow.flows >= 0).all()
    assert (flow.flows <= capacities).all()
    balance = np.zeros(nodes)
    for (a, b), amount in zip(edges, flow.flows.tolist(), strict=True):
        balance[a] -= amount
        balance[b] += amount
    np.testing.assert_allclose(balance, [-flow.value, flow.value] + [0.0] * (nodes - 2), atol=1e-9)
    assert flow.value == pytest.approx(reference.max_flow(nodes, edges, capacities.tolist(), 0, 1))


def test_a_flow_needs_two_ends() -> None:
    with pytest.raises(UsageError):
        max_flow(2, [0], [1], [1.0], 0, 0)


@given(networks())
def test_disjoint_paths_are_as_many_as_menger_says(network: tuple[int, list[tuple[int, int]], list[float]]) -> None:
    nodes, edges, _ = network
    paths = vertex_disjoint_paths(nodes, [a for a, _ in edges], [b for _, b in edges], 0, 1)
    assert len(paths) == reference.vertex_disjoint_paths(nodes, edges, 0, 1)
    inner = [node for path in paths for node in path[1:-1]]
    assert len(inner) == len(set(inner))
    assert not {0, 1} & set(inner)
    for path in paths:
        assert (path[0], path[-1]) == (0, 1)
        assert all(step in edges for step in pairwise(path))


def test_a_long_chain_needs_no_recursion() -> None:
    nodes = 5000
    chain = np.arange(nodes - 1)
    assert max_flow(nodes, chain, chain + 1, np.full(nodes - 1, 2.5), 0, nodes - 1).value == 2.5
    assert vertex_disjoint_paths(nodes, chain, chain + 1, 0, nodes - 1) == [list(range(nodes))]
