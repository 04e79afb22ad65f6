"""Linear quantisation: 8 and 4 bits with one scale a block, 8 bits with one minimum and one scale a block.

A block is `block` consecutive values of `x` in C order; the last may be shorter. `block` = the row length gives one
scale a row. Every scale is at least `SCALE_MIN`, so that its inverse is a finite float32: values below about 1e-36
become zero, and no block divides by zero.

Rounding is to the nearest, ties to even, done by the floating-point adder: v + 1.5*2^23 has v, rounded, in the low bits
of its pattern (Hacker's Delight, section 17), which saves a rounding pass and a slow conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .workspace import TILE, Workspace

Array = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]

INT8_MAX = 127
INT4_MAX = 7
UINT8_MAX = 255
SCALE_MIN = 2.0**-119  # its inverse and 127 times it are normal float32 numbers
ROUND_SIGNED = np.float32(1.5 * 2**23)
ROUND_UNSIGNED = np.float32(2**23)
MAGNITUDE_BITS = np.int32(0x7FFFFFFF)


def quantise_int8(
    x: Array, block: int, *, out: tuple[Int8, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Int8, Array]:
    """`scale = max|x| / 127`, `code = round(x / scale)` for each block: codes (m,) int8, scales (ceil(m/block),).

    m = x.size; x finite float32. |x - code scale| <= scale/2 (1 + 1e-4). O(m). Symmetric: -128 is never used, so
    negating x negates the codes. Source: absmax quantisation, Dettmers et al. 2022 (2208.07339, section 2).
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    codes, scales = out if out is not None else (np.empty(flat.size, np.int8), _scales(flat.size, block))
    space = workspace if workspace is not None else Workspace()
    for values, first, (start, stop) in _tiles(flat, block, space):
        shifted = _scaled_by_largest(values, scales[first : first + values.shape[0]], INT8_MAX, ROUND_SIGNED, space)
        np.copyto(codes[start:stop], shifted, casting="unsafe")
    return codes, scales


