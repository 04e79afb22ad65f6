"""Flash attention: exact attention in tiles, with memory that does not grow with the number of keys."""

from __future__ import annotations

import numpy as np

from .gate import score_bias, tile
from .scaled_dot import scale
from .softmax import LOWEST, SQUARES_MAX, TINY
from .workspace import Array, Workspace

TILE_QUERIES = 256  # with TILE_KEYS: 512 KiB of scores, which stay in a 1 MiB second-level cache; products of less
TILE_KEYS = 512  # are slower


def flash(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool = False,
    offset: int = 0,
    gate: Array | None = None,
    tile_queries: int = TILE_QUERIES,
    tile_keys: int = TILE_KEYS,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`softmax(Q K^T / sqrt d) V`, tile by tile (Dao et al. 2022, "FlashAttention", algorithm 1).

    query (n_q, d), key (n_k, d), value (n_k, d_v) -> (n_q, d_v), float32. `causal`: query i sees the keys
    j <= i + offset (offset n_k - n_q lets the last query see all, as with a cache of earlier keys); a query that sees
    none gets zeros. Tiles that causality empties are skipped. Each query carries (m, l, o): the largest score so far,
    the sum of exp(s - m), and the same sum over values; a tile with a larger maximum rescales l and o by
    exp(m_old - m_new). Where the scores are moderate m stays 0 (see `softmax`).

    The answer is that of `scaled_dot` for any tile sizes >= 1. O(n_q n_k (d + d_v)); scratch memory
    O(n_q d + tile_queries (tile_keys + d_v)), besides the log of a gate, which is as large as the gate.
    """
    workspace = Workspace() if workspace is None else workspace
    queries, keys = query.shape[0], key.shape[0]
    scaled = scale(query, workspace)
    bias = None if gate is None else score_bias(gate, None, queries, keys, workspace)
    if out is None:
        out = np.empty((queries, value.shape[1]), np.float32)
    for first in range(0, queries, tile_queries):
        rows = slice(first, min(first + tile_queries, queries))
        diagonal = first + offset if causal else keys  # keys up to here (inclusive) are seen by all rows
        seen = max(0, min(keys, rows.stop + offset)) if causal else keys
        spans = _spans(min(seen, diagonal + 1), seen, tile_keys)
        if not _run(scaled, key, value, bias, rows, spans, diagonal, out, workspace):
            _run_online(scaled, key, value, bias, rows, spans, diagonal, out, workspace)
    return out


def _spans(whole: int, seen: int, tile_keys: int) -> list[slice]:
    """Tiles of keys [0, seen), cut where the rows stop seeing all of them so that only short tiles need a mask."""
    whole = max(0, whole)
    spans = [slice(start, min(start + tile_keys, whole)) for start in range(0, whole, tile_keys)]
    return spans + [slice(start, min(start + tile_keys, seen)) for start in range(whole, seen, tile_keys)]


def _scores(
    query: Array, key: Array, bias: Array | None, rows: slice, span: slice, diagonal: int, workspace: Workspace
) -> Array:
    """Transposed scores (keys, queries) of one tile; -inf above the diagonal."""
    shape = (span.stop - span.start, rows.stop - rows.start)
    scores = workspace.floats("scores", shape)
    np.matmul(key[span], query[rows].T, out=scores)
    if bias is not None:
        np.add(scores, tile(bias, span, rows), out=scores)
    if span.stop - 1 > diagonal:
        hidden = workspace.flags("hidden", shape)
        steps = workspace.steps(max(shape))
        np.greater(steps[: shape[0], None], steps[: shape[1]] + np.float32(diagonal - span.start), out=hidden)
        np.copyto(scores, -np.inf, where=hidden)
    return scores


def _run(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    rows: slice,
    spans: list[slice],
    diagonal: int,
    out: Array,
    workspace: Workspace,
) -> bool:
    """One tile of queries with m = 0; False if the sums say that it needs its maxima."""
    part, sums = out[rows], workspace.floats("sums", (rows.stop - rows.start,))
    more, more_sums = workspace.floats("more", part.shape), workspace.floats("more sums", sums.shape)
    part[:] = 0
    sums[:] = 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for span in spans:
            scores = _scores(query, key, bias, rows, span, diagonal, workspace)
            np.exp(scores, out=scores)
            np.matmul(workspace.ones(scores.shape[0]), scores, out=more_sums)
            np.add(sums, more_sums, out=sums)
            if not np.dot(more_sums, more_sums) < SQUARES_MAX:
                return False
            np.matmul(scores.T, value[span], out=more)
            np.add(part, more, out=part)
        not_too_large = np.dot(sums, sums) < SQUARES_MAX
        np.reciprocal(sums, out=sums)
        if not (not_too_large and np.dot(sums, sums) < SQUARES_MAX):
            return False
    np.multiply(part, sums[:, None], out=part)
    return True


def _run_online(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    rows: slice,
    spans: list[slice],
    diagonal: int,
    out: Array,
    workspace: Workspace,
) -> None:
    """One tile of queries with the running maximum: right for scores of any size."""
    part, sums = out[rows], workspace.floats("sums", (rows.stop - rows.start,))
    more, more_sums = workspace.floats("more", part.shape), workspace.floats("more sums", sums.shape)
    highest, before = workspace.floats("highest", sums.shape), workspace.floats("before", sums.shape)
    part[:] = 0
    sums[:] = 0
    highest[:] = LOWEST  # finite, so that a tile with all keys hidden subtracts to -inf and adds nothing
    for span in spans:
        scores = _scores(query, key, bias, rows, span, diagonal, workspace)
        np.copyto(before, highest)
        np.maximum.reduce(scores, axis=0, out=more_sums, initial=LOWEST)
        np.maximum(highest, more_sums, out=highest)
        with np.errstate(
            over="ignore"
        ):  # from the lowest number to a positive one is -inf, whose power is the 0 wanted
            np.subtract(before, highest, out=before)
        np.exp(before, out=before)
        np.subtract(scores, highest, out=scores)
        np.exp(scores, out=scores)
        np.matmul(workspace.ones(scores.shape[0]), scores, out=more_sums)
        np.multiply(sums, before, out=sums)
        np.add(sums, more_sums, out=sums)
        np.multiply(part, before[:, None], out=part)
        np.matmul(scores.T, value[span], out=more)
        np.add(part, more, out=part)
    np.maximum(sums, TINY, out=sums)
    np.reciprocal(sums, out=sums)
    np.multiply(part, sums[:, None], out=part)
