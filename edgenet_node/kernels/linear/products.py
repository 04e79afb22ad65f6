"""Matrix products by tiles and inner products by segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from .workspace import Array, Workspace

F64 = npt.NDArray[np.float64]


class Tile(Struct, frozen=True):
    """One partial product: rows [i, i_end) of A and columns [j, j_end) of B over the depth [k, k_end)."""

    i: int
    i_end: int
    j: int
    j_end: int
    k: int
    k_end: int


def tiles(rows: int, depth: int, columns: int, tile: tuple[int, int, int]) -> list[Tile]:
    """The partial products of (rows, depth) by (depth, columns) with at most `tile` = (rows, depth, columns) each.

    By rows, then columns, then depth; each entry of A B is the sum of the entries of its tiles in this order. No tile
    is empty, and sizes along an axis differ by at most one, so that a remainder costs no tile of its own. A depth of 0
    has one tile for each block of the result, of depth 0.
    """
    return [
        Tile(i, i_end, j, j_end, k, k_end)
        for i, i_end in _cuts(rows, tile[0])
        for j, j_end in _cuts(columns, tile[2])
        for k, k_end in (_cuts(depth, tile[1]) or [(0, 0)])
    ]


def _cuts(length: int, most: int) -> list[tuple[int, int]]:
    """[0, length) in the fewest parts of at most `most`, as even as can be."""
    parts = -(-length // most)
    bounds = [length * part // parts for part in range(parts + 1)] if parts else []
    return list(pairwise(bounds))


def matmul(
    a: Array,
    b: Array,
    *,
    tile: tuple[int, int, int] | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`A B`: a (m, k), b (k, n) -> (m, n), float32.

    With `tile` = (rows, depth, columns) partial products are added in the order of `tiles` (blocked GEMM: Goto and
    van de Geijn 2008); without, BLAS blocks for its caches, which is as fast as tiles on one core. Either way each
    entry is within k 2^-24 / (1 - k 2^-24) times the entry of |A| |B| of the exact one. O(m n k).
    """
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.float32)
    if tile is None:
        return np.matmul(a, b, out=out)
    workspace = Workspace() if workspace is None else workspace
    for part in tiles(a.shape[0], a.shape[1], b.shape[1], tile):
        target = out[part.i : part.i_end, part.j : part.j_end]
        left, right = a[part.i : part.i_end, part.k : part.k_end], b[part.k : part.k_end, part.j : part.j_end]
        if part.k == 0:
            np.matmul(left, right, out=target)
        else:
            np.add(target, np.matmul(left, right, out=workspace.floats("partial", *target.shape)), out=target)
    return out


def dot(a: Array, b: Array) -> float:
    """`sum_i a_i b_i` for (n,) and (n,), in float32 by BLAS: a sum for each vector lane, then the lanes and what is
    left over. Within n 2^-24 / (1 - n 2^-24) times `sum_i |a_i b_i|`; see `dot_partial` for all digits. O(n)."""
    return float(np.dot(a, b))


def dot_partial(a: Array, b: Array) -> F64:
    """The inner product of one segment as (2,) float64, high and low, to be joined by `join_dots`: (n,), (n,) float32.

    Products of float32 are exact in float64. They are added in a tree of TwoSum (Knuth; Ogita, Rump and Oishi 2005,
    "Accurate Sum and Dot Product"), whose rounding errors are kept in `low`: high + low is the exact sum up to
    2^-52 (log n)^2 times `low`'s size, so that segments give the same answer however they are cut. O(n).
    """
    values = np.multiply(a, b, dtype=np.float64)
    low = 0.0
    while values.size > 1:
        odd = values[-1:] if values.size % 2 else values[:0]
        first, second = values[0 : values.size - odd.size : 2], values[1::2]
        total = first + second
        rest = total - first
        low += float(np.sum((first - (total - rest)) + (second - rest)))
        values = np.concatenate([total, odd]) if odd.size else total
    return np.array([values[0] if values.size else 0.0, low])


def join_dots(parts: Sequence[F64]) -> float:
    """The inner product from its segments, rounded once. No segments give 0. O(parts)."""
    return math.fsum(value for part in parts for value in part.tolist())
