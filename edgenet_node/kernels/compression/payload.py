"""Sparse vectors as bytes, and back from bytes that nobody vouches for.

Little-endian. Header of 16 bytes: version u8 = 1, positions u8, values u8, zero u8, length u32, count u32, block u32.
Then the positions, then the values.

| positions | bytes for `count` = k of `length` = n |
| --- | --- |
| 0 bitmap | ceil(n/8): bit i % 8 of byte i // 8 is 1 where place i is sent |
| 1 gaps | u32 count of words, then u16 words: places left out before the next sent one; 65535 leaves out so many more |
| 2 elias_fano | k l low bits, then the rest in unary: about k (2 + log2(n/k)) bits, near a random set's entropy |

| values | bytes |
| --- | --- |
| 0 float32 | 4 k; `block` is 0 |
| 1 int8 | 4 ceil(k/block) for the scales, then k codes in -127..127 |

One vector has one encoding a format. The decoder takes nothing else: no spare bytes, no set padding bits, no number
that is not finite, no length above the caller's limit. It allocates in proportion to the bytes received and to that
limit. Compressing the result is the caller's: zstd-1 takes a third off the bitmap form and a tenth off Elias-Fano with
int8.

Source of Elias-Fano: Elias 1974; Vigna 2013 (1206.4300). l = floor(log2(n/k)).
"""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from .integers import INT8_MAX, dequantise_int8, quantise_int8

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]
Positions = Literal["bitmap", "gaps", "elias_fano"]

POSITIONS: tuple[Positions, ...] = ("bitmap", "gaps", "elias_fano")
FLOAT32, INT8 = 0, 1
HEADER = struct.Struct("<BBBBIII")
VERSION = 1
SKIP = 65535  # the u16 word that leaves out places without a sent one


class Sparse(Struct, frozen=True):
    """`values` (k,) float32 at `indices` (k,) ascending, of a vector of `length`."""

    length: int
    indices: Indices
    values: Array


class Quantised(Struct, frozen=True):
    """Values as codes (k,) int8 with one scale for each `block` of them."""

    codes: Int8
    scales: Array
    block: int


def encode_sparse(length: int, indices: Indices, values: Array | Quantised, positions: Positions) -> bytes:
    """The bytes of a sparse vector of `length` < 2^32. `indices` ascending, distinct, below `length`. O(length)."""
    places = np.asarray(indices, np.int64)
    block = values.block if isinstance(values, Quantised) else 0
    kind = INT8 if isinstance(values, Quantised) else FLOAT32
    header = HEADER.pack(VERSION, POSITIONS.index(positions), kind, 0, length, places.size, block)
    encoders = {"bitmap": _bitmap, "gaps": _gaps, "elias_fano": _elias_fano}
    body = encoders[positions](length, places)
    if isinstance(values, Quantised):
        return header + body + values.scales.astype("<f4").tobytes() + values.codes.tobytes()
    return header + body + values.astype("<f4").tobytes()


def encode_top_int8(length: int, indices: Indices, values: Array, block: int, positions: Positions) -> bytes:
    """`encode_sparse` of values that are quantised here, without error feedback (see `top_k_int8` for that)."""
    codes, scales = quantise_int8(values, block)
    return encode_sparse(length, indices, Quantised(codes, scales, block), positions)


