"""Rows of the task graph kernels: 100 steps, about three edges each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels.dag import lorentz, mechanisms, selector, topology
from edgenet_node.kernels.dag.plan import Plan
from edgenet_node.kernels.dag.query import GatePacket, QueryDag

from .case import Case, Factory, Run

SIZE = "100 nodes, 300 edges"


def task() -> QueryDag:
    rng = np.random.default_rng(1)
    ends = np.sort(rng.integers(0, 100, (330, 2)), axis=1)
    edges = [(a, b) for a, b in ends.tolist() if a != b][:300]
    return QueryDag(ops=("step",) * 100, costs=tuple(rng.random(100).tolist()), edges=tuple(edges))


def walk(name: str, *, fast: bool) -> Factory:
    def build() -> Run:
        module: Any = topology
        if fast:
            from edgenet_node.kernels.compiled import dag

            module = dag
        given = task()
        starts, targets = topology.children(100, given.edges)
        costs = np.array(given.costs)
        function: Callable[..., Any] = getattr(module, name)
        rest: tuple[Any, ...] = {"order": (), "timing": (costs,), "cone": (40,)}[name]
        return lambda: function(starts, targets, *rest)

    return build


def score(name: str) -> Factory:
    def build() -> Run:
        plan = Plan(task())
        rng = np.random.default_rng(2)
        events, ages, successes = rng.integers(0, 100, 20), 3 * rng.random(20), rng.random(20)
        priorities, done = rng.random(100), rng.random(100) < 0.3
        scores = mechanisms.topological(plan)
        packet = GatePacket(cut=1.0, cut_before=2.0, boundary_edges=3, edges=300, concentration_q15=9000)
        runs: dict[str, Run] = {
            "topological": lambda: mechanisms.topological(plan),
            "causal_cone": lambda: mechanisms.causal_cone(plan, 40),
            "critical_path": lambda: mechanisms.critical_path(plan),
            "mincut_gated": lambda: mechanisms.mincut_gated(plan, scores, packet),
            "hierarchical_lorentz": lambda: lorentz.hierarchical_lorentz(plan, 40),
            "parallel_branch": lambda: mechanisms.parallel_branch(plan),
            "temporal_btsp": lambda: mechanisms.temporal_btsp(plan, events, ages, successes),
            "importance": lambda: mechanisms.importance(plan, priorities, done),
        }
        return runs[name]

    return build


def bandit() -> Run:
    state = selector.Selector(counts=(20,) * 7, totals=(10.0,) * 7)
    return lambda: selector.choose(state)


CASES = [
    Case("dag.order/1", SIZE, walk("order", fast=False), walk("order", fast=True), seed_target="<100 µs"),
    Case("dag.timing/1", SIZE, walk("timing", fast=False), walk("timing", fast=True), seed_target="<100 µs"),
    Case("dag.cone/1", SIZE, walk("cone", fast=False), walk("cone", fast=True), seed_target="<100 µs"),
    Case("dag.topological/1", SIZE, score("topological"), seed_target="<100 µs"),
    Case("dag.causal_cone/1", SIZE, score("causal_cone"), seed_target="<100 µs"),
    Case("dag.critical_path/1", SIZE, score("critical_path"), seed_target="<100 µs"),
    Case("dag.mincut_gated/1", SIZE, score("mincut_gated"), seed_target="<100 µs"),
    Case("dag.hierarchical_lorentz/1", SIZE, score("hierarchical_lorentz"), seed_target="<100 µs"),
    Case("dag.parallel_branch/1", SIZE, score("parallel_branch"), seed_target="<100 µs"),
    Case("dag.temporal_btsp/1", SIZE, score("temporal_btsp"), seed_target="<100 µs"),
    Case("dag.importance/1", SIZE, score("importance"), seed_target="<100 µs"),
    Case("dag.ucb1/1", "7 arms", bandit),
]
