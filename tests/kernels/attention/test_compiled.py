"""The numba versions of some kernels against numpy's and the oracles."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention import moe as numpy_moe
from edgenet_node.kernels.attention.scaled_dot import scaled_dot as numpy_scaled_dot
from edgenet_node.kernels.attention.workspace import Workspace
from edgenet_node.kernels.registry import KERNELS

from .cases import STEP_BYTES, Inputs, allocated, close, gate_of, normal, problems, score_bound
from .test_moe import check_routing, experts_of

pytest.importorskip("numba", reason="the extra [fast] is not installed")

from edgenet_node.kernels.compiled import attention as compiled

SHARED = Workspace()


@settings(max_examples=100)
@given(case=problems(), rows=st.integers(0, compiled.FEW_QUERIES + 1), seed=st.integers(0, 99), masked=st.booleans())
def test_scaled_dot_of_few_queries(case: Inputs, rows: int, seed: int, masked: bool) -> None:
    query = case.query[:rows]
    gate = case.gate if case.gate is None or case.gate.ndim == 1 else case.gate[:rows]
    mask = normal(np.random.default_rng(seed), query.shape[0], case.key.shape[0]) if masked else None
    got = compiled.scaled_dot(query, case.key, case.value, mask=mask, gate=gate, workspace=SHARED)
    bound = score_bound(query, case.key) + 4
    close(got, oracle.scaled_dot(query, case.key, case.value, mask=mask, gate=gate), case.value, bound)
    plain = numpy_scaled_dot(query, case.key, case.value, mask=mask, gate=gate)
    close(got, plain.astype(np.float64), case.value, 2 * bound)


def test_many_queries_are_numpys() -> None:
    rng = np.random.default_rng(1)
    q, k, v = normal(rng, 20, 8), normal(rng, 30, 8), normal(rng, 30, 4)
    np.testing.assert_array_equal(compiled.scaled_dot(q, k, v), numpy_scaled_dot(q, k, v))


@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e15])
def test_scores_of_any_size_neither_overflow_nor_vanish(scale: float) -> None:
    rng = np.random.default_rng(8)
    q, k, v = normal(rng, 3, 16) * np.float32(scale), normal(rng, 30, 16), normal(rng, 30, 5)
    got = compiled.scaled_dot(q, k, v)
    close(got, oracle.scaled_dot(q, k, v), v, score_bound(q, k))
    assert np.isfinite(got).all()


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 20),
    experts=st.integers(1, 9),
    kind=st.sampled_from(["none", "keys", "edges"]),
    data=st.data(),
)
def test_route(seed: int, rows: int, experts: int, kind: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    logits = (np.round(normal(rng, rows, experts) * 4) / 4).astype(np.float32)
    k = data.draw(st.integers(1, experts))
    gate = gate_of(rng, kind, rows, experts)
    if gate is not None:
        gate[np.isfinite(gate)] = 0
    got, plain = compiled.route(logits, k, gate=gate, workspace=SHARED), numpy_moe.route(logits, k, gate=gate)
    check_routing(logits, k, gate, got)
    np.testing.assert_array_equal(got.chosen, plain.chosen)
    np.testing.assert_allclose(got.probabilities, plain.probabilities, atol=1e-6)
    np.testing.assert_allclose(got.weights, plain.weights, atol=1e-6)


@pytest.mark.parametrize("gated", [False, True])
def test_moe(gated: bool) -> None:
    rng = np.random.default_rng(2)
    experts, w_query = experts_of(rng, 4, 8, 6, 5)
    x, key, value = normal(rng, 25, 8), normal(rng, 30, 6), normal(rng, 30, 5)
    gate, expert_gate = (gate_of(rng, "edges", 25, 30), normal(rng, 4)) if gated else (None, None)
    got = compiled.moe(experts, x, key, value, 2, gate=gate, expert_gate=expert_gate, workspace=SHARED)
    wanted = oracle.moe(x, key, value, experts.router, w_query, experts.mix, 2, gate=gate, expert_gate=expert_gate)
    np.testing.assert_allclose(got, wanted, atol=3e-5)
    plain = numpy_moe.moe(experts, x, key, value, 2, gate=gate, expert_gate=expert_gate)
    np.testing.assert_allclose(got, plain, atol=1e-5)


def test_wrong_arguments_are_refused_alike() -> None:
    logits, x = np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)
    for k in (0, 5):
        with pytest.raises(UsageError, match="choose"):
            compiled.route(logits, k)
    for call in (
        lambda: compiled.route(logits, 2, gate=np.zeros(3, np.float32)),
        lambda: compiled.scaled_dot(x, x, x, gate=np.zeros(3, np.float32)),
    ):
        with pytest.raises(UsageError, match="gate"):
            call()


@pytest.mark.parametrize("function", [compiled.scaled_dot, compiled.route, compiled.moe])
def test_signatures_are_numpys(function: Callable[..., Any]) -> None:
    plain = KERNELS[f"attention.{function.__name__}/1"].function
    assert inspect.signature(function) == inspect.signature(plain)


def test_a_warm_workspace_allocates_nothing() -> None:
    rng = np.random.default_rng(0)
    q, k, v = normal(rng, 1, 64), normal(rng, 4000, 64), normal(rng, 4000, 64)
    out, workspace, gate = np.empty((1, 64), np.float32), Workspace(), normal(rng, 4000)
    logits = normal(rng, 20000, 4)
    assert allocated(lambda: compiled.scaled_dot(q, k, v, out=out, workspace=workspace)) < 4096
    assert allocated(lambda: compiled.scaled_dot(q, k, v, gate=gate, out=out, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: compiled.route(logits, 2, workspace=workspace)) < 4096
