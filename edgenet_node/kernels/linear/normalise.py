"""Steps that make rows comparable: softmax, RMS norm, layer norm, cosine."""

from __future__ import annotations

import numpy as np

from .workspace import Array, Workspace

SQUARES_MIN, SQUARES_MAX = 1e-30, 1e30  # outside of these, squares in float32 have lost digits: computed in float64


def softmax(x: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`e^(x_i - max x) / sum_j e^(x_j - max x)` over the last axis of (n, d), float32.

    The maximum is subtracted so that nothing overflows; entries 104 or more below it become 0. A row with NaN or
    +infinity, or of -infinities only, becomes NaN. `out` may be x. O(n d).
    """
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(x.shape, np.float32) if out is None else out
    if x.size == 0:
        return out
    row = workspace.floats("row", x.shape[0])
    with np.errstate(invalid="ignore"):
        np.max(x, axis=1, out=row)
        np.subtract(x, row[:, None], out=out)
        np.exp(out, out=out)
        np.matmul(out, workspace.ones(x.shape[1]), out=row)
        np.reciprocal(row, out=row)
        return np.multiply(out, row[:, None], out=out)


def rms_norm(
    x: Array, gain: Array, eps: float = 1e-6, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`x / sqrt(mean(x^2) + eps) * gain` over the last axis of (n, d), gain (d,), float32 (Zhang and Sennrich 2019).
    |x| below 1e18 / sqrt d. `out` may be x. O(n d)."""
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(x.shape, np.float32) if out is None else out
    row = workspace.floats("row", x.shape[0])
    np.vecdot(x, x, out=row)
    _scales(row, x.shape[1], eps)
    np.multiply(x, row[:, None], out=out)
    return np.multiply(out, gain, out=out)


def layer_norm(
    x: Array,
    gain: Array,
    shift: Array,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`(x - mean) / sqrt(variance + eps) * gain + shift` over the last axis of (n, d), gain and shift (d,), float32
    (Ba, Kiros and Hinton 2016). The variance is that of the population, from distances to the mean. `out` may be x.
    |x| below 1e18 / sqrt d. O(n d)."""
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(x.shape, np.float32) if out is None else out
    row = workspace.floats("row", x.shape[0])
    np.matmul(x, workspace.share(x.shape[1]), out=row)
    np.subtract(x, row[:, None], out=out)
    np.vecdot(out, out, out=row)
    _scales(row, x.shape[1], eps)
    np.multiply(out, row[:, None], out=out)
    np.multiply(out, gain, out=out)
    return np.add(out, shift, out=out)


def _scales(row: Array, width: int, eps: float) -> None:
    """Sums of squares to `1 / sqrt(sum / width + eps)`, in place."""
    np.multiply(row, np.float32(1.0 / max(1, width)), out=row)
    np.add(row, np.float32(eps), out=row)
    np.sqrt(row, out=row)
    np.reciprocal(row, out=row)


def cosine(a: Array, b: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`a b / (|a| |b|)` row by row of (n, d) and (n, d) -> (n,), float32; 0 where a row has length 0. O(n d)."""
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(a.shape[0], np.float32) if out is None else out
    if out.size == 0:
        return out
    first, second = workspace.floats("first", out.size), workspace.floats("second", out.size)
    with np.errstate(over="ignore", under="ignore"):
        np.vecdot(a, a, out=first)
        np.vecdot(b, b, out=second)
        if _safe(first) and _safe(second):
            np.vecdot(a, b, out=out)
            np.sqrt(first, out=first)  # each by itself: the product of two squares may be too small for float32
            np.sqrt(second, out=second)
            np.multiply(first, second, out=first)
            return np.divide(out, first, out=out)
    left, right = a.astype(np.float64), b.astype(np.float64)
    lengths = np.sqrt(np.vecdot(left, left)) * np.sqrt(np.vecdot(right, right))
    out[:] = np.divide(np.vecdot(left, right), lengths, out=np.zeros(out.size), where=lengths > 0)
    return out


def _safe(squares: Array) -> bool:
    return bool(squares.min() > SQUARES_MIN and squares.max() < SQUARES_MAX)
