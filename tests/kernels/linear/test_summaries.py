"""`linear.reduce/1`, `linear.moments/1`: a hierarchy of any shape gives what the whole gives."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.linear import Moments, Summary, join_moments, join_summaries, moments, summarise
from edgenet_node.kernels.reference import linear as reference

Array = npt.NDArray[np.float32]


@st.composite
def cut(draw: st.DrawFn) -> tuple[Array, list[Array]]:
    """A matrix and segments of it, some empty."""
    rows, width = draw(st.integers(0, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    offset = 10.0 ** draw(st.integers(-3, 4))
    values = (rng.standard_normal((rows, width)) + offset).astype(np.float32)
    bounds = [0, *sorted(draw(st.lists(st.integers(0, rows), max_size=6))), rows]
    return values, [values[i:j] for i, j in itertools.pairwise(bounds)]


def joined_in_pairs(parts: list[Summary]) -> Summary:
    """As a tree."""
    while len(parts) > 1:
        parts = [join_summaries(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


@given(cut())
def test_sums_extremes_and_means_of_unequal_segments(data: tuple[Array, list[Array]]) -> None:
    values, segments = data
    count, totals, lows, highs = reference.summary(values)
    for whole in (
        summarise(np.asfortranarray(values)),
        join_summaries([summarise(one) for one in segments]),
        joined_in_pairs([summarise(one) for one in segments]),
    ):
        assert whole.count == count
        np.testing.assert_allclose(whole.total, totals, rtol=1e-13)
        np.testing.assert_array_equal(whole.low, lows)
        np.testing.assert_array_equal(whole.high, highs)
        if count:
            np.testing.assert_allclose(whole.mean, np.array(totals) / count, rtol=1e-13)
        else:
            assert np.isnan(whole.mean).all()


def test_a_mean_weighs_segments_by_their_length() -> None:
    parts = [summarise(np.full((1, 1), 10, np.float32)), summarise(np.zeros((9, 1), np.float32))]
    assert join_summaries(parts).mean.tolist() == [1.0], "the mean of the means would be 5"


@given(cut())
def test_moments_join_to_welfords(data: tuple[Array, list[Array]]) -> None:
    values, segments = data
    count, means, squares = reference.moments(values)
    one_by_one = [moments(values[i : i + 1]) for i in range(len(values))] or [moments(values)]
    for whole in (moments(values), join_moments([moments(one) for one in segments]), join_moments(one_by_one)):
        assert whole.count == count
        np.testing.assert_allclose(whole.mean, means, rtol=1e-12, atol=1e-15)
        scale = np.abs(values).max(initial=0.0) ** 2 * max(1, count)
        np.testing.assert_allclose(whole.squares, squares, rtol=1e-10, atol=1e-15 * scale)


def test_a_variance_far_from_zero_keeps_its_digits() -> None:
    """The textbook formula, mean of squares less square of the mean, loses all of them here."""
    values = (np.arange(64, dtype=np.float32) % 2 + np.float32(2**20))[:, None]
    whole = join_moments([moments(values[:7]), moments(values[7:])])
    np.testing.assert_allclose(whole.variance(), [0.25], rtol=1e-12)
    np.testing.assert_allclose(whole.variance(1), [16 / 63], rtol=1e-12)
    assert np.isnan(Moments(1, np.zeros(1), np.zeros(1)).variance(1)).all()
