"""Hashing and clusters: `statistics.simhash/1`, `statistics.band_keys/1`, `statistics.k_means_seed/1`,
`statistics.k_means_assign/1`, `statistics.centre_sums/1` and `statistics.lloyd/1`."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.reference import statistics as reference
from edgenet_node.kernels.statistics import clusters, lsh

Array = npt.NDArray[np.float32]


def pairs_at(angle: float, count: int, dimensions: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of unit vectors that are exactly `angle` apart, in random directions."""
    frames = np.linalg.qr(generator.standard_normal((count, dimensions, 2)))[0]
    first, second = frames[:, :, 0], frames[:, :, 1]
    return first.astype(np.float32), (math.cos(angle) * first + math.sin(angle) * second).astype(np.float32)


@given(st.integers(0, 6), st.integers(1, 20), st.integers(1, 40), st.integers(-15, 15), st.integers(0, 99))
@settings(max_examples=40)
def test_signatures_are_the_sides_of_the_planes(n: int, d: int, bits: int, power: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    planes = lsh.hyperplanes(bits, d, generator)
    x = (generator.integers(-8, 8, (n, 2 * d)).astype(np.float32) * np.float32(2.0**power))[:, ::2]
    found = np.unpackbits(lsh.signatures(x, planes), axis=1)
    scores = np.asarray(x, np.float64) @ planes.T.astype(np.float64)
    certain = (abs(scores) > 1e-5 * (abs(x).astype(np.float64) @ abs(planes.T))) | (scores == 0.0)
    expected = np.array(reference.simhash(x, planes)).reshape(n, bits)
    assert ((found[:, :bits] == expected) | ~certain).all()
    assert not found[:, bits:].any()
    np.testing.assert_array_equal(lsh.signatures(x * np.float32(4), planes), lsh.signatures(x, planes))


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, math.pi / 2, 2.5, math.pi])
def test_a_bit_agrees_with_probability_one_minus_angle_over_pi(angle: float) -> None:
    generator = np.random.default_rng(1)
    first, second = pairs_at(angle, 40, 16, generator)
    planes = lsh.hyperplanes(1000, 16, generator)
    one, other = lsh.signatures(first, planes), lsh.signatures(second, planes)
    hamming = np.array([lsh.distances(a[None], b)[0] for a, b in zip(one, other, strict=True)])
    p = lsh.collision_probability(angle)
    # Pairs share the planes, so they are not independent; each pair's own bits are. Both ends are exact.
    room = 4.5 * math.sqrt(p * (1 - p) / 1000)
    assert (abs(1 - hamming / 1000 - p) <= room + 2e-3).all()  # a bit or two by rounding
    assert abs(float(lsh.angles(hamming, 1000).mean()) - angle) < 0.03


def test_independent_planes_pass_a_chi_square_test() -> None:
    generator = np.random.default_rng(2)
    statistic = 0.0
    for angle in (0.4, 0.9, 1.4, 2.0, 2.7):
        first, second = pairs_at(angle, 1, 8, generator)
        planes = lsh.hyperplanes(8000, 8, generator)
        apart = int(lsh.distances(lsh.signatures(first, planes), lsh.signatures(second, planes)[0])[0])
        q = angle / math.pi
        statistic += (apart - 8000 * q) ** 2 / (8000 * q * (1 - q))
    assert statistic < 20.5  # 5 degrees of freedom, 0.999 quantile


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 64), st.integers(0, 99))
@settings(max_examples=50)
def test_band_keys_are_the_bits_of_each_band(n: int, bands: int, rows: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (n, bands * rows + 3)).astype(np.uint8)
    keys = lsh.band_keys(np.packbits(bits, axis=1), bands, rows)
    assert keys.shape == (n, bands)
    assert keys.tolist() == reference.band_keys(bits.tolist(), bands, rows)
    for wrong in ((bands, 65), (0, rows), (bands + 11, rows)):
        with pytest.raises(UsageError):
            lsh.band_keys(np.packbits(bits, axis=1), *wrong)


@pytest.mark.parametrize(("bands", "rows"), [(4, 8), (16, 4), (8, 2)])
def test_banding_has_its_s_curve(bands: int, rows: int) -> None:
    generator, runs = np.random.default_rng(3), 1500
    for angle in (0.2, 0.6, 1.0, 1.5):
        hits = 0
        first, second = pairs_at(angle, runs, 6, generator)
        for a, b in zip(first, second, strict=True):
            planes = lsh.hyperplanes(bands * rows, 6, generator)
            keys = lsh.band_keys(lsh.signatures(np.stack([a, b]), planes), bands, rows)
            hits += bool((keys[0] == keys[1]).any())
        p = lsh.candidate_probability(angle, bands, rows)
        assert p == pytest.approx(1 - (1 - (1 - angle / math.pi) ** rows) ** bands)
        assert abs(hits / runs - p) < 4.5 * math.sqrt(p * (1 - p) / runs) + 1 / runs
    assert lsh.candidate_probability(0.0, bands, rows) == 1.0
    assert lsh.candidate_probability(math.pi, bands, rows) == 0.0


