"""The committee in the world of events, under everything that goes wrong. `scripts/simulate` plays more seeds."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from edgenet_node.testing.events.report import Report
from edgenet_node.testing.raft.scenario import RAFT

BLOCKS = 20
SEEDS_PER_BLOCK = 25
"""500 seeds, in blocks so that a failure names a few of them."""

WINDOW_S = 10.0
"""Half of what `scripts/simulate` plays: more seeds, and so more combinations, in the same time."""


@functools.cache
def block(number: int) -> tuple[Report, ...]:
    first = number * SEEDS_PER_BLOCK
    return tuple(RAFT.play(seed, window_s=WINDOW_S) for seed in range(first, first + SEEDS_PER_BLOCK))


@pytest.mark.parametrize("number", range(BLOCKS))
def test_every_invariant_holds(number: int) -> None:
    for found in block(number):
        replay = f"scripts/simulate --subsystem raft --seconds {WINDOW_S:g} --seeds {found.seed}..{found.seed} --trace"
        assert not found.violations, f"replay: {replay}\n{found.story()}"


def test_every_kind_of_trouble_was_met() -> None:
    met = {kind for number in range(BLOCKS) for found in block(number) for kind, count in found.faults.items() if count}
    wanted = {
        "asymmetric partition",
        "bad network",
        "bit flip",
        "crash",
        "crash of all",
        "deposed leader",
        "doubled message",
        "freeze",
        "fsync error",
        "full disk",
        "leadership transfer",
        "lost connection",
        "lost message",
        "lost unsynced tail",
        "membership change",
        "partition",
        "reordered message",
        "restart",
        "slow link",
        "snapshot",
        "torn write",
        "wipe",
    }
    assert met == wanted


def test_the_committee_works_in_spite_of_it() -> None:
    """Not vacuous: there are leaders, commits, answers, and committees of every size."""
    stories = ["\n".join(found.trace) for number in range(BLOCKS) for found in block(number)]
    assert sum("leads term" in story for story in stories) == len(stories)
    assert sum(story.count(" commits ") for story in stories) > 20 * len(stories)
    assert sum("-> True" in story for story in stories) > len(stories) / 4
    assert sum("configuration at" in story for story in stories) > len(stories) / 3
    assert {found.nodes for number in range(BLOCKS) for found in block(number)} >= set(range(1, 10))


def test_the_same_seed_takes_the_same_steps() -> None:
    first, second, other = RAFT.play(5), RAFT.play(5), RAFT.play(6)
    assert first.trace == second.trace
    assert (first.digest, first.steps, first.simulated_s) == (second.digest, second.steps, second.simulated_s)
    assert first.faults == second.faults
    assert first.digest != other.digest


def test_nothing_depends_on_the_order_of_sets() -> None:
    program = (
        "from edgenet_node.testing.raft.scenario import RAFT\nprint(*(RAFT.play(one).digest for one in range(8)))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.split() == [RAFT.play(seed).digest for seed in range(8)]


def test_size_and_length_of_a_run_are_given_from_outside() -> None:
    found = RAFT.play(3, nodes=5, window_s=6.0)
    assert not found.violations, found.story()
    assert 5 <= found.nodes <= 7
    assert any(line.startswith("    6.0000") and "peace" in line for line in found.trace)
