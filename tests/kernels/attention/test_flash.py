"""`attention.flash/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.kernels.attention.flash import flash
from edgenet_node.kernels.attention.scaled_dot import scaled_dot
from edgenet_node.kernels.attention.workspace import Workspace

from .cases import STEP_BYTES, Inputs, allocated, close, normal, problems, score_bound

SHARED = Workspace()


@settings(max_examples=200)
@given(
    case=problems(),
    tiles=st.tuples(st.integers(1, 45), st.integers(1, 80)),
    offset=st.none() | st.integers(-50, 80),
)
def test_flash_is_plain_attention_for_any_tile_and_causal_offset(
    case: Inputs, tiles: tuple[int, int], offset: int | None
) -> None:
    got = flash(
        case.query,
        case.key,
        case.value,
        causal=offset is not None,
        offset=offset or 0,
        gate=case.gate,
        tile_queries=tiles[0],
        tile_keys=tiles[1],
        workspace=SHARED,
    )
    wanted = oracle.flash(case.query, case.key, case.value, causal_offset=offset, gate=case.gate)
    close(got, wanted, case.value, score_bound(case.query, case.key))


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize(("queries", "keys"), [(700, 1300), (129, 513), (1, 2000)])
def test_default_tiles_over_several_of_them(queries: int, keys: int, scale: float) -> None:
    rng = np.random.default_rng(keys)
    q, k, v = normal(rng, queries, 16) * np.float32(scale), normal(rng, keys, 16), normal(rng, keys, 8)
    close(flash(q, k, v), oracle.flash(q, k, v), v, score_bound(q, k))
    wanted = oracle.flash(q, k, v, causal_offset=keys - queries)
    close(flash(q, k, v, causal=True, offset=keys - queries), wanted, v, score_bound(q, k))


def test_the_maximum_may_rise_and_fall_from_tile_to_tile() -> None:
    """Scores that climb by 200 a tile and then fall: every tile rescales what came before, or adds nothing."""
    height = np.concatenate([np.arange(0, 2000, 200), np.arange(2000, 0, -200)]).repeat(8).astype(np.float32)
    rng = np.random.default_rng(4)
    k = np.stack([height, np.zeros_like(height)], axis=1)
    q = np.stack([np.ones(5), np.zeros(5)], axis=1).astype(np.float32) * np.float32(np.sqrt(2))
    v = normal(rng, height.size, 3)
    for direction in (1, -1):
        close(flash(direction * q, k, v, tile_keys=8), oracle.flash(direction * q, k, v), v, 4.0)


def test_the_first_query_of_a_causal_call_sees_one_key_and_the_last_all() -> None:
    rng = np.random.default_rng(1)
    q, k, v = normal(rng, 50, 8), normal(rng, 50, 8), normal(rng, 50, 4)
    got = flash(q, k, v, causal=True, tile_queries=16, tile_keys=16)
    np.testing.assert_allclose(got[0], v[0], atol=1e-6)
    np.testing.assert_allclose(got[-1], scaled_dot(q, k, v)[-1], atol=2e-6)
    early = flash(q, k, v, causal=True, offset=-1)
    np.testing.assert_array_equal(early[0], np.zeros(4, np.float32))
    np.testing.assert_allclose(early[1], v[0], atol=1e-6)


def test_later_values_do_not_reach_earlier_queries() -> None:
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 300, 8), normal(rng, 300, 8), normal(rng, 300, 4)
    plain = flash(q, k, v, causal=True)
    v[200:] += 5
    k[200:] -= 3
    np.testing.assert_array_equal(flash(q, k, v, causal=True)[:200], plain[:200])


def test_open_gate_passes_closed_gate_blocks() -> None:
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 9, 8), normal(rng, 14, 8), normal(rng, 14, 3)
    opened = np.full((9, 14), np.inf, np.float32)
    np.testing.assert_array_equal(flash(q, k, v, gate=opened), flash(q, k, v))
    assert not flash(q, k, v, gate=-opened).any()


def test_scratch_memory_does_not_grow_with_the_keys_and_a_warm_workspace_allocates_nothing() -> None:
    rng = np.random.default_rng(0)
    held = []
    for keys in (2000, 8000):
        q, k, v = normal(rng, 2048, 16), normal(rng, keys, 16), normal(rng, keys, 16)
        out, workspace = np.empty((2048, 16), np.float32), Workspace()
        for causal in (False, True):
            call = lambda q=q, k=k, v=v, causal=causal, out=out, workspace=workspace: flash(  # noqa: E731
                q, k, v, causal=causal, offset=500, out=out, workspace=workspace
            )
            assert allocated(call) < STEP_BYTES
        held.append(workspace.bytes_held)
    assert held[0] == held[1]
