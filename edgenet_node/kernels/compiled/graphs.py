"""numba versions of the message passing kernels: neighbours are summed where they lie, without being gathered first.

Products with weight matrices stay numpy's.
"""

from __future__ import annotations

import numba
import numpy as np

from ..attention.gate import log_sigmoid
from ..graphs import attention, convolution, sampling
from ..graphs.attention import Neighbours, Weights, edge_logits
from ..graphs.convolution import Smoothing
from ..graphs.diagonals import Diagonals
from ..graphs.rows import F32
from ..graphs.sampling import TINY, Aggregator

REORDER = {"reassoc", "contract", "nsz"}
NO_EXTRA = np.zeros((0, 0), np.float32)


def gcn(
    x: F32,
    graph: Smoothing,
    weight: F32,
    bias: F32 | None = None,
    *,
    out: F32 | None = None,
    workspace: convolution.Workspace | None = None,
) -> F32:
    """As `graphs.convolution.gcn`."""
    shape = (x.shape[0], weight.shape[1])
    out = np.empty(shape, np.float32) if out is None else out
    projected = np.matmul(x, weight, out=None if workspace is None else workspace.projected)
    rows = graph.rows
    _sums(rows.starts, rows.sources, rows.weights, projected, out)
    if bias is not None:
        np.add(out, bias, out=out)
    return out


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _sums(starts, sources, weights, x, out):  # type: ignore[no-untyped-def]
    """Four neighbours at a time: a quarter of the passes over the row that is written."""
    width = x.shape[1]
    for i in range(starts.size - 1):
        for c in range(width):
            out[i, c] = 0.0
        begin, end = starts[i], starts[i + 1]
        fours = end - (end - begin) % 4
        for p in range(begin, fours, 4):
            j, k, m, n = sources[p], sources[p + 1], sources[p + 2], sources[p + 3]
            wj, wk, wm, wn = weights[p], weights[p + 1], weights[p + 2], weights[p + 3]
            for c in range(width):
                out[i, c] += wj * x[j, c] + wk * x[k, c] + wm * x[m, c] + wn * x[n, c]
        for p in range(fours, end):
            j, wj = sources[p], weights[p]
            for c in range(width):
                out[i, c] += wj * x[j, c]


def gat(
    x: F32,
    graph: Neighbours,
    weights: Weights,
    edge_features: F32 | None = None,
    gate: F32 | None = None,
    *,
    out: F32 | None = None,
    workspace: attention.Workspace | None = None,
) -> F32:
    """As `graphs.attention.gat`."""
    rows, (heads, width) = graph.rows, weights.source.shape
    out = np.empty((rows.nodes, heads * width), np.float32) if out is None else out
    projected = np.matmul(x, weights.projection, out=None if workspace is None else workspace.projected)
    halves = projected @ attention.half_products(weights).T
    extra = NO_EXTRA if edge_features is None else edge_logits(graph, weights, edge_features)
    bias = NO_EXTRA
    if gate is not None:
        bias = np.zeros((1, rows.sources.size), np.float32)
        opened = log_sigmoid(gate, np.empty_like(gate), np.empty_like(gate))
        bias[0, graph.real] = opened[rows.edges[graph.real]]
    powers = np.empty((rows.sources.size, heads), np.float32)
    _logits(rows.starts, rows.sources, halves, extra, bias, np.float32(attention.SLOPE), powers)
    np.exp(powers, out=powers)
    _attended(rows.starts, rows.sources, projected, powers, out)
    if weights.bias is not None:
        np.add(out, weights.bias, out=out)
    return out


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _logits(starts, sources, halves, extra, bias, slope, out):  # type: ignore[no-untyped-def]
    """Logits (m, H) less the largest of their row; the exponentials are numpy's, whose loop is a vector loop."""
    heads = out.shape[1]
    zero = np.float32(0.0)
    for i in range(starts.size - 1):
        begin, end = starts[i], starts[i + 1]
        for h in range(heads):
            peak = np.float32(-3.4e38)  # finite: -inf less this is -inf, whose power is the 0 wanted
            for place in range(begin, end):
                logit = halves[sources[place], h] + halves[i, heads + h]
                if extra.size:
                    logit += extra[h, place]
                if logit < zero:
                    logit *= slope
                if bias.size:
                    logit += bias[0, place]
                out[place, h] = logit
                peak = max(peak, logit)
            for place in range(begin, end):
                out[place, h] -= peak


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _attended(starts, sources, projected, powers, out):  # type: ignore[no-untyped-def]
    """`sum_j powers projected / sum_j powers` by heads, four neighbours at a time."""
    heads = powers.shape[1]
    width = out.shape[1] // heads
    for i in range(starts.size - 1):
        begin, end = starts[i], starts[i + 1]
        for c in range(out.shape[1]):
            out[i, c] = 0.0
        for h in range(heads):
            total = np.float32(0.0)
            for place in range(begin, end):
                total += powers[place, h]
            share = np.float32(1.0) / total if total > 0.0 else np.float32(0.0)
            low, high = h * width, (h + 1) * width
            fours = end - (end - begin) % 4
            for p in range(begin, fours, 4):
                j, k, m, n = sources[p], sources[p + 1], sources[p + 2], sources[p + 3]
                wj, wk = powers[p, h] * share, powers[p + 1, h] * share
                wm, wn = powers[p + 2, h] * share, powers[p + 3, h] * share
                for c in range(low, high):
                    near = wj * projected[j, c] + wk * projected[k, c]
                    out[i, c] += near + wm * projected[m, c] + wn * projected[n, c]
            for p in range(fours, end):
                j, wj = sources[p], powers[p, h] * share
                for c in range(low, high):
                    out[i, c] += wj * projected[j, c]


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
    workspace: sampling.Workspace | None = None,
) -> F32:
    """As `graphs.sampling.sage`."""
    out = np.empty((x.shape[0], weight_self.shape[1]), np.float32) if out is None else out
    heard = np.empty_like(x) if workspace is None else workspace.heard
    tails = np.array([begin for _, begin, _ in sampled.tails] or [0], np.intp)
    bounds = np.array(sampled.bounds, np.intp)
    _heard(sampled.order, sampled.counts, sampled.sources, bounds, tails, aggregator == "mean", x, heard)
    other = np.matmul(heard, weight_heard, out=None if workspace is None else workspace.other)
    np.matmul(x, weight_self, out=out)
    np.add(out, other, out=out)
    if bias is not None:
        np.add(out, bias, out=out)
    if unit:
        np.divide(out, np.maximum(np.sqrt(np.vecdot(out, out)), TINY)[:, None], out=out)
    return out


@numba.njit(nogil=True, cache=True, fastmath=REORDER)
def _heard(order, counts, sources, bounds, tails, mean, x, out):  # type: ignore[no-untyped-def]
    """Mean or maximum over each position's slots, written to its node's row; a position's tail is `tails[position]`."""
    kept = bounds.size - 1
    width = x.shape[1]
    for position in range(order.size):
        i, count = order[position], counts[position]
        for c in range(width):
            out[i, c] = 0.0
        for k in range(count):
            j = sources[bounds[k] + position] if k < kept else sources[tails[position] + k - kept]
            if mean or k == 0:
                for c in range(width):
                    out[i, c] += x[j, c]
            else:
                for c in range(width):
                    out[i, c] = max(out[i, c], x[j, c])
        if mean and count:
            share = np.float32(1.0) / np.float32(count)
            for c in range(width):
                out[i, c] *= share
