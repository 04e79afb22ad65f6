"""Posteriors: `statistics.beta_cdf/1`, `statistics.beta_quantile/1`, `statistics.beta_update/1`,
`statistics.normal_update/1`, `statistics.best_rate/1` and `statistics.least_mean/1`."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.reference import statistics as reference
from edgenet_node.kernels.statistics import beta, incomplete_beta, normal, thompson

shapes = st.floats(-2, 3).map(lambda power: 10.0**power)
NIG = normal.NormalInverseGamma


@given(st.floats(1e-6, 1 - 1e-6), shapes, shapes)
@settings(max_examples=150)
def test_the_distribution_function_is_the_series(x: float, a: float, b: float) -> None:
    found = incomplete_beta.cdf(x, a, b)
    # The oracle loses digits to the difference of log-gammas, up to about 1e4 units in the last place here.
    assert found == pytest.approx(reference.beta_cdf(x, a, b), rel=2e-11, abs=2e-11)
    assert found + incomplete_beta.cdf(1 - x, b, a) == pytest.approx(1.0, abs=1e-9 * (1 + max(a, b)))


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 5), (40, 2), (200, 300)])
def test_whole_parameters_are_binomial_sums(a: int, b: int) -> None:
    """`I_x(a, b) = P(Binomial(a + b - 1, x) >= a)`, DLMF 8.17.5."""
    n = a + b - 1
    for x in (5 / 512, 0.3125, 0.5, 0.78125, 1023 / 1024):  # few digits: whole numbers stay short
        p = Fraction(x)
        whole = float(sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(a, n + 1)))
        assert incomplete_beta.cdf(x, a, b) == pytest.approx(whole, rel=1e-12, abs=1e-300)


def test_the_ends_and_what_is_no_distribution() -> None:
    assert [incomplete_beta.cdf(x, 2, 3) for x in (-1.0, 0.0, 1.0, 2.0)] == [0.0, 0.0, 1.0, 1.0]
    assert [incomplete_beta.quantile(p, 2, 3) for p in (0.0, 1.0)] == [0.0, 1.0]
    for a, b in ((0.0, 1.0), (1.0, -1.0), (math.inf, 1.0), (math.nan, 1.0)):
        with pytest.raises(UsageError):
            incomplete_beta.cdf(0.5, a, b)
    with pytest.raises(UsageError):
        incomplete_beta.quantile(1.5, 1, 1)
    with pytest.raises(UsageError):
        incomplete_beta.t_quantile(0.0, 3)


@given(st.floats(0.001, 0.999), shapes, shapes)
@settings(max_examples=100)
def test_the_quantile_inverts_it(probability: float, a: float, b: float) -> None:
    x = incomplete_beta.quantile(probability, a, b)
    assert 0.0 <= x <= 1.0
    if 1e-290 < x < 1 - 1e-9:
        room = 1e-9 * probability + 1e-15 * max(a, b) / (1 - x)
        assert incomplete_beta.cdf(x, a, b) == pytest.approx(probability, abs=room + 1e-9)
    if a > 0.5 and b > 0.5:
        assert x == pytest.approx(reference.beta_quantile(probability, a, b), rel=1e-8, abs=1e-12)


def test_students_quantiles_have_their_closed_forms() -> None:
    for p in (0.001, 0.3, 0.5, 0.500001, 0.8, 0.9999):
        assert incomplete_beta.t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
        wanted = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
        assert incomplete_beta.t_quantile(p, 2) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(st.lists(st.booleans(), max_size=30), st.floats(0, 1), st.floats(0.1, 5), st.floats(0.1, 5))
def test_beta_with_forgetting_is_all_outcomes_weighted_at_once(
    outcomes: list[bool], keep: float, a: float, b: float
) -> None:
    state = prior = beta.Beta(a, b)
    for success in outcomes:
        state = beta.update(state, success, not success, keep=keep, prior=prior)
    assert (state.a, state.b) == pytest.approx(reference.beta_posterior(outcomes, keep, (a, b)), rel=1e-9)


def test_beta_moments_bounds_and_the_return_to_the_prior() -> None:
    state = beta.update(beta.UNIFORM, 30, 10)
    assert (state.mean, state.variance) == pytest.approx((31 / 42, 31 * 11 / (42**2 * 43)))
    low, high = beta.lower_bound(state, 0.95), beta.upper_bound(state, 0.95)
    assert incomplete_beta.cdf(low, 31, 11) == pytest.approx(0.05)
    assert incomplete_beta.cdf(high, 31, 11) == pytest.approx(0.95)
    faded = state
    for _ in range(400):
        faded = beta.forget(faded, 0.9)
    assert (faded.a, faded.b) == pytest.approx((1.0, 1.0))
    assert beta.lower_bound(beta.forget(state, 0.5), 0.95) < low  # less evidence, less trust
    draws = np.array([beta.sample(state, generator) for generator in [np.random.default_rng(1)] for _ in range(4000)])
    assert abs(draws.mean() - state.mean) < 4.5 * math.sqrt(state.variance / 4000)
    for successes, failures in ((-1.0, 0.0), (math.nan, 0.0), (0.0, -1.0)):
        with pytest.raises(UsageError):
            beta.update(state, successes, failures)
    with pytest.raises(UsageError):
        beta.forget(state, 1.1)


@given(st.lists(st.floats(-1e3, 1e3), max_size=30), st.floats(-10, 10), st.floats(0.01, 10), st.floats(0.01, 10))
def test_normal_updates_equal_the_batch_formula_in_any_order(
    values: list[float], mean: float, count: float, scale: float
) -> None:
    prior = NIG(mean, count, 1.5, scale)
    for order in (values, values[::-1]):
        state = prior
        for x in order:
            state = normal.update(state, x)
        expected = reference.normal_posterior(values, (mean, count, 1.5, scale))
        assert (state.mean, state.count, state.shape, state.scale) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5), st.floats(0.1, 50), st.floats(0, 1))
def test_normal_forgetting_mixes_the_natural_parameters(
    m0: float, m1: float, k0: float, k1: float, keep: float
) -> None:
    prior, state = NIG(m0, k0, 2.0, 1.0), NIG(m1, k1, 9.0, 3.0)

    def natural(s: NIG) -> tuple[float, ...]:
        return s.count * s.mean, s.count, s.shape, s.scale + 0.5 * s.count * s.mean**2

    expected = [keep * a + (1 - keep) * b for a, b in zip(natural(state), natural(prior), strict=True)]
    assert natural(normal.forget(state, keep, prior)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert normal.forget(state, keep, prior).scale > 0


def test_a_weight_is_a_number_of_observations() -> None:
    prior = NIG(0.0, 1.0, 2.0, 1.0)
    twice = normal.update(normal.update(prior, 3.0), 3.0)
    once = normal.update(prior, 3.0, 2.0)
    assert (once.mean, once.count, once.shape, once.scale) == pytest.approx(
        (twice.mean, twice.count, twice.shape, twice.scale)
    )
    for x, weight in ((math.nan, 1.0), (1.0, -1.0)):
        with pytest.raises(UsageError):
            normal.update(prior, x, weight)
    with pytest.raises(UsageError):
        normal.forget(prior, -0.1, prior)


def test_normal_quantiles_are_those_of_its_draws() -> None:
    state, generator = NIG(5.0, 4.0, 3.0, 8.0), np.random.default_rng(2)
    drawn = [normal.sample(state, generator) for _ in range(20_000)]
    for p in (0.05, 0.5, 0.9):
        room = 4.5 * math.sqrt(p * (1 - p) / 20_000)
        bound, next_bound = normal.mean_quantile(state, p), normal.next_quantile(state, p)
        below = sum(mu <= bound for mu, _ in drawn) / 20_000
        assert abs(below - p) < room
        following = [mu + math.sqrt(v) * generator.standard_normal() for mu, v in drawn]
        assert abs(sum(x <= next_bound for x in following) / 20_000 - p) < room
    variances = np.array([v for _, v in drawn])
    assert variances.mean() == pytest.approx(state.variance, rel=0.05)
    assert NIG(0.0, 1.0, 1.0, 1.0).variance == math.inf


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(0, 1000))
def test_known_variance_sharpens_with_every_observation(variance: float, noise: float, n: int) -> None:
    found = normal.update_known(normal.Normal(2.0, variance), 7.0, n, noise)
    wanted = 1 / (1 / variance + n / noise)
    assert found.variance == pytest.approx(wanted, rel=1e-9)
    assert found.mean == pytest.approx(wanted * (2.0 / variance + n * 7.0 / noise), rel=1e-9)
    with pytest.raises(UsageError):
        normal.update_known(found, 7.0, 1, 0.0)


def test_thompson_draws_as_the_oracle_does() -> None:
    generator = np.random.default_rng(3)
    for seed in range(50):
        a, b = generator.uniform(0.5, 9, (2, 6))
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        assert thompson.best_rate(a, b, ours) == reference.best_rate(a.tolist(), b.tolist(), theirs)
        mean, count, shape, scale = generator.uniform(0.5, 9, (4, 6))
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        expected = reference.least_mean(mean.tolist(), count.tolist(), shape.tolist(), scale.tolist(), theirs)
        assert thompson.least_mean(mean, count, shape, scale, ours) == expected
    with pytest.raises(UsageError, match="options"):
        thompson.best_rate(np.empty(0), np.empty(0), generator)


def test_an_option_is_chosen_as_often_as_it_is_likely_to_be_best() -> None:
    a, b, generator = np.array([3.0, 5.0]), np.array([4.0, 4.0]), np.random.default_rng(4)
    # P(theta_2 > theta_1) by integration over the density of the first, Beta(3, 4): 60 x^2 (1 - x)^3.
    grid = (np.arange(20_000) + 0.5) / 20_000
    density = 60 * grid**2 * (1 - grid) ** 3
    other = np.array([1 - incomplete_beta.cdf(float(x), 5.0, 4.0) for x in grid[::40]])
    second = float((np.interp(grid, grid[::40], other) * density).mean())
    chosen = sum(thompson.best_rate(a, b, generator) for _ in range(8000)) / 8000
    assert abs(chosen - second) < 4.5 * math.sqrt(second * (1 - second) / 8000)
    ties = [thompson.best_rate(np.full(2, 1e-9), np.full(2, 1e9), generator) for _ in range(200)]
    assert 50 < sum(ties) < 150


def regret(choose: str, seed: int, steps: int = 1500) -> float:
    rates, generator = (0.3, 0.45, 0.6), np.random.default_rng(seed)
    a, b, lost = np.ones(3), np.ones(3), 0.0
    for _ in range(steps):
        if choose == "thompson":
            arm = thompson.best_rate(a, b, generator)
        elif generator.random() < 0.1:
            arm = int(generator.integers(3))
        else:
            arm = int(np.argmax(a / (a + b)))
        won = generator.random() < rates[arm]
        a[arm] += won
        b[arm] += not won
        lost += 0.6 - rates[arm]
    return lost


def test_it_regrets_less_than_epsilon_greedy_and_less_and_less() -> None:
    ours = [regret("thompson", seed) for seed in range(12)]
    theirs = [regret("greedy", seed) for seed in range(12)]
    assert sum(ours) < sum(theirs)
    early = sum(regret("thompson", seed, 500) for seed in range(12))
    assert sum(ours) - early < 1.2 * early  # twice as many further steps cost hardly more than the first third
