"""`dag.topological/1`, `dag.causal_cone/1`, `dag.critical_path/1`, `dag.mincut_gated/1`, `dag.hierarchical_lorentz/1`,
`dag.parallel_branch/1`, `dag.temporal_btsp/1`, `dag.importance/1`: oracles, sums of one, what each must respect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.attention import hyperbolic
from edgenet_node.kernels.dag import lorentz, mechanisms, query
from edgenet_node.kernels.dag.plan import Plan
from edgenet_node.kernels.dag.query import GatePacket, QueryDag
from edgenet_node.kernels.dag.topology import F64
from edgenet_node.kernels.reference import dag as reference

from .graphs import dags

DIAMOND = QueryDag(
    ops=("scan", "left", "right", "join", "report"),
    costs=(1.0, 5.0, 2.0, 1.0, 1.0),
    edges=((0, 1), (0, 2), (1, 3), (2, 3), (3, 4)),
)


def distribution(scores: F64) -> None:
    assert (scores >= 0).all()
    assert scores.sum() == pytest.approx(1.0)


@given(dags())
def test_topological(dag: QueryDag) -> None:
    plan = Plan(dag)
    scores = mechanisms.topological(plan)
    distribution(scores)
    np.testing.assert_allclose(scores, reference.topological(plan.nodes, dag.edges, 0.9))
    assert all(scores[a] < scores[b] for a, b in dag.edges)


@given(dags(), st.integers(0, 7))
def test_causal_cone(dag: QueryDag, place: int) -> None:
    plan = Plan(dag)
    node = place % plan.nodes
    scores = mechanisms.causal_cone(plan, node)
    distribution(scores)
    np.testing.assert_allclose(scores, reference.causal_cone(plan.nodes, dag.edges, node, 0.8, 0.9))
    assert set(np.flatnonzero(scores).tolist()) == set(reference.cone(node, dag.edges))


@given(dags())
def test_critical_path(dag: QueryDag) -> None:
    plan = Plan(dag)
    scores = mechanisms.critical_path(plan)
    distribution(scores)
    np.testing.assert_allclose(scores, reference.critical_path(plan.nodes, dag.edges, dag.costs, 2.0))
    np.testing.assert_allclose(scores[plan.timing.path], scores.max())


def test_critical_path_of_the_diamond() -> None:
    timing = Plan(DIAMOND).timing
    assert timing.path.tolist() == [0, 1, 3, 4]
    assert timing.makespan == 8.0
    assert (timing.latest - timing.earliest).tolist() == [0.0, 0.0, 3.0, 0.0, 0.0]
    scores = mechanisms.critical_path(Plan(DIAMOND))
    assert scores[2] / scores[0] == pytest.approx(2 ** (-3 / 8))


def packet(
    cut: float, *, concentration: float = 0.0, partitions: int = 1, flags: int = 0, boundary: int = 2
) -> GatePacket:
    return GatePacket(
        cut=cut, cut_before=4.0, boundary_edges=boundary, edges=9, flags=flags, partitions=partitions,
        concentration_q15=round(concentration * query.Q15_ONE),
    )  # fmt: skip


@given(dags(), st.floats(0.0, 8.0), st.floats(0.0, 1.0))
def test_mincut_gated(dag: QueryDag, cut: float, concentration: float) -> None:
    plan = Plan(dag)
    scores = mechanisms.critical_path(plan)
    asked = packet(cut, concentration=concentration)
    gate = query.openness(asked)
    gated = mechanisms.mincut_gated(plan, scores, asked)
    distribution(gated)
    assert ((plan.crossing >= 0) & (plan.crossing <= 1)).all()
    if (scores * (1 - (1 - gate) * plan.crossing)).any():
        np.testing.assert_allclose(gated, reference.mincut_gated(scores, plan.crossing, gate))
    if cut >= 4.0:  # no drop: a gate of 1 is the identity
        np.testing.assert_array_equal(gated, scores)


def test_gate_opens_and_closes() -> None:
    levels = [query.openness(packet(cut)) for cut in (0.0, 1.0, 2.0, 4.0, 9.0)]
    assert levels == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert query.openness(packet(2.0, concentration=1.0)) == 0.25
    assert query.openness(packet(4.0, partitions=2)) == 0.0
    assert query.openness(packet(4.0, flags=query.GATE_CLOSED | query.GATE_OPEN)) == 0.0
    assert query.openness(packet(0.0, flags=query.GATE_OPEN)) == 1.0
    assert query.openness(packet(0.0, boundary=0)) == 1.0


def test_the_cut_of_a_graph_lies_at_its_bottleneck() -> None:
    """Of scan -> two branches -> join -> report the edges into the report are the cut (unit volumes)."""
    plan = Plan(QueryDag(ops=DIAMOND.ops, costs=DIAMOND.costs, edges=((0, 1), (0, 2), (1, 3), (2, 3), (3, 4))))
    np.testing.assert_allclose(plan.crossing, [0.0, 0.0, 0.0, 1 / 3, 1.0])
    plan = Plan(QueryDag(ops=DIAMOND.ops, costs=DIAMOND.costs, edges=DIAMOND.edges, volumes=(1.0, 1.0, 9.0, 9.0, 9.0)))
    np.testing.assert_allclose(plan.crossing, [1.0, 0.1, 0.1, 0.0, 0.0])
    closed = mechanisms.mincut_gated(plan, np.full(5, 0.2), packet(0.0))
    np.testing.assert_allclose(closed, np.array([0.0, 0.9, 0.9, 1.0, 1.0]) / 3.8)


@given(dags(most=8), st.integers(0, 7), st.floats(0.2, 2.0))
def test_hierarchical_lorentz(dag: QueryDag, place: int, step: float) -> None:
    plan = Plan(dag)
    node = place % plan.nodes
    radius, angle = lorentz.polar(plan, step=step)
    points = lorentz.points(radius, angle)
    inner = -(points[:, 0] ** 2) + (points[:, 1:] ** 2).sum(axis=1)
    np.testing.assert_allclose(inner / points[:, 0] ** 2, -1.0 / points[:, 0] ** 2, atol=1e-12)
    scores = lorentz.hierarchical_lorentz(plan, node, step=step, temperature=0.5)
    distribution(scores)
    assert scores[node] == scores.max()
    np.testing.assert_allclose(
        scores, reference.hierarchical_lorentz(points, node, 0.5), rtol=1e-3, atol=1e-6
    )  # the oracle's inner product cancels


@given(dags(), st.floats(0.1, 1.0))
def test_the_hyperboloid_is_isometric_to_the_ball(dag: QueryDag, step: float) -> None:
    plan = Plan(dag)
    radius, angle = lorentz.polar(plan, step=step)
    points = lorentz.points(radius, angle)
    ball = points[:, 1:] / (1.0 + points[:, :1])
    for node in range(plan.nodes):
        here = hyperbolic.distance(ball[node : node + 1].astype(np.float32), ball.astype(np.float32))[0]
        np.testing.assert_allclose(lorentz.distances(radius, angle, node), here, rtol=2e-3, atol=2e-3)


def test_a_chain_is_a_geodesic_and_depth_does_not_overflow() -> None:
    count = 2000
    chain = QueryDag(ops=("step",) * count, costs=(1.0,) * count, edges=tuple((i, i + 1) for i in range(count - 1)))
    plan = Plan(chain)
    radius, angle = lorentz.polar(plan)
    away = lorentz.distances(radius, angle, count - 1)
    np.testing.assert_allclose(away, radius[-1] - radius, atol=1e-9)
    assert np.isfinite(lorentz.hierarchical_lorentz(plan, 0)).all()


def test_siblings_are_farther_apart_than_from_their_parent() -> None:
    radius, angle = lorentz.polar(Plan(DIAMOND))
    away = lorentz.distances(radius, angle, 1)
    assert away[0] == pytest.approx(1.0)
    assert away[2] == pytest.approx(2.0)  # opposite sectors: through the root


@given(dags())
def test_parallel_branch(dag: QueryDag) -> None:
    plan = Plan(dag)
    scores = mechanisms.parallel_branch(plan)
    distribution(scores)
    np.testing.assert_allclose(scores, reference.parallel_branch(plan.nodes, dag.edges, dag.costs, 8, 0.5, 0.2))


def test_equal_branches_are_equal_and_a_wide_level_saturates() -> None:
    fan = QueryDag(ops=("s",) * 13, costs=(1.0,) * 13, edges=tuple((0, leaf) for leaf in range(1, 13)))
    scores = mechanisms.parallel_branch(Plan(fan))
    assert len(set(scores[1:].tolist())) == 1
    assert scores[1] / scores[0] == pytest.approx(8**0.5)


@given(
    dags(),
    st.lists(st.tuples(st.integers(0, 7), st.floats(-1.0, 5.0), st.floats(0.0, 1.0)), max_size=9),
)
def test_temporal_btsp(dag: QueryDag, events: list[tuple[int, float, float]]) -> None:
    plan = Plan(dag)
    events = [(node % plan.nodes, age, success) for node, age, success in events]
    scores = mechanisms.temporal_btsp(
        plan,
        np.array([node for node, _, _ in events], np.intp),
        np.array([age for _, age, _ in events], np.float64),
        np.array([success for _, _, success in events], np.float64),
    )
    distribution(scores)
    np.testing.assert_allclose(scores, reference.temporal_btsp(plan.nodes, events, 3.0, 0.5, 0.95, 1.5))


@given(dags(), st.integers(0, 2**32))
def test_importance(dag: QueryDag, seed: int) -> None:
    plan = Plan(dag)
    rng = np.random.default_rng(seed)
    priorities, done = rng.random(plan.nodes), rng.random(plan.nodes) < 0.4
    scores = mechanisms.importance(plan, priorities, done)
    distribution(scores)
    np.testing.assert_allclose(
        scores, reference.importance(plan.nodes, dag.edges, dag.costs, priorities.tolist(), done.tolist())
    )
    if not done.all():
        assert not scores[done].any()
