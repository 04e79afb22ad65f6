"""Distances on quantised rows, and a search that looks at signs first.

A thousand bits tell most of what a thousand floats tell about which rows are near: Hamming distance picks candidates in
1/32 of the memory traffic, exact scores order them (the low-memory tier: only the candidates' float rows are read).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .workspace import TILE

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Int8 = npt.NDArray[np.int8]
Indices = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint16]

SPARSE_SHARE = 16  # masks with fewer than one set place in 16 are read eight places at a time


def dot_int8(codes: Int8, scales: Array, query: Array, *, out: Array | None = None) -> Array:
    """`scale_i codes_i . query` for rows of codes (n, d) with a scale each (n,) and a query (d,): (n,) float32. O(n d).

    Equal to the dot product with the dequantised row, to float32 rounding; against the original row it is off by at
    most scale_i/2 |query|_1. Cosine: divide by the rows' stored lengths.
    """
    result = out if out is not None else np.empty(codes.shape[0], np.float32)
    rows = max(1, 4 * TILE // max(1, codes.shape[1]))
    tile = np.empty((min(rows, codes.shape[0]), codes.shape[1]), np.float32)
    for first in range(0, codes.shape[0], rows):
        part = codes[first : first + rows]
        np.copyto(tile[: part.shape[0]], part)
        np.matmul(tile[: part.shape[0]], query, out=result[first : first + rows])
    return np.multiply(result, scales, out=result)


def l2_affine(codes: Bytes, minima: Array, scales: Array, query: Array, *, out: Array | None = None) -> Array:
    """`|min_i + scale_i codes_i - query|^2` for codes (n, d), minima and scales (n,), query (d,): (n,). O(n d).

    The minimum of each row takes part: without it rows of different offset look alike.
    """
    result = out if out is not None else np.empty(codes.shape[0], np.float32)
    rows = max(1, 4 * TILE // max(1, codes.shape[1]))
    tile = np.empty((min(rows, codes.shape[0]), codes.shape[1]), np.float32)
    for first in range(0, codes.shape[0], rows):
        part = codes[first : first + rows]
        values = tile[: part.shape[0]]
        np.copyto(values, part)
        np.multiply(values, scales[first : first + rows, None], out=values)
        np.add(values, minima[first : first + rows, None], out=values)
        np.subtract(values, query, out=values)
        np.vecdot(values, values, out=result[first : first + rows])
    return result


def hamming(bits: Bytes, query: Bytes, *, out: Counts | None = None) -> Counts:
    """Number of differing bits between each row of `bits` (n, b) and `query` (b,): (n,) uint16. b < 8192. O(n b).

    Rows whose bytes are a multiple of eight are compared eight at a time. After a random rotation
    `cos(pi * hamming / d)` estimates the cosine (`cosine_estimate`): Charikar 2002.
    """
    result = out if out is not None else np.empty(bits.shape[0], np.uint16)
    rows, wanted = _words(bits), _words(query[None, :])[0]
    step = TILE
    difference = np.empty(min(step, rows.shape[0]), rows.dtype)
    counts = np.empty(difference.size, np.uint8)
    for first in range(0, rows.shape[0], step):
        part = rows[first : first + step]
        total = result[first : first + step]
        total[...] = 0
        for column in range(part.shape[1]):
            np.bitwise_xor(part[:, column], wanted[column], out=difference[: part.shape[0]])
            np.bitwise_count(difference[: part.shape[0]], out=counts[: part.shape[0]])
            np.add(total, counts[: part.shape[0]], out=total)
    return result


def _words(bits: Bytes) -> npt.NDArray[np.uint64] | Bytes:
    return np.ascontiguousarray(bits).view(np.uint64) if bits.shape[1] % 8 == 0 and bits.size else bits


def cosine_estimate(distances: Counts, dimensions: int) -> Array:
    """`cos(pi h / d)`: what Hamming distance h between sign bits of d dimensions says about the cosine.

    Right in expectation of h for Gaussian hyperplanes: a bit differs with probability angle/pi (Goemans and Williamson
    1995, lemma 3.2); the standard deviation of h/d is below 1/(2 sqrt d).
    """
    return np.cos(np.multiply(distances, np.float32(np.pi / dimensions), dtype=np.float32))


def nearest_bits(bits: Bytes, query: Bytes, count: int) -> Indices:
    """Indices, ascending, of the min(count, n) rows of least Hamming distance, equal ones by lower index. O(n b)."""
    distances = hamming(bits, query)
    count = max(0, min(count, distances.size))
    if count == 0:
        return np.empty(0, np.int64)
    low, high = 0, 8 * bits.shape[1]
    while low < high:  # the least distance that at least `count` rows reach
        middle = (low + high) // 2
        if np.count_nonzero(distances <= middle) >= count:
            high = middle
        else:
            low = middle + 1
    keep = distances <= low
    chosen = _places(keep)
    surplus = chosen.size - count
    if surplus:
        last = chosen[distances[chosen] == low][-surplus:]
        keep[last] = False
        chosen = chosen[keep[chosen]]
    return chosen


def _places(mask: npt.NDArray[np.bool_]) -> Indices:
    """`np.flatnonzero`, quicker where few places are set: empty groups of eight are passed over as one word."""
    if np.count_nonzero(mask) * SPARSE_SHARE > mask.size:
        return np.flatnonzero(mask)
    whole = mask.size // 8 * 8
    groups = np.flatnonzero(mask[:whole].view(np.uint64))
    rows, columns = np.nonzero(mask[:whole].reshape(-1, 8)[groups])
    return np.concatenate([groups[rows] * 8 + columns, np.flatnonzero(mask[whole:]) + whole])


def hamming_top_k(
    bits: Bytes, matrix: Array, query_bits: Bytes, query: Array, k: int, candidates: int
) -> tuple[Array, Indices]:
    """The k best rows by `matrix @ query` among the `candidates` rows of nearest sign bits: scores and indices.

    bits (n, b), matrix (n, d), query_bits (b,), query (d,). Best first, equal scores by lower index. Exact where
    `candidates` >= n. Rows of unit length give cosines. O(n b + candidates d).
    """
    chosen = nearest_bits(bits, query_bits, candidates)
    scores = matrix[chosen] @ query
    count = max(0, min(k, chosen.size))
    order = np.argsort(-scores, kind="stable")[:count] if count else np.empty(0, np.int64)
    return scores[order], chosen[order]
