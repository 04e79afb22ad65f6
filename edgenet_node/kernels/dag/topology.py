"""Order, timing and reach of an acyclic graph given as compressed rows of children.

`starts` (n + 1,) and `targets` (m,) intp: node i's children are `targets[starts[i]:starts[i + 1]]`. Each function walks
Python lists: at a hundred nodes that is faster than numpy, whose single call costs as much as ten steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import UsageError

F64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


class Timing(NamedTuple):
    """`earliest`, `latest` (n,): first and last start that keep the makespan; `path`: the nodes of one longest path."""

    earliest: F64
    latest: F64
    makespan: float
    path: Index


def children(nodes: int, edges: Sequence[tuple[int, int]]) -> tuple[Index, Index]:
    """`starts` and `targets` of an edge list; children in ascending order, O(n + m log m)."""
    pairs = np.array(edges, np.intp).reshape(-1, 2)
    starts = np.zeros(nodes + 1, np.intp)
    np.cumsum(np.bincount(pairs[:, 0], minlength=nodes), out=starts[1:])
    return starts, pairs[np.lexsort((pairs[:, 1], pairs[:, 0])), 1]


def order(starts: Index, targets: Index) -> Index:
    """A topological order (n,), parents before children: first in, first out (Kahn 1962). O(n + m).

    `UsageError` if there is a cycle.
    """
    return np.array(_order(starts.tolist(), targets.tolist()), np.intp)


def _order(starts: list[int], targets: list[int]) -> list[int]:
    waiting = [0] * (len(starts) - 1)
    for child in targets:
        waiting[child] += 1
    queue = [node for node, count in enumerate(waiting) if count == 0]
    for node in queue:
        for child in targets[starts[node] : starts[node + 1]]:
            count = waiting[child] - 1
            waiting[child] = count
            if count == 0:
                queue.append(child)
    if len(queue) < len(waiting):
        raise UsageError(f"the graph has a cycle: {len(waiting) - len(queue)} of {len(waiting)} nodes wait for ever")
    return queue


def timing(starts: Index, targets: Index, costs: F64) -> Timing:
    """The critical path method (Kelley and Walker 1959): forward pass to `earliest`, backward pass to `latest`.

    `earliest_j = max over parents (earliest_i + cost_i)`, `latest_i = min over children latest_j - cost_i`, makespan
    at sinks. Slack is `latest - earliest`; `path` is a longest path by cost. O(n + m). `UsageError` if cyclic.
    """
    begin, child_list, cost = starts.tolist(), targets.tolist(), costs.tolist()
    sequence = _order(begin, child_list)
    earliest = [0.0] * len(cost)
    before = [-1] * len(cost)
    makespan, last = -1.0, -1
    for node in sequence:
        finish = earliest[node] + cost[node]
        if finish > makespan:
            makespan, last = finish, node
        for child in child_list[begin[node] : begin[node + 1]]:
            if finish > earliest[child] or before[child] < 0:
                earliest[child], before[child] = finish, node
    makespan = max(makespan, 0.0)
    latest = [makespan] * len(cost)
    for node in reversed(sequence):
        finish = makespan
        for child in child_list[begin[node] : begin[node + 1]]:
            if latest[child] < finish:
                finish = latest[child]
        latest[node] = finish - cost[node]
    path = []
    while last >= 0:
        path.append(last)
        last = before[last]
    return Timing(
        earliest=np.array(earliest, np.float64),
        latest=np.array(latest, np.float64),
        makespan=makespan,
        path=np.array(path[::-1], np.intp),
    )


def cone(starts: Index, targets: Index, node: int) -> tuple[Index, Index]:
    """What depends on `node`: itself and all its descendants, nearest first, and their hops from it. O(size of it)."""
    begin, child_list = starts.tolist(), targets.tolist()
    hops = {node: 0}
    queue = [node]
    for here in queue:
        beyond = hops[here] + 1
        for child in child_list[begin[here] : begin[here + 1]]:
            if child not in hops:
                hops[child] = beyond
                queue.append(child)
    return np.array(queue, np.intp), np.array(list(hops.values()), np.intp)
