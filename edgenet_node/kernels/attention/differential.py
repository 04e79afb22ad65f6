"""Differential attention: what two attention maps have in common is noise, and cancels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .gate import score_bias
from .softmax import attend
from .workspace import Array, Workspace


def differential(
    query: Array,
    key: Array,
    value: Array,
    strength: float,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`(softmax(Q1 K1^T / sqrt d) - lambda softmax(Q2 K2^T / sqrt d)) V` (Ye et al. 2024, "Differential Transformer",
    eq. 1).

    query (n_q, 2 d) and key (n_k, 2 d) hold the two halves side by side, value (n_k, d_v) -> (n_q, d_v), float32.
    `strength` is lambda, see `lambda_of`; with 0 it is `scaled_dot` of the first halves. Weights of a row sum to
    1 - lambda. The gate applies to both maps. The head's normalisation and its factor 1 - lambda_init belong to the
    layer around. O(n_q n_k (2 d + 2 d_v)).
    """
    workspace = Workspace() if workspace is None else workspace
    (queries, width), keys = query.shape, key.shape[0]
    bias = None if gate is None else score_bias(gate, None, queries, keys, workspace)
    scaled = workspace.floats("query", query.shape)
    np.multiply(query, np.float32(1.0 / math.sqrt(max(1, width // 2))), out=scaled)
    both = workspace.floats("both", (2, queries, value.shape[1]))
    attend(_halves(scaled), _halves(key), value, bias, both, workspace)
    if out is None:
        out = np.empty(both.shape[1:], np.float32)
    np.multiply(both[1], np.float32(strength), out=both[1])
    np.subtract(both[0], both[1], out=out)
    return out


def _halves(x: Array) -> Array:
    """(n, 2 d) seen as (2, n, d)."""
    return x.reshape(x.shape[0], 2, x.shape[1] // 2).transpose(1, 0, 2)


def lambda_init(layer: int) -> float:
    """`0.8 - 0.6 exp(-0.3 (l - 1))` for layer l = 1, 2, ... (the same, section 2.1)."""
    return 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))


def lambda_of(
    query_1: npt.ArrayLike, key_1: npt.ArrayLike, query_2: npt.ArrayLike, key_2: npt.ArrayLike, initial: float
) -> float:
    """`exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init` from the learned vectors (d,) (the same, eq. 2)."""
    return math.exp(np.dot(query_1, key_1)) - math.exp(np.dot(query_2, key_2)) + initial
