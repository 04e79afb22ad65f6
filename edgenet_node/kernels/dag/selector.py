"""Which mechanism to use: UCB1, and the gated one while the swarm is tense."""

from __future__ import annotations

import math

from msgspec import Struct

from ...errors import UsageError

MECHANISMS = (
    "topological",
    "causal_cone",
    "critical_path",
    "mincut_gated",
    "hierarchical_lorentz",
    "parallel_branch",
    "temporal_btsp",
)
GATED = MECHANISMS.index("mincut_gated")
TENSION_MAX = 0.7  # above it the cut decides, not the bandit; hysteresis belongs to whoever publishes tension
PULLS_MIN = 5  # of each arm before its mean counts


class Selector(Struct, frozen=True):
    """What the bandit knows: times each arm was rewarded, and the sums of rewards in [0, 1]."""

    counts: tuple[int, ...] = (0,) * len(MECHANISMS)
    totals: tuple[float, ...] = (0.0,) * len(MECHANISMS)


def choose(state: Selector, *, tension: float = 0.0, pulls_min: int = PULLS_MIN) -> int:
    """The arm to use: `argmax mean_a + sqrt(2 ln t / n_a)` (UCB1; Auer, Cesa-Bianchi and Fischer 2002).

    The first of equal arms. Arms with fewer than `pulls_min` (at least 1) rewards come before. Above `TENSION_MAX` the
    answer is `GATED`. Regret after t rewards is at most `8 sum ln t / gap + (pulls_min + pi^2 / 3) sum gap` in
    expectation, the sums over the arms but the best.
    """
    if tension > TENSION_MAX and len(state.counts) > GATED:
        return GATED
    fewest = min(range(len(state.counts)), key=state.counts.__getitem__)
    if state.counts[fewest] < max(pulls_min, 1):
        return fewest
    explored = 2.0 * math.log(sum(state.counts))
    bounds = [
        total / count + math.sqrt(explored / count) for count, total in zip(state.counts, state.totals, strict=True)
    ]
    return max(range(len(bounds)), key=bounds.__getitem__)


def learn(state: Selector, arm: int, reward: float) -> Selector:
    """The state after `arm` brought `reward`; `UsageError` outside [0, 1], where the bound does not hold."""
    if not 0.0 <= reward <= 1.0:
        raise UsageError(f"a reward is in [0, 1], got {reward}")
    counts, totals = list(state.counts), list(state.totals)
    counts[arm] += 1
    totals[arm] += reward
    return Selector(counts=tuple(counts), totals=tuple(totals))
