"""Element-wise steps over ranges, and the activations."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...errors import UsageError
from ..transformer import GELU_SCALE_IN, GELU_SCALE_OUT, gelu_scaled
from .workspace import Array, Workspace

Operation = Literal["add", "multiply", "relu", "sigmoid"]
BLOCK = 48 * 1024  # elements per step: three buffers of 192 KiB stay in a 1 MiB second-level cache


def vector_op(
    operation: Operation, x: Array, y: Array | None = None, *, start: int = 0, stop: int | None = None, out: Array
) -> Array:
    """`out[start:stop] = operation(x[start:stop], y[start:stop])`; the rest of `out` is left as it is. (n,) float32.

    `add` x + y, `multiply` x y, `relu` max(x, 0), `sigmoid` 1 / (1 + e^-x); the last two take no y. Ranges of one array
    may be done in any order, by several callers, and give what one call gives. `out` may be x. `UsageError` for a sum
    or product of one. O(stop - start).
    """
    some = slice(start, stop)
    target = out[some]
    if operation == "relu":
        np.maximum(x[some], np.float32(0), out=target)
    elif operation == "sigmoid":
        sigmoid(x[some], target)
    elif y is None:
        raise UsageError(f"{operation} takes two vectors")
    else:
        (np.add if operation == "add" else np.multiply)(x[some], y[some], out=target)
    return out


def sigmoid(x: Array, out: Array) -> None:
    """`1 / (1 + e^-x)`, within 3e-7 relative (absolute below 1e-37). An e^-x that overflows gives the limit, 0."""
    np.negative(x, out=out)
    with np.errstate(over="ignore"):
        np.exp(out, out=out)
    np.add(out, np.float32(1), out=out)
    np.reciprocal(out, out=out)


def silu(x: Array, *, out: Array | None = None) -> Array:
    """`x / (1 + e^-x)` (Elfwing, Uchibe and Doya 2018), any shape, float32. `out`: C-contiguous, not x. Within 4e-7
    relative (absolute 3e-37, since e^-x overflows from x = -88.7 on). O(n); in blocks that stay in the cache."""
    out = np.empty(x.shape, np.float32) if out is None else out
    source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    for start in range(0, target.size, BLOCK):
        part, result = source[start : start + BLOCK], target[start : start + BLOCK]
        sigmoid(part, result)
        np.multiply(result, part, out=result)
    return out


def gelu(x: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`x/2 (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel 2016), any shape, float32. `out`: C-contiguous, may be x.

    Within 3e-7 of it relative to max(1, |x|): the polynomial and its source are in `transformer.gelu_scaled`. O(n); in
    blocks that stay in the cache.
    """
    workspace = Workspace() if workspace is None else workspace
    out = np.empty(x.shape, np.float32) if out is None else out
    scratch = workspace.floats("gelu", 2, BLOCK)
    source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    with np.errstate(over="ignore"):
        for start in range(0, target.size, BLOCK):
            part = target[start : start + BLOCK]
            np.multiply(source[start : start + BLOCK], np.float32(GELU_SCALE_IN), out=part)
            gelu_scaled(part, scratch)
            np.multiply(part, np.float32(GELU_SCALE_OUT), out=part)
    return out
