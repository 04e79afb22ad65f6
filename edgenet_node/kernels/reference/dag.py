"""Naive oracles of the task graph kernels: repeated removal, enumeration of paths, sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Edges = Sequence[tuple[int, int]]


def order(nodes: int, edges: Edges) -> list[int]:
    """Take away nodes without remaining parents, layer by layer (Kahn 1962); shorter than `nodes` if cyclic."""
    left = set(range(nodes))
    taken: list[int] = []
    while True:
        free = [n for n in sorted(left) if not any(b == n and a in left for a, b in edges)]
        if not free:
            return taken
        taken += free
        left -= set(free)


def paths_from(node: int, edges: Edges) -> list[list[int]]:
    """Every path from `node` to a node without children."""
    onward = sorted({b for a, b in edges if a == node})
    if not onward:
        return [[node]]
    return [[node, *path] for child in onward for path in paths_from(child, edges)]


def timing(nodes: int, edges: Edges, costs: Sequence[float]) -> tuple[list[float], list[float], float]:
    """Earliest and latest starts and the makespan, from all paths (Kelley and Walker 1959)."""
    backward = [(b, a) for a, b in edges]
    after = [max(sum(costs[n] for n in path) for path in paths_from(node, edges)) for node in range(nodes)]
    before = [max(sum(costs[n] for n in path[1:]) for path in paths_from(node, backward)) for node in range(nodes)]
    makespan = max(one + other for one, other in zip(before, after, strict=True))
    return before, [makespan - rest for rest in after], makespan


def cone(node: int, edges: Edges) -> dict[int, int]:
    """`node` and its descendants, with the hops of the shortest way."""
    hops, layer, step = {node: 0}, {node}, 0
    while layer:
        step += 1
        layer = {b for a, b in edges if a in layer} - set(hops)
        hops |= dict.fromkeys(layer, step)
    return hops


def depths(nodes: int, edges: Edges) -> list[int]:
    """Edges of the longest way from a node without parents."""
    backward = [(b, a) for a, b in edges]
    return [max(len(path) for path in paths_from(node, backward)) - 1 for node in range(nodes)]


def _share(scores: npt.ArrayLike) -> F64:
    values = np.asarray(scores, np.float64)
    share: F64 = values / values.sum()
    return share


def topological(nodes: int, edges: Edges, decay: float) -> F64:
    """`decay^(1 - depth / max depth)`, normalised."""
    depth = depths(nodes, edges)
    return _share([decay ** (1 - d / max(*depth, 1)) for d in depth])


def causal_cone(nodes: int, edges: Edges, node: int, decay: float, breadth: float) -> F64:
    """`(1 + breadth |descendants|) decay^hops` in the cone of `node`, 0 outside, normalised."""
    hops = cone(node, edges)
    sizes = [len(cone(n, edges)) - 1 for n in range(nodes)]
    return _share([(1 + breadth * sizes[n]) * decay ** hops[n] if n in hops else 0.0 for n in range(nodes)])


def critical_path(nodes: int, edges: Edges, costs: Sequence[float], boost: float) -> F64:
    """`boost^(1 - slack / makespan)`, normalised; slack is latest less earliest start."""
    earliest, latest, makespan = timing(nodes, edges, costs)
    return _share([boost ** (1 - (b - a) / (makespan or 1.0)) for a, b in zip(earliest, latest, strict=True)])


def mincut_gated(scores: npt.ArrayLike, crossing: npt.ArrayLike, gate: float) -> F64:
    """`score (1 - (1 - gate) crossing)`, normalised."""
    return _share(np.asarray(scores, np.float64) * (1 - (1 - gate) * np.asarray(crossing, np.float64)))


def hierarchical_lorentz(points: npt.ArrayLike, node: int, temperature: float) -> F64:
    """`softmax(-arccosh(-<x, y>) / temperature)` with `<x, y> = -x0 y0 + x1 y1 + x2 y2` (Nickel and Kiela 2018)."""
    placed = np.asarray(points, np.float64)
    inner = -placed[:, 0] * placed[node, 0] + placed[:, 1:] @ placed[node, 1:]
    away = np.arccosh(np.maximum(-inner, 1.0))
    return _share(np.exp(-(away - away.min()) / temperature))


def parallel_branch(
    nodes: int, edges: Edges, costs: Sequence[float], branches_max: int, balance: float, penalty: float
) -> F64:
    """`min(width, branches_max)^balance (1 - penalty |work - mean| / largest)` over each level, normalised."""
    depth = depths(nodes, edges)
    work = [sum(costs[n] for n in cone(node, edges)) for node in range(nodes)]
    scores = []
    for node in range(nodes):
        level = [work[n] for n in range(nodes) if depth[n] == depth[node]]
        uneven = abs(work[node] - sum(level) / len(level)) / max(level) if max(level) > 0 else 0.0
        scores.append(min(len(level), branches_max) ** balance * (1 - penalty * uneven))
    return _share(scores)


def temporal_btsp(
    nodes: int,
    events: Sequence[tuple[int, float, float]],
    window_s: float,
    plateau_s: float,
    decay: float,
    boost: float,
) -> F64:
    """`1 + (boost - 1) min(1, sum of success decay^(age / plateau))`, normalised; events are (node, age, success)."""
    traces = [0.0] * nodes
    for node, age, success in events:
        if 0.0 <= age <= window_s:
            traces[node] += success * decay ** (age / plateau_s)
    return _share([1 + (boost - 1) * min(1.0, trace) for trace in traces])


def importance(
    nodes: int, edges: Edges, costs: Sequence[float], priorities: Sequence[float], done: Sequence[bool]
) -> F64:
    """`exp(.4 critical + .3 downstream + .2 priority + .1 ready)` over what is not done, normalised."""
    earliest, latest, makespan = timing(nodes, edges, costs)
    scores = []
    for node in range(nodes):
        critical = 1 - (latest[node] - earliest[node]) / (makespan or 1.0)
        downstream = (len(cone(node, edges)) - 1) / max(nodes - 1, 1)
        ready = all(done[a] for a, b in edges if b == node)
        score = math.exp(0.4 * critical + 0.3 * downstream + 0.2 * priorities[node] + 0.1 * ready)
        scores.append(0.0 if done[node] else score)
    return _share(scores) if any(scores) else np.full(nodes, 1.0 / nodes)


def ucb1(counts: Sequence[int], totals: Sequence[float]) -> int:
    """The first arm of the greatest `mean + sqrt(2 ln t / n)` (Auer, Cesa-Bianchi and Fischer 2002, figure 1)."""
    bounds = [s / n + math.sqrt(2 * math.log(sum(counts)) / n) for n, s in zip(counts, totals, strict=True)]
    return bounds.index(max(bounds))
