"""GAT: which neighbours matter, by learned attention over node and edge features."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from ..attention.gate import log_sigmoid
from ..attention.softmax import LOWEST
from .diagonals import Diagonals, Scratch, from_rows, steps
from .rows import F32, LOOP, Index, Rows

SLOPE = 0.2  # of the leaky rectifier (Velickovic et al. 2018, section 2.1)


class Neighbours(Struct, frozen=True, eq=False):
    """A graph with self-loops, arranged once. `occupied`: nodes with neighbours; `looped`: places in `rows` of the
    loops that were added, `real` the other places."""

    rows: Rows
    diagonals: Diagonals
    occupied: Index
    looped: Index
    real: Index


class Weights(Struct, frozen=True, eq=False):
    """`projection` (f, H F); `source`, `target` (H, F): the two halves of the vector a; `bias` (H F,) or None.
    Edge features (m, e) need `edge_projection` (e, H F) and `edge` (H, F)."""

    projection: F32
    source: F32
    target: F32
    bias: F32 | None = None
    edge_projection: F32 | None = None
    edge: F32 | None = None


class Workspace:
    """Scratch memory of one caller for graphs of up to `nodes` nodes and `edges` edges with self-loops."""

    def __init__(self, nodes: int, edges: int, heads: int, width: int) -> None:
        self.projected = np.empty((nodes, heads * width), np.float32)
        self.halves = np.empty((2 * heads, nodes), np.float32)
        self.logits = np.empty((heads, edges), np.float32)
        self.other = np.empty((heads, edges), np.float32)
        self.by_slot = np.empty((heads, edges), np.float32)
        self.sums = np.empty((heads, nodes), np.float32)
        self.scratch = Scratch(nodes, heads * width)


def plan(rows: Rows) -> Neighbours:
    """What `gat` needs of the graph; `rows` usually has its self-loops."""
    return Neighbours(
        rows=rows,
        diagonals=from_rows(rows),
        occupied=np.flatnonzero(np.diff(rows.starts)),
        looped=np.flatnonzero(rows.edges == LOOP),
        real=np.flatnonzero(rows.edges != LOOP),
    )


def edge_logits(graph: Neighbours, weights: Weights, features: F32) -> F32:
    """(H, m): `a_edge . (W_edge f_e)` of each entry; an added self-loop has the mean of its node's other edges."""
    heads, width = weights.source.shape
    if weights.edge is None or weights.edge_projection is None:
        return np.zeros((heads, graph.rows.sources.size), np.float32)
    folded = (weights.edge_projection.reshape(-1, heads, width) * weights.edge).sum(axis=2)  # (e, H)
    given = folded.T @ features.T
    logits = np.zeros((heads, graph.rows.sources.size), np.float32)
    logits[:, graph.real] = given[:, graph.rows.edges[graph.real]]
    if graph.looped.size:
        nodes = graph.rows.targets[graph.looped]
        starts, occupied = graph.rows.starts, graph.occupied
        sums = np.zeros((heads, graph.rows.nodes), np.float32)
        sums[:, occupied] = np.add.reduceat(logits, starts[occupied], axis=1)
        logits[:, graph.looped] = sums[:, nodes] / np.maximum(np.diff(starts)[nodes] - 1, 1)
    return logits


def gat(
    x: F32,
    graph: Neighbours,
    weights: Weights,
    edge_features: F32 | None = None,
    gate: F32 | None = None,
    *,
    out: F32 | None = None,
    workspace: Workspace | None = None,
) -> F32:
    """`concat over heads of sum_j alpha_ij W x_j + b`, `alpha = softmax_j LeakyReLU(a.[W x_i | W x_j | W_e f_ij])`.

    Velickovic et al. 2018, equations 3 to 5; edge features as a third term of a. `x` (n, f) float32 -> (n, H F).
    `gate` (m,) in the order of the edge list are logits with the meaning of `kernels.attention.gate`: an edge keeps
    the share sigma(g) of its weight before normalising, +inf passes, -inf cuts (added self-loops pass). The largest
    logit of each node is subtracted, so no finite input overflows. A node that hears nobody gets the bias.
    Permutation equivariant. O(n f H F + m H F).
    """
    rows, (heads, width) = graph.rows, weights.source.shape
    nodes, edges = rows.nodes, rows.sources.size
    workspace = Workspace(nodes, edges, heads, width) if workspace is None else workspace
    out = np.empty((nodes, heads * width), np.float32) if out is None else out
    projected = np.matmul(x, weights.projection, out=workspace.projected)
    halves = np.matmul(half_products(weights), projected.T, out=workspace.halves)
    logits, other = workspace.logits, workspace.other
    np.take(halves[:heads], rows.sources, axis=1, out=logits, mode="clip")
    np.take(halves[heads:], rows.targets, axis=1, out=other, mode="clip")
    np.add(logits, other, out=logits)
    if edge_features is not None:
        np.add(logits, edge_logits(graph, weights, edge_features), out=logits)
    np.multiply(logits, np.float32(SLOPE), out=other)
    np.maximum(logits, other, out=logits)
    if gate is not None:
        bias = np.zeros(edges, np.float32)
        bias[graph.real] = log_sigmoid(gate, np.empty_like(gate), np.empty_like(gate))[rows.edges[graph.real]]
        np.add(logits, bias, out=logits)
    _softmax(graph, logits, workspace)
    np.take(logits, graph.diagonals.slots, axis=1, out=workspace.by_slot, mode="clip")
    _weigh(graph.diagonals, projected, workspace, out, width)
    if weights.bias is not None:
        np.add(out, weights.bias, out=out)
    return out


