"""Rows of the compression kernels. Rates: divide a million by the microseconds to get Mfloat/s."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgenet_node.kernels import compression

from .case import Case, Roofline, Run

SIZE = 1_000_000
BLOCK = 1024
KEPT = SIZE // 10
ROWS, WIDTH, CANDIDATES = 1_000_000, 64, 5_000


def _values() -> Any:
    return np.random.default_rng(1).standard_normal(SIZE, np.float32)


def _quantise(name: str, package: Callable[[], Any]) -> Callable[[], Run]:
    def build() -> Run:
        x, space = _values(), compression.Workspace()
        function = getattr(package(), name)
        out = getattr(compression, name)(x, BLOCK)
        return lambda: function(x, BLOCK, out=out, workspace=space)

    return build


def _plain() -> Any:
    return compression


def _compiled() -> Any:
    from edgenet_node.kernels.compiled import compression as compiled

    return compiled


def _fast(build: Callable[[], Run]) -> Callable[[], Run] | None:
    return build if find_spec("numba") else None


def _dequantise(name: str) -> Callable[[], Run]:
    def build() -> Run:
        x, space, out = _values(), compression.Workspace(), np.empty(SIZE, np.float32)
        parts = getattr(compression, f"quantise_{name}")(x, BLOCK)
        function = getattr(compression, f"dequantise_{name}")
        size = (SIZE,) if name in {"int4", "binary"} else ()
        return lambda: function(*parts, BLOCK, *size, out=out, workspace=space)

    return build


def _rotate(name: str) -> Callable[[], Run]:
    def build() -> Run:
        x = np.random.default_rng(1).standard_normal((64, 16384), np.float32)
        signs, out, space = np.ones(16384, np.float32), np.empty_like(x), compression.Workspace()
        return lambda: getattr(compression, name)(x, signs, out=out, workspace=space)

    return build


def _top_k(package: Callable[[], Any]) -> Callable[[], Run]:
    def build() -> Run:
        x, residual, out = _values(), np.zeros(SIZE, np.float32), np.empty(SIZE, np.float32)
        function = package().top_k
        return lambda: function(x, residual, KEPT, out=out)

    return build


def _torch_top_k() -> Run:
    import torch

    x = torch.from_numpy(_values())
    return lambda: x.abs().topk(KEPT, sorted=False)


def _top_k_int8() -> Run:
    x, residual, out, space = _values(), np.zeros(SIZE, np.float32), np.empty(SIZE, np.float32), compression.Workspace()
    return lambda: compression.top_k_int8(x, residual, KEPT, BLOCK, out=out, workspace=space)


def _payload(positions: compression.Positions) -> tuple[Any, compression.Quantised]:
    x = _values()
    places, codes, scales, _ = compression.top_k_int8(x, np.zeros_like(x), KEPT, BLOCK)
    return places, compression.Quantised(codes, scales, BLOCK)


def _encode(positions: compression.Positions) -> Callable[[], Run]:
    def build() -> Run:
        places, values = _payload(positions)
        return lambda: compression.encode_sparse(SIZE, places, values, positions)

    return build


def _decode(positions: compression.Positions) -> Callable[[], Run]:
    def build() -> Run:
        data = compression.encode_sparse(SIZE, *_payload(positions), positions)
        return lambda: compression.decode_sparse(data, SIZE)

    return build


def _codes_distance(name: str) -> Callable[[], Run]:
    def build() -> Run:
        matrix = np.random.default_rng(1).standard_normal((10_000, 256), np.float32)
        codes, *factors = getattr(compression, "quantise_int8" if name == "dot_int8" else "quantise_affine")(
            matrix, 256
        )
        query, out = matrix[0].copy(), np.empty(10_000, np.float32)
        return lambda: getattr(compression, name)(codes.reshape(10_000, 256), *factors, query, out=out)

    return build


def _hamming() -> Run:
    bits = np.random.default_rng(1).integers(0, 256, (ROWS, WIDTH // 8), np.uint8)
    query, out = bits[0].copy(), np.empty(ROWS, np.uint16)
    return lambda: compression.hamming(bits, query, out=out)


def _hamming_top_k() -> Run:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((ROWS, WIDTH), np.float32)
    bits, query = compression.sign_rows(matrix), rng.standard_normal(WIDTH, np.float32)
    query_bits = compression.sign_rows(query[None, :])[0]
    return lambda: compression.hamming_top_k(bits, matrix, query_bits, query, 10, CANDIDATES)


def _moved(size: float) -> Callable[[Roofline], float]:
    return lambda roofline: roofline.copy_us(size)


SIZED = f"{SIZE:,} values, blocks of {BLOCK}"
CASES: list[Case] = [
    Case(
        "compression.quantise_int8/1",
        SIZED,
        _quantise("quantise_int8", _plain),
        _fast(_quantise("quantise_int8", _compiled)),
        None,
        _moved(5 * SIZE),
        "100 Mfloat/s",
        8800 / 2075,
    ),
    Case("compression.dequantise_int8/1", SIZED, _dequantise("int8"), limit_us=_moved(5 * SIZE)),
    Case(
        "compression.quantise_int4/1",
        SIZED,
        _quantise("quantise_int4", _plain),
        _fast(_quantise("quantise_int4", _compiled)),
        None,
        _moved(4.5 * SIZE),
        "100 Mfloat/s",
        8800 / 1873,
    ),
    Case("compression.dequantise_int4/1", SIZED, _dequantise("int4"), limit_us=_moved(4.5 * SIZE)),
    Case(
        "compression.quantise_affine/1",
        SIZED,
        _quantise("quantise_affine", _plain),
        _fast(_quantise("quantise_affine", _compiled)),
        None,
        _moved(5 * SIZE),
        "100 Mfloat/s",
    ),
    Case("compression.dequantise_affine/1", SIZED, _dequantise("affine"), limit_us=_moved(5 * SIZE)),
    Case(
        "compression.quantise_binary/1",
        SIZED,
        _quantise("quantise_binary", _plain),
        limit_us=_moved(4.2 * SIZE),
        seed_target="100 Mfloat/s",
    ),
    Case("compression.dequantise_binary/1", SIZED, _dequantise("binary"), limit_us=_moved(4.2 * SIZE)),
    Case("compression.rotate/1", "64 rows of 16,384", _rotate("rotate"), limit_us=_moved(8 * 64 * 16384)),
    Case("compression.rotate_back/1", "64 rows of 16,384", _rotate("rotate_back"), limit_us=_moved(8 * 64 * 16384)),
    Case(
        "compression.top_k/1",
        f"{KEPT:,} of {SIZE:,}",
        _top_k(_plain),
        _fast(_top_k(_compiled)),
        _torch_top_k,
        _moved(12 * SIZE),
        "90 % fewer values",
    ),
    Case("compression.top_k_int8/1", f"{KEPT:,} of {SIZE:,}", _top_k_int8, limit_us=_moved(12 * SIZE)),
    Case("compression.encode_sparse/1", f"bitmap, {KEPT:,} of {SIZE:,}", _encode("bitmap")),
    Case("compression.encode_sparse/1", f"gaps, {KEPT:,} of {SIZE:,}", _encode("gaps")),
    Case("compression.encode_sparse/1", f"Elias-Fano, {KEPT:,} of {SIZE:,}", _encode("elias_fano")),
    Case("compression.decode_sparse/1", f"bitmap, {KEPT:,} of {SIZE:,}", _decode("bitmap")),
    Case("compression.decode_sparse/1", f"gaps, {KEPT:,} of {SIZE:,}", _decode("gaps")),
    Case("compression.decode_sparse/1", f"Elias-Fano, {KEPT:,} of {SIZE:,}", _decode("elias_fano")),
    Case("compression.dot_int8/1", "10,000 x 256", _codes_distance("dot_int8")),
    Case("compression.l2_affine/1", "10,000 x 256", _codes_distance("l2_affine")),
    Case("compression.hamming/1", f"{ROWS:,} x {WIDTH} bits", _hamming, limit_us=lambda r: r.read_us(8 * ROWS)),
    Case(
        "compression.hamming_top_k/1",
        f"{ROWS:,} x {WIDTH}, 10 of {CANDIDATES:,} candidates",
        _hamming_top_k,
        limit_us=lambda r: r.read_us(8 * ROWS + 4 * WIDTH * CANDIDATES),
    ),
]
