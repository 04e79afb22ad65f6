"""Adapters at rest and on the wire: 8 or 4 bits a weight, one scale for each block of 64.

Blocks lie along the rows of each factor, so one large direction does not coarsen the others. A block's scale is
`max|x| / 127` (or `/ 7`), its codes are rounded, not truncated, so no weight moves by more than half a scale. A block
of zeros has scale 0. With the scales, int8 takes 8.5 bits a weight and int4 4.5. Widened once, on loading: int4
changes what an adapter does by 12 to 18 % and int8 by about 1 %, and neither would make a step faster.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError
from .lora import RANK_MAX, Adapter
from .workspace import Array

Bits = Literal[4, 8]
BLOCK = 64
LEVELS: dict[int, int] = {8: 127, 4: 7}
WIDTH_MAX = 1 << 16  # inputs or outputs: bounds what a header can make a reader allocate to 8 MiB for both factors


class Factor(Struct, frozen=True, array_like=True):
    """Rows of codes, each padded to a whole number of blocks, and float32 scales, little-endian."""

    rows: int
    columns: int
    scales: bytes
    codes: bytes


class Stored(Struct, frozen=True, array_like=True):
    """An adapter as it is kept and sent."""

    bits: Bits
    down: Factor
    up: Factor
    scale: float


def quantise(matrix: Array, bits: Bits) -> tuple[npt.NDArray[np.int8], Array]:
    """Codes (rows, blocks, 64) and scales (rows, blocks) of `matrix` (rows, columns), padded with zeros.

    `|scale code - x| <= scale / 2` up to float32 rounding. O(size).
    """
    rows, columns = matrix.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = matrix
    padded = padded.reshape(rows, blocks, BLOCK)
    scales = np.max(np.abs(padded), axis=2, initial=0.0) / np.float32(LEVELS[bits])
    # A block of numbers so small that its scale vanishes is a block of zeros.
    inverse = np.divide(1.0, scales.astype(np.float64), out=np.zeros(scales.shape), where=scales > 0)
    codes = np.rint(padded * inverse[:, :, None])
    return np.clip(codes, -LEVELS[bits], LEVELS[bits]).astype(np.int8), scales


def dequantise(codes: npt.NDArray[np.int8], scales: Array, columns: int) -> Array:
    """`scale code`, without the padding: (rows, blocks, 64), (rows, blocks) -> (rows, columns), C-contiguous."""
    rows = codes.shape[0]
    wide = codes * scales[:, :, None]
    return np.ascontiguousarray(wide.reshape(rows, -1)[:, :columns], np.float32)


def store(adapter: Adapter, bits: Bits = 8) -> Stored:
    """Quantise both factors."""
    return Stored(bits=bits, down=_packed(adapter.down, bits), up=_packed(adapter.up, bits), scale=float(adapter.scale))


def load(stored: Stored) -> Adapter:
    """Widen to float32. `UsageError` if sizes, scales or ranks do not fit together: whoever received it decides whose
    fault that is."""
    down, up = _unpacked(stored.down, stored.bits), _unpacked(stored.up, stored.bits)
    if down.shape[0] != up.shape[0] or not np.isfinite(stored.scale):
        raise UsageError("the factors of a stored adapter do not belong together")
    return Adapter(down=down, up=up, scale=stored.scale)


def _packed(matrix: Array, bits: Bits) -> Factor:
    codes, scales = quantise(matrix, bits)
    flat = codes.reshape(-1)
    if bits == 4:
        nibbles = (flat + 8).astype(np.uint8)
        flat = (nibbles[0::2] | (nibbles[1::2] << 4)).view(np.int8)
    return Factor(
        rows=matrix.shape[0], columns=matrix.shape[1], scales=scales.astype("<f4").tobytes(), codes=flat.tobytes()
    )


def _unpacked(factor: Factor, bits: Bits) -> Array:
    blocks = -(-factor.columns // BLOCK)
    if not (1 <= factor.rows <= RANK_MAX and 1 <= factor.columns <= WIDTH_MAX and bits in LEVELS):
        raise UsageError(f"a stored adapter of rank {factor.rows}, width {factor.columns} and {bits} bits is refused")
    count = factor.rows * blocks
    if len(factor.scales) != 4 * count or len(factor.codes) != count * BLOCK * bits // 8:
        raise UsageError("a stored adapter is shorter or longer than its header says")
    scales = np.frombuffer(factor.scales, "<f4").astype(np.float32).reshape(factor.rows, blocks)
    if not (np.isfinite(scales).all() and (scales >= 0).all() and (scales < np.finfo(np.float32).max / 256).all()):
        raise UsageError("a stored adapter has a scale that is no finite, positive number")
    flat = np.frombuffer(factor.codes, np.uint8)
    if bits == 4:
        flat = np.stack([flat & 15, flat >> 4], axis=1).reshape(-1)
        codes = flat.astype(np.int8) - np.int8(8)
    else:
        codes = flat.view(np.int8)
    return dequantise(codes.reshape(factor.rows, blocks, BLOCK), scales, factor.columns)
