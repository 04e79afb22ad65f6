"""A Beta posterior on a rate, with forgetting: the evidence fades, the prior stays.

Conjugate update of a Bernoulli rate: Beta(a, b) after s successes and f failures is Beta(a + s, b + f). Forgetting
raises the likelihood's part to the power `keep` (the power prior of Ibrahim and Chen 2000): `a <- a0 + keep (a - a0)`,
so that with no news the posterior returns to the prior instead of growing sure of old news. Counts may be fractions.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from ...errors import UsageError
from . import incomplete_beta


class Beta(Struct, frozen=True):
    """Both above 0. `UNIFORM` is Beta(1, 1)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> float:
        total = self.a + self.b
        return self.a / total * (self.b / total) / (total + 1.0)


UNIFORM = Beta(1.0, 1.0)


def forget(state: Beta, keep: float, prior: Beta = UNIFORM) -> Beta:
    """The evidence counts `keep` in [0, 1] of what it did. With a half-life h and t passed, keep = 2^(-t/h)."""
    if not 0.0 <= keep <= 1.0:
        raise UsageError(f"the share of evidence kept is 0 to 1, not {keep}")
    return Beta(prior.a + keep * (state.a - prior.a), prior.b + keep * (state.b - prior.b))


def update(state: Beta, successes: float, failures: float, *, keep: float = 1.0, prior: Beta = UNIFORM) -> Beta:
    """`forget`, then the new evidence at full weight. `UsageError` for negative counts."""
    if not (successes >= 0.0 and failures >= 0.0):
        raise UsageError(f"no such evidence: {successes} successes, {failures} failures")
    faded = forget(state, keep, prior)
    return Beta(faded.a + successes, faded.b + failures)


def lower_bound(state: Beta, confidence: float) -> float:
    """The rate is above this with probability `confidence`: what decisions about a peer use."""
    return incomplete_beta.quantile(1.0 - confidence, state.a, state.b)


def upper_bound(state: Beta, confidence: float) -> float:
    """The rate is below this with probability `confidence`."""
    return incomplete_beta.quantile(confidence, state.a, state.b)


def sample(state: Beta, generator: np.random.Generator) -> float:
    """One draw of the rate."""
    return float(generator.beta(state.a, state.b))
