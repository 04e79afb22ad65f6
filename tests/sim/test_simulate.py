"""`scripts/simulate`, as somebody calls it who wants more seeds."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgenet_node.testing import subsystems
from edgenet_node.testing.main_job import SWARM
from edgenet_node.testing.monitor import Monitor
from edgenet_node.testing.simulation import Run

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "simulate"


def call(capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, *args: str) -> tuple[int, list[str]]:
    """Exit code and lines, in this process."""
    patch.setattr(sys, "argv", [str(PROGRAM), *args])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    return int(ended.value.code or 0), capsys.readouterr().out.splitlines()


def test_good_seeds_exit_with_0_and_a_summary(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = call(capsys, monkeypatch, "--subsystem", "swarm", "--seeds", "4..5", "--seconds", "6", "--json")
    summary: dict[str, Any] = json.loads(lines[-1])
    assert code == 0
    assert summary["seeds"] == [4, 5]
    assert summary["violations"] == []
    assert summary["simulated_node_seconds"] > 2 * 5 * 6
    assert summary["wall_seconds"] > 0
    assert summary["faults"]


def test_the_committee_is_played_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--subsystem", "raft", "--seeds", "0..3", "--nodes", "3", "--seconds", "5", "--json")
    code, lines = call(capsys, monkeypatch, *args)
    summary: dict[str, Any] = json.loads(lines[-1])
    assert code == 0, "\n".join(lines)
    assert summary["subsystem"] == "raft"
    assert summary["seeds"] == [0, 3]
    assert summary["simulated_node_seconds"] > 4 * 3 * 5
    assert summary["violations"] == []


class Impossible:
    """An invariant that a subsystem might add, and that never holds."""

    def begin(self, run: Run) -> None:
        assert isinstance(run.monitor, Monitor)

    async def check(self, run: Run) -> None:
        run.monitor.violate("pigs fly", f"none of {len(run.roles.members)} did")


def test_a_bad_seed_exits_with_1_its_trace_and_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = structs.replace(SWARM, name="pigs", invariants=lambda: (Impossible(),))
    monkeypatch.setattr(subsystems, "SUBSYSTEMS", {"swarm": SWARM, "pigs": scenario})
    code, lines = call(capsys, monkeypatch, "--subsystem", "pigs", "--seeds", "7", "--seconds", "5", "--json")
    assert code == 1
    assert any("pigs fly" in line and "!!" in line for line in lines)
    assert any(line.startswith("replay: scripts/simulate --subsystem pigs --seeds 7..7") for line in lines)
    assert [one["invariant"] for one in json.loads(lines[-1])["violations"]] == ["pigs fly"]


@pytest.mark.parametrize(
    "args",
    [
        ("--seeds", "x"),
        ("--seeds", "3..1"),
        ("--nodes", "2"),
        ("--subsystem", "none"),
        ("--subsystem", "raft", "--nodes", "8"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(args: tuple[str, ...]) -> None:
    found = subprocess.run([sys.executable, str(PROGRAM), *args], capture_output=True, text=True, check=False)  # noqa: S603
    assert found.returncode == 2
    assert "error:" in found.stderr.splitlines()[-1]
