"""Edge lists to compressed sparse rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

F32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

LOOP = -1  # `Rows.edges` of a self-loop that was not in the edge list


class Rows(Struct, frozen=True, eq=False):
    """`sources[starts[i]:starts[i + 1]]` are the nodes that node i hears, ascending.

    `starts` (n + 1,), `sources` (m,), `targets` (m,) the row of each entry, `edges` (m,) its place in the edge list
    or `LOOP`; `weights` (m,) float32.
    """

    starts: Index
    sources: Index
    targets: Index
    edges: Index
    weights: F32

    @property
    def nodes(self) -> int:
        return self.starts.size - 1


def from_edges(
    nodes: int, sources: npt.ArrayLike, targets: npt.ArrayLike, weights: F32 | None = None, *, self_loops: bool = False
) -> Rows:
    """The graph of the edges `sources[e] -> targets[e]` of `weights[e]` (1 where none are given).

    `self_loops` adds a loop of weight 1 to each node that has none: A + I, in which an existing loop keeps its weight.
    Parallel edges stay apart. An undirected graph lists each edge both ways. O(m log m).
    """
    source = np.asarray(sources, np.intp)
    target = np.asarray(targets, np.intp)
    edges = np.arange(source.size, dtype=np.intp)
    weight = np.ones(source.size, np.float32) if weights is None else np.asarray(weights, np.float32)
    if self_loops:
        bare = np.ones(nodes, np.bool_)
        bare[source[source == target]] = False
        extra = np.flatnonzero(bare)
        source, target = np.concatenate([source, extra]), np.concatenate([target, extra])
        edges = np.concatenate([edges, np.full(extra.size, LOOP, np.intp)])
        weight = np.concatenate([weight, np.ones(extra.size, np.float32)])
    order = np.lexsort((source, target))
    starts = np.zeros(nodes + 1, np.intp)
    np.cumsum(np.bincount(target, minlength=nodes), out=starts[1:])
    return Rows(starts=starts, sources=source[order], targets=target[order], edges=edges[order], weights=weight[order])
