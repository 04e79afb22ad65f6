"""Fisher information and EWC: `learning.fisher_softmax_layer/1`, `learning.fisher_softmax_adapter/1`,
`learning.fisher_gaussian_adapter/1`, `learning.ewc_penalty/1` and `learning.ewc_gradient/1`."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.learning import ewc, fisher, lora
from edgenet_node.kernels.reference import learning as reference

Array = npt.NDArray[np.float32]


def normals(generator: np.random.Generator, *shape: int) -> Array:
    return generator.standard_normal(shape, np.float32)


@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.01, 1.0, 30.0]), st.integers(0, 99))
@settings(max_examples=40)
def test_closed_forms_equal_the_definition(n: int, d: int, c: int, size: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, logits = normals(generator, n, d), normals(generator, n, c) * np.float32(size)
    np.testing.assert_allclose(
        fisher.softmax_layer(x, logits), reference.fisher_softmax_layer(x, logits), rtol=2e-4, atol=1e-5
    )
    one = lora.Adapter(normals(generator, 2, d), normals(generator, 2, c), 0.5)
    found = fisher.softmax_adapter(x, logits, one)
    expected = reference.fisher_softmax_adapter(x, logits, one.down, one.up, 0.5)
    np.testing.assert_allclose(found.down, expected[0], rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found.up, expected[1], rtol=2e-4, atol=1e-5)
    found = fisher.gaussian_adapter(x, one, 0.7)
    expected = reference.fisher_gaussian_adapter(x, one.down, one.up, 0.5, 0.7)
    np.testing.assert_allclose(found.down, expected[0], rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found.up, expected[1], rtol=2e-4, atol=1e-5)


def test_logistic_regression_has_its_textbook_fisher() -> None:
    generator = np.random.default_rng(1)
    x, weights = normals(generator, 50, 3), normals(generator, 3)
    logit = x @ weights
    p = 1 / (1 + np.exp(-logit))
    found = fisher.softmax_layer(x, np.stack([logit, np.zeros(50, np.float32)], axis=1))[:, 0]
    np.testing.assert_allclose(found, (x**2 * (p * (1 - p))[:, None]).mean(axis=0), rtol=1e-5)


def test_it_is_the_expected_curvature_and_not_the_empirical_one() -> None:
    """The Fisher is the Hessian of the expected loss under the model's own labels; observed labels give another."""
    generator = np.random.default_rng(2)
    x, weights = normals(generator, 40, 3), normals(generator, 3, 4)
    p = fisher.probabilities(x @ weights).astype(np.float64)

    def expected_loss(w: npt.NDArray[np.float64]) -> float:
        logits = x.astype(np.float64) @ w
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - (p * logits).sum(axis=1)))

    found, centre, step = fisher.softmax_layer(x, x @ weights), weights.astype(np.float64), 1e-4
    for i in range(3):
        for k in range(4):
            move = np.zeros((3, 4))
            move[i, k] = step
            sides = expected_loss(centre + move) + expected_loss(centre - move) - 2 * expected_loss(centre)
            assert sides / step**2 == pytest.approx(float(found[i, k]), rel=1e-3, abs=1e-5)
    wrong = p.argmin(axis=1)
    score = np.eye(4)[wrong] - p
    empirical = np.square(x[:, :, None] * score[:, None, :]).mean(axis=0)
    assert empirical.sum() > 2 * found.sum()


def test_labels_drawn_from_the_model_give_the_same_in_expectation() -> None:
    generator = np.random.default_rng(3)
    x = np.repeat(normals(generator, 4, 3), 6000, axis=0)
    logits = np.repeat(normals(generator, 4, 4), 6000, axis=0)
    labels = fisher.sample_labels(logits, generator)
    p = fisher.probabilities(logits)
    counts = np.array([np.bincount(labels[i * 6000 : (i + 1) * 6000], minlength=4) for i in range(4)])
    chi_square = (np.square(counts - 6000 * p[::6000]) / (6000 * p[::6000])).sum()
    assert chi_square < 32.9  # 12 degrees of freedom, 0.999 quantile
    scores = (np.eye(4, dtype=np.float32)[labels] - p)[:, None, :] * x[:, :, None]
    sampled = fisher.squared_mean(scores.reshape(x.shape[0], -1)).reshape(3, 4)
    error = np.square(scores).std(axis=0, dtype=np.float64) / np.sqrt(x.shape[0])
    assert (abs(sampled - fisher.softmax_layer(x, logits)) < 4.5 * error).all()
    extreme = np.array([[1e30, 0.0, -1e30]], np.float32)
    assert fisher.sample_labels(extreme, generator).tolist() == [0]


