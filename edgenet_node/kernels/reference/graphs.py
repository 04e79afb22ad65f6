"""Naive float64 oracles of the graph kernels: dense matrices, loops over edges, enumeration of cuts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Edges = Sequence[tuple[int, int]]


def gcn(x: npt.ArrayLike, edges: Edges, weights: Sequence[float], weight: npt.ArrayLike, bias: npt.ArrayLike) -> F64:
    """`D^-1/2 (A + I) D^-1/2 X W + b` with dense matrices; A_ij is the weight of j -> i, and a node that has a loop
    keeps it instead of I's (Kipf and Welling 2017, eq. 2)."""
    features = np.asarray(x, np.float64)
    count = features.shape[0]
    adjacency = np.zeros((count, count))
    for (source, target), amount in zip(edges, weights, strict=True):
        adjacency[target, source] += amount
    looped = {source for source, target in edges if source == target}
    for node in set(range(count)) - looped:
        adjacency[node, node] += 1.0
    degrees = adjacency.sum(axis=1)
    root = np.array([degree**-0.5 if degree > 0 else 0.0 for degree in degrees])
    smoothed: F64 = (root[:, None] * adjacency * root) @ features @ np.asarray(weight, np.float64)
    return smoothed + np.asarray(bias, np.float64)


def gat(
    x: npt.ArrayLike,
    edges: Edges,
    projection: npt.ArrayLike,
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    edge_logits: npt.ArrayLike | None = None,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """`sum_j alpha_ij W x_j` by heads, `alpha = softmax_j (LeakyReLU(a_s.W x_j + a_t.W x_i + e_ij) + log sigma(g_ij))`
    (Velickovic et al. 2018, eqs. 3 to 5). `edge_logits` (m, H): the edges' own terms; zero for a node without edges."""
    features, a_source, a_target = (np.asarray(part, np.float64) for part in (x, source, target))
    heads, width = a_source.shape
    projected = (features @ np.asarray(projection, np.float64)).reshape(-1, heads, width)
    extra = np.zeros((len(edges), heads)) if edge_logits is None else np.asarray(edge_logits, np.float64)
    gates = np.full(len(edges), math.inf) if gate is None else np.asarray(gate, np.float64)
    out = np.zeros_like(projected)
    for node in range(features.shape[0]):
        for head in range(heads):
            logits = []
            for number, (one, other) in enumerate(edges):
                if other == node and gates[number] > -math.inf:
                    raw = a_source[head] @ projected[one, head] + a_target[head] @ projected[node, head]
                    raw += extra[number, head]
                    opened = min(gates[number], 0.0) - math.log1p(math.exp(-abs(gates[number])))
                    logits.append((max(raw, 0.2 * raw) + opened, one))
            top = max((logit for logit, _ in logits), default=0.0)
            powers = [(math.exp(logit - top), one) for logit, one in logits]
            total = sum(power for power, _ in powers)
            for power, one in powers:
                out[node, head] += power / total * projected[one, head]
    return out.reshape(features.shape[0], heads * width)


def sage(
    x: npt.ArrayLike, heard: Sequence[Sequence[int]], weight_self: npt.ArrayLike, weight_heard: npt.ArrayLike,
    aggregator: str, unit: bool
) -> F64:  # fmt: skip
    """`W [x_i | AGG x_j]`, to unit length where `unit` (Hamilton et al. 2017, algorithm 1); `heard[i]` lists the j."""
    features = np.asarray(x, np.float64)
    gathered = np.zeros_like(features)
    for node, others in enumerate(heard):
        if others:
            rows = features[list(others)]
            gathered[node] = rows.mean(axis=0) if aggregator == "mean" else rows.max(axis=0)
    out: F64 = features @ np.asarray(weight_self, np.float64) + gathered @ np.asarray(weight_heard, np.float64)
    if unit:
        out = out / np.maximum(np.sqrt((out**2).sum(axis=1, keepdims=True)), 1e-12)
    return out


def sample(heard: Sequence[Sequence[int]], size: int, uniforms: npt.ArrayLike) -> list[list[int]]:
    """The first `size` steps of Fisher and Yates's shuffle of each list (Knuth, TAOCP 3.4.2 P): step s swaps s with
    `s + floor(u (length - s))`; shorter lists are kept whole."""
    draws = np.asarray(uniforms, np.float64)
    chosen = []
    for node, others in enumerate(heard):
        pool = list(others)
        for step in range(size if len(pool) > size else 0):
            pick = step + min(int(draws[node, step] * (len(pool) - step)), len(pool) - step - 1)
            pool[step], pool[pick] = pool[pick], pool[step]
        chosen.append(pool[:size])
    return chosen


def min_cut(nodes: int, edges: Edges, weights: Sequence[float]) -> float:
    """The least weight between any proper non-empty set of nodes and the rest, by trying all sets (n <= 12)."""
    best = math.inf
    for size in range(1, nodes // 2 + 1):
        for side in itertools.combinations(range(nodes), size):
            inside = set(side)
            crossing = sum(w for (a, b), w in zip(edges, weights, strict=True) if (a in inside) != (b in inside))
            best = min(best, crossing)
    return best


def tension(value: float, reference: float) -> float:
    """`1 - value / reference`, kept in [0, 1]; 0 without a reference."""
    return 0.0 if reference <= 0.0 else min(1.0, max(0.0, 1.0 - value / reference))


def max_flow(nodes: int, edges: Edges, capacities: Sequence[float], source: int, sink: int) -> float:
    """By the theorem of Ford and Fulkerson (1956): the least capacity that leaves a set with the source and without the
    sink, by trying all sets (n <= 12)."""
    others = [node for node in range(nodes) if node not in (source, sink)]
    best = math.inf
    for size in range(len(others) + 1):
        for chosen in itertools.combinations(others, size):
            inside = {source, *chosen}
            leaving = sum(c for (a, b), c in zip(edges, capacities, strict=True) if a in inside and b not in inside)
            best = min(best, leaving)
    return best


def vertex_disjoint_paths(nodes: int, edges: Edges, source: int, sink: int) -> int:
    """How many, by Menger's theorem (1927): the fewest other nodes whose loss separates the ends, plus 1 for a direct
    edge, by trying all sets (n <= 12)."""
    direct = (source, sink) in set(edges)
    others = [node for node in range(nodes) if node not in (source, sink)]
    for size in range(len(others) + 1):
        for lost in itertools.combinations(others, size):
            reached = {source}
            for _ in range(nodes):
                reached |= {b for a, b in edges if a in reached and b not in lost and (a, b) != (source, sink)}
            if sink not in reached:
                return size + direct
    raise AssertionError("without its other nodes only the direct edge joins the ends")
