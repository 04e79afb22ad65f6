"""Attention against torch: `scaled_dot_product_attention` and `MultiheadAttention` with the same weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels.attention.block_sparse import block_sparse, plan, strided
from edgenet_node.kernels.attention.differential import differential
from edgenet_node.kernels.attention.flash import flash
from edgenet_node.kernels.attention.linear import directions, linear
from edgenet_node.kernels.attention.local_global import local_global
from edgenet_node.kernels.attention.multi_head import fold, multi_head
from edgenet_node.kernels.attention.scaled_dot import importance, scaled_dot
from edgenet_node.kernels.attention.workspace import Array

torch: Any = pytest.importorskip("torch", reason="compares with torch, which the extra group brings")

SHAPES = [(1, 1, 1, 1), (1, 100, 64, 64), (100, 100, 64, 64), (100, 100, 128, 32), (37, 300, 16, 8)]
TOLERANCE = 1e-5  # the target of the feature page


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def inputs(shape: tuple[int, int, int, int]) -> tuple[np.random.Generator, Array, Array, Array]:
    queries, keys, width, depth = shape
    rng = np.random.default_rng(queries + keys)
    return rng, normal(rng, queries, width), normal(rng, keys, width), normal(rng, keys, depth)


def torch_attention(query: Array, key: Array, value: Array, **options: Any) -> Array:
    with torch.inference_mode():
        given = (torch.from_numpy(np.ascontiguousarray(x)) for x in (query, key, value))
        answer: Array = torch.nn.functional.scaled_dot_product_attention(*given, **options).numpy()
    return answer


def torch_mask(allowed: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    return torch.from_numpy(allowed)


@pytest.mark.parametrize("shape", SHAPES)
def test_scaled_dot_with_and_without_a_mask(shape: tuple[int, int, int, int]) -> None:
    rng, q, k, v = inputs(shape)
    np.testing.assert_allclose(scaled_dot(q, k, v), torch_attention(q, k, v), atol=TOLERANCE)
    mask = normal(rng, shape[0], shape[1]) * 3
    wanted = torch_attention(q, k, v, attn_mask=torch.from_numpy(mask))
    np.testing.assert_allclose(scaled_dot(q, k, v, mask=mask), wanted, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [1e-10, 30.0, 1e6])
def test_scaled_dot_over_sizes_of_scores(scale: float) -> None:
    _, q, k, v = inputs((40, 60, 32, 8))
    q *= np.float32(scale)
    np.testing.assert_allclose(scaled_dot(q, k, v), torch_attention(q, k, v), atol=TOLERANCE * max(1.0, scale / 10))


@pytest.mark.parametrize("shape", SHAPES)
def test_flash_plain_and_causal(shape: tuple[int, int, int, int]) -> None:
    _, q, k, v = inputs(shape)
    np.testing.assert_allclose(flash(q, k, v, tile_queries=16, tile_keys=48), torch_attention(q, k, v), atol=TOLERANCE)
    wanted = torch_attention(q, k, v, is_causal=True)  # torch aligns the first query with the first key
    np.testing.assert_allclose(flash(q, k, v, causal=True, tile_queries=16, tile_keys=48), wanted, atol=TOLERANCE)


def test_flash_over_four_thousand_keys() -> None:
    _, q, k, v = inputs((4096, 4096, 64, 64))
    np.testing.assert_allclose(flash(q, k, v), torch_attention(q, k, v), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("heads", "width", "queries"), [(4, 64, 100), (4, 128, 100), (4, 64, 1), (1, 8, 5), (6, 24, 3)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_with_the_weights_of_torchs_layer(heads: int, width: int, queries: int, masked: bool) -> None:
    torch.manual_seed(width + heads)
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_bias.normal_()  # they start at zero, and would not be tested; the key's third has no effect
        theirs.out_proj.bias.normal_()
    w_query, w_key, w_value = theirs.in_proj_weight.detach().numpy().reshape(3, width, width)
    b_query, _, b_value = theirs.in_proj_bias.detach().numpy().reshape(3, width)
    ours = fold(
        w_query,
        w_key,
        w_value,
        theirs.out_proj.weight.detach().numpy(),
        heads=heads,
        query_bias=b_query,
        value_bias=b_value,
        mix_bias=theirs.out_proj.bias.detach().numpy(),
    )
    rng, q, k, v = inputs((queries, 100, width, width))
    mask = normal(rng, queries, 100) if masked else None
    with torch.inference_mode():
        wanted, weights = theirs(
            *(torch.from_numpy(x)[None] for x in (q, k, v)),
            attn_mask=None if mask is None else torch.from_numpy(mask),
            need_weights=True,
        )
    np.testing.assert_allclose(multi_head(ours, q, k, v, mask=mask), wanted[0].numpy(), atol=TOLERANCE)
    if heads == 1:
        projected = q @ w_query.T + b_query, k @ w_key.T
        np.testing.assert_allclose(importance(*projected, mask=mask), weights[0].numpy().mean(axis=0), atol=TOLERANCE)


def test_linear_comes_close_to_softmax_with_many_features() -> None:
    _, q, k, v = inputs((50, 80, 16, 8))
    q, k = 0.5 * q, 0.5 * k
    got = np.mean([linear(q, k, v, directions(16, 4096, np.random.default_rng(seed))) for seed in range(8)], axis=0)
    np.testing.assert_allclose(got, torch_attention(q, k, v), atol=0.02)


def test_sparse_patterns_are_torchs_attention_under_their_masks() -> None:
    _, q, k, v = inputs((200, 200, 16, 8))
    distance = np.arange(200)[:, None] - np.arange(200)[None, :]
    pinned = np.zeros(200, np.bool_)
    pinned[[3, 150]] = True
    allowed = (np.abs(distance) <= 11) | pinned[:, None] | pinned[None, :]
    wanted = torch_attention(q, k, v, attn_mask=torch_mask(allowed))
    np.testing.assert_allclose(local_global(q, k, v, 11, np.array([3, 150])), wanted, atol=TOLERANCE)
    pattern = strided(13, 4)
    shown = np.repeat(np.repeat(pattern, 16, axis=0), 16, axis=1)[:200, :200] & (distance >= 0)
    wanted = torch_attention(q, k, v, attn_mask=torch_mask(shown))
    np.testing.assert_allclose(block_sparse(q, k, v, plan(pattern, 16, 200, 200, causal=True)), wanted, atol=TOLERANCE)


def test_differential_is_the_difference_of_two_of_torchs() -> None:
    _, q, k, v = inputs((30, 40, 32, 8))
    first, second = (torch_attention(q[:, half], k[:, half], v) for half in (slice(0, 16), slice(16, 32)))
    np.testing.assert_allclose(differential(q, k, v, 0.35), first - 0.35 * second, atol=TOLERANCE)


def test_a_gate_is_a_mask_of_its_log_sigmoid() -> None:
    rng, q, k, v = inputs((30, 40, 32, 8))
    gate = normal(rng, 30, 40) * 4
    mask = torch.nn.functional.logsigmoid(torch.from_numpy(gate))
    wanted = torch_attention(q, k, v, attn_mask=mask, scale=1 / math.sqrt(32))
    np.testing.assert_allclose(scaled_dot(q, k, v, gate=gate), wanted, atol=TOLERANCE)
    np.testing.assert_allclose(flash(q, k, v, gate=gate, tile_keys=7), wanted, atol=TOLERANCE)
