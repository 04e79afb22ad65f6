"""`compression.top_k/1`, `compression.top_k_int8/1`: selection, and conservation to the last bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgenet_node.kernels import compression
from edgenet_node.kernels.reference import compression as oracle

Array = npt.NDArray[np.float32]
WILD = st.floats(-(2.0**125), 2.0**125, width=32, allow_subnormal=True)
PAIRS = st.integers(0, 120).flatmap(
    lambda size: st.tuples(
        arrays.arrays(np.float32, size, elements=WILD),
        arrays.arrays(np.float32, size, elements=WILD).map(lambda r: r + np.float32(0)),
        st.integers(0, size + 2),
    )
)


@settings(max_examples=80)
@given(PAIRS)
def test_top_k_is_the_sorted_choice(case: tuple[Array, Array, int]) -> None:
    gradient, residual, k = case
    indices, values, rest = compression.top_k(gradient, residual, k)
    pairs, wanted = oracle.top_k(gradient, residual, k)
    assert list(zip(indices.tolist(), values.tolist(), strict=True)) == pairs
    np.testing.assert_array_equal(rest, wanted)


@settings(max_examples=80)
@given(PAIRS)
def test_sent_plus_residual_is_the_total_bit_for_bit(case: tuple[Array, Array, int]) -> None:
    gradient, residual, k = case
    indices, values, rest = compression.top_k(gradient, residual, k)
    sent = compression.densify(indices, values, gradient.size)
    assert (sent + rest).tobytes() == (gradient + residual).tobytes()


@settings(max_examples=80)
@given(PAIRS, st.sampled_from([1, 3, 16, 64]))
def test_int8_values_conserve_exactly_as_real_numbers(case: tuple[Array, Array, int], block: int) -> None:
    gradient, residual, k = case
    indices, codes, scales, rest = compression.top_k_int8(gradient, residual, k, block)
    sent = compression.densify(indices, compression.dequantise_int8(codes, scales, block), gradient.size)
    total = gradient + residual
    for s, r, t in zip(sent.tolist(), rest.tolist(), total.tolist(), strict=True):
        assert Fraction(s) + Fraction(r) == Fraction(t)


def test_int8_agrees_with_its_oracle(rng: np.random.Generator) -> None:
    gradient, residual = rng.standard_normal((2, 500)).astype(np.float32)
    indices, codes, scales, rest = compression.top_k_int8(gradient, residual, 50, 16)
    pairs, wanted = oracle.top_k_int8(gradient, residual, 50, 16)
    assert indices.tolist() == [i for i, _ in pairs]
    sent = compression.dequantise_int8(codes, scales, 16)
    np.testing.assert_allclose(sent, [v for _, v in pairs], rtol=1e-6)
    np.testing.assert_allclose(rest, wanted, atol=1e-5)


def test_many_rounds_conserve_the_sum_of_gradients(rng: np.random.Generator) -> None:
    """With gradients on a grid no addition rounds: everything sent, and the residual, is everything that came in."""
    size, rounds = 2000, 30
    gradients = rng.integers(-1000, 1000, (rounds, size)).astype(np.float32) / 64
    residual, sent = np.zeros(size, np.float32), np.zeros(size)
    for gradient in gradients:
        indices, values, residual = compression.top_k(gradient, residual, size // 10, out=residual)
        sent[indices] += values
    np.testing.assert_array_equal(sent + residual, gradients.astype(np.float64).sum(axis=0))


def test_every_coordinate_is_sent_in_the_end(rng: np.random.Generator) -> None:
    """The residual of a coordinate that always loses grows until it wins (Stich et al. 2018): it stays bounded."""
    size = 400
    gradient = np.linspace(0.01, 1, size, dtype=np.float32)
    residual, seen = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    largest = 0.0
    for _ in range(300):
        indices, _, residual = compression.top_k(gradient, residual, size // 10)
        seen[indices] = True
        largest = max(largest, float(residual.max()))
    assert seen.sum() > 0.95 * size
    assert largest < 2 * size / (size // 10)


def large(rng: np.random.Generator, kind: str) -> tuple[Array, int]:
    """A vector that is sampled, and k. A period of the sampling step shows the sample one value only."""
    size, k = 100_000, 7_000
    x = rng.standard_normal(size).astype(np.float32)
    if kind == "ties":
        x = np.round(x * 3).astype(np.float32)
    elif kind == "sorted":
        x = np.sort(x)
    elif kind == "constant":
        x = np.full(size, -2, np.float32)
    elif kind == "periodic":
        x[:: size // 4096] = 1000.0
        k = 3 * size // 4096
    return x, k


KINDS = ["normal", "ties", "sorted", "constant", "periodic"]


@pytest.mark.parametrize("kind", KINDS)
def test_large_vectors_choose_as_a_full_sort_does(rng: np.random.Generator, kind: str) -> None:
    """Also where the sampled guess is misled."""
    x, k = large(rng, kind)
    wanted = np.sort(np.argsort(-np.abs(x), kind="stable")[:k])
    np.testing.assert_array_equal(compression.largest(x, k), wanted)
    indices, values, _ = compression.top_k(x, np.zeros_like(x), k)
    np.testing.assert_array_equal(indices, wanted)
    np.testing.assert_array_equal(values, x[wanted])


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_is_the_same_on_large_vectors(rng: np.random.Generator, kind: str) -> None:
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from edgenet_node.kernels.compiled import compression as compiled

    x, k = large(rng, kind)
    ours, theirs = compression.top_k(x, np.zeros_like(x), k), compiled.top_k(x, np.zeros_like(x), k)
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("package", ["numpy", "numba"])
def test_the_result_may_replace_the_residual(rng: np.random.Generator, package: str) -> None:
    if package == "numba":
        pytest.importorskip("numba", reason="the extra [fast] is not installed")
        from edgenet_node.kernels.compiled.compression import top_k
    else:
        from edgenet_node.kernels.compression import top_k
    for size in (1000, 50_000):
        gradient, residual = rng.standard_normal((2, size)).astype(np.float32)
        wanted = oracle.top_k(gradient, residual, size // 10)[1]
        np.testing.assert_array_equal(top_k(gradient, residual, size // 10, out=residual)[2], wanted)


@settings(max_examples=40)
@given(PAIRS)
def test_compiled_is_the_same(case: tuple[Array, Array, int]) -> None:
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from edgenet_node.kernels.compiled import compression as compiled

    for left, right in zip(compression.top_k(*case), compiled.top_k(*case), strict=True):
        np.testing.assert_array_equal(left, right)
