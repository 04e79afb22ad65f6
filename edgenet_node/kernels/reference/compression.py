"""Naive oracles of the compression kernels: loops over blocks and values, float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Pairs = list[tuple[int, float]]

SCALE_MIN = 2.0**-119


def _blocks(x: npt.ArrayLike, block: int) -> Iterator[list[float]]:
    values = np.asarray(x, np.float64).ravel().tolist()
    for start in range(0, len(values), block):
        yield values[start : start + block]


def quantise_int8(x: npt.ArrayLike, block: int) -> tuple[list[int], list[float]]:
    """`scale = max|x| / 127`, `round(x / scale)` (Dettmers et al. 2022); scales are at least 2^-119."""
    scales = [max(SCALE_MIN, max(map(abs, values)) / 127) for values in _blocks(x, block)]
    codes = [round(v / s) for values, s in zip(_blocks(x, block), scales, strict=True) for v in values]
    return codes, scales


def dequantise_int8(codes: Sequence[int], scales: Sequence[float], block: int) -> F64:
    """`code * scale`."""
    return np.array([code * scales[i // block] for i, code in enumerate(codes)], np.float64)


def quantise_int4(x: npt.ArrayLike, block: int) -> tuple[list[int], list[float]]:
    """`scale = max|x| / 7`, `round(x / scale) + 8`, two a byte, even places in the low half; 8 fills the last."""
    scales = [max(SCALE_MIN, max(map(abs, values)) / 7) for values in _blocks(x, block)]
    codes = [round(v / s) + 8 for values, s in zip(_blocks(x, block), scales, strict=True) for v in values]
    codes += [8] * (len(codes) % 2)
    return [low + 16 * high for low, high in zip(codes[::2], codes[1::2], strict=True)], scales


def dequantise_int4(packed: Sequence[int], scales: Sequence[float], block: int, size: int) -> F64:
    """`(code - 8) * scale`."""
    codes = [code for byte in packed for code in (byte % 16, byte // 16)][:size]
    return np.array([(code - 8) * scales[i // block] for i, code in enumerate(codes)], np.float64)


def quantise_affine(x: npt.ArrayLike, block: int) -> tuple[list[int], list[float], list[float]]:
    """`scale = (max - min) / 255`, `round((x - min) / scale)` (Jacob et al. 2018)."""
    minima = [min(values) for values in _blocks(x, block)]
    scales = [max(SCALE_MIN, (max(values) - min(values)) / 255) for values in _blocks(x, block)]
    parts = zip(_blocks(x, block), minima, scales, strict=True)
    return [round((v - least) / scale) for values, least, scale in parts for v in values], minima, scales


def dequantise_affine(codes: Sequence[int], minima: Sequence[float], scales: Sequence[float], block: int) -> F64:
    """`min + code * scale`."""
    return np.array([minima[i // block] + c * scales[i // block] for i, c in enumerate(codes)], np.float64)


def quantise_binary(x: npt.ArrayLike, block: int) -> tuple[list[bool], list[float]]:
    """Whether each value is >= 0, and mean|x| of each block (Karimireddy et al. 2019)."""
    scales = [math.fsum(map(abs, values)) / len(values) for values in _blocks(x, block)]
    return [v >= 0 for values in _blocks(x, block) for v in values], scales


def dequantise_binary(positive: Sequence[bool], scales: Sequence[float], block: int) -> F64:
    """`+scale` or `-scale`."""
    return np.array([scales[i // block] * (1 if p else -1) for i, p in enumerate(positive)], np.float64)


def rotate(x: npt.ArrayLike, signs: npt.ArrayLike) -> F64:
    """`H (signs * x) / sqrt d` for one row, Sylvester's H[i, j] = (-1)^popcount(i & j) (Ailon and Chazelle 2009)."""
    values = np.asarray(x, np.float64) * np.asarray(signs, np.float64)
    width = values.size
    matrix = np.array([[(-1.0) ** (i & j).bit_count() for j in range(width)] for i in range(width)])
    return matrix @ values / math.sqrt(width)


