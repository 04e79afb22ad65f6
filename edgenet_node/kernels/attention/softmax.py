"""The inner step of the softmax kernels: `softmax(Q K^T + bias) V` for queries that carry their scale.

What makes it fast on numpy, with OpenBLAS on one thread:

- scores lie transposed, S = K Q^T of shape (n_k, n_q): a sum over keys is then a product with ones, one pass over
  whole rows, and S^T V reads S where it lies;
- the output (n_q, d) is normalised, not the weights (n_q, n_k);
- the maximum of a query's scores is subtracted only where it matters. Softmax does not change when a constant is
  added to the scores of a query, so exp(s) serves as long as its sums stay inside of SUMS_MIN..SUMS_MAX, which two dot
  products tell; otherwise the step is done again the safe way. The answers differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from .workspace import Array, Workspace

LOWEST = np.float32(np.finfo(np.float32).min)
TINY = np.float32(np.finfo(np.float32).tiny)
SUMS_MAX = 1e9  # a sum of powers beyond it costs range of the values: they may still be 1e29 in magnitude
SUMS_MIN = 1e-9  # below it, powers that count might already be subnormal
SQUARES_MAX = SUMS_MAX**2  # of the sum of squares of the sums, hence above each of them


def attend(query: Array, key: Array, value: Array, bias: Array | None, out: Array, workspace: Workspace) -> Array:
    """`out = softmax(Q K^T + bias^T) V`: query (..., n_q, d), key (..., n_k, d), value (..., n_k, d_v), out
    (..., n_q, d_v); `bias` broadcasts to (n_k, n_q). Rows without a key that counts are zero. O(n_q n_k (d + d_v)).

    Right while no score, and no n_k times a value, exceeds float32's range (3e38).
    """
    scores, sums = attend_weights(query, key, bias, workspace)
    if scores.ndim == 2:
        np.dot(scores.T, value, out=out)  # as `matmul`, with half the overhead
    else:
        np.matmul(scores.mT, value, out=out)
    return np.multiply(out, sums[..., None], out=out)


def attend_weights(query: Array, key: Array, bias: Array | None, workspace: Workspace) -> tuple[Array, Array]:
    """Transposed unnormalised weights (..., n_k, n_q), and one over their sums (..., n_q)."""
    scores = workspace.floats("scores", (*query.shape[:-2], key.shape[-2], query.shape[-2]))
    sums = workspace.floats("sums", query.shape[:-1])
    np.matmul(key, query.mT, out=scores)
    if bias is not None:
        np.add(scores, bias, out=scores)
    if not powers(scores, sums, workspace):
        np.matmul(key, query.mT, out=scores)
        if bias is not None:
            np.add(scores, bias, out=scores)
        powers_safe(scores, sums, workspace)
    return scores, sums


class Piece(Struct, frozen=True, eq=False):
    """Some keys, their values, and their part of the bias: (keys, 1) or (keys, queries)."""

    key: Array
    value: Array
    bias: Array | None = None


def attend_pieces(query: Array, pieces: Sequence[Piece], out: Array, workspace: Workspace) -> None:
    """`attend` over the keys of all `pieces` together: one softmax, no copy of keys or values. No pieces give zeros."""
    if not pieces:
        out[:] = 0
        return
    if len(pieces) == 1:
        attend(query, pieces[0].key, pieces[0].value, pieces[0].bias, out, workspace)
        return
    scores = workspace.floats("scores", (sum(piece.key.shape[0] for piece in pieces), query.shape[0]))
    sums = workspace.floats("sums", (query.shape[0],))
    _scores_of_pieces(query, pieces, scores)
    if not powers(scores, sums, workspace):
        _scores_of_pieces(query, pieces, scores)
        powers_safe(scores, sums, workspace)
    more, start = workspace.floats("more", out.shape), 0
    for piece in pieces:
        stop = start + piece.key.shape[0]
        np.dot(scores[start:stop].T, piece.value, out=more if start else out)
        if start:
            np.add(out, more, out=out)
        start = stop
    np.multiply(out, sums[:, None], out=out)


def _scores_of_pieces(query: Array, pieces: Sequence[Piece], scores: Array) -> None:
    start = 0
    for piece in pieces:
        part = scores[start : start + piece.key.shape[0]]
        np.dot(piece.key, query.T, out=part)
        if piece.bias is not None:
            np.add(part, piece.bias, out=part)
        start += piece.key.shape[0]


def powers(scores: Array, sums: Array, workspace: Workspace) -> bool:
    """exp of the transposed `scores` in place, and in `sums` one over the sums of its columns; False where a maximum
    should have been subtracted (both are then worthless)."""
    with np.errstate(all="ignore"):
        np.exp(scores, out=scores)
        np.matmul(workspace.ones(scores.shape[-2]), scores, out=sums)
        flat = sums.reshape(-1)
        not_too_large = np.dot(flat, flat) < SQUARES_MAX
        np.reciprocal(sums, out=sums)
        return bool(not_too_large and np.dot(flat, flat) < SQUARES_MAX)


def powers_safe(scores: Array, sums: Array, workspace: Workspace) -> None:
    """The same with the maximum of each column subtracted: right for scores of any size, at 1.3 times the time."""
    # Starting at the lowest finite number keeps "all keys blocked" (-inf - -inf) out of the subtraction.
    np.maximum.reduce(scores, axis=-2, out=sums, initial=LOWEST)
    np.subtract(scores, sums[..., None, :], out=scores)
    np.exp(scores, out=scores)
    np.matmul(workspace.ones(scores.shape[-2]), scores, out=sums)
    np.maximum(sums, TINY, out=sums)
    np.reciprocal(sums, out=sums)
