"""Exit codes and one-line errors, whatever goes wrong between the command and the daemon."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from edgenet_node.adapters.data_dir import DataDir, RunInfo
from edgenet_node.cli import run_command
from edgenet_node.cli.exits import of_state

from .fixtures import OWN, Daemon, Shell, error


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "usage", 2),
        (401, "unauthorized", 4),
        (403, "refused", 4),
        (403, "wrong_swarm", 4),
        (404, "not_found", 1),
        (409, "conflict", 1),
        (413, "too_large", 4),
        (500, "error", 1),
        (502, "unreachable", 1),
        (503, "overloaded", 4),
        (503, "cancelled", 1),
        (504, "timeout", 5),
        (507, "disk_full", 4),
        (500, "something_new", 1),
    ],
)
def test_each_error_of_the_daemon_has_its_code(
    status: int, code: str, expected: int, daemon: Daemon, shell: Shell
) -> None:
    daemon.routes["GET /api/peers"] = error(status, code, "no such thing: look elsewhere")
    ran = shell("peers")
    assert (ran.code, ran.out, ran.err) == (expected, "", "edgenet-node: no such thing: look elsewhere\n")


@pytest.mark.parametrize(
    ("state", "expected"), [("done", 0), ("failed", 1), ("cancelled", 1), ("rejected", 4), ("timed_out", 5)]
)
def test_each_final_state_has_its_code(state: str, expected: int) -> None:
    assert of_state(state) == expected


def test_no_daemon(tmp_path: Path, shell: Shell) -> None:
    ran = shell("status")
    assert ran.code == 3
    folder = shell.folder
    told = f"no daemon is running on {folder}: start it with edgenet-node run --data-dir {folder}"
    assert ran.err == f"edgenet-node: {told}\n"
    assert not shell.folder.exists()


def test_a_daemon_that_is_gone_or_speaks_nonsense(shell: Shell) -> None:
    with socket.socket() as taken, DataDir.claim(shell.folder) as data:
        taken.bind(("127.0.0.1", 0))  # never listens
        data.token()
        data.announce(RunInfo(1, f"http://127.0.0.1:{taken.getsockname()[1]}", OWN, "0"))
        ran = shell("status")
        assert ran.code == 3
        assert "cannot reach the daemon" in ran.err
        assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("answer", [b"<html>", b"", b"\xff", b'{"error": {"code": "usa'])
def test_an_answer_that_is_not_json(answer: bytes, daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = (200, answer)
    ran = shell("peers")
    assert ran.code == 1
    assert "not JSON" in ran.err


def test_the_token_is_sent_and_its_file_must_be_private(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = (200, [])
    assert shell("peers").code == 0
    assert daemon.asked[-1].token == daemon.token
    token = daemon.folder / "api.token"
    token.chmod(stat.S_IRUSR | stat.S_IROTH)
    ran = shell("peers")
    assert ran.code == 1
    assert str(token) in ran.err


def test_debug_shows_where_an_error_comes_from(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = error(404, "not_found")
    assert "Traceback" not in shell("peers").err
    with pytest.raises(Exception, match="what, why, what to do"):
        shell("peers", "--debug")


def test_a_bug_is_one_line_too(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = (200, [{"unexpected": 1}])
    ran = shell("peers")
    assert ran.code == 1
    assert "a bug" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_broken_configuration_is_named(shell: Shell) -> None:
    shell.folder.mkdir()
    (shell.folder / "node.toml").write_text("[network]\npeers_maxx = 3\n")
    ran = shell("status")
    assert ran.code == 2
    assert "node.toml" in ran.err
    assert "peers_max" in ran.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["version", "--json"]) == 0
    assert capsys.readouterr().out.startswith('{"version": "')
