"""Table of the compression kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import compression
from ..reference import compression as oracle
from .kernel import Arguments, Example, Kernel

BENCHMARK = "scripts/bench_kernels/compression.py"

TABLE: Mapping[str, Kernel] = {
    "compression.quantise_int8/1": Kernel(
        function=compression.quantise_int8,
        reference=oracle.quantise_int8,
        shapes="(m,), block -> (m,) int8, (ceil(m/block),)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
        compiled="compression:quantise_int8",
    ),
    "compression.dequantise_int8/1": Kernel(
        function=compression.dequantise_int8,
        reference=oracle.dequantise_int8,
        shapes="(m,) int8, (b,), block -> (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.quantise_int4/1": Kernel(
        function=compression.quantise_int4,
        reference=oracle.quantise_int4,
        shapes="(m,), block -> (ceil(m/2),) uint8, (b,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
        compiled="compression:quantise_int4",
    ),
    "compression.dequantise_int4/1": Kernel(
        function=compression.dequantise_int4,
        reference=oracle.dequantise_int4,
        shapes="(ceil(m/2),) uint8, (b,), block, m -> (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.quantise_affine/1": Kernel(
        function=compression.quantise_affine,
        reference=oracle.quantise_affine,
        shapes="(m,), block -> (m,) uint8, (b,), (b,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
        compiled="compression:quantise_affine",
    ),
    "compression.dequantise_affine/1": Kernel(
        function=compression.dequantise_affine,
        reference=oracle.dequantise_affine,
        shapes="(m,) uint8, (b,), (b,), block -> (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.quantise_binary/1": Kernel(
        function=compression.quantise_binary,
        reference=oracle.quantise_binary,
        shapes="(m,), block -> (ceil(m/8),) uint8, (b,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.dequantise_binary/1": Kernel(
        function=compression.dequantise_binary,
        reference=oracle.dequantise_binary,
        shapes="(ceil(m/8),) uint8, (b,), block, m -> (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.rotate/1": Kernel(
        function=compression.rotate,
        reference=oracle.rotate,
        shapes="(n, d), (d,) -> (n, d), d a power of two",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.rotate_back/1": Kernel(
        function=compression.rotate_back,
        reference=oracle.rotate_back,
        shapes="(n, d), (d,) -> (n, d), d a power of two",
        dtype="float32",
        test="tests/kernels/compression/test_quantise.py",
        benchmark=BENCHMARK,
    ),
    "compression.top_k/1": Kernel(
        function=compression.top_k,
        reference=oracle.top_k,
        shapes="(m,), (m,), k -> (k,) int64, (k,), (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_sparsify.py",
        benchmark=BENCHMARK,
        compiled="compression:top_k",
    ),
    "compression.top_k_int8/1": Kernel(
        function=compression.top_k_int8,
        reference=oracle.top_k_int8,
        shapes="(m,), (m,), k, block -> (k,) int64, (k,) int8, (b,), (m,)",
        dtype="float32",
        test="tests/kernels/compression/test_sparsify.py",
        benchmark=BENCHMARK,
    ),
    "compression.encode_sparse/1": Kernel(
        function=compression.encode_sparse,
        reference=oracle.encode_sparse,
        shapes="m, (k,) int64, (k,) -> bytes",
        dtype="float32",
        test="tests/kernels/compression/test_payload.py",
        benchmark=BENCHMARK,
    ),
    "compression.decode_sparse/1": Kernel(
        function=compression.decode_sparse,
        reference=oracle.decode_sparse,
        shapes="bytes -> m, (k,) int64, (k,)",
        dtype="float32",
        test="tests/kernels/compression/test_payload.py",
        benchmark=BENCHMARK,
    ),
    "compression.dot_int8/1": Kernel(
        function=compression.dot_int8,
        reference=oracle.dot_int8,
        shapes="(n, d) int8, (n,), (d,) -> (n,)",
        dtype="float32",
        test="tests/kernels/compression/test_nearest.py",
        benchmark=BENCHMARK,
    ),
    "compression.l2_affine/1": Kernel(
        function=compression.l2_affine,
        reference=oracle.l2_affine,
        shapes="(n, d) uint8, (n,), (n,), (d,) -> (n,)",
        dtype="float32",
        test="tests/kernels/compression/test_nearest.py",
        benchmark=BENCHMARK,
    ),
    "compression.hamming/1": Kernel(
        function=compression.hamming,
        reference=oracle.hamming,
        shapes="(n, b) uint8, (b,) -> (n,) uint16",
        dtype="uint8",
        test="tests/kernels/compression/test_nearest.py",
        benchmark=BENCHMARK,
    ),
    "compression.hamming_top_k/1": Kernel(
        function=compression.hamming_top_k,
        reference=oracle.hamming_top_k,
        shapes="(n, b) uint8, (n, d), (b,), (d,), k, candidates -> (k,), (k,) int64",
        dtype="float32",
        test="tests/kernels/compression/test_nearest.py",
        benchmark=BENCHMARK,
    ),
}


def _quantise(rng: np.random.Generator) -> Arguments:
    return (rng.standard_normal(1001).astype(np.float32), 64), {}


def _top_k(rng: np.random.Generator) -> Arguments:
    gradient, residual = rng.standard_normal((2, 40_000)).astype(np.float32)
    return (gradient, residual, 4000), {}


EXAMPLES: Mapping[str, Example] = {
    "compression.quantise_int8/1": _quantise,
    "compression.quantise_int4/1": _quantise,
    "compression.quantise_affine/1": _quantise,
    "compression.top_k/1": _top_k,
}
