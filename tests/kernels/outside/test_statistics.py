"""The statistics kernels against scipy, scikit-learn, statsmodels and river."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels.statistics import adwin, clusters, holt_winters, incomplete_beta, normal, sampling, thompson

stats: Any = pytest.importorskip("scipy.stats")


def test_the_incomplete_beta_function_is_scipys_over_ten_decades() -> None:
    generator = np.random.default_rng(1)
    worst = 0.0
    for _ in range(1500):
        a, b = 10.0 ** generator.uniform(-3, 7, 2)
        x = float(stats.beta.ppf(generator.uniform(1e-6, 1 - 1e-6), a, b))
        expected = float(stats.beta.cdf(x, a, b))
        if 0.0 < x < 1.0 and expected > 1e-250:
            # x itself is rounded: what that alone does to the result is allowed for.
            room = float(np.exp(stats.beta.logpdf(x, a, b))) * x * 4e-16 / expected
            worst = max(worst, abs(incomplete_beta.cdf(x, a, b) / expected - 1.0) - room)
    assert worst < 1e-10  # as its docstring states


def test_its_quantile_and_students_are_scipys() -> None:
    generator = np.random.default_rng(2)
    for _ in range(400):
        a, b = 10.0 ** generator.uniform(-1, 5, 2)
        p = float(generator.uniform(1e-4, 1 - 1e-4))
        assert incomplete_beta.quantile(p, a, b) == pytest.approx(float(stats.beta.ppf(p, a, b)), rel=1e-8, abs=1e-250)
        degrees = float(10.0 ** generator.uniform(-0.5, 5))
        expected = float(stats.t.ppf(p, degrees))
        assert incomplete_beta.t_quantile(p, degrees) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_the_posterior_predictive_is_scipys_t() -> None:
    state = normal.NormalInverseGamma(2.0, 5.0, 4.0, 9.0)
    for p in (0.01, 0.4, 0.95):
        mean = stats.t.ppf(p, 8.0, loc=2.0, scale=np.sqrt(9.0 / (4.0 * 5.0)))
        following = stats.t.ppf(p, 8.0, loc=2.0, scale=np.sqrt(9.0 * 6.0 / (4.0 * 5.0)))
        assert normal.mean_quantile(state, p) == pytest.approx(float(mean), rel=1e-9)
        assert normal.next_quantile(state, p) == pytest.approx(float(following), rel=1e-9)


def test_drawn_means_follow_the_marginal_t() -> None:
    generator, state = np.random.default_rng(3), normal.NormalInverseGamma(2.0, 5.0, 4.0, 9.0)
    drawn = [normal.sample(state, generator)[0] for _ in range(4000)]
    assert stats.kstest(drawn, stats.t(8.0, loc=2.0, scale=np.sqrt(9.0 / 20.0)).cdf).pvalue > 1e-3
    chosen = [thompson.best_rate(np.array([3.0, 5.0]), np.array([4.0, 4.0]), generator) for _ in range(8000)]
    second = stats.beta(5, 4).expect(lambda x: stats.beta.cdf(x, 3, 4))
    assert stats.binomtest(sum(chosen), 8000, float(second)).pvalue > 1e-3


def test_sampling_bounds_are_scipys() -> None:
    generator = np.random.default_rng(4)
    for _ in range(200):
        total = int(generator.integers(1, 100_000))
        wrong, checked = (int(v) for v in generator.integers(0, total + 1, 2))
        expected = float(stats.hypergeom.pmf(0, total, wrong, checked))
        assert sampling.escape_probability(total, wrong, checked) == pytest.approx(expected, rel=1e-7, abs=1e-250)
        trials = int(generator.integers(1, 2000))
        successes = int(generator.integers(0, trials + 1))
        interval = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
        found = sampling.clopper_pearson(successes, trials, 0.95)
        assert found == pytest.approx((interval.low, interval.high), rel=1e-7, abs=1e-12)


def test_k_means_reaches_scikit_learns_inertia() -> None:
    cluster: Any = pytest.importorskip("sklearn.cluster")
    generator = np.random.default_rng(5)
    middles = generator.standard_normal((8, 16), np.float32) * np.float32(3)
    points = middles[generator.integers(0, 8, 600)] + generator.standard_normal((600, 16), np.float32)
    ours = clusters.k_means(points, 8, generator, restarts=8)
    theirs = cluster.KMeans(8, n_init=8, random_state=0).fit(points)
    assert ours.cost == pytest.approx(float(theirs.inertia_), rel=1e-3)
    begin = clusters.seed(points, 8, generator)
    step = clusters.lloyd(points, begin, iterations=300, tolerance=0.0)
    same = cluster.KMeans(8, init=begin, n_init=1, tol=0.0, algorithm="lloyd").fit(points)
    np.testing.assert_allclose(step.centres, same.cluster_centers_, atol=1e-3)
    np.testing.assert_array_equal(step.labels, same.labels_)


def test_holt_winters_is_statsmodels() -> None:
    smoothing: Any = pytest.importorskip("statsmodels.tsa.holtwinters")
    generator = np.random.default_rng(6)
    t = np.arange(120)
    values = 10 + 0.2 * t + 3 * np.sin(np.pi * t / 3) + generator.standard_normal(120)
    a, b_star, g_star = 0.35, 0.2, 0.4
    begin = state = holt_winters.start(values[:12].tolist(), 6, holt_winters.Smoothing(a, a * b_star, g_star * (1 - a)))
    one_step = []
    for x in values[12:].tolist():
        one_step.append(holt_winters.forecast(state, 1).mean)
        state = holt_winters.update(state, x)
    model = smoothing.ExponentialSmoothing(
        values[12:],
        trend="add",
        seasonal="add",
        seasonal_periods=6,
        initialization_method="known",
        initial_level=begin.level,
        initial_trend=begin.trend,
        initial_seasonal=list(begin.season),
    )
    # statsmodels' trend weight is that of the component form, its seasonal one that of the error-correction form.
    fitted = model.fit(smoothing_level=a, smoothing_trend=b_star, smoothing_seasonal=g_star * (1 - a), optimized=False)
    np.testing.assert_allclose(one_step, fitted.fittedvalues, rtol=1e-8)
    found = [holt_winters.forecast(state, h).mean for h in range(1, 6)]
    np.testing.assert_allclose(found, fitted.forecast(5), rtol=1e-8)


@pytest.mark.parametrize("change", [0.3, 0.5])
def test_adwin_notices_when_rivers_does(change: float) -> None:
    drift: Any = pytest.importorskip("river.drift")
    ours_delay = theirs_delay = 0
    for seed in range(5):
        generator = np.random.default_rng(seed)
        state, theirs = adwin.start(0.002), drift.ADWIN(delta=0.002, clock=1)
        first, other = 0, 0
        for t in range(1500):
            x = float(generator.random() < 0.3 + (change if t >= 1000 else 0.0))
            state, cut = adwin.update(state, x)
            theirs.update(x)
            if t >= 1000:
                first = first or (t if cut else 0)
                other = other or (t if theirs.drift_detected else 0)
            else:
                assert not cut
        assert first
        assert other
        ours_delay += first - 1000
        theirs_delay += other - 1000
    # Ours shares delta over all n values of the window, river's over ln n: a little later, never by as much again.
    assert ours_delay <= 2 * theirs_delay + 5 * 32
