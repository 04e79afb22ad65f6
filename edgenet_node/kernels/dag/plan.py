"""What the mechanisms need of one task graph, computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..graphs.flow import max_flow
from . import topology
from .query import QueryDag
from .topology import F64, Index, Timing


class Plan:
    """The topology of a `QueryDag`; never changes once built. `UsageError` if the graph has a cycle.

    `starts`, `targets`: children; `order` (n,): parents first; `depth` (n,): edges of the longest way from a root.
    The properties are computed on first use and kept.
    """

    def __init__(self, dag: QueryDag) -> None:
        self.dag = dag
        self.nodes = len(dag.ops)
        self.costs: F64 = np.array(dag.costs, np.float64)
        self.starts, self.targets = topology.children(self.nodes, dag.edges)
        self.order: Index = topology.order(self.starts, self.targets)
        begin, child_list = self.starts.tolist(), self.targets.tolist()
        depth = [0] * self.nodes
        for node in self.order.tolist():
            below = depth[node] + 1
            for child in child_list[begin[node] : begin[node + 1]]:
                depth[child] = max(depth[child], below)
        self.depth: Index = np.array(depth, np.intp)

    @cached_property
    def timing(self) -> Timing:
        """The critical path method's result."""
        return topology.timing(self.starts, self.targets, self.costs)

    @cached_property
    def reach(self) -> npt.NDArray[np.bool_]:
        """(n, n): j is i or a descendant of i. One OR of wide integers an edge."""
        begin, child_list = self.starts.tolist(), self.targets.tolist()
        bits = [0] * self.nodes
        for node in reversed(self.order.tolist()):
            reached = 1 << node
            for child in child_list[begin[node] : begin[node + 1]]:
                reached |= bits[child]
            bits[node] = reached
        width = (self.nodes + 7) // 8
        packed = np.frombuffer(b"".join(row.to_bytes(width, "little") for row in bits), np.uint8)
        flags = np.unpackbits(packed.reshape(self.nodes, width), axis=1, count=self.nodes, bitorder="little")
        return flags.astype(np.bool_)

    @cached_property
    def descendants(self) -> F64:
        """(n,): how many other nodes depend on each."""
        others: F64 = self.reach.sum(axis=1, dtype=np.float64) - 1.0
        return others

    @cached_property
    def work(self) -> F64:
        """(n,): the cost of each node and of everything that depends on it."""
        total: F64 = self.reach @ self.costs
        return total

    @cached_property
    def width(self) -> Index:
        """(n,): nodes at the same depth, which cannot depend on one another."""
        return np.bincount(self.depth)[self.depth]

    @cached_property
    def crossing(self) -> F64:
        """(n,): the share of each node's volume that crosses the graph's minimum cut between its roots and its sinks.

        A maximum flow from all roots to all sinks (nodes that are both take no part); zero for a node without edges.
        """
        pairs = np.array(self.dag.edges, np.intp).reshape(-1, 2)
        volumes = np.array(self.dag.volumes or [1.0] * len(pairs), np.float64)
        outgoing = np.bincount(pairs[:, 0], minlength=self.nodes) > 0
        incoming = np.bincount(pairs[:, 1], minlength=self.nodes) > 0
        roots, sinks = np.flatnonzero(outgoing & ~incoming), np.flatnonzero(incoming & ~outgoing)
        source, sink = self.nodes, self.nodes + 1
        unlimited = np.full(roots.size + sinks.size, volumes.sum() + 1.0)
        flow = max_flow(
            self.nodes + 2,
            np.concatenate([pairs[:, 0], np.full(roots.size, source), sinks]),
            np.concatenate([pairs[:, 1], roots, np.full(sinks.size, sink)]),
            np.concatenate([volumes, unlimited]),
            source,
            sink,
        )
        crosses = np.where(flow.side[pairs[:, 0]] & ~flow.side[pairs[:, 1]], volumes, 0.0)
        both = np.concatenate([pairs[:, 0], pairs[:, 1]])
        moved = np.bincount(both, weights=np.concatenate([volumes, volumes]), minlength=self.nodes)
        cut = np.bincount(both, weights=np.concatenate([crosses, crosses]), minlength=self.nodes)
        share: F64 = np.divide(cut, moved, out=np.zeros(self.nodes), where=moved > 0)
        return share
