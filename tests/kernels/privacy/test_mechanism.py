"""`privacy.clipped_sum/1`, `privacy.discrete_gaussian/1`, `privacy.private_mean/1`."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgenet_node.kernels import privacy
from edgenet_node.kernels.privacy.noise import COARSE, COLUMN_BITS, FRACTION_BITS, TABLE_DEVIATION, WEIGHT_BITS
from edgenet_node.kernels.reference import privacy as oracle

Array = npt.NDArray[np.float32]
EXAMPLES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 40)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@pytest.fixture(scope="module")
def table() -> privacy.NoiseTable:
    return privacy.noise_table()


@settings(max_examples=80)
@given(EXAMPLES, st.sampled_from([1e-3, 1.0, 1e6]), st.sampled_from([1024, 524_289, 94_906_265]))
def test_no_example_moves_the_sum_by_more_than_the_clip(examples: Array, limit: float, steps: int) -> None:
    """Sensitivity, in exact integers: sums of neighbouring data sets differ by a vector of length at most `steps`."""
    whole = privacy.clipped_sum(examples, limit, steps)
    for i in range(len(examples)):
        without = privacy.clipped_sum(np.delete(examples, i, axis=0), limit, steps)
        assert sum(v * v for v in (whole - without).tolist()) <= steps * steps


@settings(max_examples=60)
@given(EXAMPLES, st.sampled_from([1e-3, 1.0, 1e6]))
def test_the_sum_is_the_oracle_s_within_a_step_an_example(examples: Array, limit: float) -> None:
    found = privacy.clipped_sum(examples, limit, 524_289)
    wanted = np.array(oracle.clipped_sum(examples, limit, 524_289), np.int64)
    assert (np.abs(found - wanted) <= len(examples)).all()


def test_an_example_that_is_not_finite_counts_as_zeros() -> None:
    good = np.array([[0.5, 0.25]], np.float32)
    for bad in (np.nan, np.inf):
        both = np.vstack([good, [[bad, 1]]]).astype(np.float32)
        np.testing.assert_array_equal(privacy.clipped_sum(both, 1.0, 1024), privacy.clipped_sum(good, 1.0, 1024))
    assert privacy.clipped_sum(good, 1.0, 1024).tolist() == [512, 256]


@pytest.mark.parametrize("multiplier", [0.01, 0.7, 1.0, 1.1, 100.0, 512.0])
def test_the_grid_gives_at_least_the_noise_asked_for(multiplier: float) -> None:
    true = privacy.DEVIATION / privacy.grid_steps(multiplier)
    assert multiplier <= true <= multiplier * (1 + multiplier / 500_000)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, 513.0, math.nan])
def test_impossible_grids_are_refused(multiplier: float) -> None:
    with pytest.raises(ValueError, match="noise multiplier"):
        privacy.grid_steps(multiplier)


def table_probabilities(table: privacy.NoiseTable) -> list[int]:
    """What each integer gets from the table, in units of 2^-128."""
    columns, capacity = 1 << COLUMN_BITS, 1 << (WEIGHT_BITS - COLUMN_BITS)
    weights = [0] * columns
    for column, (high, low, other) in enumerate(
        zip(table.high.tolist(), table.low.tolist(), table.other.tolist(), strict=True)
    ):
        own = (high << 64) + low
        weights[column] += own
        weights[other + columns // 2] += capacity - own
    return weights


def test_the_table_is_the_discrete_gaussian_to_2_to_the_minus_112(table: privacy.NoiseTable) -> None:
    weights = table_probabilities(table)
    assert sum(weights) == 1 << WEIGHT_BITS
    half = 1 << (COLUMN_BITS - 1)
    wanted = oracle.discrete_gaussian(Fraction(TABLE_DEVIATION**2), half)[:-1]
    distance = sum(abs(Fraction(w, 1 << WEIGHT_BITS) - Fraction(p)) for w, p in zip(weights, wanted, strict=True)) / 2
    assert distance < Fraction(1, 1 << 112)


def test_the_convolution_bound_holds_in_exact_arithmetic() -> None:
    """A small twin of `512 coarse + fine` with the same ratio of fine deviation to coarse step, 2: its probabilities
    are those of one discrete Gaussian within the stated relative error 2 exp(-2 pi^2 4), up to the digits carried."""
    step, deviation = 4, 8
    coarse = oracle.discrete_gaussian(Fraction(deviation**2), 200)
    fine = oracle.discrete_gaussian(Fraction(deviation**2), 200)
    total = Fraction((step * deviation) ** 2 + deviation**2)
    wanted = oracle.discrete_gaussian(total, 400)
    for value in range(-40, 41):
        found = sum(
            coarse[200 + c] * fine[200 + value - step * c] for c in range(-40, 41) if abs(value - step * c) <= 200
        )
        # 1/s^2 = 1/(step dev)^2 + 1/dev^2: s is dev (1 - 1/33 / 2) here, 1 - 2e-6 in the real one.
        exponent = 2 * math.pi**2 * (deviation**2 * (step * deviation) ** 2 / float(total)) / step**2
        assert abs(float(found / wanted[400 + value]) - 1) <= 4 * math.exp(-exponent) + 1e-15
    assert TABLE_DEVIATION == 2 * COARSE


def test_draws_follow_the_distribution(table: privacy.NoiseTable) -> None:
    """Chi-squared over 64 equal bins, seeded; 99.99 % quantile for 63 degrees of freedom is 112."""
    draws = privacy.discrete_gaussian(table, np.random.default_rng(3).bytes, 400_000) / privacy.DEVIATION
    below = np.array([0.5 * math.erfc(-d / math.sqrt(2)) for d in draws[:100_000].tolist()])
    counts = np.bincount((below * 64).astype(np.int64), minlength=64)
    assert (np.square(counts - 100_000 / 64) / (100_000 / 64)).sum() < 112
    assert abs(draws.mean()) < 5 / math.sqrt(draws.size)
    assert abs(draws.var() - 1) < 5 * math.sqrt(2 / draws.size)
    assert abs(np.mean(draws[1:] * draws[:-1])) < 5 / math.sqrt(draws.size)
    odd = (privacy.discrete_gaussian(table, np.random.default_rng(4).bytes, 100_000) & 1).mean()
    assert abs(odd - 0.5) < 5 * 0.5 / math.sqrt(100_000)  # the lowest bit says nothing: no trace of a rounding


def test_undecided_draws_read_more_bytes(table: privacy.NoiseTable) -> None:
    """A word whose fraction equals the threshold's upper part is decided by 64 further bits, at the exact place."""
    column = int(np.flatnonzero((table.low > 0) & (table.high < 1 << FRACTION_BITS) & (table.high > 0))[0])
    word = (column << FRACTION_BITS) | int(table.high[column])
    mine, other = column - (1 << (COLUMN_BITS - 1)), int(table.other[column])
    certain = struct.pack("<Q", ((1 << (COLUMN_BITS - 1)) << FRACTION_BITS))  # the middle column, fraction 0: itself, 0
    low = int(table.low[column])
    for tail, wanted in ((low - 1, mine), (low, other)):
        answers = iter([certain + struct.pack("<Q", word), struct.pack("<Q", tail)])
        found = privacy.discrete_gaussian(table, lambda size, answers=answers: next(answers), 1)  # type: ignore[misc]
        assert found.tolist() == [wanted]


def test_private_mean_is_sum_plus_noise_scaled(table: privacy.NoiseTable, rng: np.random.Generator) -> None:
    examples = rng.standard_normal((30, 50)).astype(np.float32)
    steps = privacy.grid_steps(1.3)
    sums = privacy.clipped_sum(examples, 2.0, steps)
    released = privacy.private_mean(sums, 2.0, steps, 30.0, table, np.random.default_rng(9).bytes)
    noise = privacy.discrete_gaussian(table, np.random.default_rng(9).bytes, 50)
    wanted = oracle.private_mean(sums.tolist(), noise.tolist(), 2.0, steps, 30.0)
    np.testing.assert_allclose(released, wanted, rtol=1e-6)
    assert released.dtype == np.float32


def test_noise_has_the_promised_size_against_the_clip(table: privacy.NoiseTable) -> None:
    steps = privacy.grid_steps(2.0)
    silent = np.zeros(200_000, np.int64)
    released = privacy.private_mean(silent, 0.5, steps, 1.0, table, np.random.default_rng(5).bytes)
    assert released.std() == pytest.approx(2.0 * 0.5, rel=0.01)
