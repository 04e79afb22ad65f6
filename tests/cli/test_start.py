"""The command line starts fast because it imports little, and fails in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("trio", "numpy", "libp2p", "rich", "starlette", "hypercorn", "cryptography", "sqlite3", "asyncio")


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "edgenet_node", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize("words", [["--help"], ["submit", "--help"], ["run", "--help"], ["version"], ["nonsense"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = f"""
import sys
from edgenet_node.cli import run_command
run_command({words!r})
print("IMPORTED", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert done.stderr.splitlines()[-1].split() == ["IMPORTED"]


def test_every_command_of_the_contract_has_help_with_the_common_options() -> None:
    top = run("--help")
    assert top.returncode == 0
    for command in "init run status peers submit task index search devnet models version".split():  # noqa: SIM905
        assert f"  {command} " in top.stdout
    for words in ("init", "run", "status", "peers", "submit", "search", "index add", "task follow"):
        shown = run(*words.split(), "--help").stdout
        assert "--data-dir" in shown
        assert "--json" in shown
    listed = run("run", "--help").stdout
    assert all(flag in listed for flag in ("--listen", "--announce", "--bootstrap", "--api", "--swarm"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonsense"], "nonsense"),
        (["submit"], "kind"),
        (["submit", "embedding", "--no-such-flag"], "--no-such-flag"),
        (["search", "notes", "x", "-k", "0"], "-k"),
        (["run", "--api", "nowhere"], "HOST:PORT"),
        (["run", "--listen", "nonsense"], "network.listen"),
        (["run", "--bootstrap", "/ip4/127.0.0.1/tcp/1"], "network.bootstrap"),
        (["index", "frobnicate"], "frobnicate"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(words: list[str], told: str, tmp_path: Path) -> None:
    done = run(*words, EDGENET_DATA_DIR=str(tmp_path / "node"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("edgenet-node: ")
    assert told in done.stderr


def test_a_reader_that_stops_reading_is_no_error_to_talk_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "edgenet_node", "version"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1
