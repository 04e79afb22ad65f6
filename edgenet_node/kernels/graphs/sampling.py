"""GraphSAGE: a node's estimate from itself and a sample of its neighbours, for nodes never seen in training."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from .diagonals import Diagonals, Scratch, arrange, gather
from .rows import F32, Rows

Aggregator = Literal["mean", "max"]
TINY = np.float32(1e-12)  # a zero vector stays zero when it is brought to unit length


class Workspace:
    """Scratch memory of one caller for graphs of up to `nodes` nodes, `features` in and `width` out."""

    def __init__(self, nodes: int, features: int, width: int) -> None:
        self.heard = np.empty((nodes, features), np.float32)
        self.other = np.empty((nodes, width), np.float32)
        self.scratch = Scratch(nodes, features)


def sample(rows: Rows, size: int, uniforms: npt.NDArray[np.float64]) -> Diagonals:
    """At most `size` neighbours of each node, uniformly without replacement; all of them where there are no more.

    `uniforms` (n, size) in [0, 1), the caller's: the same numbers give the same sample. The first `size` steps of a
    Fisher-Yates shuffle (Knuth, TAOCP 3.4.2 P), each for all nodes at once. O(n size + m).
    """
    degrees = np.diff(rows.starts)
    crowded = np.flatnonzero(degrees > size)
    first, many = rows.starts[crowded], degrees[crowded]
    shuffled = rows.sources.copy()
    for step in range(size):
        # u (d - s) may round up to d - s.
        offset = np.minimum((uniforms[crowded, step] * (many - step)).astype(np.intp), many - step - 1)
        here, there = first + step, first + step + offset
        kept = shuffled[here]
        shuffled[here] = shuffled[there]
        shuffled[there] = kept
    return arrange(rows, shuffled, np.minimum(degrees, size))


def sage(
    x: F32,
    sampled: Diagonals,
    weight_self: F32,
    weight_heard: F32,
    bias: F32 | None = None,
    *,
    aggregator: Aggregator = "mean",
    unit: bool = True,
    out: F32 | None = None,
    workspace: Workspace | None = None,
) -> F32:
    """`h_i = W [x_i | AGG_j x_j] + b`, then `h_i / |h_i|` where `unit` (Hamilton, Ying and Leskovec 2017, algorithm 1).

    `x` (n, f); `weight_self`, `weight_heard` (f, g) are the two halves of W; -> (n, g) float32. AGG is the mean or the
    maximum over the sampled neighbours, zero where there are none. O(n k f + n f g).
    """
    nodes, width = x.shape[0], weight_self.shape[1]
    workspace = Workspace(nodes, x.shape[1], width) if workspace is None else workspace
    out = np.empty((nodes, width), np.float32) if out is None else out
    combine = np.add if aggregator == "mean" else np.maximum
    heard = gather(sampled, x, out=workspace.heard, scratch=workspace.scratch, combine=combine)
    np.matmul(heard, weight_heard, out=workspace.other)
    if aggregator == "mean":  # scaling the product is scaling the mean, on fewer columns when g < f
        counts = np.maximum(sampled.counts[sampled.places], 1).astype(np.float32)
        np.divide(workspace.other, counts[:, None], out=workspace.other)
    np.matmul(x, weight_self, out=out)
    np.add(out, workspace.other, out=out)
    if bias is not None:
        np.add(out, bias, out=out)
    if unit:
        np.divide(out, np.maximum(np.sqrt(np.vecdot(out, out)), TINY)[:, None], out=out)
    return out
