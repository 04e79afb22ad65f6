"""`attention.scaled_dot/1`, `attention.weights/1`, `attention.importance/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention import gate as gates
from edgenet_node.kernels.attention.scaled_dot import importance, scaled_dot, weights
from edgenet_node.kernels.attention.workspace import Workspace

from .cases import STEP_BYTES, Inputs, allocated, close, normal, problems, score_bound

SHARED = Workspace()  # across examples: whatever an earlier call left behind must not matter


@settings(max_examples=150)
@given(case=problems())
def test_scaled_dot_is_the_reference(case: Inputs) -> None:
    kept = [part.copy() for part in case if part is not None]
    got = scaled_dot(case.query, case.key, case.value, gate=case.gate, workspace=SHARED)
    wanted = oracle.scaled_dot(case.query, case.key, case.value, gate=case.gate)
    close(got, wanted, case.value, score_bound(case.query, case.key))
    for part, before in zip([part for part in case if part is not None], kept, strict=True):
        np.testing.assert_array_equal(part, before)


@settings(max_examples=40)
@given(case=problems(), seed=st.integers(0, 99), per_edge=st.booleans())
def test_masks_and_gates_join(case: Inputs, seed: int, per_edge: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (case.query.shape[0], case.key.shape[0])
    mask = normal(rng, *(shape if per_edge else shape[1:]))
    mask[rng.random(mask.shape) < 0.3] = -np.inf
    got = scaled_dot(case.query, case.key, case.value, mask=mask, gate=case.gate, workspace=SHARED)
    wanted = oracle.scaled_dot(case.query, case.key, case.value, mask=mask, gate=case.gate)
    close(got, wanted, case.value, score_bound(case.query, case.key) + 8)


@settings(max_examples=60)
@given(case=problems())
def test_rows_of_weights_sum_to_one_or_see_nothing(case: Inputs) -> None:
    got = weights(case.query, case.key, gate=case.gate, workspace=SHARED)
    wanted = oracle.attention_weights(case.query, case.key, gate=case.gate)
    assert got.min(initial=0.0) >= 0.0
    sees = np.full(case.query.shape[0], case.key.shape[0] > 0)
    if case.gate is not None:
        sees &= (np.broadcast_to(case.gate, got.shape) > -np.inf).any(axis=1)
    np.testing.assert_allclose(got.sum(axis=1, dtype=np.float64), sees, atol=1e-5)
    close(got, wanted, np.ones(1), score_bound(case.query, case.key))
    shares = importance(case.query, case.key, gate=case.gate, workspace=SHARED)
    assert shares.min(initial=0.0) >= 0.0
    assert shares.max(initial=0.0) <= 1.0 + 1e-5
    close(shares, wanted.sum(axis=0) / max(1, len(wanted)), np.ones(1), score_bound(case.query, case.key))
    np.testing.assert_allclose(shares.sum(), sees.mean() if sees.size else 0.0, atol=1e-5)


def test_importance_finds_the_key_that_all_queries_ask_for() -> None:
    rng = np.random.default_rng(3)
    key = normal(rng, 12, 16)
    query = 4 * key[7] + 0.1 * normal(rng, 9, 16)
    shares = importance(query, key)
    assert int(shares.argmax()) == 7
    assert shares[7] > 0.5


@pytest.mark.parametrize("queries", [1, 7, 40])
def test_permuting_keys_changes_nothing_and_permuting_queries_permutes_rows(queries: int) -> None:
    rng = np.random.default_rng(queries)
    q, k, v = normal(rng, queries, 24), normal(rng, 33, 24), normal(rng, 33, 10)
    order, rows = rng.permutation(33), rng.permutation(queries)
    plain = scaled_dot(q, k, v)
    np.testing.assert_allclose(scaled_dot(q, k[order], v[order]), plain, atol=2e-6)
    np.testing.assert_allclose(scaled_dot(q[rows], k, v), plain[rows], atol=2e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e15])
def test_scores_of_any_size_neither_overflow_nor_vanish(scale: float) -> None:
    rng = np.random.default_rng(8)
    q, k, v = normal(rng, 20, 16) * np.float32(scale), normal(rng, 30, 16), normal(rng, 30, 5)
    for shift in (0.0, 300.0, -300.0):
        with np.errstate(all="raise", under="ignore"):
            got = scaled_dot(q, k, v, mask=np.full(30, shift, np.float32))
        assert np.isfinite(got).all()
        assert got.max() <= v.max() * 1.0001
        if scale > 1:  # scores differ by more than float32's exp can tell from a maximum
            winners = (q.astype(np.float64) @ k.T.astype(np.float64)).argmax(axis=1)
            np.testing.assert_allclose(got, v[winners], rtol=1e-5)


def test_sums_near_the_limits_of_the_short_way_join_the_long_way_without_a_step() -> None:
    """Adding a constant to all scores of a query changes nothing, on either side of where the maximum is taken."""
    rng = np.random.default_rng(5)
    q, k, v = normal(rng, 6, 8), normal(rng, 50, 8), normal(rng, 50, 8)
    plain = scaled_dot(q, k, v)
    for shift in [*range(-32, 33, 2), -80, 80]:
        np.testing.assert_allclose(scaled_dot(q, k, v, mask=np.full(50, shift, np.float32)), plain, atol=5e-5)


def test_open_gate_passes_closed_gate_blocks() -> None:
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 9, 8), normal(rng, 14, 8), normal(rng, 14, 3)
    for shape in [(14,), (9, 14)]:
        opened, closed = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
        np.testing.assert_array_equal(scaled_dot(q, k, v, gate=opened), scaled_dot(q, k, v))
        np.testing.assert_array_equal(scaled_dot(q, k, v, gate=closed), np.zeros((9, 3), np.float32))
    gate = np.full(14, np.inf, np.float32)
    gate[5:] = -np.inf
    np.testing.assert_allclose(scaled_dot(q, k, v, gate=gate), scaled_dot(q, k[:5], v[:5]), atol=1e-6)


@given(share=st.floats(0, 1, width=32))
def test_logits_of_a_share_gate_by_that_share(share: float) -> None:
    gate = gates.logits(np.array([share, 1.0]))
    np.testing.assert_allclose(oracle.sigmoid(gate), [share, 1.0], atol=1e-6)
    two = weights(np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32), gate=gate)
    np.testing.assert_allclose(two[0], [share / (1 + share), 1 / (1 + share)], atol=1e-6)


@given(values=st.lists(st.floats(width=32, allow_nan=False), max_size=30))
def test_log_sigmoid_is_exact_over_all_floats(values: list[float]) -> None:
    gate = np.array([*values, np.inf, -np.inf, 0.0, -1e30, 1e30], np.float32)
    got = gates.log_sigmoid(gate, np.empty_like(gate), np.empty_like(gate)).astype(np.float64)
    np.testing.assert_allclose(got, -np.logaddexp(0.0, -gate.astype(np.float64)), rtol=2e-6, atol=1e-38)


def test_boundary_gate_scales_only_edges_across_the_cut() -> None:
    sides = np.array([0, 0, 1, 1, 1])
    q = k = np.zeros((5, 4), np.float32)
    for share in (0.0, 0.25, 1.0):
        got = weights(q, k, gate=gates.boundary(sides, sides, share))
        same = sides[:, None] == sides[None, :]
        raw = np.where(same, 1.0, share)
        np.testing.assert_allclose(got, raw / raw.sum(axis=1, keepdims=True), atol=1e-6)


def test_a_gate_of_another_shape_is_refused() -> None:
    q, k = np.zeros((3, 4), np.float32), np.zeros((5, 4), np.float32)
    for shape in [(3,), (1, 5), (5, 3), (1,)]:
        with pytest.raises(UsageError, match="gate"):
            scaled_dot(q, k, k, gate=np.zeros(shape, np.float32))


@pytest.mark.parametrize("gated", [False, True])
def test_a_warm_workspace_allocates_nothing(gated: bool) -> None:
    rng = np.random.default_rng(0)
    q, k, v = normal(rng, 500, 64), normal(rng, 500, 64), normal(rng, 500, 64)
    gate = normal(rng, 500, 500) if gated else None
    out, workspace, square = np.empty((500, 64), np.float32), Workspace(), np.empty((500, 500), np.float32)
    shares = np.empty(500, np.float32)
    assert allocated(lambda: scaled_dot(q, k, v, gate=gate, out=out, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: weights(q, k, gate=gate, out=square, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: importance(q, k, gate=gate, out=shares, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: scaled_dot(5000 * q, k, v, out=out, workspace=workspace)) < STEP_BYTES + q.nbytes
    held = workspace.bytes_held
    scaled_dot(q[:10], k, v, workspace=workspace)
    assert workspace.bytes_held == held