@given(st.integers(0, 30), st.sampled_from([0.1, 2000.0]), st.integers(0, 99))
def test_penalty_and_gradient(size: int, strength: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    weights, anchor, information = normals(generator, size), normals(generator, size), normals(generator, size) ** 2
    assert ewc.penalty(weights, anchor, information, strength) == pytest.approx(
        reference.ewc_penalty(weights, anchor, information, strength), rel=1e-6
    )
    found = ewc.gradient(weights, anchor, information, strength)
    np.testing.assert_allclose(
        found, reference.ewc_gradient(weights, anchor, information, strength), rtol=1e-5, atol=1e-5 * strength
    )
    assert ewc.penalty(anchor, anchor, information, strength) == 0.0
    move, step = generator.standard_normal(size), 1e-3
    sides = [reference.ewc_penalty(weights + sign * step * move, anchor, information, strength) for sign in (1.0, -1.0)]
    slope = (sides[0] - sides[1]) / (2 * step)
    assert slope == pytest.approx(float((found * move).sum()), rel=1e-4, abs=1e-4 * strength)


def test_the_gradient_allocates_no_array() -> None:
    weights = np.ones(4096, np.float32)
    out = np.empty_like(weights)
    ewc.gradient(weights, weights, weights, 2.0, out=out)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        ewc.gradient(weights, weights, weights, 2.0, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1024


def test_online_consolidation_is_the_decayed_sum() -> None:
    generator = np.random.default_rng(4)
    state, parts = ewc.empty(normals(generator, 5)), [normals(generator, 5) ** 2 for _ in range(4)]
    assert not state.fisher.any()
    for part in parts:
        weights = normals(generator, 5)
        state = ewc.consolidate(state, weights, part, 0.9)
    expected = np.sum([0.9 ** (3 - i) * part for i, part in enumerate(parts)], axis=0)
    np.testing.assert_allclose(state.fisher, expected, rtol=1e-5)
    np.testing.assert_array_equal(state.anchor, weights)
    assert state.tasks == 4
    assert ewc.normalised(state.fisher).mean() == pytest.approx(1.0, rel=1e-6)
    assert not ewc.normalised(np.zeros(3, np.float32)).any()
    with pytest.raises(UsageError, match="0 to 1"):
        ewc.consolidate(state, weights, parts[0], 1.5)


def train(
    x: Array, labels: npt.NDArray[np.intp], weights: Array, state: ewc.Consolidated, strength: float, steps: int = 300
) -> Array:
    rate = min(0.5, 0.5 * ewc.stable_rate(state.fisher, strength))
    for _ in range(int(steps * 0.5 / rate)):
        error = fisher.probabilities(x @ weights)
        error[np.arange(labels.size), labels] -= 1.0
        slope = x.T @ error / np.float32(labels.size)
        slope += ewc.gradient(weights, state.anchor, state.fisher, strength)
        weights = weights - np.float32(rate) * slope
    return weights


def loss(x: Array, labels: npt.NDArray[np.intp], weights: Array) -> float:
    return float(-np.log(fisher.probabilities(x @ weights)[np.arange(labels.size), labels]).mean())


def test_less_is_forgotten_and_strength_trades_it_for_plasticity() -> None:
    """Two tasks on mostly different features (a permutation): with EWC at least 40 % less of the first is lost."""
    generator = np.random.default_rng(5)
    truth = normals(generator, 20, 3) * np.float32(2)
    importance = np.geomspace(2.0, 0.05, 20).astype(np.float32)
    first = normals(generator, 300, 20) * importance
    second = normals(generator, 300, 20) * importance[::-1]
    labels_first = (first @ truth).argmax(axis=1)
    labels_second = (second @ truth[generator.permutation(20)]).argmax(axis=1)
    none = ewc.empty(np.zeros((20, 3), np.float32))
    learnt = train(first, labels_first, none.anchor, none, 0.0)
    held = ewc.consolidate(none, learnt, fisher.softmax_layer(first, np.matmul(first, learnt, dtype=np.float32)))
    forgetting, plasticity = [], []
    for strength in (0.0, 0.3, 3.0, 30.0):
        after = train(second, labels_second, learnt, held, strength)
        forgetting.append(loss(first, labels_first, after) - loss(first, labels_first, learnt))
        plasticity.append(loss(second, labels_second, learnt) - loss(second, labels_second, after))
    assert forgetting[0] > 0.1
    assert forgetting[2] < 0.6 * forgetting[0]
    assert all(np.diff(forgetting) < 0)
    assert all(np.diff(plasticity) < 0)
    assert plasticity[2] > 0.0