def test_the_index_finds_exactly_those_that_share_a_band() -> None:
    generator = np.random.default_rng(4)
    keys = generator.integers(0, 20, (300, 5)).astype(np.uint64)
    index = lsh.build(keys)
    for query in generator.integers(0, 20, (30, 5)).astype(np.uint64):
        expected = np.flatnonzero((keys == query).any(axis=1))
        np.testing.assert_array_equal(lsh.candidates(index, query, 1000), expected)
    flood = lsh.build(np.zeros((300, 5), np.uint64))
    np.testing.assert_array_equal(lsh.candidates(flood, np.zeros(5, np.uint64), 7), np.arange(7))
    assert lsh.candidates(lsh.build(np.empty((0, 5), np.uint64)), keys[0], 7).size == 0
    with pytest.raises(UsageError):
        lsh.hyperplanes(0, 4, generator)


@given(st.integers(0, 30), st.integers(1, 5), st.integers(1, 8), st.sampled_from([0.0, 100.0]), st.integers(0, 99))
@settings(max_examples=50)
def test_assignment_sums_and_lloyd_follow_the_oracle(n: int, d: int, k: int, far: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = (generator.standard_normal((n, 2 * d), np.float32) + np.float32(far))[:, ::2]
    centres = generator.standard_normal((k, d), np.float32) + np.float32(far)
    labels, squares = clusters.assign(points, centres)
    wanted, wanted_squares = reference.k_means_assign(points, centres)
    np.testing.assert_allclose(squares, wanted_squares, rtol=1e-3, atol=1e-4)
    sums, counts = clusters.centre_sums(points, labels, k)
    expected = reference.centre_sums(points, labels.tolist(), k)
    np.testing.assert_allclose(sums, expected[0], rtol=1e-9, atol=1e-9)
    assert counts.tolist() == expected[1]
    if n and set(wanted) == set(range(k)):
        step = clusters.lloyd(points, centres, iterations=1)
        by_hand = reference.lloyd(points, centres, 1)
        if reference.k_means_cost(points, by_hand) < sum(wanted_squares) and labels.tolist() == wanted:
            np.testing.assert_allclose(step.centres, by_hand, rtol=1e-5, atol=1e-5)


def test_compiled_sums_agree() -> None:
    pytest.importorskip("numba")
    from edgenet_node.kernels.compiled import statistics as compiled

    generator = np.random.default_rng(5)
    for n in (0, 1, 500):
        points, labels = generator.standard_normal((n, 14), np.float32)[:, ::2], generator.integers(0, 9, n)
        found, expected = compiled.centre_sums(points, labels, 9), clusters.centre_sums(points, labels, 9)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(found[1], expected[1])
    centres = clusters.seed(points, 4, generator)
    assert clusters.lloyd(points, centres, centre_sums=compiled.centre_sums).cost == pytest.approx(
        clusters.lloyd(points, centres).cost, rel=1e-6
    )


def test_seeding_is_sampling_by_squared_distance() -> None:
    generator = np.random.default_rng(6)
    points = np.float32(0.125) * generator.integers(-16, 17, (40, 3)).astype(np.float32)  # sums of squares are exact
    for seed in range(30):
        ours = clusters.seed(points, 5, np.random.default_rng(seed))
        np.testing.assert_array_equal(ours, reference.k_means_seed(points, 5, np.random.default_rng(seed)))
        assert len(np.unique(ours, axis=0)) == 5
    same = clusters.seed(np.ones((4, 2), np.float32), 3, generator)
    np.testing.assert_array_equal(same, np.ones((3, 2)))
    for k in (0, 5):
        with pytest.raises(UsageError):
            clusters.seed(points[:4], k, generator)


def optimum(points: Array, k: int) -> float:
    """The least cost over all partitions into at most k parts."""
    least = math.inf
    for labels in itertools.product(range(k), repeat=len(points) - 1):
        full = np.array([0, *labels])
        cost = 0.0
        for part in range(k):
            members = points[full == part].astype(np.float64)
            if len(members):
                cost += float(((members - members.mean(axis=0)) ** 2).sum())
        least = min(least, cost)
    return least


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_expected_cost_of_seeding_is_bounded(k: int) -> None:
    """Arthur and Vassilvitskii, theorem 1.1: E[cost] <= 8 (ln k + 2) OPT, here with OPT by enumeration."""
    generator = np.random.default_rng(7)
    for spread in (0.05, 1.0):
        middles = np.array([[0, 0], [6, 0], [0, 9]], np.float32)
        points = middles[np.arange(8) % 3] + np.float32(spread) * generator.standard_normal((8, 2), np.float32)
        best = optimum(points, k)
        costs = [float(clusters.assign(points, clusters.seed(points, k, generator))[1].sum()) for _ in range(400)]
        assert np.mean(costs) <= 8 * (math.log(k) + 2) * best
        assert clusters.k_means(points, k, generator, restarts=10).cost == pytest.approx(best, rel=1e-3)


def test_lloyd_never_raises_the_cost_and_leaves_no_cluster_empty() -> None:
    generator = np.random.default_rng(8)
    points = generator.standard_normal((300, 6), np.float32)
    centres = clusters.seed(points, 12, generator)
    costs = [clusters.lloyd(points, centres, iterations=i, tolerance=0.0).cost for i in range(12)]
    assert all(np.diff(costs) <= 0)
    assert costs[-1] < costs[0]
    stacked = np.zeros((5, 6), np.float32)  # all centres in one place: four have no points
    found = clusters.lloyd(points, stacked)
    assert np.bincount(found.labels, minlength=5).min() > 0
    assert found.cost == pytest.approx(reference.k_means_cost(points, found.centres), rel=1e-4)
    for bad in (points[:0], points):
        with pytest.raises(UsageError):
            clusters.lloyd(bad, points[:0])
    with pytest.raises(UsageError):
        clusters.k_means(points, 2, generator, restarts=0)
