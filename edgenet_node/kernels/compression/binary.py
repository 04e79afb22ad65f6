"""One bit a value: signs with a scale, and the random rotation that makes signs worth sending.

Bits are packed little-endian: value i is bit i % 8 of byte i // 8, and is 1 where the value is >= 0. Rows that are to
be compared are packed one by one (`sign_rows`), so that a row starts at a byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .workspace import TILE, Workspace

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Row b holds the eight signs that byte b stands for: one gather of 32 bytes decodes eight values.
SIGNS: Array = (2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") - 1.0).astype(
    np.float32
)
SIGNS.flags.writeable = False
RADIX_BITS = 6  # products of 64 x 64 run at the speed of BLAS; larger ones cost more operations than they save passes


def _hadamard(bits: int) -> Array:
    """H / sqrt(2^bits), Sylvester's: H[i, j] = (-1)^popcount(i & j)."""
    places = np.arange(1 << bits)
    odd = np.bitwise_count(places[:, None] & places[None, :]) & 1
    matrix: Array = ((1.0 - 2.0 * odd) / np.sqrt(1 << bits)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


HADAMARD = tuple(_hadamard(bits) for bits in range(RADIX_BITS + 1))


def quantise_binary(
    x: Array, block: int, *, out: tuple[Bytes, Array] | None = None, workspace: Workspace | None = None
) -> tuple[Bytes, Array]:
    """Sign bits (ceil(m/8),) and `scale = mean|x|` of each block (ceil(m/block),); m = x.size. O(m).

    Of all s, s = mean|x| makes |x - s sign(x)|^2 least, and leaves |x|^2 - m_b s^2 of a block of m_b values: never more
    than |x|^2, so error feedback converges. Without the scale signs have no length at all. Source: scaled signs,
    Karimireddy et al. 2019 (1901.09847, lemma 8). 32x for long blocks.
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    blocks = -(-flat.size // block)
    bits, scales = out if out is not None else (np.empty((flat.size + 7) // 8, np.uint8), np.empty(blocks, np.float32))
    space = workspace if workspace is not None else Workspace()
    space.reserve(min(block, flat.size))
    for start in range(0, flat.size, TILE):
        part = flat[start : start + TILE]
        positive = space.bytes[: part.size].view(np.bool_)
        np.greater_equal(part, 0, out=positive)
        bits[start // 8 : (start + part.size + 7) // 8] = np.packbits(positive, bitorder="little")
    whole, at_once = flat.size // block, max(1, TILE // block)
    for first in range(0, whole, at_once):
        count = min(at_once, whole - first)
        _mean_magnitudes(
            flat[first * block : (first + count) * block].reshape(count, block), scales[first : first + count], space
        )
    if whole < blocks:
        _mean_magnitudes(flat[whole * block :][None, :], scales[whole:], space)
    return bits, scales


def _mean_magnitudes(values: Array, scales: Array, space: Workspace) -> None:
    """Mean of |values| (count, block) over rows, as a product: divided before it is summed, it does not overflow."""
    tile = space.tile[: values.size].reshape(values.shape)
    share = space.factors[: values.shape[1]]
    share.fill(1.0 / values.shape[1])
    np.abs(values, out=tile)
    np.matmul(tile, share, out=scales)


def dequantise_binary(
    bits: Bytes, scales: Array, block: int, size: int, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`+scale` where the bit is 1, `-scale` elsewhere: (size,) float32. O(size)."""
    result = out if out is not None else np.empty(size, np.float32)
    whole_bytes = size // 8
    # By tiles: numpy first copies the bytes to indices that are eight times as long.
    for start in range(0, whole_bytes, TILE // 8):
        stop = min(start + TILE // 8, whole_bytes)
        np.take(SIGNS, bits[start:stop], axis=0, out=result[8 * start : 8 * stop].reshape(-1, 8), mode="clip")
    if size % 8:
        result[whole_bytes * 8 :] = SIGNS[bits[whole_bytes], : size % 8]
    whole = size // block
    head = result[: whole * block].reshape(whole, block)
    np.multiply(head, scales[:whole, None], out=head)
    if whole * block < size:
        np.multiply(result[whole * block :], scales[whole], out=result[whole * block :])
    return result


def sign_rows(x: Array, *, out: Bytes | None = None) -> Bytes:
    """Sign bits of each row of x (n, d): (n, ceil(d/8)). The missing bits of the last byte are 0. O(n d)."""
    result = out if out is not None else np.empty((x.shape[0], (x.shape[1] + 7) // 8), np.uint8)
    rows = max(1, 16 * TILE // max(1, x.shape[1]))  # bounds the booleans in between to 256 KiB
    for first in range(0, x.shape[0], rows):
        result[first : first + rows] = np.packbits(x[first : first + rows] >= 0, axis=1, bitorder="little")
    return result


def rotate(x: Array, signs: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """`H (signs * x) / sqrt d` for rows of x (n, d), d a power of two (`ValueError`): randomised Hadamard rotation.

    `signs` (d,) are +1 or -1, drawn once by whoever shares the rotation. Lengths and angles stay as they are (to
    float32 rounding); each coordinate of the result is near-Gaussian whatever x was, so that signs estimate angles, and
    no coordinate needs a scale of its own. O(n d log d), as products with factors of H of at most 64 x 64.
    Source: Ailon and Chazelle 2009; for gradients Suresh et al. 2017 (1611.00429).
    """
    result = out if out is not None else np.empty(x.shape, np.float32)
    space = workspace if workspace is not None else Workspace()
    buffers = space.rotation(x.size)
    start = buffers[0].reshape(x.shape)
    np.multiply(x, signs, out=start)
    np.copyto(result, _transform(buffers, x.shape))
    return result


def rotate_back(y: Array, signs: Array, *, out: Array | None = None, workspace: Workspace | None = None) -> Array:
    """The inverse of `rotate`: `signs * (H y) / sqrt d`, since H is symmetric and H H = d."""
    result = out if out is not None else np.empty(y.shape, np.float32)
    space = workspace if workspace is not None else Workspace()
    buffers = space.rotation(y.size)
    np.copyto(buffers[0].reshape(y.shape), y)
    return np.multiply(_transform(buffers, y.shape), signs, out=result)


def _transform(buffers: npt.NDArray[np.float32], shape: tuple[int, ...]) -> Array:
    """H / sqrt d over the last axis of the first buffer, as a Kronecker product of small factors; both are used."""
    width = shape[-1]
    bits = width.bit_length() - 1
    if width != 1 << bits:
        raise ValueError(f"rows of {width} values: the rotation needs a power of two, pad with zeros")
    here, there = buffers
    inner = 1
    while bits:
        step = min(bits, RADIX_BITS)
        factor = HADAMARD[step]
        if inner == 1:
            np.matmul(here.reshape(-1, 1 << step), factor, out=there.reshape(-1, 1 << step))
        else:
            np.matmul(factor, here.reshape(-1, 1 << step, inner), out=there.reshape(-1, 1 << step, inner))
        here, there = there, here
        inner <<= step
        bits -= step
    result: Array = here.reshape(shape)
    return result
