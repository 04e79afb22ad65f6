"""Each layer of the encoder against its float64 oracle, on random weights: no model needed."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import reference, transformer
from edgenet_node.kernels.encoder_fold import assemble, fold, published_shapes
from edgenet_node.kernels.transformer import WIDTH, EncoderWeights, Group, Workspace

Array = npt.NDArray[np.float32]


def test_gelu_error_bound_over_all_magnitudes() -> None:
    dense = np.linspace(-14, 14, 60_001)
    wide = np.geomspace(1e-38, 1e30, 2000)
    x = np.concatenate([dense, wide, -wide]).astype(np.float32)
    u = (x * np.float64(transformer.GELU_SCALE_IN)).astype(np.float32)
    with np.errstate(over="ignore"):
        transformer.gelu_scaled(u, Workspace().gelu)
    got = u.astype(np.float64) * transformer.GELU_SCALE_OUT
    error = np.abs(got - reference.gelu(x)) / np.maximum(1.0, np.abs(x.astype(np.float64)))
    assert error.max() < 2.5e-7


@given(
    rows=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    offset=st.sampled_from([0.0, 1.0, -3.0]),
)
def test_layer_norm(rows: int, seed: int, scale: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    x = ((rng.standard_normal((rows, WIDTH)) + offset) * scale).astype(np.float32)
    gain, shift = rng.standard_normal((2, WIDTH)).astype(np.float32)
    wanted = reference.layer_norm(*(part.astype(np.float64) for part in (x, gain, shift)))
    transformer.layer_norm(x, gain, shift, Workspace())
    np.testing.assert_allclose(x, wanted, atol=2e-5)


@functools.cache
def random_tensors(gain: float) -> dict[str, Array]:
    """Published tensors of the right shapes with a vocabulary of 50; `gain` scales queries and keys."""
    rng = np.random.default_rng(1)
    tensors = {}
    for name, shape in published_shapes(vocabulary=50).items():
        scale = gain if ".query.weight" in name or ".key.weight" in name else 1.0
        spread = scale * (1.0 if len(shape) == 1 or "embeddings" in name else 1 / np.sqrt(shape[-1]))
        tensors[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
    return tensors


@functools.cache
def random_weights(gain: float) -> EncoderWeights:
    return assemble(fold(random_tensors(gain)))


def check_forward(
    lengths: list[int], seed: int, *, tolerance: float = 2e-5, gain: float = 1.0, samples: int = 4
) -> None:
    """The fast pass over all sequences packed together, against the reference of some of them, one at a time."""
    ids = np.random.default_rng(seed).integers(0, 50, sum(lengths)).astype(np.int32)
    groups, row = [], 0
    for length in dict.fromkeys(lengths):
        groups.append(Group(start=row, count=lengths.count(length), length=length))
        row += length * lengths.count(length)
    got = transformer.forward(random_weights(gain), ids, groups, Workspace())
    assert got.shape == (len(lengths), WIDTH)
    ends = np.cumsum(lengths)
    for i in range(0, len(lengths), -(-len(lengths) // samples)):
        wanted = reference.encode(random_tensors(gain), ids[ends[i] - lengths[i] : ends[i]].tolist())
        np.testing.assert_allclose(got[i], wanted, atol=tolerance)


@settings(max_examples=5)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_forward_of_any_packing_is_the_reference_per_sequence(lengths: list[int], seed: int) -> None:
    check_forward(sorted(lengths), seed)


@pytest.mark.parametrize("lengths", [[256], [1] * 300, [60] * 40, [3, 3, 200, 256], [4], [9], [16], [17]])
def test_forward_across_blocks_steps_and_tiles(lengths: list[int]) -> None:
    check_forward(lengths, 5, samples=2)


def test_scores_beyond_the_range_of_exp_take_the_row_maximum() -> None:
    check_forward([5, 5, 17], 9, gain=20.0, tolerance=2e-2)


@settings(max_examples=25)
@given(
    rows=st.integers(1, 24),
    seed=st.integers(0, 2**32 - 1),
    depth=st.sampled_from([384, 1536]),
    width=st.sampled_from([384, 768]),
)
def test_products_by_tiles_are_whole_products(rows: int, seed: int, depth: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    x, weights = rng.standard_normal((rows, depth), np.float32), rng.standard_normal((depth, width), np.float32)
    wanted = x.astype(np.float64) @ weights.astype(np.float64)
    out, turned = np.empty((rows, width), np.float32), np.empty((width, rows), np.float32)
    transformer.product(x, weights, out)
    transformer.product_transposed(np.ascontiguousarray(weights.T), x, turned)
    # Higham and Mary (2019), theorem 2.4 with lambda = 8: |error| <= lambda sqrt(n) u |x| |w|, but for one in 1e13.
    bound = 8 * math.sqrt(depth) * 2.0**-24 * (np.abs(x).astype(np.float64) @ np.abs(weights).astype(np.float64))
    assert np.all(np.abs(out - wanted) <= bound)
    assert np.all(np.abs(turned.T - wanted) <= bound)


def test_a_workspace_that_was_larger_before_changes_nothing() -> None:
    ids, groups, used = np.arange(12, dtype=np.int32), [Group(0, 2, 6)], Workspace()
    transformer.forward(random_weights(1.0), np.zeros(600, np.int32), [Group(0, 3, 200)], used)
    np.testing.assert_array_equal(
        transformer.forward(random_weights(1.0), ids, groups, used),
        transformer.forward(random_weights(1.0), ids, groups, Workspace()),
    )
