"""`privacy.gaussian_delta/1`, `privacy.calibrate_deviation/1`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import privacy
from edgenet_node.kernels.reference import privacy as oracle


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("deviation", [0.2, 0.7, 1.0, 4.0, 50.0])
def test_delta_is_the_integral(epsilon: float, deviation: float) -> None:
    found = privacy.gaussian_delta(epsilon, deviation)
    assert found == pytest.approx(oracle.gaussian_delta(epsilon, deviation), rel=1e-7, abs=1e-300)


def test_known_values() -> None:
    """Calibrations by the classic formula are 4.845 and 48.45 for delta 1e-5: analytic ones need less."""
    for epsilon in (0.1, 1.0):
        classic = math.sqrt(2 * math.log(1.25e5)) / epsilon
        analytic = privacy.calibrate_deviation(epsilon, 1e-5)
        assert analytic < classic
        assert analytic == pytest.approx(oracle.calibrate_deviation(epsilon, 1e-5), rel=1e-9)
    assert privacy.calibrate_deviation(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-6)
    classic_at_10 = math.sqrt(2 * math.log(1.25e5)) / 10
    assert privacy.gaussian_delta(10.0, classic_at_10) > 1e-5  # where the classic formula promises too much


@settings(max_examples=60)
@given(st.floats(0, 30), st.floats(1e-12, 0.5), st.floats(1e-3, 1e3))
def test_calibration_is_the_least(epsilon: float, delta: float, sensitivity: float) -> None:
    deviation = privacy.calibrate_deviation(epsilon, delta, sensitivity)
    assert privacy.gaussian_delta(epsilon, deviation, sensitivity) <= delta * (1 + 1e-9)
    assert privacy.gaussian_delta(epsilon, deviation * 0.999, sensitivity) > delta
    assert privacy.gaussian_epsilon(delta, deviation, sensitivity) == pytest.approx(epsilon, rel=1e-6, abs=1e-6)


@settings(max_examples=60)
@given(st.floats(0, 50), st.floats(0.05, 100))
def test_delta_falls_with_noise_and_epsilon(epsilon: float, deviation: float) -> None:
    here = privacy.gaussian_delta(epsilon, deviation)
    assert 0 <= here <= 1
    assert privacy.gaussian_delta(epsilon, deviation * 1.01) <= here
    assert privacy.gaussian_delta(epsilon + 0.01, deviation) <= here


def test_extremes_are_finite() -> None:
    assert privacy.gaussian_delta(1000.0, 1e-3) == pytest.approx(0.5, abs=0.5)
    assert privacy.gaussian_delta(700.0, 1.0) == 0.0
    assert privacy.gaussian_delta(0.0, 1e12) == pytest.approx(1e-12 / math.sqrt(2 * math.pi), rel=1e-3)
    assert privacy.gaussian_delta(0.0, 1.0, 0.0) == 0.0


@pytest.mark.parametrize(("epsilon", "delta"), [(-1, 0.1), (1, 0), (1, 1), (math.inf, 0.1), (math.nan, 0.1)])
def test_impossible_budgets_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="private"):
        privacy.calibrate_deviation(epsilon, delta)
