"""`aggregation.mean/1`, `aggregation.weighted_mean/1`, `aggregation.median/1`, `aggregation.trimmed_mean/1`,
`aggregation.squared_distances/1`, `aggregation.krum/1`, `aggregation.multi_krum/1`, `aggregation.geometric_median/1`,
`aggregation.centred_clipping/1`: oracles, and what f liars can and cannot do.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgenet_node.kernels import aggregation
from edgenet_node.kernels.aggregation.coordinatewise import comparators
from edgenet_node.kernels.reference import aggregation as oracle

Array = npt.NDArray[np.float32]
SHAPES = st.tuples(st.integers(1, 12), st.integers(0, 30))
WILD = arrays.arrays(np.float32, SHAPES, elements=st.floats(-(2.0**120), 2.0**120, width=32))
ATTACKS = ("huge", "flipped", "shifted", "same", "zero")


def attacked(rng: np.random.Generator, honest: int, liars: int, width: int, attack: str) -> Array:
    """`honest` rows around a mean of 1, then `liars` rows."""
    good = 1 + 0.1 * rng.standard_normal((honest, width))
    bad = {
        "huge": np.full((liars, width), 1e30),
        "flipped": -10 * good[:liars],
        "shifted": np.tile(good.mean(axis=0) - 0.15, (liars, 1)),
        "same": np.full((liars, width), -50.0),
        "zero": np.zeros((liars, width)),
    }[attack]
    return np.vstack([good, bad]).astype(np.float32)


@settings(max_examples=60)
@given(WILD, st.integers(0, 5))
def test_coordinatewise_rules_agree_with_the_oracles(updates: Array, f: int) -> None:
    scale = float(np.abs(updates).max(initial=1e-30))
    np.testing.assert_allclose(aggregation.mean(updates), oracle.mean(updates), atol=3e-6 * scale)
    np.testing.assert_allclose(aggregation.median(updates), oracle.median(updates), atol=2e-7 * scale)
    if len(updates) > 2 * f:
        result = aggregation.trimmed_mean(updates, f)
        np.testing.assert_allclose(result, oracle.trimmed_mean(updates, f), atol=3e-6 * scale)
    weights = np.arange(1.0, len(updates) + 1)
    result = aggregation.weighted_mean(updates, weights)
    np.testing.assert_allclose(result, oracle.weighted_mean(updates, weights.tolist()), atol=3e-6 * scale)


@pytest.mark.parametrize("count", range(1, 10))
def test_the_network_sorts_all_zeros_and_ones(count: int) -> None:
    """The 0-1 principle (Knuth 5.3.4, theorem Z): a network that sorts these sorts everything. Each needed rank too."""
    inputs = np.array(list(itertools.product([0, 1], repeat=count)))
    for start, stop in [(0, count), ((count - 1) // 2, count // 2 + 1)]:
        rows = inputs.copy()
        for low, high in comparators(count, start, stop):
            a, b = rows[:, low].copy(), rows[:, high].copy()
            rows[:, low], rows[:, high] = np.minimum(a, b), np.maximum(a, b)
        np.testing.assert_array_equal(rows[:, start:stop], np.sort(inputs, axis=1)[:, start:stop])


@settings(max_examples=40)
@given(WILD)
def test_distances_agree_with_differences(updates: Array) -> None:
    found = aggregation.squared_distances(updates)
    squares = np.square(updates.astype(np.float64)).sum(axis=1)
    bound = 1e-13 * (squares[:, None] + squares[None, :])
    assert (np.abs(found - oracle.squared_distances(updates)) <= bound).all()


@pytest.mark.parametrize(("count", "width", "f"), [(3, 1, 0), (7, 40, 2), (25, 9000, 11)])
def test_point_rules_agree_with_the_oracles(rng: np.random.Generator, count: int, width: int, f: int) -> None:
    wide = rng.standard_normal((count, 2 * width)).astype(np.float32)
    updates = wide[:, ::2]  # strided
    scores = aggregation.krum_scores(aggregation.squared_distances(updates), f)
    np.testing.assert_allclose(scores, oracle.krum_scores(updates, f), rtol=1e-10)
    np.testing.assert_array_equal(aggregation.krum(updates, f), oracle.krum(updates, f))
    for chosen in (1, count - f):
        found = aggregation.multi_krum(updates, f, chosen=chosen)
        np.testing.assert_allclose(found, oracle.multi_krum(updates, f, chosen), atol=1e-5)
    np.testing.assert_allclose(
        aggregation.geometric_median(updates), oracle.geometric_median(updates, 300), atol=2e-4 if width > 1 else 0.1
    )
    centre = rng.standard_normal(width).astype(np.float32)
    for radius, rounds in [(0.5, 1), (3.0, 3), (1e9, 2)]:
        found = aggregation.centred_clipping(updates, centre, radius, rounds=rounds)
        np.testing.assert_allclose(found, oracle.centred_clipping(updates, centre, radius, rounds), atol=1e-5)


def test_equal_rows_give_that_row(rng: np.random.Generator) -> None:
    row = rng.standard_normal(50).astype(np.float32)
    updates = np.tile(row, (7, 1))
    for rule in aggregation.RULES:
        found = aggregation.aggregate(updates, rule, 2, 1e3, centre=row)
        np.testing.assert_allclose(found, row, rtol=1e-5)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("f", [1, 4, 9])
def test_coordinates_stay_between_honest_values(rng: np.random.Generator, attack: str, f: int) -> None:
    """Median and trimmed mean with f < n/2 liars lie within the honest range of every coordinate (Yin et al. 2018)."""
    updates = attacked(rng, 10, f, 200, attack)
    honest = updates[:10]
    for found in (aggregation.median(updates), aggregation.trimmed_mean(updates, f)):
        assert (found >= honest.min(axis=0) - 1e-6).all()
        assert (found <= honest.max(axis=0) + 1e-6).all()


def test_the_mean_has_no_such_bound_and_half_liars_break_the_median(rng: np.random.Generator) -> None:
    assert aggregation.mean(attacked(rng, 10, 1, 5, "huge")).min() > 1e28
    assert aggregation.median(attacked(rng, 10, 11, 5, "huge")).min() > 1e28
    assert aggregation.geometric_median(attacked(rng, 10, 11, 5, "huge")).min() > 1e28


@pytest.mark.parametrize("attack", ATTACKS)
def test_krum_picks_a_row_as_near_as_an_honest_one(rng: np.random.Generator, attack: str) -> None:
    """With n >= 2f + 3: the chosen row has n - f - 2 neighbours, at least one of them honest, at distances no larger in
    sum than those of the best honest row; so it is near the honest rows (Blanchard et al. 2017, proposition 2)."""
    f, n = 4, 15
    updates = attacked(rng, n - f, f, 300, attack)
    honest = updates[: n - f].astype(np.float64)
    centre = honest.mean(axis=0)
    spread = np.square(honest - centre).sum(axis=1).max()
    scores = oracle.krum_scores(updates, f)
    found = aggregation.krum(updates, f)
    assert np.square(found - centre).sum() <= (np.sqrt(min(scores[: n - f])) + np.sqrt(spread)) ** 2
    if attack in {"huge", "flipped", "same", "zero"}:
        assert (found == updates[: n - f]).all(axis=1).any()
        multi = aggregation.multi_krum(updates, f)
        assert np.square(multi - centre).sum() <= spread


def test_krum_needs_2f_plus_3() -> None:
    with pytest.raises(ValueError, match="2f \\+ 3"):
        aggregation.krum(np.zeros((6, 2), np.float32), 2)
    with pytest.raises(ValueError, match="average 1 to 5"):
        aggregation.multi_krum(np.zeros((7, 2), np.float32), 2, chosen=6)
    with pytest.raises(ValueError, match="cannot drop"):
        aggregation.trimmed_mean(np.zeros((4, 2), np.float32), 2)


@settings(max_examples=40)
@given(st.integers(3, 15), st.integers(2, 40), st.integers(0, 2**32))
def test_geometric_median_is_optimal(count: int, width: int, seed: int) -> None:
    """0 lies in the subdifferential of sum |x_i - z|: the unit vectors to the rows sum to nothing, or, where z is at a
    row, to at most its multiplicity."""
    updates = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    z = aggregation.geometric_median(updates).astype(np.float64)
    apart = updates - z
    lengths = np.linalg.norm(apart, axis=1)
    near = lengths < 1e-3
    pull = (apart[~near] / lengths[~near, None]).sum(axis=0)
    assert np.linalg.norm(pull) <= near.sum() + 0.01
    assert lengths.sum() <= np.linalg.norm(updates - oracle.geometric_median(updates, 500), axis=1).sum() * (1 + 1e-5)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("f", [1, 4, 9])
def test_geometric_median_has_breakdown_one_half(rng: np.random.Generator, attack: str, f: int) -> None:
    """|z - mean| <= 2 (n - f)/(n - 2f) max honest distance (Lopuhaa and Rousseeuw 1991; RFA, section 3)."""
    n = 10 + f
    updates = attacked(rng, 10, f, 100, attack)
    honest = updates[:10].astype(np.float64)
    centre = honest.mean(axis=0)
    radius = np.linalg.norm(honest - centre, axis=1).max()
    z = aggregation.geometric_median(updates).astype(np.float64)
    assert np.linalg.norm(z - centre) <= 2 * (n - f) / (n - 2 * f) * radius * (1 + 1e-4)


def test_geometric_median_where_most_rows_are_one_point(rng: np.random.Generator) -> None:
    updates = rng.standard_normal((9, 20)).astype(np.float32)
    updates[:5] = updates[0]
    np.testing.assert_allclose(aggregation.geometric_median(updates), updates[0], rtol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_centred_clipping_moves_at_most_f_over_n_radii(rng: np.random.Generator, attack: str) -> None:
    n, f, radius, width = 20, 5, 0.7, 60
    updates = attacked(rng, n - f, f, width, attack)
    centre = np.ones(width, np.float32)
    found = aggregation.centred_clipping(updates, centre, radius, rounds=1)
    assert np.linalg.norm(found - centre) <= radius * (1 + 1e-5)
    harmless = updates.copy()
    harmless[n - f :] = centre
    unattacked = aggregation.centred_clipping(harmless, centre, radius, rounds=1)
    assert np.linalg.norm(found - unattacked) <= f / n * radius * (1 + 1e-4)


def test_wide_radius_is_the_mean(rng: np.random.Generator) -> None:
    updates = rng.standard_normal((8, 30)).astype(np.float32)
    found = aggregation.centred_clipping(updates, np.zeros(30, np.float32), 1e6)
    np.testing.assert_allclose(found, updates.mean(axis=0), atol=1e-5)


def test_capped_weights() -> None:
    shares = aggregation.capped_weights(np.array([100.0, 1, 1, 1, 1]), 0.3)
    np.testing.assert_allclose(shares, [0.3, 0.175, 0.175, 0.175, 0.175])
    np.testing.assert_allclose(aggregation.capped_weights(np.array([1.0, 3]), 0.9), [0.25, 0.75])
    np.testing.assert_allclose(aggregation.capped_weights(np.zeros(4), 0.5), 0.25)
    np.testing.assert_allclose(aggregation.capped_weights(np.ones(3), 0.2), 1 / 3)


@settings(max_examples=60)
@given(arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1e6)), st.floats(0.05, 1))
def test_capped_weights_are_shares_below_the_cap(scores: npt.NDArray[np.float64], cap: float) -> None:
    shares = aggregation.capped_weights(scores, cap)
    assert shares.sum() == pytest.approx(1)
    if np.count_nonzero(scores) * cap > 1:
        assert (shares <= cap * (1 + 1e-9)).all()
        order = np.argsort(scores, kind="stable")
        assert (np.diff(shares[order]) >= -1e-9).all()


def test_every_rule_by_name_survives_a_quarter_of_liars(rng: np.random.Generator) -> None:
    updates = attacked(rng, 15, 5, 100, "flipped")
    centre = updates[:15].mean(axis=0)
    order = rng.permutation(20)
    assert aggregation.DEFAULT_RULE in aggregation.RULES
    assert aggregation.DEFAULT_GOSSIP_RULE in aggregation.RULES
    start = (centre + 0.05).astype(np.float32)
    for rule in aggregation.RULES:
        found = aggregation.aggregate(updates, rule, 5, 12.0, centre=start, radius=1.5)
        error = float(np.linalg.norm(found - centre)) / float(np.linalg.norm(centre))
        assert error > 0.3 if rule == "mean" else error < 0.3, rule
    bucketed = aggregation.aggregate(updates, "geometric_median", 5, 12.0, order=order, bucket=2)
    assert np.isfinite(bucketed).all()


def test_nothing_is_allocated_with_out_and_workspace(rng: np.random.Generator) -> None:
    updates = rng.standard_normal((15, 60_000)).astype(np.float32)
    centre, out = np.zeros(60_000, np.float32), np.empty(60_000, np.float32)
    rows = np.empty_like(updates)
    order = rng.permutation(15)
    space = aggregation.Workspace(15)
    weights = np.ones(15)
    calls: list[Callable[[], Any]] = [
        lambda: aggregation.mean(updates, out=out, workspace=space),
        lambda: aggregation.weighted_mean(updates, weights, out=out, workspace=space),
        lambda: aggregation.median(updates, out=out, workspace=space),
        lambda: aggregation.trimmed_mean(updates, 3, out=out, workspace=space),
        lambda: aggregation.krum(updates, 3, out=out, workspace=space),
        lambda: aggregation.multi_krum(updates, 3, out=out, workspace=space),
        lambda: aggregation.geometric_median(updates, out=out, workspace=space),
        lambda: aggregation.centred_clipping(updates, centre, 1.0, out=out, workspace=space),
        *(
            lambda rule=rule: aggregation.aggregate(
                updates, rule, 2, 100.0, order=order, bucket=2, out=out, workspace=space
            )
            for rule in aggregation.RULES
        ),
        lambda: aggregation.cap_norms(updates, 1.0, out=rows, workspace=space),
        lambda: aggregation.bucketing(updates, order, 2, out=rows[:8], workspace=space),
        lambda: aggregation.nearest_neighbour_mixing(updates, 3, out=rows, workspace=space),
        lambda: aggregation.nearest_neighbour_average(updates, 3, out=out, workspace=space),
    ]
    for call in calls:
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * 1024  # n x n scratch and numpy's casting buffers; one row alone is 240 kB


@settings(max_examples=30)
@given(WILD, st.integers(0, 5))
def test_compiled_rules_are_the_same_bits(updates: Array, f: int) -> None:
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from edgenet_node.kernels.compiled import aggregation as compiled

    np.testing.assert_array_equal(aggregation.median(updates), compiled.median(updates))
    if len(updates) > 2 * f:
        np.testing.assert_array_equal(aggregation.trimmed_mean(updates, f), compiled.trimmed_mean(updates, f))


def test_compiled_rules_over_many_strips(rng: np.random.Generator) -> None:
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from edgenet_node.kernels.compiled import aggregation as compiled

    updates = rng.standard_normal((25, 20_001)).astype(np.float32)[:, ::3]
    np.testing.assert_array_equal(aggregation.median(updates), compiled.median(updates))
    np.testing.assert_array_equal(aggregation.median(updates), np.median(updates, axis=0))