def rotate_back(y: npt.ArrayLike, signs: npt.ArrayLike) -> F64:
    """The inverse of `rotate`: `signs * H y / sqrt d`."""
    return np.asarray(signs, np.float64) * rotate(y, np.ones(np.asarray(y).size))


def top_k(gradient: npt.ArrayLike, residual: npt.ArrayLike, k: int) -> tuple[Pairs, F64]:
    """(index, value) of the k largest magnitudes of `gradient + residual` in float32, ascending; and the new residual
    (Stich et al. 2018)."""
    total = np.asarray(gradient, np.float32) + np.asarray(residual, np.float32)
    chosen = sorted(sorted(range(total.size), key=lambda i: (-abs(float(total[i])), i))[:k])
    rest = total.astype(np.float64)
    rest[chosen] = 0.0
    return [(i, float(total[i])) for i in chosen], rest


def top_k_int8(gradient: npt.ArrayLike, residual: npt.ArrayLike, k: int, block: int) -> tuple[Pairs, F64]:
    """`top_k` with each value replaced by its int8 code times scale; the difference goes to the residual."""
    pairs, rest = top_k(gradient, residual, k)
    sent = dequantise_int8(*quantise_int8([v for _, v in pairs], block), block)
    for (i, v), s in zip(pairs, sent.tolist(), strict=True):
        rest[i] = v - s
    return [(i, s) for (i, _), s in zip(pairs, sent.tolist(), strict=True)], rest


def encode_sparse(length: int, pairs: Pairs) -> bytes:
    """The bitmap form with float32 values, bit by bit, as `payload` lays it out."""
    header = bytes([1, 0, 0, 0]) + b"".join(n.to_bytes(4, "little") for n in (length, len(pairs), 0))
    bitmap = bytearray((length + 7) // 8)
    for index, _ in pairs:
        bitmap[index // 8] |= 1 << (index % 8)
    return header + bytes(bitmap) + np.array([v for _, v in pairs], "<f4").tobytes()


def decode_sparse(data: bytes) -> tuple[int, Pairs]:
    """The vector in the bitmap form with float32 values: length and (index, value). Trusts its input."""
    length, count = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
    places = [i for i in range(length) if data[16 + i // 8] >> (i % 8) & 1]
    values = np.frombuffer(data[16 + (length + 7) // 8 :], "<f4", count).tolist()
    return length, list(zip(places, values, strict=True))


def dot_int8(codes: npt.ArrayLike, scales: npt.ArrayLike, query: npt.ArrayLike) -> F64:
    """`scale_i codes_i . query`."""
    rows = np.asarray(codes, np.float64) * np.asarray(scales, np.float64)[:, None]
    return np.array([math.fsum((row * np.asarray(query, np.float64)).tolist()) for row in rows])


def l2_affine(codes: npt.ArrayLike, minima: npt.ArrayLike, scales: npt.ArrayLike, query: npt.ArrayLike) -> F64:
    """`|min_i + scale_i codes_i - query|^2`."""
    rows = np.asarray(codes, np.float64) * np.asarray(scales, np.float64)[:, None]
    rows += np.asarray(minima, np.float64)[:, None]
    return np.array([math.fsum(((row - np.asarray(query, np.float64)) ** 2).tolist()) for row in rows])


def hamming(bits: npt.ArrayLike, query: npt.ArrayLike) -> list[int]:
    """Differing bits between rows of bytes and one, byte by byte."""
    wanted = np.asarray(query).tolist()
    return [sum((a ^ b).bit_count() for a, b in zip(row, wanted, strict=True)) for row in np.asarray(bits).tolist()]


def hamming_top_k(
    bits: npt.ArrayLike, matrix: npt.ArrayLike, query_bits: npt.ArrayLike, query: npt.ArrayLike, k: int, candidates: int
) -> Pairs:
    """(index, score) of the k best by dot product among the `candidates` nearest by Hamming distance; ties by index."""
    distances = hamming(bits, query_bits)
    chosen = sorted(range(len(distances)), key=lambda i: (distances[i], i))[:candidates]
    scores = {i: float(np.asarray(matrix, np.float64)[i] @ np.asarray(query, np.float64)) for i in chosen}
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
