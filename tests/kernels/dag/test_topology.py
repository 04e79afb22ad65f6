"""`dag.order/1`, `dag.timing/1`, `dag.cone/1`: oracles, numpy and compiled; what travels is validated."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.dag import query, topology
from edgenet_node.kernels.dag.plan import Plan
from edgenet_node.kernels.dag.query import GatePacket, QueryDag
from edgenet_node.kernels.reference import dag as reference

from .graphs import dags


@pytest.fixture(params=["numpy", "numba"], scope="module")
def walks(request: pytest.FixtureRequest) -> Any:
    if request.param == "numpy":
        return topology
    pytest.importorskip("numba")
    from edgenet_node.kernels.compiled import dag

    return dag


@given(dag=dags())
def test_order_respects_every_edge(walks: Any, dag: QueryDag) -> None:
    count = len(dag.ops)
    order = walks.order(*topology.children(count, dag.edges))
    assert sorted(order.tolist()) == sorted(reference.order(count, dag.edges)) == list(range(count))
    place = {node: position for position, node in enumerate(order.tolist())}
    assert all(place[a] < place[b] for a, b in dag.edges)
    assert order.tolist() == topology.order(*topology.children(count, dag.edges)).tolist()


@given(dag=dags(), back=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_a_cycle_is_refused(walks: Any, dag: QueryDag, back: tuple[int, int]) -> None:
    count = len(dag.ops)
    edges = (*dag.edges, (back[0] % count, back[1] % count), (back[1] % count, back[0] % count))
    assert len(reference.order(count, edges)) < count
    with pytest.raises(UsageError):
        walks.order(*topology.children(count, edges))
    with pytest.raises(UsageError):
        Plan(QueryDag(ops=dag.ops, costs=dag.costs, edges=edges))


@given(dag=dags())
def test_timing_is_that_of_all_paths(walks: Any, dag: QueryDag) -> None:
    count = len(dag.ops)
    timing = walks.timing(*topology.children(count, dag.edges), np.array(dag.costs))
    earliest, latest, makespan = reference.timing(count, dag.edges, dag.costs)
    assert timing.makespan == makespan
    assert timing.earliest.tolist() == earliest
    assert timing.latest.tolist() == latest
    path = timing.path.tolist()
    assert sum(dag.costs[node] for node in path) == makespan
    assert all(step in dag.edges for step in pairwise(path))
    assert all(earliest[node] == latest[node] for node in path)


@given(dag=dags(), node=st.integers(0, 7))
def test_cone_is_the_descendants(walks: Any, dag: QueryDag, node: int) -> None:
    count = len(dag.ops)
    inside, hops = walks.cone(*topology.children(count, dag.edges), node % count)
    wanted = reference.cone(node % count, dag.edges)
    assert dict(zip(inside.tolist(), hops.tolist(), strict=True)) == wanted
    assert hops.tolist() == sorted(hops.tolist())
    plan = Plan(dag)
    assert set(np.flatnonzero(plan.reach[node % count]).tolist()) == set(wanted)


@given(dag=dags())
def test_plan_depths_and_work(dag: QueryDag) -> None:
    plan = Plan(dag)
    count = len(dag.ops)
    assert plan.depth.tolist() == reference.depths(count, dag.edges)
    cones = [reference.cone(node, dag.edges) for node in range(count)]
    assert plan.descendants.tolist() == [len(cone) - 1 for cone in cones]
    assert plan.work.tolist() == [sum(dag.costs[node] for node in cone) for cone in cones]
    assert all(plan.width[node] == (plan.depth == plan.depth[node]).sum() for node in range(count))


@given(dag=dags())
def test_graphs_and_packets_survive_the_wire(dag: QueryDag) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(dag), type=QueryDag) == dag
    packet = GatePacket(cut=1.5, cut_before=2.0, boundary_edges=3, edges=9, concentration_q15=100, partitions=1)
    assert msgspec.json.decode(msgspec.json.encode(packet), type=GatePacket) == packet


@pytest.mark.parametrize(
    "change",
    [
        {"ops": ()},
        {"costs": (1.0,)},
        {"costs": (1.0, -1.0)},
        {"costs": (1.0, float("nan"))},
        {"edges": ((0, 2),)},
        {"edges": ((-1, 0),)},
        {"volumes": (1.0, 2.0)},
    ],
)
def test_a_malformed_graph_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"ops": ("a", "b"), "costs": (1.0, 2.0), "edges": ((0, 1),)}
    QueryDag(**good)
    with pytest.raises(UsageError):
        QueryDag(**good | change)


@pytest.mark.parametrize(
    "change",
    [
        {"cut": -1.0},
        {"cut_before": float("inf")},
        {"boundary_edges": 10},
        {"concentration_q15": query.Q15_ONE + 1},
        {"partitions": 0},
        {"flags": 4},
    ],
)
def test_a_malformed_packet_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"cut": 1.0, "cut_before": 2.0, "boundary_edges": 3, "edges": 9, "concentration_q15": 0}
    GatePacket(**good)
    with pytest.raises(UsageError):
        GatePacket(**good | change)
