"""The Page-Hinkley test: has the mean of a stream moved by more than `delta`? (Page 1954; Hinkley 1971)

For a rise, `g_t = max(0, g_{t-1} + x_t - mean_{t-1} - delta)`, alarm when g > threshold; for a fall, mirrored. The mean
is that of the values before, and the sums start after `settle` values. Values lie in [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct

from ...errors import UsageError

Drift = Literal["", "rise", "fall"]


class PageHinkley(Struct, frozen=True):
    """`delta`: change of the mean to tolerate; `threshold`: sum of excess that raises the alarm; `settle`: values that
    only estimate the mean. The rest is state: 24 bytes."""

    delta: float
    threshold: float
    settle: int
    seen: int = 0
    mean: float = 0.0
    rise: float = 0.0
    fall: float = 0.0


def start(delta: float = 0.05, threshold: float = 50.0, settle: int = 30) -> PageHinkley:
    """`UsageError` unless delta and threshold are above 0 and settle is at least 1."""
    if not (delta > 0.0 and threshold > 0.0 and settle >= 1):
        raise UsageError(f"no Page-Hinkley test with delta {delta}, threshold {threshold}, settle {settle}")
    return PageHinkley(delta=delta, threshold=threshold, settle=settle)


def update(state: PageHinkley, x: float) -> tuple[PageHinkley, Drift]:
    """The next value. After an alarm everything starts again from `x`. O(1). `UsageError` for a value outside [0,
    1]."""
    if not 0.0 <= x <= 1.0:
        raise UsageError(f"a drift detector takes values in [0, 1], not {x}")
    rise = fall = 0.0
    if state.seen >= state.settle:
        rise = max(0.0, state.rise + x - state.mean - state.delta)
        fall = max(0.0, state.fall + state.mean - x - state.delta)
    seen, mean = state.seen + 1, state.mean + (x - state.mean) / (state.seen + 1)
    drift: Drift = "rise" if rise > state.threshold else "fall" if fall > state.threshold else ""
    if drift:
        seen, mean, rise, fall = 1, x, 0.0, 0.0
    return PageHinkley(state.delta, state.threshold, state.settle, seen, mean, rise, fall), drift


def false_alarm_bound(state: PageHinkley, steps: int) -> float:
    """At most this likely is any alarm within `steps` values if they are independent with one mean.

    While every mean estimate is within delta/2 of the truth, exp(4 delta sum) is a supermartingale (Hoeffding's lemma
    for a range of 1), so by Ville's inequality a sum begun at a given step ever exceeds the threshold with chance
    exp(-4 delta threshold); there are `steps - settle` beginnings and two sides. By Hoeffding's inequality some
    estimate from `settle` on is off by more than delta/2 with chance at most `2 sum_{i >= settle} exp(-i delta^2 /
    2)`.
    """
    off = math.exp(-0.5 * state.settle * state.delta**2) / -math.expm1(-0.5 * state.delta**2)
    excess = max(0, steps - state.settle) * math.exp(-4.0 * state.delta * state.threshold)
    return min(1.0, 2.0 * (off + excess))


def delay_bound(state: PageHinkley, change: float) -> float:
    """Values until the alarm if from now on each one exceeds the mean estimate by `change`; inf if that is within
    delta.

    The estimate follows the change, hence the caller's `change` is what remains of it.
    """
    return math.ceil(state.threshold / (change - state.delta)) + 1.0 if change > state.delta else math.inf
