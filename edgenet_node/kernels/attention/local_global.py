"""Local attention in a window, with some tokens that see all and are seen by all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .gate import score_bias, tile
from .scaled_dot import scale
from .softmax import Piece, attend, attend_pieces
from .workspace import Array, Workspace

BLOCK = 64  # queries per step: wider ones waste more scores outside of the window, narrower ones more calls


def local_global(
    query: Array,
    key: Array,
    value: Array,
    window: int,
    pinned: npt.NDArray[np.intp],
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`softmax(Q K^T / sqrt d)` over the keys with |i - j| <= window or j pinned, times V; pinned queries see all
    (Beltagy et al. 2020, "Longformer", section 3.1, with one set of projections for both).

    query, key (n, d), value (n, d_v) of the same n positions, `pinned` (g,) distinct positions -> (n, d_v), float32. A
    window of n - 1 or more is full attention. A query with all its keys gated out gets zeros.
    O(n (window + g) (d + d_v)), scratch memory O(n d + (window + g) (BLOCK + d)).
    """
    workspace = Workspace() if workspace is None else workspace
    count = query.shape[0]
    window = min(window, count)
    scaled = scale(query, workspace)
    bias = None if gate is None else score_bias(gate, None, count, count, workspace)
    if out is None:
        out = np.empty((count, value.shape[1]), np.float32)
    band = _band(window, workspace)
    pinned_key = _rows(key, pinned, "pinned key", workspace)
    pinned_value = _rows(value, pinned, "pinned value", workspace)
    for first in range(0, count, BLOCK):
        rows = slice(first, min(first + BLOCK, count))
        near = slice(max(0, first - window), min(count, rows.stop + window))
        part = _local_bias(band, bias, rows, near, window, pinned, workspace)
        pieces = [Piece(key=key[near], value=value[near], bias=part)]
        if pinned.size:
            far = None if bias is None else _pinned_bias(bias, pinned, rows, workspace)
            pieces.append(Piece(key=pinned_key, value=pinned_value, bias=far))
        attend_pieces(scaled[rows], pieces, out[rows], workspace)
    if pinned.size:
        _pinned_queries(scaled, key, value, pinned, bias, out, workspace)
    return out


def _band(window: int, workspace: Workspace) -> Array:
    """Bias (BLOCK + 2 window, BLOCK) of a block of queries whose keys start `window` before it: 0 within, -inf
    outside of the window."""
    shape = (BLOCK + 2 * window, BLOCK)
    ahead = np.subtract(
        workspace.steps(max(shape))[: shape[0], None],
        workspace.steps(max(shape))[:BLOCK],
        out=workspace.floats("band", shape),
    )  # position of the key less position of the query, plus the window
    np.subtract(ahead, np.float32(window), out=ahead)
    np.abs(ahead, out=ahead)
    outside = np.greater(ahead, np.float32(window), out=workspace.flags("outside", shape))
    ahead[:] = 0
    np.copyto(ahead, np.float32(-np.inf), where=outside)
    return ahead


def _rows(x: Array, positions: npt.NDArray[np.intp], name: str, workspace: Workspace) -> Array:
    # mode "clip" is what lets numpy write into `out` without a buffer; the positions are in range.
    return np.take(x, positions, axis=0, out=workspace.floats(name, (positions.size, x.shape[1])), mode="clip")


def _local_bias(
    band: Array,
    bias: Array | None,
    rows: slice,
    near: slice,
    window: int,
    pinned: npt.NDArray[np.intp],
    workspace: Workspace,
) -> Array:
    """The band, less the pinned keys (they are a piece of their own and must not count twice), plus the gate."""
    start = near.start - (rows.start - window)
    part = band[start : start + near.stop - near.start, : rows.stop - rows.start]
    inside = [int(p) - near.start for p in pinned if near.start <= p < near.stop]
    if not inside and bias is None:
        return part
    changed = workspace.floats("local bias", part.shape)
    np.copyto(changed, part)
    if bias is not None:
        np.add(changed, tile(bias, near, rows), out=changed)
    for position in inside:
        changed[position] = -np.inf
    return changed


def _pinned_bias(bias: Array, pinned: npt.NDArray[np.intp], rows: slice, workspace: Workspace) -> Array:
    part = bias if bias.shape[1] == 1 else bias[:, rows]
    gathered = workspace.floats("pinned bias", (pinned.size, part.shape[1]))
    for number, position in enumerate(pinned.tolist()):
        gathered[number] = part[position]
    return gathered


def _pinned_queries(
    scaled: Array,
    key: Array,
    value: Array,
    pinned: npt.NDArray[np.intp],
    bias: Array | None,
    out: Array,
    workspace: Workspace,
) -> None:
    """Full attention for the pinned positions' own rows."""
    query = _rows(scaled, pinned, "pinned query", workspace)
    if bias is not None and bias.shape[1] > 1:
        bias = _rows(bias.T, pinned, "pinned bias", workspace).T
    result = workspace.floats("pinned out", (pinned.size, value.shape[1]))
    attend(query, key, value, bias, result, workspace)
    out[pinned] = result
