"""numba versions of the task graph walks."""

from __future__ import annotations

import numba
import numpy as np

from ...errors import UsageError
from ..dag.topology import F64, Index, Timing


def order(starts: Index, targets: Index) -> Index:
    """As `dag.topology.order`."""
    queue = np.empty(starts.size - 1, np.intp)
    if _order(starts, targets, queue) < queue.size:
        raise UsageError("the graph has a cycle: some of its nodes wait for ever")
    return queue


def timing(starts: Index, targets: Index, costs: F64) -> Timing:
    """As `dag.topology.timing`."""
    queue = order(starts, targets)
    earliest, latest = np.zeros(queue.size), np.empty(queue.size)
    path = np.empty(queue.size, np.intp)
    makespan, length = _timing(starts, targets, costs, queue, earliest, latest, path)
    return Timing(earliest=earliest, latest=latest, makespan=makespan, path=path[queue.size - length :])


def cone(starts: Index, targets: Index, node: int) -> tuple[Index, Index]:
    """As `dag.topology.cone`."""
    queue = np.empty(starts.size - 1, np.intp)
    hops = np.full(queue.size, -1, np.intp)
    count = _cone(starts, targets, node, queue, hops)
    inside = queue[:count]
    return inside, hops[inside]


@numba.njit(nogil=True, cache=True)
def _order(starts, targets, queue):  # type: ignore[no-untyped-def]
    waiting = np.zeros(queue.size, np.intp)
    for child in targets:
        waiting[child] += 1
    filled = 0
    for node in range(queue.size):
        if waiting[node] == 0:
            queue[filled] = node
            filled += 1
    taken = 0
    while taken < filled:
        node = queue[taken]
        taken += 1
        for place in range(starts[node], starts[node + 1]):
            child = targets[place]
            waiting[child] -= 1
            if waiting[child] == 0:
                queue[filled] = child
                filled += 1
    return filled


@numba.njit(nogil=True, cache=True)
def _timing(starts, targets, costs, queue, earliest, latest, path):  # type: ignore[no-untyped-def]
    before = np.full(queue.size, -1, np.intp)
    makespan, last = -1.0, -1
    for node in queue:
        finish = earliest[node] + costs[node]
        if finish > makespan:
            makespan, last = finish, node
        for place in range(starts[node], starts[node + 1]):
            child = targets[place]
            if finish > earliest[child] or before[child] < 0:
                earliest[child], before[child] = finish, node
    makespan = max(makespan, 0.0)
    for node in queue[::-1]:
        finish = makespan
        for place in range(starts[node], starts[node + 1]):
            finish = min(finish, latest[targets[place]])
        latest[node] = finish - costs[node]
    length = 0
    while last >= 0:
        length += 1
        path[queue.size - length] = last
        last = before[last]
    return makespan, length


@numba.njit(nogil=True, cache=True)
def _cone(starts, targets, node, queue, hops):  # type: ignore[no-untyped-def]
    queue[0], hops[node] = node, 0
    taken, filled = 0, 1
    while taken < filled:
        here = queue[taken]
        taken += 1
        for place in range(starts[here], starts[here + 1]):
            child = targets[place]
            if hops[child] < 0:
                hops[child] = hops[here] + 1
                queue[filled] = child
                filled += 1
    return filled
