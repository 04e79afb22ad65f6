"""numba versions of the compression kernels where they win: one pass where numpy makes five.

Signatures are those of `kernels.compression`; scratch is not needed and `workspace` is ignored. Codes are the same as
numpy's, bit for bit: the same operations in the same order, and rounding by the same addition.
"""

from __future__ import annotations

import numba
import numpy as np

from ..compression.integers import SCALE_MIN, Array, Bytes, Int8
from ..compression.sparsify import Indices, best_of, largest, sampled_threshold
from ..compression.workspace import Workspace

ROUND_SIGNED = np.float32(1.5 * 2**23)
ROUND_UNSIGNED = np.float32(2**23)
LEAST = np.float32(SCALE_MIN)
ONE = np.float32(1)
MAGNITUDE = np.uint32(0x7FFFFFFF)
TURN = np.int32(0x7FFFFFFF)


# The loops run from 0 over slices: an index that might be negative would keep them from being vectorised.
@numba.njit(nogil=True, cache=True)
def _largest(x):  # type: ignore[no-untyped-def]
    """The pattern of max|x|: magnitudes order like theirs. A maximum of floats is not vectorised, for fear of NaN."""
    patterns = x.view(np.uint32)
    best = np.uint32(0)
    for i in range(patterns.size):
        best = max(best, np.uint32(patterns[i] & MAGNITUDE))
    return best


@numba.njit(nogil=True, cache=True)
def _range(x):  # type: ignore[no-untyped-def]
    """The patterns of min x and max x: floats order like signed integers, once negative patterns are turned over."""
    patterns = x.view(np.int32)
    least = np.int32(0x7FFFFFFF)
    most = np.int32(-0x80000000)
    for i in range(patterns.size):
        key = np.int32(patterns[i] ^ np.int32(np.int32(patterns[i] >> np.int32(31)) & TURN))
        least = min(least, key)
        most = max(most, key)
    return least ^ ((least >> np.int32(31)) & TURN), most ^ ((most >> np.int32(31)) & TURN)


@numba.njit(nogil=True, cache=True)
def _round(x, inverse, codes):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        codes[i] = np.int32((x[i] * inverse + ROUND_SIGNED) - ROUND_SIGNED)


@numba.njit(nogil=True, cache=True)
def _int8(x, block, codes, scales):  # type: ignore[no-untyped-def]
    largest = scales.view(np.uint32)
    for first in range(scales.size):
        start, stop = first * block, min(x.size, (first + 1) * block)
        largest[first] = _largest(x[start:stop])
        scale = max(scales[first] / np.float32(127), LEAST)
        scales[first] = scale
        _round(x[start:stop], ONE / scale, codes[start:stop])


@numba.njit(nogil=True, cache=True)
def _pack(x, inverse, packed):  # type: ignore[no-untyped-def]
    for p in range(x.size // 2):
        low = np.int32((x[2 * p] * inverse + ROUND_SIGNED) - ROUND_SIGNED) + np.int32(8)
        high = np.int32((x[2 * p + 1] * inverse + ROUND_SIGNED) - ROUND_SIGNED) + np.int32(8)
        packed[p] = np.uint8(low | (high << np.int32(4)))
    if x.size % 2:
        low = np.int32((x[x.size - 1] * inverse + ROUND_SIGNED) - ROUND_SIGNED) + np.int32(8)
        packed[x.size // 2] = np.uint8(low | np.int32(128))


@numba.njit(nogil=True, cache=True)
def _int4(x, block, packed, scales):  # type: ignore[no-untyped-def]
    largest = scales.view(np.uint32)
    for first in range(scales.size):
        start, stop = first * block, min(x.size, (first + 1) * block)
        largest[first] = _largest(x[start:stop])
        scale = max(scales[first] / np.float32(7), LEAST)
        scales[first] = scale
        _pack(x[start:stop], ONE / scale, packed[start // 2 : (stop + 1) // 2])


@numba.njit(nogil=True, cache=True)
def _round_above(x, least, inverse, codes):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        codes[i] = np.int32(((x[i] - least) * inverse + ROUND_UNSIGNED) - ROUND_UNSIGNED)


@numba.njit(nogil=True, cache=True)
def _affine(x, block, codes, minima, scales):  # type: ignore[no-untyped-def]
    low, high = minima.view(np.int32), scales.view(np.int32)
    for first in range(scales.size):
        start, stop = first * block, min(x.size, (first + 1) * block)
        low[first], high[first] = _range(x[start:stop])
        least = minima[first]
        scale = max((scales[first] - least) / np.float32(255), LEAST)
        scales[first] = scale
        _round_above(x[start:stop], least, ONE / scale, codes[start:stop])


def quantise_int8(
    x: Array, block: int, *, out: tuple[Int8, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Int8, Array]:
    """See `kernels.compression.quantise_int8`."""
    flat = np.ascontiguousarray(x).reshape(-1)
    result = out if out is not None else (np.empty(flat.size, np.int8), _scales(flat.size, block))
    _int8(flat, block, *result)
    return result


def quantise_int4(
    x: Array, block: int, *, out: tuple[Bytes, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Bytes, Array]:
    """See `kernels.compression.quantise_int4`."""
    if block % 2:
        raise ValueError(f"blocks of 4-bit codes hold an even number of values, not {block}")
    flat = np.ascontiguousarray(x).reshape(-1)
    result = out if out is not None else (np.empty((flat.size + 1) // 2, np.uint8), _scales(flat.size, block))
    _int4(flat, block, *result)
    return result


def quantise_affine(
    x: Array, block: int, *, out: tuple[Bytes, Array, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Bytes, Array, Array]:
    """See `kernels.compression.quantise_affine`."""
    flat = np.ascontiguousarray(x).reshape(-1)
    if out is None:
        out = (np.empty(flat.size, np.uint8), _scales(flat.size, block), _scales(flat.size, block))
    _affine(flat, block, *out)
    return out


def _scales(size: int, block: int) -> Array:
    return np.empty(-(-size // block), np.float32)


@numba.njit(nogil=True, cache=True)
def _at_least(x, threshold, places):  # type: ignore[no-untyped-def]
    """Indices of |x| >= threshold into `places`, without a branch to mispredict; how many there are."""
    found = 0
    for i in range(x.size):
        places[found] = i
        found += abs(x[i]) >= threshold
    return found


def top_k(
    gradient: Array, residual: Array, k: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> tuple[Indices, Array, Array]:
    """See `kernels.compression.top_k`."""
    total = np.add(gradient, residual, out=out)
    guess = sampled_threshold(total, k)
    # One spare place: `_at_least` writes before it knows. Memory that is not reached is never touched.
    room = np.empty(total.size + 1 if guess > 0 else 0, np.int64)
    places = room[: _at_least(total, guess, room) if guess > 0 else 0]
    chosen = best_of(np.abs(total[places]), places, k) if 0 < k <= places.size else largest(total, k)
    values = total[chosen]
    total[chosen] = 0
    return chosen, values, total
