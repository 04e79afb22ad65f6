"""Multi-head attention with its projections, in two orders of the same products."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .gate import score_bias
from .softmax import attend
from .workspace import Array, Workspace


class Projections(Struct, frozen=True, eq=False):
    """Weights of one attention layer, folded by `fold`; `(in, out)`, heads side by side in blocks of d / h columns."""

    heads: int
    packed: Array  # (d, 3 d): queries times 1/sqrt(d/h), keys, values
    query_bias: Array  # (d,), scaled alike
    mix: Array  # (d, d), the output projection
    mix_bias: Array  # (d,), holds the value bias too


def fold(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    mix: npt.ArrayLike,
    *,
    heads: int,
    query_bias: npt.ArrayLike | None = None,
    value_bias: npt.ArrayLike | None = None,
    mix_bias: npt.ArrayLike | None = None,
) -> Projections:
    """`Projections` from matrices (d, d) laid out (out, in), as torch stores them, and biases (d,).

    There is no key bias: it adds the same to all scores of a query and drops out of softmax. The value bias passes
    through the weights, which sum to one, into the output's. `UsageError` if the heads do not divide the width.
    """
    w_query, w_key, w_value, w_mix = (np.asarray(matrix, np.float64) for matrix in (query, key, value, mix))
    width = w_query.shape[0]
    if heads < 1 or width % heads:
        raise UsageError(f"{heads} heads do not divide a width of {width}")
    if any(matrix.shape != (width, width) for matrix in (w_query, w_key, w_value, w_mix)):
        raise UsageError(f"projections of a width of {width} are ({width}, {width}) each")
    zeros = np.zeros(width)
    b_query, b_value, b_mix = (
        zeros if b is None else np.asarray(b, np.float64) for b in (query_bias, value_bias, mix_bias)
    )
    factor = 1.0 / math.sqrt(width // heads)
    return Projections(
        heads=heads,
        packed=np.concatenate([w_query.T * factor, w_key.T, w_value.T], axis=1).astype(np.float32),
        query_bias=(b_query * factor).astype(np.float32),
        mix=np.ascontiguousarray(w_mix.T, np.float32),
        mix_bias=(w_mix @ b_value + b_mix).astype(np.float32),
    )


def multi_head(
    projections: Projections,
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array | None = None,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`concat(head_1 .. head_h) W_O + b_O`, `head_i = softmax(Q_i K_i^T / sqrt(d/h) + mask) V_i` of the projected
    inputs (Vaswani et al. 2017, section 3.2.2).

    query (n_q, d), key and value (n_k, d) -> (n_q, d), float32. `mask` and `gate`, shared by the heads, as in
    `scaled_dot`; a query that may see no key gets zeros. O((n_q + n_k) d^2 + n_q n_k d) for many queries. For few, keys
    and values are never projected: q (X W)^T = (q W^T) X^T, O(h n_q n_k d), which a decision with one query wants.
    """
    workspace = Workspace() if workspace is None else workspace
    (queries, width), keys = query.shape, key.shape[0]
    bias = None
    if mask is not None or gate is not None:
        bias = score_bias(gate, mask, queries, keys, workspace)
    if out is None:
        out = np.empty((queries, width), np.float32)
    if not keys:
        out[:] = 0
        return out
    context = workspace.floats("context", (queries, width))
    if 2 * projections.heads * queries <= width:
        _few_queries(projections, query, key, value, bias, context, workspace)
    else:
        _many_queries(projections, query, key, value, bias, context, workspace)
    np.matmul(context, projections.mix, out=out)
    np.add(out, projections.mix_bias, out=out)
    if bias is not None:
        _silence_blocked(bias, out, workspace)
    return out


def _many_queries(
    projections: Projections,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    context: Array,
    workspace: Workspace,
) -> None:
    """All three projections, then attention over (h, n, d/h) views of them."""
    heads, packed, width = projections.heads, projections.packed, query.shape[1]
    if query is key and key is value:
        projected = np.matmul(query, packed, out=workspace.floats("projected", (query.shape[0], 3 * width)))
        q, k, v = projected[:, :width], projected[:, width : 2 * width], projected[:, 2 * width :]
    else:
        q = np.matmul(query, packed[:, :width], out=workspace.floats("projected query", query.shape))
        k = np.matmul(key, packed[:, width : 2 * width], out=workspace.floats("projected key", key.shape))
        v = np.matmul(value, packed[:, 2 * width :], out=workspace.floats("projected value", value.shape))
    np.add(q, projections.query_bias, out=q)
    attend(_split(q, heads), _split(k, heads), _split(v, heads), bias, _split(context, heads), workspace)


def _split(x: Array, heads: int) -> Array:
    """(n, d) seen as (h, n, d / h)."""
    return x.reshape(x.shape[0], heads, x.shape[1] // heads).transpose(1, 0, 2)


def _few_queries(
    projections: Projections,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    context: Array,
    workspace: Workspace,
) -> None:
    """The key projection moved to the queries and the value projection behind the sum: every head and query is one row
    of a plain attention over the raw keys and values."""
    heads, (queries, width), keys = projections.heads, query.shape, key.shape[0]
    parts = projections.packed.reshape(width, 3, heads, width // heads)
    q = np.matmul(query, projections.packed[:, :width], out=workspace.floats("projected query", query.shape))
    np.add(q, projections.query_bias, out=q)
    turned = workspace.floats("turned query", (heads, queries, width))
    np.matmul(_split(q, heads), parts[:, 1].transpose(1, 2, 0), out=turned)
    if bias is not None and bias.shape[1] > 1:
        repeated = workspace.floats("bias", (keys, heads, queries))
        np.copyto(repeated, bias[:, None, :])
        bias = repeated.reshape(keys, heads * queries)
    mean = workspace.floats("mean value", (heads, queries, width))
    flat = (heads * queries, width)
    attend(turned.reshape(flat), key, value, bias, mean.reshape(flat), workspace)
    np.matmul(mean, parts[:, 2].transpose(1, 0, 2), out=_split(context, heads))


def _silence_blocked(bias: Array, out: Array, workspace: Workspace) -> None:
    """Zero the rows of queries that may see no key: the biases of value and output must not speak for them."""
    best = np.maximum.reduce(bias, axis=0, initial=-np.inf, out=workspace.floats("best", (bias.shape[1],)))
    blocked = np.equal(best, -np.inf, out=workspace.flags("blocked", best.shape))
    np.copyto(out, np.float32(0), where=blocked[:, None])
