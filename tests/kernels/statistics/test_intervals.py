"""Intervals and samples: `statistics.conformal_margin/1`, `statistics.escape_probability/1` and
`statistics.clopper_pearson/1`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.reference import statistics as reference
from edgenet_node.kernels.statistics import conformal, sampling


@given(st.lists(st.floats(0, 10) | st.just(math.inf), max_size=40), st.floats(0.001, 0.999))
def test_the_margin_is_the_definition(scores: list[float], alpha: float) -> None:
    found = conformal.margin(np.array(scores), alpha)
    assert found == reference.conformal_margin(scores, alpha)
    assert conformal.margin(np.array(scores), 0.0) == math.inf
    assert conformal.margin(np.array(scores), 1.0) == -math.inf


@pytest.mark.parametrize("n", [1, 2, 5, 6])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("tied", [False, True])
def test_coverage_is_exact_over_all_orders(n: int, alpha: float, tied: bool) -> None:
    """Exchangeable means that every order of n + 1 scores is equally likely: count them all."""
    values = [float(i // 2 if tied else i) for i in range(n + 1)]
    covered = total = 0
    for order in itertools.permutations(values):
        total += 1
        covered += order[-1] <= conformal.margin(np.array(order[:-1]), alpha)
    assert covered / total >= 1 - alpha - 1e-9
    if not tied:
        assert covered / total <= 1 - alpha + 1 / (n + 1) + 1e-9


@pytest.mark.parametrize("noise", ["normal", "cauchy", "skewed"])
def test_coverage_holds_for_any_model_and_noise(noise: str) -> None:
    generator, runs, alpha, n = np.random.default_rng(1), 4000, 0.1, 25
    draws: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
        "normal": generator.standard_normal,
        "cauchy": generator.standard_cauchy,
        "skewed": lambda size: generator.exponential(size=size) ** 3,
    }
    draw = draws[noise]
    hits = 0
    for _ in range(runs):
        y = draw(n + 1)
        low, high = conformal.interval(0.7, conformal.margin(abs(y[:-1] - 0.7), alpha))  # 0.7 is a poor model
        hits += low <= y[-1] <= high
    exact = math.ceil((n + 1) * (1 - alpha)) / (n + 1)
    assert abs(hits / runs - exact) < 4.5 * math.sqrt(exact * (1 - exact) / runs)


def test_p_values_are_valid_and_scores_are_numbers() -> None:
    values = list(range(7))
    chances = sorted(
        conformal.p_value(np.array([v for v in values if v != last], float), float(last)) for last in values
    )
    assert chances == pytest.approx([i / 7 for i in range(1, 8)])
    for scores, alpha in (([math.nan], 0.1), ([1.0], math.nan)):
        with pytest.raises(UsageError):
            conformal.margin(np.array(scores), alpha)


@given(st.integers(0, 99), st.sampled_from([0.01, 0.1]), st.sampled_from([0.1, 0.5]))
@settings(max_examples=20)
def test_adaptive_intervals_keep_their_rate_on_any_sequence(seed: int, step: float, target: float) -> None:
    generator = np.random.default_rng(seed)
    scores = np.abs(generator.standard_normal(600)) * np.geomspace(1, 10.0 ** generator.integers(-3, 4), 600)
    state, misses = conformal.adaptive(target, step), 0
    for t in range(100, 600):
        missed = bool(scores[t] > conformal.margin(scores[t - 100 : t], state.level))
        misses += missed
        state = conformal.update(state, missed=missed)
    assert abs(misses / 500 - target) <= (max(target, 1 - target) + step) / (step * 500)
    assert -step <= state.level <= 1 + step


def test_adaptive_beats_a_fixed_margin_under_drift() -> None:
    generator = np.random.default_rng(2)
    scores = np.abs(generator.standard_normal(3000)) * np.linspace(1, 8, 3000)
    state, misses, fixed = conformal.adaptive(0.1, 0.02), 0, conformal.margin(scores[:200], 0.1)
    for t in range(200, 3000):
        missed = bool(scores[t] > conformal.margin(scores[max(0, t - 200) : t], state.level))
        misses += missed
        state = conformal.update(state, missed=missed)
    assert abs(misses / 2800 - 0.1) < 0.02
    assert float((scores[200:] > fixed).mean()) > 0.4
    for bad in ((0.0, 0.1), (1.0, 0.1), (0.1, 0.0)):
        with pytest.raises(UsageError):
            conformal.adaptive(*bad)


def test_escape_is_the_share_of_samples_that_miss_every_wrong_one() -> None:
    for total in range(9):
        for wrong, checked in itertools.product(range(total + 1), repeat=2):
            draws = list(itertools.combinations(range(total), checked))
            clean = sum(all(i >= wrong for i in draw) for draw in draws) / len(draws)
            assert sampling.escape_probability(total, wrong, checked) == pytest.approx(clean, abs=1e-12)


@given(st.integers(0, 5000), st.data())
def test_escape_is_exact_for_large_counts(total: int, data: st.DataObject) -> None:
    wrong, checked = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    found = sampling.escape_probability(total, wrong, checked)
    assert found == pytest.approx(reference.escape_probability(total, wrong, checked), rel=1e-10, abs=1e-300)
    assert found == sampling.escape_probability(total, checked, wrong)


def test_escape_by_log_gamma_joins_the_product() -> None:
    exact = math.exp(sum(math.log1p(-120_000 / (10**10 - i)) for i in range(110_000)))
    assert sampling.escape_probability(10**10, 110_000, 120_000) == pytest.approx(exact, rel=1e-4)
    for bad in ((3, 4, 1), (3, 1, 4), (3, -1, 1)):
        with pytest.raises(UsageError):
            sampling.escape_probability(*bad)


@given(st.integers(0, 300), st.data(), st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
def test_the_fewest_checks(total: int, data: st.DataObject, escape: float) -> None:
    wrong = data.draw(st.integers(0, total))
    found = sampling.checks_needed(total, wrong, escape)
    if wrong == 0:
        assert found == 0
        return
    assert sampling.escape_probability(total, wrong, found) <= escape
    assert found == 0 or sampling.escape_probability(total, wrong, found - 1) > escape
    with pytest.raises(UsageError):
        sampling.checks_needed(total, total + 1, escape)


@given(st.integers(0, 60), st.data(), st.sampled_from([0.5, 0.9, 0.999]))
@settings(max_examples=60)
def test_clopper_pearson_inverts_the_binomial(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    found = sampling.clopper_pearson(successes, trials, confidence)
    assert found == pytest.approx(reference.clopper_pearson(successes, trials, confidence), abs=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.93])
def test_clopper_pearson_covers(rate: float) -> None:
    for trials in (1, 7, 40):
        covered = 0.0
        for s in range(trials + 1):
            low, high = sampling.clopper_pearson(s, trials, 0.9)
            if low <= rate <= high:
                covered += math.comb(trials, s) * rate**s * (1 - rate) ** (trials - s)
        assert covered >= 0.9
    with pytest.raises(UsageError):
        sampling.clopper_pearson(2, 1, 0.9)


@given(st.floats(0.01, 1e6), st.floats(0, 1e6))
def test_at_the_deterring_rate_cheating_neither_gains_nor_loses(gain: float, slash: float) -> None:
    rate = sampling.deterring_rate(gain, slash)
    assert rate * slash == pytest.approx((1 - rate) * gain, rel=1e-6, abs=1e-9 * gain)
    assert sampling.deterring_rate(0.0, slash) == 0.0
    with pytest.raises(UsageError):
        sampling.deterring_rate(-1.0, slash)
