"""Streams: `statistics.page_hinkley/1`, `statistics.adwin/1` and `statistics.holt_winters/1`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.reference import statistics as reference
from edgenet_node.kernels.statistics import adwin, holt_winters, page_hinkley

unit = st.floats(0, 1)


@given(st.lists(unit, max_size=40), st.floats(0.01, 0.3), st.integers(1, 10))
def test_page_hinkley_is_the_largest_sum_from_any_beginning(values: list[float], delta: float, settle: int) -> None:
    state = page_hinkley.start(delta, 1e9, settle)
    for x in values:
        state, drift = page_hinkley.update(state, x)
        assert drift == ""
    assert (state.rise, state.fall) == pytest.approx(reference.page_hinkley(values, delta, settle), abs=1e-9)
    if values:
        assert state.mean == pytest.approx(math.fsum(values) / len(values))


@pytest.mark.parametrize("rise", [True, False])
def test_page_hinkley_finds_a_change_and_starts_again(rise: bool) -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        state, found = page_hinkley.start(0.2, 10.0, 100), list[tuple[int, page_hinkley.Drift]]()
        for t in range(1000):
            rate = 0.2 if (t < 500) == rise else 0.7
            state, drift = page_hinkley.update(state, float(generator.random() < rate))
            if drift:
                found.append((t, drift))
        assert len(found) == 1
        time, drift = found[0]
        assert drift == ("rise" if rise else "fall")
        assert 500 <= time < 500 + 2 * page_hinkley.delay_bound(state, 0.4)
        assert state.seen == 1000 - time


def test_false_alarms_stay_within_their_bound() -> None:
    generator, runs, steps = np.random.default_rng(2), 150, 1500
    settings_tried = [(0.25, 4.0, 200), (0.25, 8.0, 250), (0.4, 5.0, 100)]
    for delta, threshold, settle in settings_tried:
        begin = page_hinkley.start(delta, threshold, settle)
        bound = page_hinkley.false_alarm_bound(begin, steps)
        alarms = 0
        for _ in range(runs):
            state, alarmed = begin, False
            for x in (generator.random(steps) < 0.5).astype(float).tolist():
                state, drift = page_hinkley.update(state, x)
                alarmed |= bool(drift)
            alarms += alarmed
        assert alarms <= runs * bound + 3 * math.sqrt(runs * bound)
    certain = page_hinkley.start(0.25, 12.0, 400)
    assert page_hinkley.false_alarm_bound(certain, 1000) < 0.02
    assert page_hinkley.false_alarm_bound(page_hinkley.start(0.01, 1.0, 1), 10) == 1.0
    assert page_hinkley.delay_bound(certain, 0.2) == math.inf


def test_a_constant_excess_alarms_within_the_delay() -> None:
    state = page_hinkley.start(0.1, 3.0, 10)
    for _ in range(10_000):
        state, drift = page_hinkley.update(state, 0.2)
        assert not drift
    drifts = []
    for _ in range(int(page_hinkley.delay_bound(state, 0.69))):
        state, drift = page_hinkley.update(state, 0.9)
        drifts.append(drift)
    assert "rise" in drifts


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_values_outside_the_unit_interval_are_refused(bad: float) -> None:
    with pytest.raises(UsageError):
        page_hinkley.update(page_hinkley.start(), bad)
    with pytest.raises(UsageError):
        adwin.update(adwin.start(), bad)
    for parameters in ((0.0, 1.0, 1), (0.1, 0.0, 1), (0.1, 1.0, 0)):
        with pytest.raises(UsageError):
            page_hinkley.start(*parameters)
    with pytest.raises(UsageError):
        adwin.start(1.0)


@given(st.lists(unit, max_size=300), st.sampled_from(["hoeffding", "variance"]))
@settings(max_examples=25)
def test_adwins_window_is_the_end_of_the_stream(values: list[float], bound: adwin.Bound) -> None:
    state = adwin.start(0.3, bound)
    for t, x in enumerate(values):
        state, _ = adwin.update(state, x)
        window = values[t + 1 - state.width : t + 1]
        assert sum(len(row) << i for i, row in enumerate(state.rows)) == state.width == len(window)
        assert all(1 <= len(row) <= adwin.BUCKETS for row in state.rows)
    if values:
        window = values[len(values) - state.width :]
        assert state.total == pytest.approx(math.fsum(window), abs=1e-9)
        assert state.squares == pytest.approx(len(window) * float(np.var(window)), abs=1e-7)
        kept = state.rows[-1][0]
        oldest = window[: 1 << (len(state.rows) - 1)]
        assert kept.total == pytest.approx(math.fsum(oldest), abs=1e-9)
        assert kept.squares == pytest.approx(len(oldest) * float(np.var(oldest)), abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_every_cut_is_one_that_comparing_all_splits_makes_too(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = [float(x) for x in np.r_[generator.random(150) * 0.5, 0.5 + generator.random(150) * 0.5]]
    state, cuts = adwin.start(0.01, "hoeffding"), 0
    for t, x in enumerate(values):
        before = values[t - state.width : t + 1]
        state, cut = adwin.update(state, x)
        if cut:
            cuts += 1
            assert reference.adwin_splits(before, 0.01, adwin.SIDE_MIN)
    assert cuts > 0


def test_adwin_takes_little_memory_and_no_cut_while_nothing_changes() -> None:
    generator = np.random.default_rng(3)
    for bound in ("hoeffding", "variance"):
        state, cuts = adwin.start(0.01, bound), 0
        for x in generator.random(6000).tolist():
            state, cut = adwin.update(state, x)
            cuts += cut
            assert state.buckets <= adwin.BUCKETS * (math.log2(max(2, state.width)) + 1)
        assert cuts == 0
        assert state.width == 6000


def test_false_cuts_stay_within_the_theorem() -> None:
    """At most `confidence` at each value: with 0.05 that allows 5 %; the union over splits leaves far fewer."""
    generator, cuts, steps = np.random.default_rng(4), 0, 0
    for rate in (0.05, 0.5):
        for _ in range(6):
            state = adwin.start(0.05, "hoeffding")
            for x in (generator.random(600) < rate).astype(float).tolist():
                state, cut = adwin.update(state, x)
                cuts, steps = cuts + cut, steps + 1
    assert cuts <= 0.05 * steps


@pytest.mark.parametrize("bound", ["hoeffding", "variance"])
@pytest.mark.parametrize("change", [0.3, -0.3, 0.5])
def test_adwin_detects_a_change_of_the_mean(bound: adwin.Bound, change: float) -> None:
    """Theorem 3.1, second part: once both parts are long enough for twice the bound, the old part goes."""
    generator, state, first = np.random.default_rng(5), adwin.start(0.01, bound), 0
    for t in range(2000):
        rate = 0.4 + (change if t >= 1000 else 0.0)
        state, cut = adwin.update(state, float(generator.random() < rate))
        assert t >= 1000 or not cut
        if cut and not first:
            first = t
    enough = next(n for n in range(5, 1000) if 2 * adwin.cut_bound(1000, n, 0.25, 0.01, bound) < abs(change))
    assert 1000 < first <= 1000 + 2 * enough
    assert state.width <= 1000 + enough
    assert abs(state.mean - 0.4 - change) < 0.05


def season(t: int) -> float:
    return 10.0 + 0.5 * t + 3.0 * math.sin(math.pi * t / 3)


@given(st.lists(st.floats(-100, 100), max_size=40), st.floats(0.05, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_error_correction_is_the_component_form(values: list[float], a: float, b: float, g: float) -> None:
    smoothing = holt_winters.Smoothing(a, a * b, g * (1 - a))
    state = begin = holt_winters.start([season(t) for t in range(12)], 6, smoothing)
    for x in values:
        state = holt_winters.update(state, x)
    level, trend, seasons = reference.holt_winters(values, begin.level, begin.trend, begin.season, (a, b, g))
    assert (state.level, state.trend) == pytest.approx((level, trend), rel=1e-6, abs=1e-6)
    assert state.season == pytest.approx(seasons, rel=1e-6, abs=1e-6)


def test_a_line_and_a_season_are_forecast_exactly() -> None:
    def flat(t: int) -> float:
        return 2.0 - 0.25 * t + (1.0, -3.0, 2.0)[t % 3]

    state = holt_winters.start([flat(t) for t in range(6)], 3)
    for t in range(6, 40):
        forecast = holt_winters.forecast(state, 1)
        assert forecast.mean == pytest.approx(flat(t), abs=1e-9)
        state = holt_winters.update(state, math.nan if t % 5 == 0 else flat(t))
    for h in (1, 2, 3, 7):
        forecast = holt_winters.forecast(state, h)
        assert forecast.mean == pytest.approx(flat(39 + h), abs=1e-9)
        assert forecast.low == pytest.approx(forecast.high, abs=1e-9)
    cut = holt_winters.forecast(state, 40, floor=0.0)
    assert (cut.mean, cut.low, cut.high) == (0.0, 0.0, 0.0)


def test_intervals_cover_what_the_model_itself_generates() -> None:
    generator, smoothing = np.random.default_rng(6), holt_winters.Smoothing(0.4, 0.05, 0.3)
    for ahead in (1, 4, 9):
        hits, runs = 0, 400
        for _ in range(runs):
            state = holt_winters.start([season(t) for t in range(12)], 6, smoothing)
            for _ in range(60):
                following = holt_winters.forecast(state, 1).mean + generator.standard_normal()
                state = holt_winters.update(state, following)
            promise, truth = holt_winters.forecast(state, ahead, 0.9), state
            for _ in range(ahead):
                x = holt_winters.forecast(truth, 1).mean + generator.standard_normal()
                truth = holt_winters.update(truth, x)
            hits += promise.low <= x <= promise.high
        assert abs(hits / runs - 0.9) < 0.06


def test_it_beats_the_naive_forecast_on_a_noisy_season() -> None:
    generator = np.random.default_rng(7)
    values = [season(t) + float(generator.standard_normal()) * 0.7 for t in range(300)]
    state = holt_winters.start(values[:12], 6)
    ours = naive = seasonal = 0.0
    for t in range(12, 300):
        ours += (holt_winters.forecast(state, 1).mean - values[t]) ** 2
        naive += (values[t - 1] - values[t]) ** 2
        seasonal += (values[t - 6] - values[t]) ** 2
        state = holt_winters.update(state, values[t])
    assert ours < 0.5 * min(naive, seasonal)


@pytest.mark.parametrize(
    ("values", "period", "smoothing"),
    [
        ([1.0] * 3, 2, None),
        ([math.nan] * 4, 2, None),
        ([], 0, None),
        ([1.0] * 4, 2, holt_winters.Smoothing(0.0, 0.0, 0.0)),
        ([1.0] * 4, 2, holt_winters.Smoothing(0.3, 0.4, 0.0)),
        ([1.0] * 4, 2, holt_winters.Smoothing(0.3, 0.1, 0.8)),
    ],
)
def test_a_series_that_cannot_start(values: list[float], period: int, smoothing: holt_winters.Smoothing | None) -> None:
    with pytest.raises(UsageError):
        holt_winters.start(values, period, smoothing)


def test_no_forecast_without_a_future_or_from_infinity() -> None:
    state = holt_winters.start([1.0] * 4, 2)
    assert holt_winters.forecast(state, 1).high == math.inf  # no error has been seen: nothing is promised
    for ahead, confidence in ((0, 0.9), (1, 1.0)):
        with pytest.raises(UsageError):
            holt_winters.forecast(state, ahead, confidence)
    with pytest.raises(UsageError):
        holt_winters.update(state, math.inf)
