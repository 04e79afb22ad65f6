"""`privacy.renyi_divergences/1`, `privacy.epsilon_spent/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.kernels import privacy
from edgenet_node.kernels.reference import privacy as oracle

RATES = st.floats(1e-6, 1)
MULTIPLIERS = st.floats(0.3, 50)


@pytest.mark.parametrize("rate", [1e-5, 0.01, 0.3, 0.999])
@pytest.mark.parametrize("multiplier", [0.05, 0.5, 1.1, 30.0])
def test_divergences_are_the_sum_in_sixty_digits(multiplier: float, rate: float) -> None:
    orders = np.array([2, 3, 17, 64, 200])
    found = privacy.renyi_divergences(multiplier, rate, orders)
    wanted = [oracle.renyi_divergence(multiplier, rate, int(order)) for order in orders]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_without_subsampling_it_is_a_over_2_z_squared() -> None:
    np.testing.assert_allclose(privacy.renyi_divergences(2.0, 1.0), privacy.ORDERS / 8)
    np.testing.assert_allclose(privacy.renyi_divergences(2.0, 1 - 1e-12), privacy.ORDERS / 8, rtol=1e-6)
    assert not privacy.renyi_divergences(2.0, 0.0).any()
    assert np.isinf(privacy.renyi_divergences(0.0, 0.5)).all()


@settings(max_examples=25)
@given(MULTIPLIERS, RATES)
def test_divergences_are_monotone(multiplier: float, rate: float) -> None:
    here = privacy.renyi_divergences(multiplier, rate)
    slack = 1 + 1e-9
    assert (here >= 0).all()
    assert (np.diff(here) >= -1e-9 * here[1:]).all()  # in the order
    assert (privacy.renyi_divergences(multiplier * 1.1, rate) <= here * slack).all()
    assert (privacy.renyi_divergences(multiplier, rate * 0.9) <= here * slack).all()


@settings(max_examples=40)
@given(MULTIPLIERS, RATES, st.integers(1, 10_000), st.floats(1e-12, 0.1))
def test_epsilon_is_the_oracle_s_and_monotone(multiplier: float, rate: float, steps: int, delta: float) -> None:
    one = privacy.renyi_divergences(multiplier, rate)
    spent = privacy.epsilon_spent(steps * one, delta)
    assert spent == pytest.approx(oracle.epsilon_spent((steps * one).tolist(), delta, privacy.ORDERS.tolist()))
    assert privacy.epsilon_spent((steps + 1) * one, delta) >= spent
    assert privacy.epsilon_spent(steps * one, delta / 2) >= spent
    assert privacy.delta_spent(steps * one, spent) <= delta * (1 + 1e-6)


def test_composition_adds_and_order_does_not_matter() -> None:
    first, second = privacy.renyi_divergences(1.0, 0.01), privacy.renyi_divergences(2.0, 0.1)
    together = privacy.epsilon_spent(5 * first + 3 * second, 1e-5)
    assert together == privacy.epsilon_spent(3 * second + 5 * first, 1e-5)
    assert together <= privacy.epsilon_spent(5 * first, 5e-6) + privacy.epsilon_spent(3 * second, 5e-6)
    np.testing.assert_allclose(2 * privacy.renyi_divergences(2.0, 1.0), privacy.renyi_divergences(2**0.5, 1.0))


@settings(max_examples=40)
@given(st.floats(0.5, 20), st.floats(1e-10, 0.01))
def test_accounting_is_never_below_the_exact_epsilon(multiplier: float, delta: float) -> None:
    """One whole release has an exact answer (Balle and Wang): the accountant's is an upper bound, and near it."""
    exact = privacy.gaussian_epsilon(delta, multiplier)
    bound = privacy.epsilon_spent(privacy.renyi_divergences(multiplier, 1.0), delta)
    assert bound >= exact * (1 - 1e-12)
    assert bound <= 1.3 * exact + 0.35


def test_steps_and_noise_for_a_budget() -> None:
    one = privacy.renyi_divergences(1.1, 0.01)
    steps = privacy.steps_within(2.0, 1e-5, 1.1, 0.01)
    assert privacy.epsilon_spent(steps * one, 1e-5) <= 2.0 < privacy.epsilon_spent((steps + 1) * one, 1e-5)
    assert privacy.steps_within(0.01, 1e-5, 1.1, 0.5) == 0
    assert privacy.steps_within(1.0, 1e-5, 1.0, 0.0) > 1 << 60
    multiplier = privacy.calibrate_noise_multiplier(2.0, 1e-5, 0.01, 1000)
    spent = privacy.epsilon_spent(1000 * privacy.renyi_divergences(multiplier, 0.01), 1e-5)
    assert spent <= 2.0
    assert spent == pytest.approx(2.0, rel=1e-6)


def test_impossible_releases_are_refused() -> None:
    for multiplier, rate in [(1.0, -0.1), (1.0, 1.1), (-1.0, 0.5), (float("nan"), 0.5)]:
        with pytest.raises(ValueError, match="no such release"):
            privacy.renyi_divergences(multiplier, rate)
    with pytest.raises(ValueError, match="delta"):
        privacy.epsilon_spent(privacy.renyi_divergences(1.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="no noise"):
        privacy.calibrate_noise_multiplier(0.0, 1e-5, 0.01, 10)
