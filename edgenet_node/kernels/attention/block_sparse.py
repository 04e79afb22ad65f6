"""Block-sparse attention: a pattern says which blocks of keys each block of queries sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .gate import score_bias, tile
from .scaled_dot import scale
from .softmax import Piece, attend_pieces
from .workspace import Array, Workspace

Pattern = npt.NDArray[np.bool_]


def strided(blocks: int, stride: int) -> Pattern:
    """Causal pattern (blocks, blocks): the last `stride` blocks, and every stride-th before (Child et al. 2019,
    "Sparse Transformers", section 4.2). With stride about sqrt(blocks) a row sees O(sqrt(blocks)) blocks, and any
    earlier block is reached in two layers."""
    behind = np.arange(blocks)[:, None] - np.arange(blocks)[None, :]
    pattern: Pattern = (behind >= 0) & ((behind < stride) | (behind % stride == 0))
    return pattern


def fixed(blocks: int, stride: int, summaries: int = 1) -> Pattern:
    """Causal pattern (blocks, blocks): the row's own group of `stride` blocks, and the last `summaries` blocks of every
    earlier group, which gather it for the rest (the same, section 4.2). Any earlier block is reached in two layers."""
    row, column = np.arange(blocks)[:, None], np.arange(blocks)[None, :]
    pattern: Pattern = (column <= row) & ((row // stride == column // stride) | (column % stride >= stride - summaries))
    return pattern


class BlockPlan(Struct, frozen=True, eq=False):
    """A pattern made ready by `plan`: for each block of queries its rows, and the spans of keys that they see; spans
    on the diagonal of a causal plan are apart, one block each."""

    queries: int
    keys: int
    block: int
    rows: tuple[slice, ...]
    spans: tuple[tuple[slice, ...], ...]
    diagonals: tuple[slice | None, ...]


def plan(pattern: Pattern, block: int, queries: int, keys: int, *, causal: bool = False) -> BlockPlan:
    """Cut `queries` and `keys` into blocks of `block` (the last may be shorter) and join neighbouring blocks of
    `pattern` (blocks of queries, blocks of keys) into spans. `causal` hides the keys j > i, also within a block.

    `UsageError` if the pattern has other numbers of blocks. O(size of the pattern); once per pattern, not per call.
    """
    shape = (-(-queries // block), -(-keys // block))
    if pattern.shape != shape:
        raise UsageError(f"the pattern is {pattern.shape}; {queries} queries and {keys} keys in {block}s make {shape}")
    rows, spans, diagonals = [], [], []
    for number in range(shape[0]):
        rows.append(slice(number * block, min((number + 1) * block, queries)))
        seen = pattern[number].copy()
        diagonal = None
        if causal:
            if number < shape[1] and seen[number]:
                diagonal = slice(number * block, min((number + 1) * block, keys))
            seen[number:] = False
        edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
        pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        spans.append(tuple(slice(start * block, min(stop * block, keys)) for start, stop in pairs))
        diagonals.append(diagonal)
    return BlockPlan(
        queries=queries, keys=keys, block=block, rows=tuple(rows), spans=tuple(spans), diagonals=tuple(diagonals)
    )


def block_sparse(
    query: Array,
    key: Array,
    value: Array,
    blocks: BlockPlan,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`softmax(Q K^T / sqrt d)` over the keys that the plan shows each query, times V.

    query (n_q, d), key (n_k, d), value (n_k, d_v) with the plan's n_q and n_k -> (n_q, d_v), float32. A query that sees
    no key gets zeros; with all blocks it is full attention. O(s (d + d_v)) for s scores seen; scratch memory
    O(n_q d + block n_k). `UsageError` if the plan is for other lengths.
    """
    workspace = Workspace() if workspace is None else workspace
    if (query.shape[0], key.shape[0]) != (blocks.queries, blocks.keys):
        raise UsageError(f"a plan for {blocks.queries} queries and {blocks.keys} keys does not fit these arrays")
    scaled = scale(query, workspace)
    bias = None if gate is None else score_bias(gate, None, blocks.queries, blocks.keys, workspace)
    if out is None:
        out = np.empty((query.shape[0], value.shape[1]), np.float32)
    later = _later(blocks.block, workspace)
    for rows, spans, diagonal in zip(blocks.rows, blocks.spans, blocks.diagonals, strict=True):
        pieces = [
            Piece(key=key[span], value=value[span], bias=None if bias is None else tile(bias, span, rows))
            for span in spans
        ]
        if diagonal is not None:
            part = later[: diagonal.stop - diagonal.start, : rows.stop - rows.start]
            if bias is not None:
                part = np.add(part, tile(bias, diagonal, rows), out=workspace.floats("diagonal", part.shape))
            pieces.append(Piece(key=key[diagonal], value=value[diagonal], bias=part))
        attend_pieces(scaled[rows], pieces, out[rows], workspace)
    return out


def _later(block: int, workspace: Workspace) -> Array:
    """Bias (block, block) that hides the keys after each query."""
    bias = workspace.floats("later", (block, block))
    steps = workspace.steps(block)
    bias[:] = 0
    np.copyto(
        bias,
        np.float32(-np.inf),
        where=np.greater(steps[:, None], steps, out=workspace.flags("is later", bias.shape)),
    )
    return bias