def half_products(weights: Weights) -> F32:
    """(2H, H F): the products with the two halves of a, as one matrix."""
    heads, width = weights.source.shape
    matrix = np.zeros((2, heads, heads, width), np.float32)
    every = np.arange(heads)
    matrix[0, every, every] = weights.source
    matrix[1, every, every] = weights.target
    return matrix.reshape(2 * heads, heads * width)


def _softmax(graph: Neighbours, logits: F32, workspace: Workspace) -> None:
    """`logits` become `exp(logit - max)` and `workspace.sums` one over their sums, by row."""
    rows, occupied, other = graph.rows, graph.occupied, workspace.other
    sums = workspace.sums
    sums[:] = 0.0
    if occupied.size == 0:
        return
    begins = rows.starts[occupied]
    full = occupied.size == rows.nodes
    peaks = np.maximum.reduceat(logits, begins, axis=1, out=sums if full else None)
    if not full:
        sums[:, occupied] = peaks
    np.maximum(sums, LOWEST, out=sums)  # a node whose every edge is cut has -inf, and -inf - -inf is not a number
    np.take(sums, rows.targets, axis=1, out=other, mode="clip")
    np.subtract(logits, other, out=logits)
    np.exp(logits, out=logits)
    totals = np.add.reduceat(logits, begins, axis=1, out=sums if full else None)
    if not full:
        sums[:, occupied] = totals
    np.divide(1.0, sums, out=sums, where=sums > 0)  # a node whose every edge is cut hears nothing: zero


def _weigh(plan: Diagonals, projected: F32, workspace: Workspace, out: F32, width: int) -> None:
    """`out[i, h] = sums[h, i] * sum_j by_slot[h, ij] projected[j, h]`.

    A head's weight is spread over its `width` columns by a product with a 0/1 matrix: BLAS writes it at the speed of
    memory, where a broadcast runs one short loop for each edge and head.
    """
    scratch, alpha = workspace.scratch, workspace.by_slot
    heads = alpha.shape[0]
    spread = np.repeat(np.eye(heads, dtype=np.float32), width, axis=1)
    block = scratch.gathered.shape[0]
    nodes = plan.order.size
    for low in range(0, nodes, block):
        sums = scratch.sums[low : min(low + block, nodes)]
        sums[:] = 0.0
        for begin, end, rows in steps(plan, low, low + sums.shape[0]):
            part = scratch.gathered[:rows]
            np.take(projected, plan.sources[begin:end], axis=0, out=part, mode="clip")
            factors = np.matmul(alpha[:, begin:end].T, spread, out=scratch.spread[:rows])
            np.multiply(part, factors, out=part)
            np.add(sums[:rows], part, out=sums[:rows])
    for position, begin, end in plan.tails:
        part = projected[plan.sources[begin:end]].reshape(end - begin, heads, width)
        scratch.sums[position] += np.einsum("he,ehf->hf", alpha[:, begin:end], part).reshape(-1)
    np.take(scratch.sums, plan.places, axis=0, out=out, mode="clip")
    for low in range(0, nodes, block):
        high = min(low + block, nodes)
        factors = np.matmul(workspace.sums[:, low:high].T, spread, out=scratch.spread[: high - low])
        np.multiply(out[low:high], factors, out=out[low:high])