def decode_sparse(data: bytes, length_max: int) -> Sparse:
    """The vector that `data` encodes. `ValueError`, saying why, for anything that `encode_sparse` would not write or
    whose length is above `length_max`. O(length + bytes)."""
    if len(data) < HEADER.size:
        raise ValueError(f"sparse vector of {len(data)} bytes: shorter than its header")
    version, positions, kind, zero, length, count, block = HEADER.unpack_from(data)
    if version != VERSION or positions >= len(POSITIONS) or kind > INT8 or zero:
        raise ValueError(f"sparse vector of unknown format {version}.{positions}.{kind}.{zero}")
    if length > length_max:
        raise ValueError(f"sparse vector of length {length}: at most {length_max} expected")
    if count > length:
        raise ValueError(f"sparse vector with {count} entries in {length} places")
    if (block == 0) != (kind == FLOAT32):
        raise ValueError(f"sparse vector of values {kind} in blocks of {block}")
    decoders = {"bitmap": _from_bitmap, "gaps": _from_gaps, "elias_fano": _from_elias_fano}
    body = np.frombuffer(data, np.uint8, offset=HEADER.size)
    places, used = decoders[POSITIONS[positions]](body, length, count)
    rest = body[used:]
    scales = -(-count // block) if kind == INT8 else 0
    wanted = 4 * scales + count if kind == INT8 else 4 * count
    if rest.size != wanted:
        raise ValueError(f"sparse vector with {rest.size} bytes of values instead of {wanted}")
    return Sparse(length, places, _values(rest, scales, block))


def _values(rest: Bytes, scales: int, block: int) -> Array:
    numbers = rest[: 4 * scales if block else rest.size].view("<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("sparse vector with a value that is not finite")
    if not block:
        return numbers
    codes = rest[4 * scales :].view(np.int8)
    if (numbers < 0).any() or np.signbit(numbers).any():
        raise ValueError("sparse vector with a negative scale")
    if (codes < -INT8_MAX).any():
        raise ValueError("sparse vector with a code outside -127..127")
    with np.errstate(over="ignore"):
        values = dequantise_int8(codes, numbers, block)
    if not np.isfinite(values).all():
        raise ValueError("sparse vector with a value that is not finite")
    return values


def _take(body: Bytes, size: int, what: str) -> Bytes:
    if body.size < size:
        raise ValueError(f"sparse vector cut short in its {what}")
    return body[:size]


def _set_bits(packed: Bytes, bits: int, count: int, what: str) -> Indices:
    """Places of the set bits among the first `bits`; exactly `count` of them, and none after."""
    if bits % 8 and packed[-1] >> (bits % 8):
        raise ValueError(f"sparse vector with bits set after its {what}")
    found = int(np.bitwise_count(packed).sum(dtype=np.int64))
    if found != count:
        raise ValueError(f"sparse vector with {found} entries in its {what} instead of {count}")
    return np.flatnonzero(np.unpackbits(packed, count=bits, bitorder="little").view(np.bool_))


def _bitmap(length: int, places: Indices) -> bytes:
    sent = np.zeros(length, np.bool_)
    sent[places] = True
    return np.packbits(sent, bitorder="little").tobytes()


def _from_bitmap(body: Bytes, length: int, count: int) -> tuple[Indices, int]:
    size = (length + 7) // 8
    return _set_bits(_take(body, size, "bitmap"), length, count, "bitmap"), size


def _gaps(length: int, places: Indices) -> bytes:
    gaps = np.diff(places, prepend=-1) - 1
    skips = gaps // SKIP
    words = np.full(places.size + int(skips.sum()), SKIP, "<u2")
    words[np.cumsum(skips + 1) - 1] = gaps - skips * SKIP
    return struct.pack("<I", words.size) + words.tobytes()


def _from_gaps(body: Bytes, length: int, count: int) -> tuple[Indices, int]:
    (size,) = struct.unpack("<I", _take(body, 4, "gaps").tobytes())
    words = _take(body[4:], 2 * size, "gaps").view("<u2")
    entries = words != SKIP
    if np.count_nonzero(entries) != count or (size and not entries[-1]):
        raise ValueError(f"sparse vector whose gaps are not {count} entries")
    places = np.cumsum(words.astype(np.int64) + entries)[entries] - 1
    if count and places[-1] >= length:
        raise ValueError(f"sparse vector with an entry at {places[-1]} of {length}")
    return places, 4 + 2 * size


def _low_bits(length: int, count: int) -> int:
    return (length // count).bit_length() - 1


def _elias_fano(length: int, places: Indices) -> bytes:
    if not places.size:
        return b""
    low = _low_bits(length, places.size)
    bits = (places[:, None] >> np.arange(low)).astype(np.uint8) & 1
    unary = np.zeros(((length - 1) >> low) + places.size, np.bool_)
    unary[(places >> low) + np.arange(places.size)] = True
    return np.packbits(bits, bitorder="little").tobytes() + np.packbits(unary, bitorder="little").tobytes()


def _from_elias_fano(body: Bytes, length: int, count: int) -> tuple[Indices, int]:
    if not count:
        return np.empty(0, np.int64), 0
    low = _low_bits(length, count)
    low_size = (count * low + 7) // 8
    packed = _take(body, low_size, "low bits")
    if count * low % 8 and packed[-1] >> (count * low % 8):
        raise ValueError("sparse vector with bits set after its low bits")
    bits = np.unpackbits(packed, count=count * low, bitorder="little").reshape(count, low)
    places = np.zeros(count, np.int64)
    for place in range(low):
        places |= bits[:, place].astype(np.int64) << place
    unary_bits = ((length - 1) >> low) + count
    unary_size = (unary_bits + 7) // 8
    ends = _set_bits(_take(body[low_size:], unary_size, "high bits"), unary_bits, count, "high bits")
    places |= (ends - np.arange(count)) << low
    if places[-1] >= length or (np.diff(places) <= 0).any():
        raise ValueError("sparse vector whose entries are not in order")
    return places, low_size + unary_size
