"""Conformal prediction: an interval around any model's answer, with a guarantee that does not depend on the model.

Split conformal (Vovk et al. 2005; Lei et al. 2018, theorem 2.2): with scores `|y - f(x)|` of n held-out examples that
are exchangeable with the next one, `P(score <= margin) >= 1 - alpha`, and `<= 1 - alpha + 1/(n + 1)` without ties.
Adaptive conformal inference (Gibbs and Candès 2021) keeps the long-run miss rate at alpha where examples drift: it
promises an average over time, for any sequence, and nothing about a single step.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ...errors import UsageError

F64 = npt.NDArray[np.float64]
RANK_SLACK = 1e-9  # ranks: keeps (n + 1)(1 - alpha) that is whole but for rounding from being rounded up


def margin(scores: F64, miscoverage: float) -> float:
    """The `ceil((n + 1)(1 - alpha))`-th smallest of `scores` (n,), any order; inf if n is too small to promise that.

    alpha <= 0 gives inf and alpha >= 1 gives -inf, an empty interval: both occur in the adaptive form. O(n).
    `UsageError` for a score or alpha that is not a number.
    """
    if math.isnan(miscoverage) or np.isnan(scores).any():
        raise UsageError("a conformal score is not a number")
    if miscoverage <= 0.0:
        return math.inf
    if miscoverage >= 1.0:
        return -math.inf
    rank = math.ceil((scores.size + 1) * (1.0 - miscoverage) - RANK_SLACK)
    if rank > scores.size:
        return math.inf
    return float(np.partition(scores, max(rank, 1) - 1)[max(rank, 1) - 1])


def interval(prediction: float, width: float) -> tuple[float, float]:
    """`prediction -+ margin`."""
    return prediction - width, prediction + width


def p_value(scores: F64, score: float) -> float:
    """`(1 + #{s_i >= score}) / (n + 1)`: at most u with probability at most u, for every u, if exchangeable."""
    return (1.0 + float(np.count_nonzero(scores >= score))) / (scores.size + 1.0)


class Adaptive(Struct, frozen=True):
    """`level` is the alpha to ask `margin` for now, outside [0, 1] at times; `target` the miss rate wanted; `step`
    gamma: larger follows drift faster and wavers more."""

    target: float
    level: float
    step: float = 0.01


def adaptive(target: float, step: float = 0.01) -> Adaptive:
    """Starts at the target. `UsageError` unless 0 < target < 1 and step > 0."""
    if not (0.0 < target < 1.0 and step > 0.0):
        raise UsageError(f"no adaptive interval with miss rate {target} and step {step}")
    return Adaptive(target=target, level=target, step=step)


def update(state: Adaptive, *, missed: bool) -> Adaptive:
    """`alpha <- alpha + gamma (target - [missed])` (eq. 2).

    Over T steps the miss rate is within `(max(alpha_1, 1 - alpha_1) + gamma) / (gamma T)` of the target for any data
    (proposition 4.1), given that level <= 0 never misses and level >= 1 always does, as with `margin`.
    """
    return Adaptive(state.target, state.level + state.step * (state.target - float(missed)), state.step)
