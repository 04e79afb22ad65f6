"""`attention.moe/1`, `attention.route/1`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention.moe import Experts, Routing, load_balance, moe, route
from edgenet_node.kernels.attention.scaled_dot import scaled_dot
from edgenet_node.kernels.attention.workspace import Array, Workspace

from .cases import EPSILON, STEP_BYTES, allocated, gate_of, normal

SHARED = Workspace()


def experts_of(rng: np.random.Generator, count: int, width: int, inner: int, depth: int) -> tuple[Experts, Array]:
    """Random experts, and their query matrices without the scale."""
    query = normal(rng, count, width, inner) / np.float32(math.sqrt(width))
    experts = Experts(
        router=normal(rng, width, count),
        query=query / np.float32(math.sqrt(inner)),
        mix=normal(rng, count, depth, width) / np.float32(math.sqrt(depth)),
    )
    return experts, query


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 6),
    queries=st.integers(0, 30),
    keys=st.integers(0, 30),
    kind=st.sampled_from(["none", "keys", "edges"]),
    data=st.data(),
)
def test_moe_is_the_reference(seed: int, count: int, queries: int, keys: int, kind: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, count))
    experts, w_query = experts_of(rng, count, 8, 6, 5)
    x, key, value = normal(rng, queries, 8), normal(rng, keys, 6), normal(rng, keys, 5)
    gate = gate_of(rng, kind, queries, keys)
    expert_gate = data.draw(st.sampled_from([None, normal(rng, count), normal(rng, queries, count)]))
    got = moe(experts, x, key, value, k, gate=gate, expert_gate=expert_gate, workspace=SHARED)
    wanted = oracle.moe(x, key, value, experts.router, w_query, experts.mix, k, gate=gate, expert_gate=expert_gate)
    np.testing.assert_allclose(got, wanted, atol=3e-5)


def test_all_experts_are_the_dense_mixture() -> None:
    rng = np.random.default_rng(1)
    experts, w_query = experts_of(rng, 4, 8, 6, 5)
    x, key, value = normal(rng, 25, 8), normal(rng, 30, 6), normal(rng, 30, 5)
    logits = x @ experts.router
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    dense = sum(shares[:, e : e + 1] * (scaled_dot(x @ w_query[e], key, value) @ experts.mix[e]) for e in range(4))
    np.testing.assert_allclose(moe(experts, x, key, value, 4), dense, atol=5e-6)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 20),
    experts=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    kind=st.sampled_from(["none", "keys", "edges"]),
    data=st.data(),
)
def test_route_is_the_reference_and_shares_sum_to_one(
    seed: int, rows: int, experts: int, scale: float, kind: str, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    logits = (np.round(normal(rng, rows, experts) * 4) / 4 * scale).astype(np.float32)  # ties are common
    k = data.draw(st.integers(1, experts))
    gate = gate_of(rng, kind, rows, experts)
    if gate is not None:
        gate[np.isfinite(gate)] = 0  # exact in both precisions, so that ties stay ties
    got = route(logits, k, gate=gate, workspace=SHARED)
    check_routing(logits, k, gate, got)


def check_routing(logits: Array, k: int, gate: Array | None, got: Routing) -> None:
    chosen, shares = oracle.route(logits, k, gate=gate)
    # A logit carries half an eps of its size, and log sigma(0) as much, into the logarithm of a share.
    reach = float(np.abs(logits).max(initial=0.0))
    np.testing.assert_allclose(got.weights, shares, atol=EPSILON * (16 + reach))
    heavy = shares > 1e-30  # float64 still orders probabilities that float32 has rounded to zero
    np.testing.assert_array_equal(got.chosen[heavy], chosen[heavy])
    totals = got.weights.sum(axis=1)
    assert np.all((np.abs(totals - 1) < 1e-5) | (totals == 0))
    assert all(len(set(row)) == k for row in got.chosen.tolist())


def test_ties_go_to_the_lower_number_and_blocked_experts_come_last() -> None:
    logits = np.zeros((2, 4), np.float32)
    got = route(logits, 2)
    assert got.chosen.tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(got.weights, 0.5)
    np.testing.assert_allclose(got.probabilities, 0.25)
    blocked = route(logits, 4, gate=np.array([-np.inf, 0, -np.inf, np.inf], np.float32))
    assert blocked.chosen[:, :2].tolist() == [[3, 1], [3, 1]]
    np.testing.assert_allclose(blocked.weights[0], [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    assert not route(logits, 2, gate=np.full(4, -np.inf, np.float32)).weights.any()


def test_impossible_routes_are_refused() -> None:
    logits = np.zeros((3, 4), np.float32)
    for k in (0, 5):
        with pytest.raises(UsageError, match="choose"):
            route(logits, k)
    with pytest.raises(UsageError, match="gate"):
        route(logits, 2, gate=np.zeros(3, np.float32))


def test_load_balance_is_one_when_even_and_the_number_of_experts_when_one_has_all() -> None:
    even = np.full((8, 4), -50.0, np.float32)
    even[np.arange(8), np.arange(8) % 4] = 0
    assert math.isclose(load_balance(route(even, 1)), 1.0, rel_tol=1e-5)
    one = np.full((8, 4), -50.0, np.float32)
    one[:, 2] = 0
    assert math.isclose(load_balance(route(one, 1)), 4.0, rel_tol=1e-5)
    assert load_balance(route(np.zeros((0, 4), np.float32), 1)) == 0.0


def test_gates_on_edges_and_experts() -> None:
    rng = np.random.default_rng(2)
    experts, _ = experts_of(rng, 3, 8, 6, 5)
    x, key, value = normal(rng, 12, 8), normal(rng, 14, 6), normal(rng, 14, 5)
    opened, open_experts = np.full(14, np.inf, np.float32), np.full(3, np.inf, np.float32)
    plain = moe(experts, x, key, value, 2)
    np.testing.assert_array_equal(moe(experts, x, key, value, 2, gate=opened, expert_gate=open_experts), plain)
    assert not moe(experts, x, key, value, 2, gate=-opened).any()
    assert not moe(experts, x, key, value, 2, expert_gate=-open_experts).any()
    only = np.array([-np.inf, 0, -np.inf], np.float32)
    one = Experts(router=experts.router[:, 1:2], query=experts.query[1:2], mix=experts.mix[1:2])
    np.testing.assert_allclose(moe(experts, x, key, value, 1, expert_gate=only), moe(one, x, key, value, 1), atol=2e-6)


def test_a_warm_workspace_allocates_lists_of_rows_only() -> None:
    rng = np.random.default_rng(0)
    experts, _ = experts_of(rng, 4, 64, 64, 64)
    x, key, value = normal(rng, 500, 64), normal(rng, 500, 64), normal(rng, 500, 64)
    out, workspace = np.empty((500, 64), np.float32), Workspace()
    gate = normal(rng, 500, 500)
    lists = 500 * 2 * 8
    for used in (None, gate):
        call = lambda used=used: moe(experts, x, key, value, 2, gate=used, out=out, workspace=workspace)  # noqa: E731
        assert allocated(call) < 4 * lists + STEP_BYTES  # one matrix of (500, 64) is 128,000 bytes
