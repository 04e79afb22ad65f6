"""Table of the learning kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..learning import adapters, ewc, fisher, lora, replay, reservoir, storage, sum_tree
from ..reference import learning as reference
from .kernel import Arguments, Example, Kernel

ADAPTERS = "tests/kernels/learning/test_lora.py"
KEEPING = "tests/kernels/learning/test_ewc.py"
REPLAY = "tests/kernels/learning/test_replay.py"


def _kernel(
    function: Callable[..., Any],
    oracle: Callable[..., Any],
    shapes: str,
    test: str,
    dtype: str = "float32",
    compiled: str = "",
) -> Kernel:
    return Kernel(
        function=function,
        reference=oracle,
        shapes=shapes,
        dtype=dtype,
        test=test,
        benchmark="scripts/bench_kernels/learning.py",
        compiled=compiled,
    )


TABLE: Mapping[str, Kernel] = {
    "learning.lora_forward/1": _kernel(
        lora.forward,
        reference.lora_forward,
        "(n, d) or (d,), base (n, e), down (r, d), up (r, e) -> (n, e)",
        ADAPTERS,
        compiled="learning:forward",
    ),
    "learning.lora_batched/1": _kernel(
        lora.batched, reference.lora_batched, "(n, d), base (n, e), groups, adapters -> (n, e)", ADAPTERS
    ),
    "learning.lora_gradients/1": _kernel(
        lora.gradients, reference.lora_gradients, "(n, d), (n, e), adapter -> (r, d), (r, e)", ADAPTERS
    ),
    "learning.lora_merge/1": _kernel(
        adapters.merge, reference.lora_merge, "weighted adapters -> adapter, values left out (k,)", ADAPTERS
    ),
    "learning.lora_quantise/1": _kernel(
        storage.quantise, reference.quantise, "(r, d) -> codes (r, b, 64) int8, scales (r, b)", ADAPTERS
    ),
    "learning.fisher_softmax_layer/1": _kernel(
        fisher.softmax_layer, reference.fisher_softmax_layer, "(n, d), logits (n, c) -> (d, c)", KEEPING
    ),
    "learning.fisher_softmax_adapter/1": _kernel(
        fisher.softmax_adapter,
        reference.fisher_softmax_adapter,
        "(n, d), logits (n, c), adapter -> (r, d), (r, c)",
        KEEPING,
    ),
    "learning.fisher_gaussian_adapter/1": _kernel(
        fisher.gaussian_adapter, reference.fisher_gaussian_adapter, "(n, d), adapter -> (r, d), (r, e)", KEEPING
    ),
    "learning.ewc_penalty/1": _kernel(ewc.penalty, reference.ewc_penalty, "three of (p,) -> float", KEEPING),
    "learning.ewc_gradient/1": _kernel(ewc.gradient, reference.ewc_gradient, "three of (p,) -> (p,)", KEEPING),
    "learning.sum_tree_refresh/1": _kernel(
        sum_tree.refresh,
        reference.sum_tree_refresh,
        "tree (2c,), slots (m,), weights (m,); writes the tree",
        REPLAY,
        "float64",
        "learning:refresh",
    ),
    "learning.sum_tree_find/1": _kernel(
        sum_tree.find,
        reference.sum_tree_find,
        "tree (2c,), targets (m,) -> (m,) intp",
        REPLAY,
        "float64",
        "learning:find",
    ),
    "learning.replay_importance/1": _kernel(
        replay.importance, reference.replay_importance, "(m,), total, count, beta -> (m,)", REPLAY, "float64"
    ),
    "learning.reservoir/1": _kernel(
        reservoir.offer, reference.reservoir, "state -> state, slot or None", REPLAY, "float64"
    ),
}


def _tree(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Eight leaves, their sums above them."""
    tree = np.zeros(16)
    tree[8:] = rng.random(8)
    for node in range(7, 0, -1):
        tree[node] = tree[2 * node] + tree[2 * node + 1]
    return tree


def _forward(rng: np.random.Generator) -> Arguments:
    normal = rng.standard_normal
    return (
        normal(16, np.float32),
        normal(8, np.float32),
        normal((2, 16), np.float32),
        normal((2, 8), np.float32),
    ), {}


def _find(rng: np.random.Generator) -> Arguments:
    tree = _tree(rng)
    return (tree, rng.random(5) * tree[1]), {}


def _refresh(rng: np.random.Generator) -> Arguments:
    return (_tree(rng), rng.integers(0, 8, 3), rng.random(3)), {}


EXAMPLES: Mapping[str, Example] = {
    "learning.lora_forward/1": _forward,
    "learning.sum_tree_find/1": _find,
    "learning.sum_tree_refresh/1": _refresh,
}
