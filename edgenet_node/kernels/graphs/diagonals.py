"""Jagged diagonals: neighbours in an order that turns a sparse product into a few long array operations.

Rows are sorted by degree, longest first; diagonal k then holds the k-th neighbour of a prefix of them, so that one
gather and one addition serve every row of that prefix (Saad 1989, "Krylov subspace methods on supercomputers"). A
graph of mean degree 10 needs some 20 such steps where `np.add.at` needs one per edge. Where a diagonal would be shorter
than `TAIL_ROWS` (a few hubs), the rest of each such row is taken in one step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from msgspec import Struct

from .rows import F32, Index, Rows

TAIL_ROWS = 12  # below this a step a row costs less than a step a neighbour
BLOCK_FLOATS = 64 * 1024  # 256 KiB of accumulator: stays in a core's second-level cache with what is gathered


class Diagonals(Struct, frozen=True, eq=False):
    """`order` (n,): the node at each position, longest row first; `places` (n,): its inverse. `sources` (m,): the
    neighbour of each slot; diagonal k is `sources[bounds[k]:bounds[k + 1]]`, for positions 0, 1, ...; after the last
    one come the tails, each (position, first slot, last slot). `slots` (m,): the place of each slot in the arrays of
    `Rows`. `counts` (n,): neighbours at each position."""

    order: Index
    places: Index
    counts: Index
    sources: Index
    slots: Index
    bounds: tuple[int, ...]
    tails: tuple[tuple[int, int, int], ...]


class Scratch:
    """Scratch memory for graphs of up to `nodes` nodes with `width` features. Not to be shared between threads."""

    def __init__(self, nodes: int, width: int) -> None:
        rows = min(nodes, block_rows(width))
        self.sums = np.empty((nodes, width), np.float32)
        self.gathered = np.empty((rows, width), np.float32)
        self.spread = np.empty((rows, width), np.float32)


def block_rows(width: int) -> int:
    """Rows of `width` floats whose accumulator fills one block."""
    return max(256, BLOCK_FLOATS // max(1, width))


def from_rows(rows: Rows) -> Diagonals:
    """The diagonals of `rows`; O(n log n + m)."""
    return arrange(rows, rows.sources, np.diff(rows.starts))


def arrange(rows: Rows, sources: Index, degrees: Index) -> Diagonals:
    """As `from_rows` for the first `degrees[i]` entries of each row of `sources`, which has the layout of `rows`."""
    order = np.argsort(-degrees, kind="stable")
    counts = degrees[order]
    longest = int(counts[0]) if counts.size else 0
    lengths = np.searchsorted(-counts, -np.arange(longest), side="left")  # rows with more than k neighbours
    kept = int(np.count_nonzero(lengths >= TAIL_ROWS))
    first = rows.starts[:-1][order]
    parts = [first[:length] + k for k, length in enumerate(lengths[:kept].tolist())]
    bounds = np.concatenate([[0], np.cumsum(lengths[:kept])]).tolist()
    tails = []
    end = bounds[-1]
    for position in range(int(lengths[kept]) if kept < longest else 0):
        begin = int(first[position])
        parts.append(np.arange(begin + kept, begin + int(counts[position])))
        tails.append((position, end, end + parts[-1].size))
        end += parts[-1].size
    slots = np.concatenate(parts) if parts else np.empty(0, np.intp)
    return Diagonals(
        order=order,
        places=np.argsort(order),
        counts=counts,
        sources=sources[slots],
        slots=slots,
        bounds=tuple(bounds),
        tails=tuple(tails),
    )


def steps(plan: Diagonals, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """(slots from, to, rows) of each diagonal's share of the positions `low` to `high`."""
    begin = plan.bounds[0]
    for end in plan.bounds[1:]:
        stop = min(end - begin, high)
        if stop <= low:
            return
        yield begin + low, begin + stop, stop - low
        begin = end


def gather(
    plan: Diagonals,
    x: F32,
    *,
    out: F32,
    scratch: Scratch,
    weights: F32 | None = None,
    combine: Callable[..., Any] = np.add,
) -> F32:
    """`out[i] = combine over neighbours j of (weights_ij x_j)`; zero for a node without neighbours.

    `x` (n, d), `weights` (m,) in the order of the slots, `combine` `np.add` or `np.maximum`; writes and returns `out`
    (n, d). O(m d), in blocks that stay in cache; allocates nothing of that size.
    """
    nodes = plan.order.size
    block = scratch.gathered.shape[0]
    for low in range(0, nodes, max(1, block)):
        sums = scratch.sums[low : low + block]
        reached = 0
        for begin, end, rows in steps(plan, low, low + sums.shape[0]):
            part = scratch.gathered[:rows] if reached else sums[:rows]
            np.take(x, plan.sources[begin:end], axis=0, out=part, mode="clip")
            if weights is not None:
                np.multiply(part, weights[begin:end, None], out=part)
            if reached:
                combine(sums[:rows], part, out=sums[:rows])
            reached = max(reached, rows)
        sums[reached:] = 0.0
    for position, begin, end in plan.tails:
        part = x[plan.sources[begin:end]]
        if weights is not None:
            part *= weights[begin:end, None]
        rest = getattr(combine, "reduce")(part, axis=0)  # noqa: B009  (a ufunc, typed as what it is called as)
        if plan.bounds[-1]:
            combine(scratch.sums[position], rest, out=scratch.sums[position])
        else:
            scratch.sums[position] = rest
    np.take(scratch.sums, plan.places, axis=0, out=out, mode="clip")
    return out
