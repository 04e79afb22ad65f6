"""Task graph kernels against networkx."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgenet_node.errors import UsageError
from edgenet_node.kernels.dag import topology
from edgenet_node.kernels.dag.plan import Plan
from edgenet_node.kernels.dag.query import QueryDag

networkx: Any = pytest.importorskip("networkx")


def task(seed: int, count: int = 60) -> tuple[QueryDag, Any]:
    rng = np.random.default_rng(seed)
    names = rng.permutation(count)
    upper = np.argwhere(np.triu(rng.random((count, count)) < 0.08, 1))
    edges = tuple((int(names[a]), int(names[b])) for a, b in upper)
    dag = QueryDag(ops=("step",) * count, costs=tuple(rng.random(count).tolist()), edges=edges)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    return dag, graph


@pytest.mark.parametrize("seed", range(6))
def test_order_cone_and_longest_path(seed: int) -> None:
    dag, graph = task(seed)
    plan = Plan(dag)
    place = {node: position for position, node in enumerate(plan.order.tolist())}
    assert all(place[a] < place[b] for a, b in graph.edges)
    assert [sorted(layer) for layer in networkx.topological_generations(graph)] == [
        np.flatnonzero(plan.depth == depth).tolist() for depth in range(int(plan.depth.max()) + 1)
    ]
    for node in range(0, plan.nodes, 7):
        inside, hops = topology.cone(plan.starts, plan.targets, node)
        assert dict(zip(inside.tolist(), hops.tolist(), strict=True)) == dict(
            networkx.single_source_shortest_path_length(graph, node)
        )
        assert set(np.flatnonzero(plan.reach[node]).tolist()) == networkx.descendants(graph, node) | {node}
    # networkx weighs edges: an edge carries the cost of its end, and one more edge leads into every node.
    weighted = networkx.DiGraph()
    weighted.add_weighted_edges_from((-1, node, dag.costs[node]) for node in graph.nodes)
    weighted.add_weighted_edges_from((a, b, dag.costs[b]) for a, b in graph.edges)
    assert plan.timing.makespan == pytest.approx(networkx.dag_longest_path_length(weighted))
    assert networkx.is_path(graph, plan.timing.path.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_a_cycle_is_what_networkx_calls_one(seed: int) -> None:
    dag, graph = task(seed, 12)
    for a in range(12):
        for b in range(12):
            closed = networkx.DiGraph(graph)
            closed.add_edge(a, b)
            starts, targets = topology.children(12, (*dag.edges, (a, b)))
            if networkx.is_directed_acyclic_graph(closed):
                topology.order(starts, targets)
            else:
                with pytest.raises(UsageError):
                    topology.order(starts, targets)
