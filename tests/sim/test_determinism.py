"""A seed is replayable: in this process, and in another one whose hashes of strings differ."""

from __future__ import annotations

import os
import subprocess
import sys

from edgenet_node.testing.main_job import SWARM
from edgenet_node.testing.simulation import play

SEED = 3
"""With a liar, a full and a broken disk, a partition and a dead executor."""

PROGRAM = (
    "from edgenet_node.testing.main_job import SWARM\n"
    "from edgenet_node.testing.simulation import play\n"
    f"print(play(SWARM, {SEED}).digest)\n"
)


def test_the_same_seed_takes_the_same_steps() -> None:
    first, second, other = play(SWARM, SEED), play(SWARM, SEED), play(SWARM, SEED + 1)
    assert first.trace == second.trace
    assert (first.digest, first.steps, first.simulated_s) == (second.digest, second.steps, second.simulated_s)
    assert first.faults == second.faults
    assert first.digest != other.digest


def test_nothing_depends_on_the_order_of_sets() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", PROGRAM]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == play(SWARM, SEED).digest


def test_size_and_length_of_a_run_are_given_from_outside() -> None:
    found = play(SWARM, SEED, nodes=4, window_s=6.0)
    assert not found.violations, found.story()
    assert 4 <= found.nodes <= 6
    assert "peace" in "\n".join(found.trace)
