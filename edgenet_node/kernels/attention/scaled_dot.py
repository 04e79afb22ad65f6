"""Scaled dot-product attention, its weights, and what they say about the keys."""

from __future__ import annotations

import math

import numpy as np

from .gate import score_bias
from .softmax import attend, attend_weights
from .workspace import Array, Workspace


def scaled_dot(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array | None = None,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`softmax(Q K^T / sqrt d + mask) V` (Vaswani et al. 2017, "Attention is all you need", eq. 1).

    query (n_q, d), key (n_k, d), value (n_k, d_v) -> (n_q, d_v), float32. `mask`: additive, (n_k,) or (n_q, n_k), -inf
    forbids; `gate`: see `gate`. A query that may see no key gets zeros. O(n_q n_k (d + d_v)), memory O(n_q n_k).
    `UsageError` for a mask or gate of another shape.
    """
    workspace = Workspace() if workspace is None else workspace
    scaled = scale(query, workspace)
    if out is None:
        out = np.empty((query.shape[0], value.shape[1]), np.float32)
    bias = None
    if mask is not None or gate is not None:
        bias = score_bias(gate, mask, query.shape[0], key.shape[0], workspace)
    return attend(scaled, key, value, bias, out, workspace)


def scale(query: Array, workspace: Workspace) -> Array:
    """`Q / sqrt d` in the workspace."""
    factor = np.float32(1.0 / math.sqrt(query.shape[1])) if query.shape[1] else np.float32(1)
    return np.multiply(query, factor, out=workspace.floats("query", query.shape))


def weights(
    query: Array,
    key: Array,
    *,
    mask: Array | None = None,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """The attention weights `softmax(Q K^T / sqrt d + mask)`: (n_q, d), (n_k, d) -> (n_q, n_k), each row a
    distribution over the keys, or zeros where all keys are blocked. Source and options as `scaled_dot`."""
    workspace = Workspace() if workspace is None else workspace
    scores, sums = _weights(query, key, mask, gate, workspace)
    if out is None:
        out = np.empty((query.shape[0], key.shape[0]), np.float32)
    return np.multiply(scores.T, sums[:, None], out=out)


def importance(
    query: Array,
    key: Array,
    *,
    mask: Array | None = None,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """How much attention each key receives on average over the queries: the column means of `weights`, (n_k,).

    Each lies in [0, 1], and they sum to the share of queries that see a key at all. With a text's tokens on both sides
    it says which of them matter. O(n_q n_k d).
    """
    workspace = Workspace() if workspace is None else workspace
    scores, sums = _weights(query, key, mask, gate, workspace)
    if out is None:
        out = np.empty(key.shape[0], np.float32)
    np.multiply(sums, np.float32(1.0 / max(1, query.shape[0])), out=sums)
    return np.matmul(scores, sums, out=out)


def _weights(
    query: Array, key: Array, mask: Array | None, gate: Array | None, workspace: Workspace
) -> tuple[Array, Array]:
    bias = score_bias(gate, mask, query.shape[0], key.shape[0], workspace)
    return attend_weights(scale(query, workspace), key, bias, workspace)
