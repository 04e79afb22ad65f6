"""Table of the attention kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import edgenet_node.kernels.reference.attention as oracle

from ..attention.block_sparse import block_sparse
from ..attention.differential import differential
from ..attention.flash import flash
from ..attention.linear import linear
from ..attention.local_global import local_global
from ..attention.moe import Experts, moe, route
from ..attention.multi_head import multi_head
from ..attention.scaled_dot import importance, scaled_dot, weights
from .kernel import Arguments, Example, Kernel


def _row(
    function: Callable[..., Any], reference: Callable[..., Any], shapes: str, test: str, compiled: str = ""
) -> Kernel:
    return Kernel(
        function=function,
        reference=reference,
        shapes=shapes,
        dtype="float32",
        test=f"tests/kernels/attention/{test}",
        benchmark="scripts/bench_kernels/attention.py",
        compiled=compiled,
    )


TABLE: Mapping[str, Kernel] = {
    "attention.scaled_dot/1": _row(
        scaled_dot,
        oracle.scaled_dot,
        "query (q, d), key (k, d), value (k, v) -> (q, v)",
        "test_scaled_dot.py",
        "attention:scaled_dot",
    ),
    "attention.weights/1": _row(
        weights, oracle.attention_weights, "query (q, d), key (k, d) -> (q, k)", "test_scaled_dot.py"
    ),
    "attention.importance/1": _row(
        importance, oracle.importance, "query (q, d), key (k, d) -> (k,)", "test_scaled_dot.py"
    ),
    "attention.multi_head/1": _row(
        multi_head,
        oracle.multi_head,
        "projections, query (q, d), key (k, d), value (k, d) -> (q, d)",
        "test_multi_head.py",
    ),
    "attention.flash/1": _row(flash, oracle.flash, "query (q, d), key (k, d), value (k, v) -> (q, v)", "test_flash.py"),
    "attention.linear/1": _row(
        linear, oracle.linear, "query (q, d), key (k, d), value (k, v), omega (m, d) -> (q, v)", "test_linear.py"
    ),
    "attention.local_global/1": _row(
        local_global,
        oracle.local_global,
        "query, key (n, d), value (n, v), window, pinned (g,) -> (n, v)",
        "test_sparse.py",
    ),
    "attention.block_sparse/1": _row(
        block_sparse, oracle.block_sparse, "query (q, d), key (k, d), value (k, v), plan -> (q, v)", "test_sparse.py"
    ),
    "attention.differential/1": _row(
        differential,
        oracle.differential,
        "query (q, 2 d), key (k, 2 d), value (k, v), lambda -> (q, v)",
        "test_differential.py",
    ),
    "attention.moe/1": _row(
        moe,
        oracle.moe,
        "experts, query (q, d), key (k, h), value (k, v), k -> (q, d)",
        "test_moe.py",
        "attention:moe",
    ),
    "attention.route/1": _row(
        route, oracle.route, "logits (n, e), k -> (n, k), (n, k), (n, e)", "test_moe.py", "attention:route"
    ),
}


def _normal(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def _few_queries(rng: np.random.Generator) -> Arguments:
    return (_normal(rng, 1, 16), _normal(rng, 9, 16), _normal(rng, 9, 8)), {}


def _route(rng: np.random.Generator) -> Arguments:
    return (_normal(rng, 6, 4), 2), {}


def _experts(rng: np.random.Generator) -> Arguments:
    query = _normal(rng, 4, 8, 6) / np.float32(math.sqrt(8 * 6))
    experts = Experts(router=_normal(rng, 8, 4), query=query, mix=_normal(rng, 4, 5, 8))
    return (experts, _normal(rng, 7, 8), _normal(rng, 9, 6), _normal(rng, 9, 5), 2), {}


EXAMPLES: Mapping[str, Example] = {
    "attention.scaled_dot/1": _few_queries,
    "attention.route/1": _route,
    "attention.moe/1": _experts,
}
