"""Quantisers against their oracles and their error bounds.

`compression.quantise_int8/1`, `compression.dequantise_int8/1`, `compression.quantise_int4/1`,
`compression.dequantise_int4/1`, `compression.quantise_affine/1`, `compression.dequantise_affine/1`,
`compression.quantise_binary/1`, `compression.dequantise_binary/1`, `compression.rotate/1`, `compression.rotate_back/1`.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgenet_node.kernels import compression
from edgenet_node.kernels.reference import compression as oracle

Array = npt.NDArray[np.float32]

BLOCKS = st.sampled_from([1, 2, 7, 8, 32, 64, 100])
EVEN_BLOCKS = st.sampled_from([2, 8, 32, 64, 100])
MAGNITUDE = 2.0**125  # max - min, and a sum of two, are finite float32
VECTORS = arrays.arrays(
    np.float32, st.integers(0, 300), elements=st.floats(-MAGNITUDE, MAGNITUDE, width=32, allow_subnormal=True)
)
USUAL = arrays.arrays(np.float32, st.integers(0, 300), elements=st.floats(-100, 100, width=32))
ROUNDING = 1e-4  # of a scale: three float32 roundings of a code of at most 255


def each(scales: Array, block: int, size: int) -> npt.NDArray[np.float64]:
    return np.repeat(scales.astype(np.float64), block)[:size]


@settings(max_examples=60)
@given(VECTORS, BLOCKS)
def test_int8_is_within_half_a_scale(x: Array, block: int) -> None:
    codes, scales = compression.quantise_int8(x, block)
    back = compression.dequantise_int8(codes, scales, block)
    assert (np.abs(codes.astype(np.int16)) <= 127).all()
    error = np.abs(back.astype(np.float64) - x)
    assert (error <= each(scales, block, x.size) * (0.5 + ROUNDING)).all()


@settings(max_examples=60)
@given(VECTORS, EVEN_BLOCKS)
def test_int4_is_within_half_a_scale(x: Array, block: int) -> None:
    packed, scales = compression.quantise_int4(x, block)
    back = compression.dequantise_int4(packed, scales, block, x.size)
    assert packed.size == (x.size + 1) // 2
    error = np.abs(back.astype(np.float64) - x)
    assert (error <= each(scales, block, x.size) * (0.5 + ROUNDING)).all()


@settings(max_examples=60)
@given(VECTORS, BLOCKS)
def test_affine_is_within_half_a_scale(x: Array, block: int) -> None:
    codes, minima, scales = compression.quantise_affine(x, block)
    back = compression.dequantise_affine(codes, minima, scales, block)
    error = np.abs(back.astype(np.float64) - x)
    bound = each(scales, block, x.size) * (0.5 + ROUNDING) + 2.0**-22 * np.abs(x).max(initial=0.0)
    assert (error <= bound).all()


@settings(max_examples=40)
@given(USUAL, EVEN_BLOCKS)
def test_quantisers_agree_with_the_oracles(x: Array, block: int) -> None:
    codes8, scales8 = compression.quantise_int8(x, block)
    wanted8, wanted_scales8 = oracle.quantise_int8(x, block)
    np.testing.assert_allclose(scales8, wanted_scales8, rtol=2e-7)
    assert (np.abs(codes8 - np.array(wanted8, np.int16)) <= 1).all()  # a tie may fall either way in float32
    assert np.mean(codes8 == np.array(wanted8, np.int16)) >= 0.9 if x.size else codes8.size == 0
    back8 = oracle.dequantise_int8(codes8.tolist(), scales8.tolist(), block)
    np.testing.assert_allclose(compression.dequantise_int8(codes8, scales8, block), back8, rtol=1e-6)

    packed, scales4 = compression.quantise_int4(x, block)
    wanted4, wanted_scales4 = oracle.quantise_int4(x, block)
    np.testing.assert_allclose(scales4, wanted_scales4, rtol=2e-7)
    assert packed.size == len(wanted4)
    back4 = oracle.dequantise_int4(packed.tolist(), scales4.tolist(), block, x.size)
    np.testing.assert_allclose(compression.dequantise_int4(packed, scales4, block, x.size), back4, rtol=1e-6)
    best4 = oracle.dequantise_int4(wanted4, wanted_scales4, block, x.size)
    assert (np.abs(back4 - x) <= np.abs(best4 - x) + ROUNDING * each(scales4, block, x.size)).all()

    codes, minima, scales = compression.quantise_affine(x, block)
    wanted, wanted_minima, wanted_scales = oracle.quantise_affine(x, block)
    np.testing.assert_array_equal(minima, np.array(wanted_minima, np.float32))
    np.testing.assert_allclose(scales, wanted_scales, rtol=2e-6)
    back = oracle.dequantise_affine(codes.tolist(), minima.tolist(), scales.tolist(), block)
    best = oracle.dequantise_affine(wanted, wanted_minima, wanted_scales, block)
    assert (np.abs(back - x) <= np.abs(best - x) + (ROUNDING * each(scales, block, x.size) + 2e-5)).all()

    bits, lengths = compression.quantise_binary(x, block)
    positive, wanted_lengths = oracle.quantise_binary(x, block)
    np.testing.assert_array_equal(np.unpackbits(bits, count=x.size, bitorder="little"), positive)
    np.testing.assert_allclose(lengths, wanted_lengths, rtol=1e-6, atol=1e-44)
    np.testing.assert_array_equal(
        compression.dequantise_binary(bits, lengths, block, x.size),
        oracle.dequantise_binary(positive, lengths.tolist(), block),
    )


@pytest.mark.parametrize("block", [16, 100, 40_000])
def test_strided_and_many_tiles(rng: np.random.Generator, block: int) -> None:
    wide = rng.standard_normal((300, 402)).astype(np.float32)
    x = wide[:, ::2]
    flat = np.ascontiguousarray(x).reshape(-1)
    back = compression.dequantise_int8(*compression.quantise_int8(x, block), block)
    np.testing.assert_array_equal(back, compression.dequantise_int8(*compression.quantise_int8(flat, block), block))
    wanted, scales = oracle.quantise_int8(flat, block)
    error = np.abs(back - flat)
    assert (error <= each(np.array(scales, np.float32), block, flat.size) * (0.5 + ROUNDING)).all()
    assert len(wanted) == back.size


def test_a_constant_block_comes_back_exactly() -> None:
    x = np.full(100, -3.7, np.float32)
    np.testing.assert_array_equal(compression.dequantise_affine(*compression.quantise_affine(x, 64), 64), x)
    zeros = np.zeros(100, np.float32)
    np.testing.assert_array_equal(compression.dequantise_int8(*compression.quantise_int8(zeros, 64), 64), zeros)


def test_int4_blocks_are_even() -> None:
    with pytest.raises(ValueError, match="even number"):
        compression.quantise_int4(np.ones(9, np.float32), 3)


def test_sizes_are_the_promised_ones(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1024).astype(np.float32)
    assert x.nbytes == 4 * compression.quantise_int8(x, 1024)[0].nbytes
    assert x.nbytes == 8 * compression.quantise_int4(x, 1024)[0].nbytes
    assert x.nbytes == 32 * compression.quantise_binary(x, 1024)[0].nbytes


@settings(max_examples=40)
@given(USUAL.filter(lambda x: x.size > 0))
def test_signs_contract(x: Array) -> None:
    """|x - s sign(x)|^2 = |x|^2 - d s^2, the least over all s (Karimireddy et al. 2019, lemma 8)."""
    bits, scales = compression.quantise_binary(x, x.size)
    back = compression.dequantise_binary(bits, scales, x.size, x.size).astype(np.float64)
    square = float(np.square(x.astype(np.float64)).sum())
    left = float(np.square(x - back).sum())
    scale = float(scales[0])
    coarse = 2 * x.size * scale * x.size * 2.0**-149  # shares of the mean that are subnormal, rounded one by one
    assert left == pytest.approx(square - x.size * scale**2, rel=1e-5, abs=1e-5 * square + coarse)
    for other in (0.9, 1.1):
        assert left <= float(np.square(x - other * back).sum()) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("width", [1, 2, 8, 64, 128, 1024])
def test_rotation_is_the_signed_hadamard_matrix(rng: np.random.Generator, width: int) -> None:
    x = rng.standard_normal((3, width)).astype(np.float32)
    signs = rng.choice(np.array([-1.0, 1.0], np.float32), width)
    y = compression.rotate(x, signs)
    for row, rotated in zip(x, y, strict=True):
        np.testing.assert_allclose(rotated, oracle.rotate(row, signs), atol=1e-5)
    np.testing.assert_allclose(compression.rotate_back(y, signs)[0], oracle.rotate_back(y[0], signs), atol=1e-5)
    np.testing.assert_allclose(compression.rotate_back(y, signs), x, atol=1e-5)
    np.testing.assert_allclose(y @ y.T, x @ x.T, atol=1e-4 * width)


def test_rotation_flattens_a_spike() -> None:
    spike = np.zeros((1, 4096), np.float32)
    spike[0, 17] = 64.0
    y = compression.rotate(spike, np.ones(4096, np.float32))
    np.testing.assert_allclose(np.abs(y), 1.0, rtol=1e-5)


def test_rotation_needs_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        compression.rotate(np.ones((1, 12), np.float32), np.ones(12, np.float32))


def test_nothing_is_allocated_with_out_and_workspace(rng: np.random.Generator) -> None:
    x = rng.standard_normal(200_000).astype(np.float32)
    out, space, block = np.empty_like(x), compression.Workspace(), 128
    eight, four, affine = (
        compression.quantise_int8(x, block),
        compression.quantise_int4(x, block),
        compression.quantise_affine(x, block),
    )
    binary = compression.quantise_binary(x, block)
    row, signs = x[None, : 1 << 17], np.ones(1 << 17, np.float32)
    turned = np.empty_like(row)
    calls: list[Callable[[], Any]] = [
        lambda: compression.quantise_int8(x, block, out=eight, workspace=space),
        lambda: compression.dequantise_int8(*eight, block, out=out, workspace=space),
        lambda: compression.quantise_int4(x, block, out=four, workspace=space),
        lambda: compression.dequantise_int4(*four, block, x.size, out=out, workspace=space),
        lambda: compression.quantise_affine(x, block, out=affine, workspace=space),
        lambda: compression.dequantise_affine(*affine, block, out=out, workspace=space),
        lambda: compression.quantise_binary(x, block, out=binary, workspace=space),
        lambda: compression.dequantise_binary(*binary, block, x.size, out=out, workspace=space),
        lambda: compression.rotate(row, signs, out=turned, workspace=space),
    ]
    for call in calls:
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * 1024  # one 32 KiB buffer that numpy takes to broadcast; a tile is 64 KiB, x 800 KiB


def test_inputs_are_not_written(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000).astype(np.float32)
    x.flags.writeable = False
    for quantise in (compression.quantise_int8, compression.quantise_int4, compression.quantise_affine):
        quantise(x, 64)
    compression.quantise_binary(x, 64)


@settings(max_examples=40)
@given(VECTORS, EVEN_BLOCKS)
def test_compiled_codes_are_the_same_bits(x: Array, block: int) -> None:
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from edgenet_node.kernels.compiled import compression as compiled

    pairs: list[tuple[Any, Any]] = [
        (compression.quantise_int8, compiled.quantise_int8),
        (compression.quantise_int4, compiled.quantise_int4),
        (compression.quantise_affine, compiled.quantise_affine),
    ]
    for plain, fast in pairs:
        for left, right in zip(plain(x, block), fast(x, block), strict=True):
            np.testing.assert_array_equal(left, right)
