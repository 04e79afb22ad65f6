"""Conjugate posteriors on the mean of a normal variable, such as a latency: variance unknown, or known.

Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", sections 3 and 6. The posterior's variance
falls as 1/n; it does not stay at the variance of one observation.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from ...errors import UsageError
from .incomplete_beta import t_quantile


class NormalInverseGamma(Struct, frozen=True):
    """`sigma^2 ~ InverseGamma(shape, scale)`, `mu | sigma^2 ~ N(mean, sigma^2 / count)`; `count` is in observations,
    all but `mean` above 0."""

    mean: float
    count: float
    shape: float
    scale: float

    @property
    def variance(self) -> float:
        """Expected variance of one observation; inf while shape is at most 1."""
        return self.scale / (self.shape - 1.0) if self.shape > 1.0 else math.inf


def update(state: NormalInverseGamma, x: float, weight: float = 1.0) -> NormalInverseGamma:
    """One observation, or `weight` of one:

    `k' = k + w, m' = m + w (x - m)/k', a' = a + w/2, b' = b + k w (x - m)^2 / (2 k')`.
    """
    if not (weight >= 0.0 and math.isfinite(x)):
        raise UsageError(f"no such observation: {x} with weight {weight}")
    count, gap = state.count + weight, x - state.mean
    return NormalInverseGamma(
        mean=state.mean + weight * gap / count,
        count=count,
        shape=state.shape + 0.5 * weight,
        scale=state.scale + 0.5 * weight * (state.count / count) * gap * gap,
    )


def forget(state: NormalInverseGamma, keep: float, prior: NormalInverseGamma) -> NormalInverseGamma:
    """The evidence counts `keep` of what it did: `posterior^keep prior^(1 - keep)`, exactly of the same family.

    The natural parameters (k, k m, a, b + k m^2/2) mix in a straight line; what that leaves of b beyond the mix is
    `k1 k0 (m1 - m0)^2 / (2 (k1 + k0))`, with k1, k0 the two shares of the count: never negative.
    """
    if not 0.0 <= keep <= 1.0:
        raise UsageError(f"the share of evidence kept is 0 to 1, not {keep}")
    own, old = keep * state.count, (1.0 - keep) * prior.count
    count, gap = own + old, state.mean - prior.mean
    return NormalInverseGamma(
        mean=prior.mean + own / count * gap,
        count=count,
        shape=keep * state.shape + (1.0 - keep) * prior.shape,
        scale=keep * state.scale + (1.0 - keep) * prior.scale + 0.5 * own * (old / count) * gap * gap,
    )


def mean_quantile(state: NormalInverseGamma, probability: float) -> float:
    """Of mu: Student's t with 2a degrees of freedom, at m, scaled by sqrt(b / (a k))."""
    spread = math.sqrt(state.scale / (state.shape * state.count))
    return state.mean + spread * t_quantile(probability, 2.0 * state.shape)


def next_quantile(state: NormalInverseGamma, probability: float) -> float:
    """Of the next observation: Student's t with 2a degrees of freedom, at m, scaled by sqrt(b (k + 1) / (a k))."""
    spread = math.sqrt(state.scale * (state.count + 1.0) / (state.shape * state.count))
    return state.mean + spread * t_quantile(probability, 2.0 * state.shape)


def sample(state: NormalInverseGamma, generator: np.random.Generator) -> tuple[float, float]:
    """One draw of (mu, sigma^2)."""
    variance = state.scale / max(float(generator.gamma(state.shape)), 1e-300)
    return float(state.mean + math.sqrt(variance / state.count) * generator.standard_normal()), variance


class Normal(Struct, frozen=True):
    """mu ~ N(mean, variance), where the variance of one observation is known."""

    mean: float
    variance: float


def update_known(state: Normal, observed_mean: float, observations: float, noise_variance: float) -> Normal:
    """`1/v' = 1/v + n/s^2`, `m' = v' (m/v + n x/s^2)` for the mean of n observations of variance s^2 > 0."""
    if not (observations >= 0.0 and noise_variance > 0.0):
        raise UsageError(f"no such evidence: {observations} observations of variance {noise_variance}")
    share = state.variance * observations / (noise_variance + state.variance * observations)
    return Normal(state.mean + share * (observed_mean - state.mean), (1.0 - share) * state.variance)
