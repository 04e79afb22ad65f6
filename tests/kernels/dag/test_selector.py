"""`dag.ucb1/1`: the rule, the bound on its regret, the switch under tension."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import UsageError
from edgenet_node.kernels.dag import selector
from edgenet_node.kernels.dag.selector import Selector
from edgenet_node.kernels.reference import dag as reference


@given(st.lists(st.tuples(st.integers(5, 60), st.floats(0.0, 1.0)), min_size=1, max_size=9))
def test_choice_is_its_reference(arms: list[tuple[int, float]]) -> None:
    counts = tuple(count for count, _ in arms)
    totals = tuple(count * mean for count, mean in arms)
    assert selector.choose(Selector(counts=counts, totals=totals)) == reference.ucb1(counts, totals)


def test_every_arm_is_tried_first() -> None:
    state = Selector()
    tried = []
    for _ in range(selector.PULLS_MIN * len(selector.MECHANISMS)):
        tried.append(selector.choose(state))
        state = selector.learn(state, tried[-1], 0.0)
    assert sorted(tried) == sorted(list(range(len(selector.MECHANISMS))) * selector.PULLS_MIN)


@pytest.mark.parametrize("seed", range(5))
def test_regret_is_within_the_bound(seed: int) -> None:
    """Bernoulli arms: the mean regret of 4 runs of 3000 against Auer's bound, which holds for its expectation, and
    its growth from 1000 to 3000 rewards against that of the logarithm."""
    means = (0.2, 0.5, 0.8)
    gaps = [0.8 - mean for mean in means if mean < 0.8]
    regrets = {1000: 0.0, 3000: 0.0}
    for run in range(4):
        rng = np.random.default_rng((seed, run))
        state = Selector(counts=(0,) * 3, totals=(0.0,) * 3)
        for turn in range(1, 3001):
            arm = selector.choose(state)
            state = selector.learn(state, arm, float(rng.random() < means[arm]))
            if turn in regrets:
                regrets[turn] += sum(n * (0.8 - mean) for n, mean in zip(state.counts, means, strict=True)) / 4
    for turns, regret in regrets.items():
        bound = 8 * sum(math.log(turns) / gap for gap in gaps)
        assert regret <= bound + (selector.PULLS_MIN + math.pi**2 / 3) * sum(gaps)
    assert regrets[3000] - regrets[1000] < regrets[1000]  # twice as many turns again cost less: not linear


def test_tension_switches_to_the_gated_mechanism() -> None:
    state = Selector(counts=(50,) * 7, totals=(40.0, *(1.0,) * 6))
    assert selector.choose(state) != selector.GATED
    assert selector.choose(state, tension=0.7) != selector.GATED
    assert selector.MECHANISMS[selector.choose(state, tension=0.71)] == "mincut_gated"


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan")])
def test_rewards_outside_of_the_bound_are_refused(reward: float) -> None:
    with pytest.raises(UsageError):
        selector.learn(Selector(), 0, reward)