def dequantise_int8(
    codes: Int8, scales: Array, block: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`code * scale`: (m,) float32 from codes (m,) and one scale a block. Takes and uses no scratch. O(m)."""
    result = out if out is not None else np.empty(codes.size, np.float32)
    for first, count, start, stop in _spans(codes.size, block):
        part = result[start:stop]
        np.copyto(part, codes[start:stop])
        _multiply_blocks(part.reshape(count, -1), scales[first : first + count])
    return result


def quantise_int4(
    x: Array, block: int, *, out: tuple[Bytes, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Bytes, Array]:
    """`scale = max|x| / 7`, `code = round(x / scale) + 8`, two a byte: bytes (ceil(m/2),), scales (ceil(m/block),).

    The value of even place is in the low half; a missing last one is 8, which means 0. `block` is even (`ValueError`),
    so that blocks share no byte. |x - (code - 8) scale| <= scale/2 (1 + 1e-4). O(m).
    """
    if block % 2:
        raise ValueError(f"blocks of 4-bit codes hold an even number of values, not {block}")
    flat = np.ascontiguousarray(x).reshape(-1)
    packed, scales = out if out is not None else (np.empty((flat.size + 1) // 2, np.uint8), _scales(flat.size, block))
    space = workspace if workspace is not None else Workspace()
    for values, first, (start, stop) in _tiles(flat, block, space):
        offset = np.float32(ROUND_SIGNED + 8)
        shifted = _scaled_by_largest(values, scales[first : first + values.shape[0]], INT4_MAX, offset, space)
        count = stop - start
        space.bytes[count] = 8
        np.copyto(space.bytes[:count], shifted, casting="unsafe")
        pairs = space.bytes[: count + count % 2].view(np.uint16)  # low byte first: even place, then odd
        high = space.pairs[0, : pairs.size]
        np.right_shift(pairs, 4, out=high)
        np.bitwise_or(high, pairs, out=high)
        np.copyto(packed[start // 2 : start // 2 + pairs.size], high, casting="unsafe")
    return packed, scales


def dequantise_int4(
    packed: Bytes,
    scales: Array,
    block: int,
    size: int,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`(code - 8) * scale`: (size,) float32 from the bytes of `quantise_int4`. O(size)."""
    result = out if out is not None else np.empty(size, np.float32)
    space = workspace if workspace is not None else Workspace()
    space.reserve(block)
    for first, count, start, stop in _spans(size, block):
        part = packed[start // 2 : (stop + 1) // 2]
        pairs, high = space.pairs[:, : part.size]
        np.copyto(pairs, part)
        np.left_shift(pairs, 4, out=high)
        np.bitwise_or(pairs, high, out=pairs)
        np.bitwise_and(pairs, 0x0F0F, out=pairs)
        values = result[start:stop]
        np.copyto(values, pairs.view(np.uint8)[: stop - start])
        np.subtract(values, np.float32(8), out=values)
        _multiply_blocks(values.reshape(count, -1), scales[first : first + count])
    return result


def quantise_affine(
    x: Array, block: int, *, out: tuple[Bytes, Array, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Bytes, Array, Array]:
    """`scale = (max - min) / 255`, `code = round((x - min) / scale)`: codes (m,), minima and scales (ceil(m/block),).

    |x - (min + code scale)| <= scale/2 (1 + 1e-4) + 2^-23 max|x|; a constant block comes back exactly. |x| < 1.7e38, so
    that max - min is finite. O(m). Source: asymmetric uniform quantisation, Jacob et al. 2018 (1712.05877, section 2).
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    if out is not None:
        codes, minima, scales = out
    else:
        codes = np.empty(flat.size, np.uint8)
        minima, scales = _scales(flat.size, block), _scales(flat.size, block)
    space = workspace if workspace is not None else Workspace()
    for values, first, (start, stop) in _tiles(flat, block, space):
        count = values.shape[0]
        least, scale = minima[first : first + count], scales[first : first + count]
        np.minimum.reduce(values, axis=1, out=least)
        np.maximum.reduce(values, axis=1, out=scale)
        np.subtract(scale, least, out=scale)
        np.divide(scale, np.float32(UINT8_MAX), out=scale)
        np.maximum(scale, np.float32(SCALE_MIN), out=scale)
        inverse = np.divide(np.float32(1), scale, out=space.factors[:count])
        tile = space.tile[: values.size].reshape(values.shape)
        np.subtract(values, least[:, None], out=tile)
        np.multiply(tile, inverse[:, None], out=tile)
        np.add(tile, ROUND_UNSIGNED, out=tile)
        np.copyto(codes[start:stop], tile.reshape(-1).view(np.int32), casting="unsafe")
    return codes, minima, scales


def dequantise_affine(
    codes: Bytes,
    minima: Array,
    scales: Array,
    block: int,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """`min + code * scale`: (m,) float32. Takes and uses no scratch. O(m)."""
    result = out if out is not None else np.empty(codes.size, np.float32)
    for first, count, start, stop in _spans(codes.size, block):
        part = result[start:stop]
        np.copyto(part, codes[start:stop])
        _multiply_blocks(part.reshape(count, -1), scales[first : first + count])
        np.add(part.reshape(count, -1), minima[first : first + count, None], out=part.reshape(count, -1))
    return result


def _scales(size: int, block: int) -> Array:
    return np.empty(-(-size // block), np.float32)


def _spans(size: int, block: int) -> Iterator[tuple[int, int, int, int]]:
    """(first block, blocks, start, stop) of tiles of whole blocks, then of the short last block."""
    whole, at_once = size // block, max(1, TILE // block)
    for first in range(0, whole, at_once):
        count = min(at_once, whole - first)
        yield first, count, first * block, (first + count) * block
    if whole * block < size:
        yield whole, 1, whole * block, size


def _tiles(flat: Array, block: int, space: Workspace) -> Iterator[tuple[Array, int, tuple[int, int]]]:
    """(values (blocks, block), first block, (start, stop)) over `flat`; `space` has room for each."""
    space.reserve(min(block, flat.size))
    for first, count, start, stop in _spans(flat.size, block):
        yield flat[start:stop].reshape(count, -1), first, (start, stop)


def _scaled_by_largest(
    values: Array, scales: Array, levels: int, offset: np.float32, space: Workspace
) -> npt.NDArray[np.int32]:
    """Patterns whose low bytes are the codes; `scales` is written. Magnitudes of floats order like their patterns."""
    tile = space.tile[: values.size].reshape(values.shape)
    np.bitwise_and(values.view(np.int32), MAGNITUDE_BITS, out=tile.view(np.int32))
    np.maximum.reduce(tile.view(np.int32), axis=1, out=scales.view(np.int32))
    np.divide(scales, np.float32(levels), out=scales)
    np.maximum(scales, np.float32(SCALE_MIN), out=scales)
    inverse = np.divide(np.float32(1), scales, out=space.factors[: scales.size])
    np.multiply(values, inverse[:, None], out=tile)
    np.add(tile, offset, out=tile)
    patterns: npt.NDArray[Any] = tile.reshape(-1).view(np.int32)
    return patterns


def _multiply_blocks(values: Array, scales: Array) -> None:
    np.multiply(values, scales[:, None], out=values)
