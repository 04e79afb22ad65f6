"""The accountant and the calibration beside dp-accounting, and the special functions beside scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgenet_node.kernels import privacy

CASES = [
    (0.7, 0.01, 1000, 1e-5),
    (1.1, 0.004, 10_000, 1e-6),
    (1.0, 1.0, 1, 1e-5),
    (4.0, 0.2, 500, 1e-8),
    (20.0, 0.5, 3, 1e-3),
]


@pytest.mark.parametrize(("multiplier", "rate", "steps", "delta"), CASES)
def test_epsilon_is_dp_accounting_s(multiplier: float, rate: float, steps: int, delta: float) -> None:
    dp = pytest.importorskip("dp_accounting")
    rdp = pytest.importorskip("dp_accounting.rdp")
    orders = [int(order) for order in privacy.ORDERS if order <= 512]
    accountant = rdp.RdpAccountant(orders)
    accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier)), steps)
    ours = np.array(orders, np.int64)
    spent = steps * privacy.renyi_divergences(multiplier, rate, ours)
    assert privacy.epsilon_spent(spent, delta, ours) == pytest.approx(accountant.get_epsilon(delta), rel=1e-6)
    epsilon = 1.5
    assert privacy.delta_spent(spent, epsilon, ours) <= accountant.get_delta(epsilon) * (1 + 1e-6)


@pytest.mark.parametrize(("multiplier", "rate", "steps", "delta"), CASES)
def test_integer_orders_lose_little_against_the_best_accountant(
    multiplier: float, rate: float, steps: int, delta: float
) -> None:
    """Privacy loss distributions are tight; Rényi accounting is above them, and not by far."""
    dp = pytest.importorskip("dp_accounting")
    pld = pytest.importorskip("dp_accounting.pld")
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier)), steps)
    tight = accountant.get_epsilon(delta)
    bound = privacy.epsilon_spent(steps * privacy.renyi_divergences(multiplier, rate), delta)
    assert bound >= tight * (1 - 0.01)
    assert bound <= 1.35 * tight + 0.2


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_calibration_is_dp_accounting_s_analytic_gaussian(epsilon: float, delta: float) -> None:
    common = pytest.importorskip("dp_accounting.pld.common")
    mechanisms = pytest.importorskip("dp_accounting.pld.privacy_loss_mechanism")
    loss = mechanisms.GaussianPrivacyLoss.from_privacy_guarantee(common.DifferentialPrivacyParameters(epsilon, delta))
    assert privacy.calibrate_deviation(epsilon, delta) == pytest.approx(loss.standard_deviation, rel=1e-4)
    ours = privacy.gaussian_delta(epsilon, loss.standard_deviation)
    assert ours == pytest.approx(loss.get_delta_for_epsilon(epsilon), rel=1e-6)


def test_tails_are_scipy_s() -> None:
    special = pytest.importorskip("scipy.special")
    from edgenet_node.kernels.privacy.gaussian import _scaled_erfc

    x = np.concatenate([np.linspace(0, 10, 2001), np.logspace(1, 300, 100)])
    ours = np.array([_scaled_erfc(float(v)) for v in x])
    np.testing.assert_allclose(ours, special.erfcx(x), rtol=1e-14)


def test_noise_is_discrete_gaussian_by_scipy_s_normal() -> None:
    """At half a million steps a deviation the discrete and the continuous distribution are one to a sample's eye."""
    stats = pytest.importorskip("scipy.stats")
    draws = privacy.discrete_gaussian(privacy.noise_table(), np.random.default_rng(8).bytes, 200_000)
    assert stats.kstest(draws / privacy.DEVIATION, "norm").pvalue > 1e-4
    assert math.isclose(privacy.DEVIATION, 524_289.0, rel_tol=1e-6)
