"""`attention.differential/1`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.kernels.attention.differential import differential, lambda_init, lambda_of
from edgenet_node.kernels.attention.scaled_dot import scaled_dot
from edgenet_node.kernels.attention.workspace import Workspace

from .cases import STEP_BYTES, Inputs, allocated, close, normal, problems, score_bound

SHARED = Workspace()


@settings(max_examples=80)
@given(case=problems(), strength=st.floats(-1, 2))
def test_differential_is_the_reference(case: Inputs, strength: float) -> None:
    got = differential(case.query, case.key, case.value, strength, gate=case.gate, workspace=SHARED)
    wanted = oracle.differential(case.query, case.key, case.value, strength, gate=case.gate)
    close(got, wanted, case.value * np.float32(1 + abs(strength)), 2 * score_bound(case.query, case.key))


def test_lambda_zero_is_plain_attention_of_the_first_halves() -> None:
    rng = np.random.default_rng(1)
    q, k, v = normal(rng, 20, 16), normal(rng, 30, 16), normal(rng, 30, 5)
    plain = scaled_dot(np.ascontiguousarray(q[:, :8]), np.ascontiguousarray(k[:, :8]), v)
    np.testing.assert_allclose(differential(q, k, v, 0.0), plain, atol=2e-6)


def test_what_both_maps_see_cancels() -> None:
    """Equal halves leave (1 - lambda) of plain attention: with lambda one nothing; rows of weights sum to
    1 - lambda, which constant values show."""
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 20, 8), normal(rng, 30, 8), normal(rng, 30, 5)
    twice_q, twice_k = np.hstack([q, q]), np.hstack([k, k])
    np.testing.assert_allclose(differential(twice_q, twice_k, v, 0.3), 0.7 * scaled_dot(q, k, v), atol=2e-6)
    np.testing.assert_allclose(differential(twice_q, twice_k, v, 1.0), 0, atol=2e-6)
    other = differential(np.hstack([q, q[::-1]]), np.hstack([k, -k]), np.ones((30, 2), np.float32), 0.4)
    np.testing.assert_allclose(other, 0.6, atol=2e-6)


def test_lambda_follows_its_two_formulas() -> None:
    assert math.isclose(lambda_init(1), 0.2)
    assert math.isclose(lambda_init(200), 0.8)
    zeros = np.zeros(4)
    assert lambda_of(zeros, zeros, zeros, zeros, 0.35) == 0.35
    assert math.isclose(lambda_of([1, 0], [0.5, 9], [0, 2], [3, 0.25], 0.2), math.exp(0.5) - math.exp(0.5) + 0.2)


@pytest.mark.parametrize("shape", [(14,), (9, 14)])
def test_open_gate_passes_closed_gate_blocks(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    q, k, v = normal(rng, 9, 8), normal(rng, 14, 8), normal(rng, 14, 3)
    opened = np.full(shape, np.inf, np.float32)
    np.testing.assert_array_equal(differential(q, k, v, 0.5, gate=opened), differential(q, k, v, 0.5))
    assert not differential(q, k, v, 0.5, gate=-opened).any()


def test_a_warm_workspace_allocates_nothing() -> None:
    rng = np.random.default_rng(0)
    q, k, v = normal(rng, 500, 64), normal(rng, 500, 64), normal(rng, 500, 64)
    out, workspace, gate = np.empty((500, 64), np.float32), Workspace(), normal(rng, 500)
    assert allocated(lambda: differential(q, k, v, 0.5, out=out, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: differential(q, k, v, 0.5, gate=gate, out=out, workspace=workspace)) < STEP_BYTES
