"""Replay: `learning.sum_tree_refresh/1`, `learning.sum_tree_find/1`, `learning.replay_importance/1` and
`learning.reservoir/1`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.learning import replay, reservoir, sum_tree
from edgenet_node.kernels.reference import learning as reference

CHI_SQUARE_99 = 148.2  # 99 degrees of freedom, 0.999 quantile


@given(
    st.lists(st.sampled_from([0.0, 1e-12, 0.3, 1.0, 7.5, 1e6]), min_size=1, max_size=40).filter(any),
    st.lists(st.tuples(st.integers(0, 39), st.sampled_from([0.0, 0.1, 2.0])), max_size=10),
    st.integers(0, 99),
)
@settings(max_examples=80)
def test_the_tree_is_a_cumulative_sum(weights: list[float], changes: list[tuple[int, float]], seed: int) -> None:
    tree = sum_tree.empty(len(weights))
    sum_tree.refresh(tree, np.arange(len(weights)), np.array(weights))
    changes = [(slot % len(weights), weight) for slot, weight in changes]
    slots, changed = np.array([s for s, _ in changes], np.intp), np.array([w for _, w in changes])
    expected = reference.sum_tree_refresh(weights, slots.tolist(), changed.tolist())
    if not expected.any():
        return
    sum_tree.refresh(tree, slots, changed)
    leaves = tree.size // 2
    np.testing.assert_array_equal(tree[leaves : leaves + len(weights)], expected)
    inner = np.arange(1, leaves)
    np.testing.assert_array_equal(tree[inner], tree[2 * inner] + tree[2 * inner + 1])
    targets = np.random.default_rng(seed).random(50) * tree[1]
    found = sum_tree.find(tree, targets)
    assert (expected[found] > 0.0).all()
    # Sums in another order differ by rounding: a target that close to a border may fall on either side.
    borders, near = np.cumsum(expected), 1e-12 * float(expected.sum())
    for leaf, other, target in zip(
        found.tolist(), reference.sum_tree_find(expected, targets.tolist()), targets, strict=True
    ):
        assert leaf == other or float(abs(borders - target).min()) <= near
    edges = sum_tree.find(tree, np.array([0.0, np.nextafter(tree[1], 0.0), tree[1]]))
    assert (expected[edges] > 0.0).all()
    assert edges[2] == np.flatnonzero(expected)[-1]


def test_compiled_tree_agrees() -> None:
    pytest.importorskip("numba")
    from edgenet_node.kernels.compiled import learning as compiled

    generator = np.random.default_rng(1)
    for capacity in (1, 2, 37, 1000):
        one, other = sum_tree.empty(capacity), sum_tree.empty(capacity)
        for _ in range(5):
            slots = generator.integers(0, capacity, 20)
            weights = generator.random(20) * (generator.random(20) > 0.3) + 1e-9
            sum_tree.refresh(one, slots, weights)
            compiled.refresh(other, slots, weights)
            np.testing.assert_array_equal(one, other)
            targets = generator.random(64) * one[1]
            np.testing.assert_array_equal(sum_tree.find(one, targets), compiled.find(other, targets))
    with pytest.raises(UsageError, match="sum tree"):
        sum_tree.empty(0)


def test_draws_follow_the_priorities_and_weights_undo_them() -> None:
    generator = np.random.default_rng(2)
    buffer = replay.PrioritisedReplay(100)
    errors = generator.exponential(size=100)
    for error in errors:
        buffer.add(float(error))
    expected = (errors + replay.EPSILON) ** replay.ALPHA
    chances = expected / expected.sum()
    np.testing.assert_allclose(buffer.probabilities(), chances, rtol=1e-12)
    drawn = buffer.sample(40_000, generator, 1.0)
    counts = np.bincount(drawn.slots, minlength=100)
    assert float((np.square(counts - 40_000 * chances) / (40_000 * chances)).sum()) < CHI_SQUARE_99
    few = buffer.sample(50, generator, 0.4)
    np.testing.assert_allclose(
        few.weights, reference.replay_importance(expected[few.slots].tolist(), expected.tolist(), 0.4)
    )
    # With beta 1 the weighted average is the plain average over all items, up to its own scale.
    values = generator.standard_normal(100)
    scale = 100 * chances.min() if (counts[chances.argmin()] > 0) else None
    assert scale is not None
    assert float((drawn.weights * values[drawn.slots]).mean() / scale) == pytest.approx(float(values.mean()), abs=0.05)
    flat = buffer.sample(10, generator, 0.0)
    np.testing.assert_array_equal(flat.weights, np.ones(10))


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_the_ring_and_the_priorities_stay_together(errors: list[float | None], capacity: int, seed: int) -> None:
    buffer = replay.PrioritisedReplay(capacity)
    for number, error in enumerate(errors):
        assert buffer.add(error) == number % capacity
        assert len(buffer) == min(number + 1, capacity)
    if not errors:
        with pytest.raises(UsageError, match="draw"):
            buffer.sample(1, np.random.default_rng(0))
        return
    chances = buffer.probabilities()
    assert chances.size == len(buffer)
    assert chances.sum() == pytest.approx(1.0)
    assert (chances > 0).all()  # even an error of zero can be learnt from again
    drawn = buffer.sample(64, np.random.default_rng(seed))
    assert drawn.slots.size == 64
    assert int(drawn.slots.max()) < len(buffer)
    assert ((drawn.weights > 0) & (drawn.weights <= 1)).all()
    buffer.update(drawn.slots, np.zeros(64))
    assert math.isfinite(buffer.total)
    with pytest.raises(UsageError, match="slots"):
        buffer.update(np.array([len(buffer)]), np.array([1.0]))


def test_a_new_item_is_as_urgent_as_the_most_urgent() -> None:
    buffer = replay.PrioritisedReplay(4)
    buffer.add(9.0)
    buffer.add()
    assert buffer.probabilities().tolist() == [0.5, 0.5]


def test_the_correction_is_annealed_in_a_straight_line() -> None:
    assert [replay.anneal(step, 10, 0.4) for step in (-1, 0, 5, 10, 99)] == [0.4, 0.4, 0.7, 1.0, 1.0]
    assert replay.anneal(0, 0) == 1.0


@pytest.mark.parametrize(("items", "capacity"), [(1, 1), (3, 5), (5, 5), (400, 1), (200, 10), (100, 99)])
def test_every_item_is_kept_equally_often(items: int, capacity: int) -> None:
    runs = 3000
    generator = np.random.default_rng(items * 1000 + capacity)
    kept = np.zeros(items)
    for _ in range(runs if items > capacity else 5):
        state, held = reservoir.empty(capacity), dict[int, int]()
        for item in range(items):
            state, slot = reservoir.offer(state, generator)
            if slot is not None:
                assert 0 <= slot < capacity
                held[slot] = item
        assert state.seen == items
        assert sorted(held) == list(range(min(items, capacity)))
        kept[list(held.values())] += 1
    if items <= capacity:
        assert (kept == 5).all()
        return
    share = capacity / items
    # Each count is binomial; within a run they are negatively correlated, so a chi-square over bins is a safe bound.
    bins = np.array([part.sum() for part in np.array_split(kept, 10)])
    sizes = np.array([part.size for part in np.array_split(kept, 10)])
    assert float((np.square(bins - runs * share * sizes) / (runs * share * sizes)).sum()) < 29.6  # 10 degrees, 0.999
    assert float(abs(kept - runs * share).max()) < 5.0 * math.sqrt(runs * share * (1 - share) + 1)


def test_it_keeps_as_algorithm_r_does() -> None:
    """Both put the same share of the last tenth into the sample, and skip the same number of items."""
    generator, runs = np.random.default_rng(9), 600
    late, late_r, taken = 0, 0, 0
    for _ in range(runs):
        state, held = reservoir.empty(10), dict[int, int]()
        for item in range(100):
            state, slot = reservoir.offer(state, generator)
            if slot is not None:
                held[slot], taken = item, taken + 1
        late += sum(item >= 90 for item in held.values())
        draws, choices = generator.random(100).tolist(), generator.integers(0, 10, 100).tolist()
        late_r += sum(item >= 90 for item in reference.reservoir(100, 10, draws, choices))
    assert abs(late - runs) < 4.5 * math.sqrt(runs)
    assert abs(late_r - runs) < 4.5 * math.sqrt(runs)
    expected = 10 + sum(10 / (n + 1) for n in range(10, 100))
    assert taken / runs == pytest.approx(expected, rel=0.02)
    with pytest.raises(UsageError, match="reservoir"):
        reservoir.empty(0)


def test_shift_is_measured_in_standard_deviations() -> None:
    generator = np.random.default_rng(3)
    held = generator.standard_normal((2000, 4), np.float32)
    recent = held[:200] + np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    assert reservoir.shift(held, recent) == pytest.approx(1.5, abs=0.1)
    assert reservoir.shift(held * 1000, recent * 1000) == pytest.approx(reservoir.shift(held, recent), rel=1e-4)
    assert reservoir.shift(held, held) == 0.0
    steady = np.ones((5, 2), np.float32)
    assert reservoir.shift(steady, steady) == 0.0
    assert reservoir.shift(steady, 2 * steady) == math.inf
    assert reservoir.shift(held[:0], recent) == 0.0
