"""Each layer of the encoder against its float64 oracle, on random weights: no model needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import reference, transformer
from edgenet_node.kernels.encoder_fold import assemble, fold, published_shapes
from edgenet_node.kernels.transformer import HIDDEN, WIDTH, Group, Workspace

Array = npt.NDArray[np.float32]


def test_gelu_error_bound_over_all_magnitudes() -> None:
    dense = np.linspace(-14, 14, 60_001)
    wide = np.geomspace(1e-38, 1e30, 2000)
    x = np.concatenate([dense, wide, -wide]).astype(np.float32)
    u = (x * np.float64(transformer.GELU_SCALE_IN)).astype(np.float32)
    with np.errstate(over="ignore"):
        transformer.gelu_scaled(u, Workspace())
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


def random_tensors(seed: int, gain: float) -> dict[str, Array]:
    """Published tensors of the right shapes with a vocabulary of 50; `gain` scales queries and keys."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in published_shapes(vocabulary=50).items():
        scale = gain if ".query.weight" in name or ".key.weight" in name else 1.0
        spread = scale * (1.0 if len(shape) == 1 or "embeddings" in name else 1 / np.sqrt(shape[-1]))
        tensors[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
    return tensors


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_forward_of_any_packing_is_the_reference_per_sequence(lengths: list[int], seed: int) -> None:
    tensors = random_tensors(1, gain=1.0)
    check_forward(tensors, sorted(lengths), seed, tolerance=2e-5)


@pytest.mark.parametrize("lengths", [[256], [1] * 300, [60] * 40, [3, 3, 200, 256]])
def test_forward_across_blocks_and_steps(lengths: list[int]) -> None:
    check_forward(random_tensors(2, gain=1.0), lengths, 5, tolerance=2e-5, look_at=4)


def test_scores_beyond_the_range_of_exp_take_the_row_maximum() -> None:
    check_forward(random_tensors(3, gain=20.0), [5, 5, 17], 9, tolerance=2e-2)


def check_forward(
    tensors: dict[str, Array], lengths: list[int], seed: int, *, tolerance: float, look_at: int = 1000
) -> None:
    ids = np.random.default_rng(seed).integers(0, 50, sum(lengths)).astype(np.int32)
    groups, row = [], 0
    for length in dict.fromkeys(lengths):
        groups.append(Group(start=row, count=lengths.count(length), length=length))
        row += length * lengths.count(length)
    got = transformer.forward(assemble(fold(tensors)), ids, groups, Workspace())
    assert got.shape == (len(lengths), WIDTH)
    ends = np.cumsum(lengths)
    for i in range(0, len(lengths), max(1, len(lengths) // look_at)):
        wanted = reference.encode(tensors, ids[ends[i] - lengths[i] : ends[i]].tolist())
        np.testing.assert_allclose(got[i], wanted, atol=tolerance)


def test_a_workspace_that_was_larger_before_changes_nothing() -> None:
    weights = assemble(fold(random_tensors(4, gain=1.0)))
    ids = np.arange(12, dtype=np.int32)
    used, groups = Workspace(), [Group(0, 2, 6)]
    transformer.forward(weights, np.zeros(600, np.int32), [Group(0, 3, 200)], used)
    np.testing.assert_array_equal(
        transformer.forward(weights, ids, groups, used), transformer.forward(weights, ids, groups, Workspace())
    )
    assert HIDDEN == 4 * WIDTH
