"""Naive float64 oracles of the attention kernels: masks written out, loops where a loop reads best."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def sigmoid(x: npt.ArrayLike) -> F64:
    """`1 / (1 + exp(-x))`, 0 at -inf and 1 at +inf."""
    values = np.asarray(x, np.float64)
    with np.errstate(over="ignore"):
        share: F64 = 1.0 / (1.0 + np.exp(-values))
    return share


def attention_weights(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    gate: npt.ArrayLike | None = None,
    allowed: Bools | None = None,
) -> F64:
    """`w_ij = a_ij sigma(g_ij) exp(s_ij) / sum_j' ...` with s = Q K^T / sqrt d + mask (Vaswani et al. 2017, eq. 1), a
    in {0, 1} what is `allowed`, g the gate's logits. A row with no weight at all is zero."""
    q, k = np.asarray(query, np.float64), np.asarray(key, np.float64)
    scores = q @ k.T / math.sqrt(max(1, q.shape[1]))
    if mask is not None:
        scores = scores + np.broadcast_to(np.asarray(mask, np.float64), scores.shape)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    if gate is not None:
        with np.errstate(divide="ignore"):
            scores = scores + np.log(np.broadcast_to(sigmoid(gate), scores.shape))
    rows = np.zeros_like(scores)
    for i, row in enumerate(scores):
        if row.size and row.max() > -np.inf:
            powers = np.exp(row - row.max())
            rows[i] = powers / powers.sum()
    return rows


def scaled_dot(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    gate: npt.ArrayLike | None = None,
    allowed: Bools | None = None,
) -> F64:
    """`softmax(Q K^T / sqrt d + mask) V` (Vaswani et al. 2017, eq. 1), gated; rows that see nothing are zero."""
    answer: F64 = attention_weights(query, key, mask=mask, gate=gate, allowed=allowed) @ np.asarray(value, np.float64)
    return answer


def importance(
    query: npt.ArrayLike, key: npt.ArrayLike, *, mask: npt.ArrayLike | None = None, gate: npt.ArrayLike | None = None
) -> F64:
    """Column means of the weights: what share of all attention each key receives."""
    rows = attention_weights(query, key, mask=mask, gate=gate)
    shares: F64 = rows.sum(axis=0) / max(1, rows.shape[0])
    return shares


