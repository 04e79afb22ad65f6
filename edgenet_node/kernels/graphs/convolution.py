"""GCN: `relu`-free graph convolution, the smoothing of node estimates by their neighbourhood."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from .diagonals import Diagonals, Scratch, from_rows, gather
from .rows import F32, Rows


class Smoothing(Struct, frozen=True, eq=False):
    """What D^-1/2 (A + I) D^-1/2 needs, once per graph. `scale` (n,): d_i^-1/2, zero where d_i is not positive.
    `weights` (m,) in the order of the slots, or None where all are 1. `rows` carries the normalised weights."""

    rows: Rows
    diagonals: Diagonals
    scale: F32
    weights: F32 | None


class Workspace:
    """Scratch memory of one caller for graphs of up to `nodes` nodes and layers of `width` outputs."""

    def __init__(self, nodes: int, width: int) -> None:
        self.projected = np.empty((nodes, width), np.float32)
        self.scratch = Scratch(nodes, width)


def plan(rows: Rows) -> Smoothing:
    """`rows` must have its self-loops (`from_edges(..., self_loops=True)`); d_i is the sum of row i's weights."""
    degrees = np.bincount(rows.targets, weights=rows.weights, minlength=rows.nodes)
    scale = np.zeros(rows.nodes, np.float64)
    np.power(degrees, -0.5, out=scale, where=degrees > 0)
    normalised = (scale[rows.sources] * rows.weights * scale[rows.targets]).astype(np.float32)
    diagonals = from_rows(rows)
    uniform = bool((rows.weights == 1.0).all())
    return Smoothing(
        rows=Rows(starts=rows.starts, sources=rows.sources, targets=rows.targets, edges=rows.edges, weights=normalised),
        diagonals=diagonals,
        scale=scale.astype(np.float32),
        weights=None if uniform else rows.weights[diagonals.slots],
    )


def gcn(
    x: F32,
    graph: Smoothing,
    weight: F32,
    bias: F32 | None = None,
    *,
    out: F32 | None = None,
    workspace: Workspace | None = None,
) -> F32:
    """`D^-1/2 (A + I) D^-1/2 X W + b` (Kipf and Welling 2017, equation 2, without the nonlinearity).

    `x` (n, f) and `weight` (f, g) float32, `bias` (g,); -> (n, g). Permutation equivariant. O(n f g + m g). The scale
    d^-1/2 is applied to the nodes before and after the sum, so that a graph without weights multiplies no edge.
    """
    nodes, width = x.shape[0], weight.shape[1]
    workspace = Workspace(nodes, width) if workspace is None else workspace
    out = np.empty((nodes, width), np.float32) if out is None else out
    projected = np.matmul(x, weight, out=workspace.projected)
    np.multiply(projected, graph.scale[:, None], out=projected)
    gather(graph.diagonals, projected, out=out, scratch=workspace.scratch, weights=graph.weights)
    np.multiply(out, graph.scale[:, None], out=out)
    if bias is not None:
        np.add(out, bias, out=out)
    return out
