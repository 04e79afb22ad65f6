"""`attention.local_global/1`, `attention.block_sparse/1`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention.block_sparse import block_sparse, fixed, plan, strided
from edgenet_node.kernels.attention.local_global import BLOCK, local_global
from edgenet_node.kernels.attention.scaled_dot import scaled_dot
from edgenet_node.kernels.attention.workspace import Workspace

from .cases import STEP_BYTES, Inputs, allocated, close, gate_of, normal, problems, score_bound

SHARED = Workspace()
NONE_PINNED = np.empty(0, np.intp)


@settings(max_examples=100)
@given(case=problems(square=True), window=st.integers(0, 45), data=st.data())
def test_local_global_is_masked_dense_attention(case: Inputs, window: int, data: st.DataObject) -> None:
    count = case.query.shape[0]
    positions = data.draw(st.sets(st.integers(0, max(0, count - 1)), max_size=min(5, count)))
    pinned = np.array(sorted(positions), np.intp)
    got = local_global(case.query, case.key, case.value, window, pinned, gate=case.gate, workspace=SHARED)
    wanted = oracle.local_global(case.query, case.key, case.value, window, pinned, gate=case.gate)
    close(got, wanted, case.value, score_bound(case.query, case.key))


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK + 7])
@pytest.mark.parametrize("window", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 1000])
@pytest.mark.parametrize("kind", ["none", "keys", "edges"])
def test_windows_across_blocks(count: int, window: int, kind: str) -> None:
    rng = np.random.default_rng(count + window)
    q, k, v = normal(rng, count, 8), normal(rng, count, 8), normal(rng, count, 4)
    gate = gate_of(rng, kind, count, count)
    for pinned in (NONE_PINNED, np.array([count // 2, 0, count - 1])):
        got = local_global(q, k, v, window, pinned, gate=gate, workspace=SHARED)
        close(got, oracle.local_global(q, k, v, window, pinned, gate=gate), v, score_bound(q, k))


def test_a_window_over_all_and_all_pinned_are_full_attention() -> None:
    rng = np.random.default_rng(1)
    q, k, v = normal(rng, 150, 8), normal(rng, 150, 8), normal(rng, 150, 4)
    full = scaled_dot(q, k, v)
    np.testing.assert_allclose(local_global(q, k, v, 149, NONE_PINNED), full, atol=2e-6)
    np.testing.assert_allclose(local_global(q, k, v, 0, np.arange(150)), full, atol=2e-6)
    np.testing.assert_allclose(local_global(q, k, v, 0, NONE_PINNED), v, atol=1e-6)


def test_a_pinned_alarm_reaches_every_query_and_others_only_their_window() -> None:
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 200, 8), normal(rng, 200, 8), normal(rng, 200, 4)
    pinned = np.array([20])
    plain = local_global(q, k, v, 5, pinned)
    louder = v.copy()
    louder[20] += 3
    assert np.all(np.abs(local_global(q, k, louder, 5, pinned) - plain).max(axis=1) > 0)
    louder = v.copy()
    louder[100] += 3
    changed = np.abs(local_global(q, k, louder, 5, pinned) - plain).max(axis=1) > 0
    assert set(np.flatnonzero(changed).tolist()) == {*range(95, 106), 20}


@settings(max_examples=100)
@given(case=problems(), block=st.integers(1, 30), density=st.sampled_from([0.0, 0.3, 0.8, 1.0]), causal=st.booleans())
def test_block_sparse_is_masked_dense_attention(case: Inputs, block: int, density: float, causal: bool) -> None:
    queries, keys = case.query.shape[0], case.key.shape[0]
    shape = (-(-queries // block), -(-keys // block))
    pattern = np.random.default_rng(block).random(shape) < density
    ready = plan(pattern, block, queries, keys, causal=causal)
    got = block_sparse(case.query, case.key, case.value, ready, gate=case.gate, workspace=SHARED)
    wanted = oracle.block_sparse(case.query, case.key, case.value, pattern, block, is_causal=causal, gate=case.gate)
    close(got, wanted, case.value, score_bound(case.query, case.key))


def test_all_blocks_are_full_attention() -> None:
    rng = np.random.default_rng(3)
    q, k, v = normal(rng, 70, 8), normal(rng, 90, 8), normal(rng, 90, 4)
    ready = plan(np.ones((7, 9), np.bool_), 10, 70, 90)
    np.testing.assert_allclose(block_sparse(q, k, v, ready), scaled_dot(q, k, v), atol=2e-6)


@pytest.mark.parametrize("blocks", [1, 7, 16, 64])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_patterns_reach_any_earlier_block_in_two_layers_and_stay_sparse(blocks: int, stride: int) -> None:
    earlier = np.tril(np.ones((blocks, blocks), np.bool_))
    for pattern in (strided(blocks, stride), fixed(blocks, stride)):
        assert not (pattern & ~earlier).any()
        np.testing.assert_array_equal((pattern.astype(int) @ pattern.astype(int)) > 0, earlier)
        assert pattern.sum(axis=1).max() <= stride + -(-blocks // stride)


@pytest.mark.parametrize("pattern", [strided(6, 2), fixed(6, 2)])
def test_causal_plans_hide_the_future(pattern: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
    rng = np.random.default_rng(4)
    q, k, v = normal(rng, 57, 8), normal(rng, 57, 8), normal(rng, 57, 4)
    ready = plan(pattern, 10, 57, 57, causal=True)
    plain = block_sparse(q, k, v, ready)
    close(plain, oracle.block_sparse(q, k, v, pattern, 10, is_causal=True), v, score_bound(q, k))
    v[33:] += 7
    np.testing.assert_array_equal(block_sparse(q, k, v, ready)[:33], plain[:33])


def test_plans_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="pattern"):
        plan(np.ones((3, 3), np.bool_), 10, 41, 30)
    x = np.zeros((20, 4), np.float32)
    with pytest.raises(UsageError, match="plan"):
        block_sparse(x, x, x, plan(np.ones((2, 3), np.bool_), 10, 20, 30))


@pytest.mark.parametrize("per_edge", [False, True])
def test_open_gate_passes_closed_gate_blocks(per_edge: bool) -> None:
    rng = np.random.default_rng(5)
    x = normal(rng, 80, 8)
    opened = np.full((80, 80) if per_edge else 80, np.inf, np.float32)
    pinned, ready = np.array([3, 50]), plan(strided(8, 3), 10, 80, 80, causal=True)
    np.testing.assert_array_equal(local_global(x, x, x, 9, pinned, gate=opened), local_global(x, x, x, 9, pinned))
    np.testing.assert_array_equal(block_sparse(x, x, x, ready, gate=opened), block_sparse(x, x, x, ready))
    assert not local_global(x, x, x, 9, pinned, gate=-opened).any()
    assert not block_sparse(x, x, x, ready, gate=-opened).any()


def test_a_warm_workspace_allocates_nothing() -> None:
    rng = np.random.default_rng(0)
    q, k, v = normal(rng, 512, 64), normal(rng, 512, 64), normal(rng, 512, 64)
    out, workspace, gate = np.empty((512, 64), np.float32), Workspace(), normal(rng, 512)
    pinned, ready = np.array([3, 300]), plan(strided(16, 4), 32, 512, 512, causal=True)
    for used in (None, gate):
        options: dict[str, Any] = {"gate": used, "out": out, "workspace": workspace}
        assert allocated(functools.partial(local_global, q, k, v, 40, pinned, **options)) < STEP_BYTES
        assert allocated(functools.partial(block_sparse, q, k, v, ready, **options)) < STEP_BYTES