def multi_head(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    matrices: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    biases: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    heads: int,
    *,
    mask: npt.ArrayLike | None = None,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """`concat_i(softmax(Q_i K_i^T / sqrt(d/h)) V_i) W_O^T + b_O` of the projections `x W^T + b` (Vaswani et al. 2017,
    section 3.2.2); `matrices` and `biases` for query, key, value, output, laid out (out, in). A query that may see no
    key has the output zero."""
    w = [np.asarray(matrix, np.float64) for matrix in matrices]
    b = [np.asarray(bias, np.float64) for bias in biases]
    q, k, v = (np.atleast_2d(x).astype(np.float64) @ w[i].T + b[i] for i, x in enumerate((query, key, value)))
    size = q.shape[1] // heads
    columns = [slice(head * size, (head + 1) * size) for head in range(heads)]
    context = np.concatenate([scaled_dot(q[:, c], k[:, c], v[:, c], mask=mask, gate=gate) for c in columns], axis=1)
    sees = attention_weights(q[:, columns[0]], k[:, columns[0]], mask=mask, gate=gate).sum(axis=1) > 0
    answer: F64 = np.where(sees[:, None], context @ w[3].T + b[3], 0.0)
    return answer


def causal(queries: int, keys: int, offset: int) -> Bools:
    """Query i sees the keys j <= i + offset."""
    allowed: Bools = np.arange(keys)[None, :] <= np.arange(queries)[:, None] + offset
    return allowed


def flash(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    causal_offset: int | None = None,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """What flash attention computes (Dao et al. 2022): plain attention, causal where an offset is given."""
    allowed = None
    if causal_offset is not None:
        allowed = causal(np.asarray(query).shape[0], np.asarray(key).shape[0], causal_offset)
    return scaled_dot(query, key, value, gate=gate, allowed=allowed)


def linear(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    omega: npt.ArrayLike,
    *,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """`sum_j phi(q).phi(k_j) v_j / sum_j phi(q).phi(k_j)`, phi(x) = exp(omega x' - |x'|^2 / 2), x' = x d^(-1/4)
    (Choromanski et al. 2021, eq. 5), as a sum over all pairs; the logarithm of each is formed first, so that nothing
    leaves float64's range."""
    q, k = (np.asarray(x, np.float64) for x in (query, key))
    basis, v = np.asarray(omega, np.float64), np.asarray(value, np.float64)
    fourth = max(1, q.shape[1]) ** -0.25
    log_q, log_k = ((x * fourth) @ basis.T - ((x * fourth) ** 2).sum(axis=1)[:, None] / 2 for x in (q, k))
    if gate is not None:
        with np.errstate(divide="ignore"):
            log_k = log_k + np.log(sigmoid(gate))[:, None]
    answer = np.zeros((q.shape[0], v.shape[1]))
    for i in range(q.shape[0]):
        terms = log_q[i] + log_k  # (n_k, m)
        if terms.size and terms.max() > -np.inf:
            kernel = np.exp(terms - terms.max()).sum(axis=1)
            answer[i] = kernel @ v / kernel.sum()
    return answer


def local_global_allowed(count: int, window: int, pinned: npt.ArrayLike) -> Bools:
    """|i - j| <= window, or i pinned, or j pinned (Beltagy et al. 2020)."""
    behind = np.arange(count)[:, None] - np.arange(count)[None, :]
    is_pinned = np.isin(np.arange(count), np.asarray(pinned))
    allowed: Bools = (np.abs(behind) <= window) | is_pinned[:, None] | is_pinned[None, :]
    return allowed


def local_global(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    window: int,
    pinned: npt.ArrayLike,
    *,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """Attention under the mask of a window and pinned tokens (Beltagy et al. 2020, "Longformer", section 3.1)."""
    allowed = local_global_allowed(np.asarray(query).shape[0], window, pinned)
    return scaled_dot(query, key, value, gate=gate, allowed=allowed)


def block_sparse(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    pattern: Bools,
    block: int,
    *,
    is_causal: bool = False,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """Attention under a mask made of blocks (Child et al. 2019, section 4)."""
    queries, keys = np.asarray(query).shape[0], np.asarray(key).shape[0]
    allowed = pattern[np.ix_(np.arange(queries) // block, np.arange(keys) // block)]
    if is_causal:
        allowed = allowed & causal(queries, keys, 0)
    return scaled_dot(query, key, value, gate=gate, allowed=allowed)


def differential(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    strength: float,
    *,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """`(softmax(Q1 K1^T / sqrt d) - lambda softmax(Q2 K2^T / sqrt d)) V` (Ye et al. 2024, eq. 1)."""
    q, k = np.asarray(query, np.float64), np.asarray(key, np.float64)
    half = q.shape[1] // 2
    first = scaled_dot(q[:, :half], k[:, :half], value, gate=gate)
    second = scaled_dot(q[:, half:], k[:, half:], value, gate=gate)
    return first - strength * second


def route(logits: npt.ArrayLike, k: int, *, gate: npt.ArrayLike | None = None) -> tuple[npt.NDArray[np.intp], F64]:
    """The k most probable experts of each row, the lower number first among equals, and their probabilities made to
    sum to one (Shazeer et al. 2017, section 2.1): (n, k), (n, k)."""
    scores = np.asarray(logits, np.float64)
    if gate is not None:
        with np.errstate(divide="ignore"):
            scores = scores + np.log(sigmoid(gate))
    share = np.exp(scores - scores.max(axis=1, keepdims=True, initial=np.finfo(np.float64).min))
    chosen = np.argsort(-share, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(share, chosen, axis=1)
    totals = weights.sum(axis=1, keepdims=True)
    return chosen, np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)


def moe(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    router: npt.ArrayLike,
    query_matrices: npt.ArrayLike,
    mix_matrices: npt.ArrayLike,
    k: int,
    *,
    gate: npt.ArrayLike | None = None,
    expert_gate: npt.ArrayLike | None = None,
) -> F64:
    """`sum_e w_e attention(x W_Q^e, K, V) W_O^e`, every expert computed and weighed, w zero off the k chosen ones
    (Zhang et al. 2022, section 3). Matrices are (in, out); W_Q without the scale."""
    x, w_query, w_mix = (np.asarray(part, np.float64) for part in (query, query_matrices, mix_matrices))
    chosen, shares = route(x @ np.asarray(router, np.float64), k, gate=expert_gate)
    answer = np.zeros_like(x)
    for expert in range(w_query.shape[0]):
        share = np.where(chosen == expert, shares, 0.0).sum(axis=1)
        answer += share[:, None] * (scaled_dot(x @ w_query[expert], key, value, gate=gate) @ w_mix[expert])
    return answer
