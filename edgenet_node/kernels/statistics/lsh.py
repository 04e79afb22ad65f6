"""SimHash and banding: find the vectors worth comparing without comparing all of them.

A random hyperplane separates two vectors at angle theta with probability theta/pi, so each bit of their signatures
agrees with probability p = 1 - theta/pi (Charikar 2002). Split into b bands of r bits, they share at least one whole
band with probability `1 - (1 - p^r)^b` (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError

Array = npt.NDArray[np.float32]
Signatures = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]
BAND_BITS_MAX = 64


class Index(Struct, frozen=True, eq=False):
    """Band keys sorted apart: `keys` (b, n) ascending, `rows` (b, n) which vector each belongs to. 16 b n bytes."""

    keys: Keys
    rows: npt.NDArray[np.int64]


def hyperplanes(bits: int, dimensions: int, generator: np.random.Generator) -> Array:
    """Normals (bits, dimensions), entries N(0, 1): directions are uniform. Nodes that compare signatures share a
    seed."""
    if bits < 1 or dimensions < 1:
        raise UsageError(f"no signatures of {bits} bits of {dimensions} dimensions")
    return generator.standard_normal((bits, dimensions), np.float32)


def signatures(vectors: Array, planes: Array) -> Signatures:
    """Bit i says on which side of plane i a vector lies (0 counts as above). (n, d), (k, d) -> (n, ceil(k/8)), the
    first bit of a byte highest, padded with zeros. The length of a vector does not matter. O(n k d)."""
    return np.packbits(vectors @ planes.T >= 0.0, axis=1)


def distances(many: Signatures, one: Signatures) -> npt.NDArray[np.int64]:
    """Hamming distances of signatures (n, k/8) from one (k/8,)."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(many ^ one).sum(axis=1, dtype=np.int64)
    return counts


def angles(hamming: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.float64]:
    """The angle `pi h / k` that a Hamming distance of k bits estimates, unbiased, with standard deviation
    `sqrt(theta (pi - theta) / k)`."""
    estimates: npt.NDArray[np.float64] = np.multiply(hamming, math.pi / bits, dtype=np.float64)
    return estimates


def collision_probability(angle: float) -> float:
    """That one bit agrees: `1 - angle / pi`."""
    return 1.0 - angle / math.pi


def candidate_probability(angle: float, bands: int, rows: int) -> float:
    """That two vectors share a band of `rows` bits: `1 - (1 - p^rows)^bands`."""
    share = collision_probability(angle) ** rows
    return 1.0 if share >= 1.0 else -math.expm1(bands * math.log1p(-share))


def band_keys(bits: Signatures, bands: int, rows: int) -> Keys:
    """Band j of a signature as a number: bits j rows to (j + 1) rows, first bit highest. (n, k/8) -> (n, bands) uint64.
    `UsageError` for bands of more than 64 bits or more bits than there are."""
    if not (bands >= 1 and 1 <= rows <= BAND_BITS_MAX and bands * rows <= 8 * bits.shape[1]):
        raise UsageError(f"{bands} bands of {rows} bits do not fit signatures of {8 * bits.shape[1]}")
    single = np.unpackbits(bits, axis=1, count=bands * rows).reshape(bits.shape[0], bands, rows)
    padded = np.zeros((bits.shape[0], bands, BAND_BITS_MAX), np.uint8)
    padded[:, :, BAND_BITS_MAX - rows :] = single
    return np.packbits(padded, axis=2).reshape(bits.shape[0], bands * 8).view(">u8").astype(np.uint64)


def build(keys: Keys) -> Index:
    """Sort the bands of n vectors, (n, b). O(b n log n)."""
    order = np.argsort(keys, axis=0, kind="stable")
    return Index(
        keys=np.ascontiguousarray(np.take_along_axis(keys, order, axis=0).T),
        rows=np.ascontiguousarray(order.T, np.int64),
    )


def candidates(index: Index, keys: Keys, limit: int) -> npt.NDArray[np.int64]:
    """The vectors that share a band with the query's `keys` (b,), ascending, each once; O(b log n + hits).

    Of one band at most `limit` are taken, those added first: a flood of equal vectors cannot make every query slow.
    """
    found = []
    for ordered, rows, key in zip(index.keys, index.rows, keys, strict=True):
        first, last = np.searchsorted(ordered, key, "left"), np.searchsorted(ordered, key, "right")
        found.append(rows[first : min(int(last), int(first) + limit)])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
