"""`attention.multi_head/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention.multi_head import Projections, fold, multi_head
from edgenet_node.kernels.attention.scaled_dot import scaled_dot
from edgenet_node.kernels.attention.workspace import Array, Workspace

from .cases import STEP_BYTES, allocated, gate_of, normal, strided

SHARED = Workspace()
Four = tuple[Array, Array, Array, Array]


def layer(rng: np.random.Generator, width: int) -> tuple[Four, Four]:
    matrices = tuple(normal(rng, width, width) / np.float32(np.sqrt(width)) for _ in range(4))
    biases = tuple(normal(rng, width) for _ in range(4))
    return (matrices[0], matrices[1], matrices[2], matrices[3]), (biases[0], biases[1], biases[2], biases[3])


def folded(matrices: Four, biases: Four, heads: int) -> Projections:
    """The key bias is left out: that it makes no difference is part of what is tested."""
    return fold(*matrices, heads=heads, query_bias=biases[0], value_bias=biases[2], mix_bias=biases[3])


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    heads=st.sampled_from([1, 2, 3, 8]),
    size=st.integers(1, 6),
    queries=st.integers(0, 24),
    keys=st.integers(0, 40),
    scale=st.sampled_from([1e-6, 1.0, 30.0]),
    kind=st.sampled_from(["none", "keys", "edges"]),
    layout=st.sampled_from(["C", "F", "strided"]),
)
def test_multi_head_is_the_reference(
    seed: int, heads: int, size: int, queries: int, keys: int, scale: float, kind: str, layout: str
) -> None:
    rng = np.random.default_rng(seed)
    width = heads * size
    matrices, biases = layer(rng, width)
    q, k, v = (strided(normal(rng, n, width) * np.float32(scale), layout) for n in (queries, keys, keys))
    gate = gate_of(rng, kind, queries, keys)
    got = multi_head(folded(matrices, biases, heads), q, k, v, gate=gate, workspace=SHARED)
    wanted = oracle.multi_head(q, k, v, matrices, biases, heads, gate=gate)
    # Scores grow with the square of the inputs' scale, and their error with the scores.
    np.testing.assert_allclose(got, wanted, atol=2e-5 * max(1.0, scale) ** 2 * max(1.0, scale) * np.sqrt(width))


@pytest.mark.parametrize("queries", [1, 2, 7, 8, 9, 40])
def test_both_orders_of_products_agree_where_they_meet(queries: int) -> None:
    """Width 64 with 4 heads changes its way between 8 and 9 queries: each row is the row among 40."""
    rng = np.random.default_rng(1)
    matrices, biases = layer(rng, 64)
    weights = folded(matrices, biases, 4)
    x, context = normal(rng, 40, 64), normal(rng, 30, 64)
    mask = normal(rng, 40, 30)
    mask[mask > 1] = -np.inf
    whole = multi_head(weights, x, context, context, mask=mask)
    got = multi_head(weights, x[:queries], context, context, mask=mask[:queries])
    np.testing.assert_allclose(got, whole[:queries], atol=5e-6)


def test_self_attention_in_one_product_is_the_same() -> None:
    rng = np.random.default_rng(6)
    matrices, biases = layer(rng, 24)
    weights = folded(matrices, biases, 3)
    x = normal(rng, 31, 24)
    np.testing.assert_allclose(multi_head(weights, x, x, x), multi_head(weights, x, x.copy(), x.copy()), atol=5e-6)


def test_one_head_with_unit_projections_is_scaled_dot() -> None:
    rng = np.random.default_rng(7)
    unit = np.eye(16)
    q, k, v = normal(rng, 20, 16), normal(rng, 25, 16), normal(rng, 25, 16)
    np.testing.assert_allclose(
        multi_head(fold(unit, unit, unit, unit, heads=1), q, k, v), scaled_dot(q, k, v), atol=2e-6
    )


def test_heads_are_separate_and_permute_with_their_columns() -> None:
    rng = np.random.default_rng(9)
    (w_q, w_k, w_v, w_o), _ = layer(rng, 12)
    x = normal(rng, 18, 12)
    order = np.concatenate([np.arange(8, 12), np.arange(0, 4), np.arange(4, 8)])
    plain = multi_head(fold(w_q, w_k, w_v, w_o, heads=3), x, x, x)
    turned = multi_head(fold(w_q[order], w_k[order], w_v[order], w_o[:, order], heads=3), x, x, x)
    np.testing.assert_allclose(turned, plain, atol=5e-6)


@pytest.mark.parametrize("queries", [1, 30])
def test_open_gate_passes_closed_gate_silences_even_the_biases(queries: int) -> None:
    rng = np.random.default_rng(3)
    matrices, biases = layer(rng, 32)
    weights = folded(matrices, biases, 4)
    q, k = normal(rng, queries, 32), normal(rng, 22, 32)
    opened = np.full((queries, 22), np.inf, np.float32)
    np.testing.assert_array_equal(multi_head(weights, q, k, k, gate=opened), multi_head(weights, q, k, k))
    assert not multi_head(weights, q, k, k, gate=-opened).any()
    assert not multi_head(weights, q, k, k, gate=np.full(22, -np.inf, np.float32)).any()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    square = np.zeros((10, 10))
    for heads in (0, 3, 20):
        with pytest.raises(UsageError, match="heads"):
            fold(square, square, square, square, heads=heads)
    with pytest.raises(UsageError, match="projections"):
        fold(square, square[:5], square, square, heads=2)


@pytest.mark.parametrize("queries", [1, 500])
def test_a_warm_workspace_allocates_nothing(queries: int) -> None:
    rng = np.random.default_rng(0)
    matrices, biases = layer(rng, 64)
    weights = folded(matrices, biases, 4)
    q, k = normal(rng, queries, 64), normal(rng, 500, 64)
    gate = normal(rng, queries, 500)
    out, workspace = np.empty((queries, 64), np.float32), Workspace()
    assert allocated(lambda: multi_head(weights, q, k, k, out=out, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: multi_head(weights, q, k, k, gate=gate, out=out, workspace=workspace)) < STEP_BYTES
    assert allocated(lambda: multi_head(weights, k, k, k, workspace=workspace)) < STEP_BYTES + k.nbytes
