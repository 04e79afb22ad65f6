"""Maximum flow, minimum s-t cut, vertex-disjoint paths: Dinic's algorithm (1970) over flat lists."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError

F64 = npt.NDArray[np.float64]


class Flow(Struct, frozen=True, eq=False):
    """`value`; `flows` (m,) on each edge of the list, between 0 and its capacity; `side` (n,): the nodes that the
    source still reaches, whose outgoing edges are a minimum cut of weight `value`."""

    value: float
    flows: F64
    side: npt.NDArray[np.bool_]


class _Network:
    """The residual graph: arc 2e is edge e, arc 2e + 1 its reverse."""

    def __init__(self, nodes: int, sources: list[int], targets: list[int], capacities: list[float]) -> None:
        self.heads: list[int] = [0] * (2 * len(sources))
        self.residual: list[float] = [0.0] * (2 * len(sources))
        self.arcs: list[list[int]] = [[] for _ in range(nodes)]
        for edge, (one, other) in enumerate(zip(sources, targets, strict=True)):
            self.heads[2 * edge], self.heads[2 * edge + 1] = other, one
            self.residual[2 * edge] = capacities[edge]
            self.arcs[one].append(2 * edge)
            self.arcs[other].append(2 * edge + 1)

    def levels(self, source: int) -> list[int]:
        """Residual distance from `source`, -1 where it does not reach."""
        level = [-1] * len(self.arcs)
        level[source] = 0
        queue = [source]
        for node in queue:
            for arc in self.arcs[node]:
                head = self.heads[arc]
                if level[head] < 0 and self.residual[arc] > 0.0:
                    level[head] = level[node] + 1
                    queue.append(head)
        return level

    def block(self, source: int, sink: int, level: list[int]) -> float:
        """A blocking flow along shortest paths; each augmentation empties an arc, so it ends for real capacities."""
        total = 0.0
        nexts = [0] * len(self.arcs)
        path: list[int] = []
        node = source
        while True:
            if node == sink:
                amount = min(self.residual[arc] for arc in path)
                total += amount
                cut = len(path)
                for place in range(len(path) - 1, -1, -1):
                    arc = path[place]
                    self.residual[arc] -= amount
                    self.residual[arc ^ 1] += amount
                    if self.residual[arc] <= 0.0:
                        cut = place
                node = self.heads[path[cut] ^ 1]
                del path[cut:]
                continue
            arcs = self.arcs[node]
            while nexts[node] < len(arcs):
                arc = arcs[nexts[node]]
                if self.residual[arc] > 0.0 and level[self.heads[arc]] == level[node] + 1:
                    break
                nexts[node] += 1
            else:
                if not path:
                    return total
                node = self.heads[path.pop() ^ 1]
                nexts[node] += 1
                continue
            path.append(arc)
            node = self.heads[arc]


def max_flow(
    nodes: int, sources: npt.ArrayLike, targets: npt.ArrayLike, capacities: npt.ArrayLike, source: int, sink: int
) -> Flow:
    """The maximum flow from `source` to `sink` over directed edges of `capacities` (m,) float64, at least 0, finite.

    Max-flow min-cut theorem (Ford and Fulkerson 1956): `value` is the weight of the cut at `side`. `UsageError` when
    source and sink are one node. O(n^2 m); O(m sqrt n) with unit capacities.
    """
    if source == sink:
        raise UsageError("a flow needs two different ends")
    given = np.asarray(capacities, np.float64)
    network = _Network(
        nodes, np.asarray(sources, np.intp).tolist(), np.asarray(targets, np.intp).tolist(), given.tolist()
    )
    value = 0.0
    level = network.levels(source)
    while level[sink] >= 0:
        value += network.block(source, sink, level)
        level = network.levels(source)
    flows = given - np.array(network.residual[::2], np.float64)
    return Flow(value=value, flows=np.clip(flows, 0.0, given), side=np.array(level) >= 0)


def vertex_disjoint_paths(
    nodes: int, sources: npt.ArrayLike, targets: npt.ArrayLike, source: int, sink: int
) -> list[list[int]]:
    """The largest set of paths from `source` to `sink` that share no other node (Menger 1927), each as its nodes.

    Directed edges; an undirected graph lists each both ways. Every node becomes an arc of capacity 1 from its entry
    (node) to its exit (node + n), and the paths are read off a maximum flow. O(m sqrt n).
    """
    one, other = np.asarray(sources, np.intp), np.asarray(targets, np.intp)
    pairs = np.unique(np.stack([one[one != other], other[one != other]]), axis=1)  # a parallel edge adds no path
    inside = np.arange(nodes, dtype=np.intp)
    begins = np.concatenate([inside, pairs[0] + nodes])
    ends = np.concatenate([inside + nodes, pairs[1]])
    flow = max_flow(2 * nodes, begins, ends, np.ones(begins.size), source + nodes, sink)
    used = flow.flows[nodes:] > 0.5
    onward: dict[int, list[int]] = {}
    for here, there in zip(pairs[0][used].tolist(), pairs[1][used].tolist(), strict=True):
        onward.setdefault(here, []).append(there)
    paths = []
    for _ in range(math.floor(flow.value + 0.5)):
        path = [source]
        while path[-1] != sink:
            path.append(onward[path[-1]].pop())
        paths.append(path)
    return paths
