"""Rows of the attention kernels. Limits are the products at sgemm's rate plus the exponentials at `np.exp`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels.attention.block_sparse import block_sparse, plan, strided
from edgenet_node.kernels.attention.differential import differential
from edgenet_node.kernels.attention.flash import flash
from edgenet_node.kernels.attention.linear import directions, linear
from edgenet_node.kernels.attention.local_global import local_global
from edgenet_node.kernels.attention.moe import Experts, moe, route
from edgenet_node.kernels.attention.multi_head import Projections, fold, multi_head
from edgenet_node.kernels.attention.scaled_dot import importance, scaled_dot, weights
from edgenet_node.kernels.attention.workspace import Array, Workspace

from .case import Case, Factory, Roofline, Run

WINDOW = 64
EXPERTS = 4
CHOSEN = 2
BLOCK = 64
STRIDE = 8


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def square(count: int, width: int, queries: int | None = None) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(count + width)
    shapes = [(count if queries is None else queries, width), (count, width), (count, width)]
    query, key, value = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return query, key, value


def limit(products: float, powers: float) -> Callable[[Roofline], float]:
    return lambda machine: machine.flops_us(products) + machine.exp_us(powers)


def compiled(name: str) -> Callable[..., Any]:
    from edgenet_node.kernels.compiled import attention as fast

    function: Callable[..., Any] = getattr(fast, name)
    return function


def dot(count: int, width: int, queries: int | None = None, *, fast: bool = False) -> Factory:
    def build() -> Run:
        query, key, value = square(count, width, queries)
        function = compiled("scaled_dot") if fast else scaled_dot
        out, workspace = np.empty_like(query), Workspace()
        return lambda: function(query, key, value, out=out, workspace=workspace)

    return build


def torch_dot(
    count: int, width: int, queries: int | None = None, *, causal: bool = False, dimensions: int = 4
) -> Factory:
    """torch's function on (n, d) arrays as ours takes them, or on (1, 1, n, d), the form for which it has a fused
    kernel on a CPU."""

    def build() -> Run:
        import torch

        torch.set_num_threads(1)
        query, key, value = (torch.from_numpy(x)[(None,) * (dimensions - 2)] for x in square(count, width, queries))

        def run() -> Any:
            with torch.inference_mode():
                return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

        return run

    return build


def layer(width: int, heads: int) -> Projections:
    return fold(*(normal(width, width + number)[:, :width] / np.sqrt(width) for number in range(4)), heads=heads)


def heads_of(count: int, width: int, queries: int | None = None) -> Factory:
    def build() -> Run:
        query, key, _ = square(count, width, queries)
        projections, out, workspace = layer(width, 4), np.empty_like(query), Workspace()
        first = key if queries is None else query
        return lambda: multi_head(projections, first, key, key, out=out, workspace=workspace)

    return build


def torch_heads(count: int, width: int, queries: int | None = None) -> Factory:
    def build() -> Run:
        import torch

        torch.set_num_threads(1)
        query, key, _ = (torch.from_numpy(x)[None] for x in square(count, width, queries))
        module = torch.nn.MultiheadAttention(width, 4, bias=False, batch_first=True).eval()
        first = key if queries is None else query

        def run() -> Any:
            with torch.inference_mode():
                return module(first, key, key, need_weights=False)

        return run

    return build


def linear_of(count: int) -> Factory:
    def build() -> Run:
        query, key, value = square(count, 64)
        omega = directions(64, 64, np.random.default_rng(1))
        out, workspace = np.empty_like(query), Workspace()
        return lambda: linear(query, key, value, omega, out=out, workspace=workspace)

    return build


def torch_linear(count: int) -> Factory:
    """The same formula as people write it in torch, with one maximum over all keys."""

    def build() -> Run:
        import torch

        torch.set_num_threads(1)
        query, key, value = (torch.from_numpy(x) for x in square(count, 64))
        basis = torch.from_numpy(directions(64, 64, np.random.default_rng(1))).T.contiguous() * 64**-0.25

        def features(x: Any, dimension: tuple[int, ...]) -> Any:
            exponent = x @ basis - x.square().sum(1, keepdim=True) / 16
            return torch.exp(exponent - exponent.amax(dimension, keepdim=True))

        def run() -> Any:
            with torch.inference_mode():
                phi_query, phi_key = features(query, (1,)), features(key, (0, 1))
                return (phi_query @ (phi_key.T @ value)) / (phi_query @ phi_key.sum(0))[:, None]

        return run

    return build


def flash_of(count: int, *, causal: bool = False) -> Factory:
    def build() -> Run:
        query, key, value = square(count, 64)
        out, workspace = np.empty_like(query), Workspace()
        return lambda: flash(query, key, value, causal=causal, out=out, workspace=workspace)

    return build


def differential_of() -> Run:
    query, key, value = square(100, 64)
    out, workspace = np.empty_like(query), Workspace()
    return lambda: differential(query, key, value, 0.4, out=out, workspace=workspace)


def experts() -> Experts:
    return Experts(
        router=normal(64, EXPERTS),
        query=normal(EXPERTS, 64, 64) / np.float32(64),
        mix=normal(EXPERTS, 64, 64) / np.float32(8),
    )


def moe_of(*, fast: bool = False) -> Factory:
    def build() -> Run:
        query, key, value = square(100, 64)
        function, given = compiled("moe") if fast else moe, experts()
        out, workspace = np.empty_like(query), Workspace()
        return lambda: function(given, query, key, value, CHOSEN, out=out, workspace=workspace)

    return build


def route_of(*, fast: bool = False) -> Factory:
    def build() -> Run:
        function, logits, workspace = compiled("route") if fast else route, normal(100, EXPERTS), Workspace()
        return lambda: function(logits, CHOSEN, workspace=workspace)

    return build


def local_of() -> Run:
    query, key, value = square(1024, 64)
    out, workspace, pinned = np.empty_like(query), Workspace(), np.arange(4)
    return lambda: local_global(query, key, value, WINDOW, pinned, out=out, workspace=workspace)


def pattern_plan() -> Any:
    return plan(strided(4096 // BLOCK, STRIDE), BLOCK, 4096, 4096, causal=True)


def block_sparse_of() -> Run:
    query, key, value = square(4096, 64)
    out, workspace, blocks = np.empty_like(query), Workspace(), pattern_plan()
    return lambda: block_sparse(query, key, value, blocks, out=out, workspace=workspace)


def torch_masked(count: int, allowed: Callable[[], Any]) -> Factory:
    """torch's dense attention under the mask: what one writes there without a kernel of one's own."""

    def build() -> Run:
        import torch

        torch.set_num_threads(1)
        query, key, value = (torch.from_numpy(x)[None, None] for x in square(count, 64))
        mask = torch.from_numpy(allowed())

        def run() -> Any:
            with torch.inference_mode():
                return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        return run

    return build


def local_allowed() -> Any:
    near = np.abs(np.arange(1024)[:, None] - np.arange(1024)[None, :]) <= WINDOW
    near[:4] = near[:, :4] = True
    return near


def weights_of() -> Run:
    query, key, _ = square(100, 64)
    out, workspace = np.empty((100, 100), np.float32), Workspace()
    return lambda: weights(query, key, out=out, workspace=workspace)


def importance_of() -> Run:
    query, key, _ = square(100, 64)
    out, workspace = np.empty(100, np.float32), Workspace()
    return lambda: importance(query, key, out=out, workspace=workspace)


LOCAL_SCORES = 1024 * (2 * WINDOW + 1 + 4)
SPARSE_SCORES = int(strided(4096 // BLOCK, STRIDE).sum()) * BLOCK * BLOCK

CASES = [
    *(
        Case(
            kernel="attention.scaled_dot/1",
            size=f"100x100, d {width}, torch in {dimensions} dimensions",
            numpy=dot(100, width),
            torch=torch_dot(100, width, dimensions=dimensions),
            limit_us=limit(4 * 100 * 100 * width, 1e4),
            seed_target="<100 µs",
            asked_ratio=ratio,
        )
        for width, dimensions, ratio in ((64, 2, 43 / 59), (64, 4, None), (128, 2, 80 / 106), (128, 4, None))
    ),
    Case(
        kernel="attention.scaled_dot/1",
        size="one query, 100 keys, d 64",
        numpy=dot(100, 64, 1),
        fast=dot(100, 64, 1, fast=True),
        torch=torch_dot(100, 64, 1),
        limit_us=limit(4 * 100 * 64, 100),
        seed_target="<100 µs",
    ),
    Case(
        kernel="attention.weights/1",
        size="100x100, d 64",
        numpy=weights_of,
        limit_us=limit(2 * 100 * 100 * 64, 1e4),
    ),
    Case(
        kernel="attention.importance/1",
        size="100x100, d 64",
        numpy=importance_of,
        limit_us=limit(2 * 100 * 100 * 64, 1e4),
    ),
    *(
        Case(
            kernel="attention.multi_head/1",
            size=f"4 heads, 100x100, d {width}",
            numpy=heads_of(100, width),
            torch=torch_heads(100, width),
            limit_us=limit(8 * 100 * width * width + 4 * 100 * 100 * width, 4e4),
            seed_target="<100 µs",
            asked_ratio=ratio,
        )
        for width, ratio in ((64, 112 / 102), (128, 124 / 136))
    ),
    Case(
        kernel="attention.multi_head/1",
        size="4 heads, one query, 100 keys, d 64",
        numpy=heads_of(100, 64, 1),
        torch=torch_heads(100, 64, 1),
        limit_us=15.0,  # of calls, not of arithmetic: about that many numpy calls
        seed_target="<100 µs",
    ),
    *(
        Case(
            kernel="attention.linear/1",
            size=f"n {count}, d 64, 64 features",
            numpy=linear_of(count),
            torch=torch_linear(count),
            limit_us=limit(8 * count * 64 * 64, 2 * 64 * count),
            seed_target="O(n)",
            asked_ratio=ratio,
        )
        for count, ratio in ((100, 45 / 99), (4096, 1.8 / 5.9))
    ),
    Case(
        kernel="attention.flash/1",
        size="4096x4096, d 64",
        numpy=flash_of(4096),
        torch=torch_dot(4096, 64),
        limit_us=limit(4 * 4096 * 4096 * 64, 4096 * 4096),
        seed_target="2 ms (a GPU figure)",
        asked_ratio=48 / 56,
    ),
    Case(
        kernel="attention.flash/1",
        size="4096x4096 causal, d 64",
        numpy=flash_of(4096, causal=True),
        torch=torch_dot(4096, 64, causal=True),
        limit_us=limit(2 * 4096 * 4096 * 64, 4096 * 4096 / 2),
        seed_target="2 ms (a GPU figure)",
    ),
    Case(
        kernel="attention.differential/1",
        size="100x100, d 2x32",
        numpy=differential_of,
        limit_us=limit(6 * 100 * 100 * 64, 2e4),
        asked_ratio=58 / 29,
    ),
    Case(
        kernel="attention.moe/1",
        size="4 experts, top 2, 100x100, d 64",
        numpy=moe_of(),
        fast=moe_of(fast=True),
        limit_us=limit(CHOSEN * (4 * 100 * 64 * 64 + 4 * 100 * 100 * 64), CHOSEN * 1e4),
        asked_ratio=102 / 52,
    ),
    Case(
        kernel="attention.route/1",
        size="100 queries, 4 experts, top 2",
        numpy=route_of(),
        fast=route_of(fast=True),
    ),
    Case(
        kernel="attention.local_global/1",
        size=f"n 1024, d 64, window {WINDOW}, 4 pinned",
        numpy=local_of,
        torch=torch_masked(1024, local_allowed),
        limit_us=limit(4 * LOCAL_SCORES * 64, LOCAL_SCORES),
        seed_target="windowSize",
    ),
    Case(
        kernel="attention.block_sparse/1",
        size=f"n 4096, d 64, blocks of {BLOCK}, strided {STRIDE}",
        numpy=block_sparse_of,
        torch=torch_masked(
            4096,
            lambda: (
                np.repeat(np.repeat(strided(4096 // BLOCK, STRIDE), BLOCK, 0), BLOCK, 1)
                & np.tril(np.ones((4096, 4096), np.bool_))
            ),
        ),
        limit_us=limit(4 * SPARSE_SCORES * 64, SPARSE_SCORES),
        seed_target="O(n √n)",
    ),
]
