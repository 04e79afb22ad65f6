"""Thompson sampling (1933; Russo et al. 2018, "A tutorial on Thompson sampling", algorithm 3.2): draw once from each
option's posterior, take the best draw. An option is tried as often as it is likely to be the best one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...errors import UsageError

F64 = npt.NDArray[np.float64]


def best_rate(a: F64, b: F64, generator: np.random.Generator) -> int:
    """The option whose drawn success rate is highest; `a`, `b` (n,) of the Beta posteriors. Equal draws (tiny
    parameters give exact zeros and ones) are decided by chance. O(n); `UsageError` for no options."""
    return _first(-generator.beta(a, b), generator)


def least_mean(mean: F64, count: F64, shape: F64, scale: F64, generator: np.random.Generator) -> int:
    """The option whose drawn mean (a latency, a cost) is lowest; parameters (n,) of the normal-inverse-gamma
    posteriors. O(n); `UsageError` for no options."""
    variance = scale / np.maximum(generator.gamma(shape), 1e-300)
    return _first(mean + np.sqrt(variance / count) * generator.standard_normal(mean.shape), generator)


def _first(costs: F64, generator: np.random.Generator) -> int:
    if costs.size == 0:
        raise UsageError("no options to choose from")
    best = np.flatnonzero(costs == costs.min())
    return int(best[0]) if best.size == 1 else int(generator.choice(best))
