"""The data folder: one node at a time, private files, and no belief in what a killed node left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgenet_node.adapters.data_dir import DataDir, Layout, RunInfo, prepare
from edgenet_node.errors import Conflict, NotFound, StoreError

INFO = RunInfo(pid=os.getpid(), api="http://127.0.0.1:8787", peer_id="12D3KooW", version="0.1.0")

HOLDER = """
import sys, os
from pathlib import Path
from edgenet_node.adapters.data_dir import DataDir, RunInfo
data = DataDir.claim(Path(sys.argv[1]))
data.announce(RunInfo(os.getpid(), "http://127.0.0.1:1", "12D3", "0"))
print("ready", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_private(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "data"
    with DataDir.claim(root) as data:
        data.token()
        data.announce(INFO)
        layout = data.layout
        assert {mode(path) for path in (root, layout.artifacts, layout.cache)} == {0o700}
        assert {mode(path) for path in (layout.lock, layout.api_token, layout.run)} == {0o600}
        assert {path.name for path in root.iterdir()} == {"lock", "artifacts", "cache", "api.token", "run.json"}


def test_the_token_is_made_once_and_can_be_read_without_the_lock(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="init"):
        prepare(tmp_path).read_token()
    with DataDir.claim(tmp_path) as data:
        token = data.token()
        assert data.token() == token
    assert len(token) >= 43
    assert Layout(tmp_path).read_token() == token
    with DataDir.claim(tmp_path) as data:
        assert data.token() == token


@pytest.mark.parametrize(
    ("content", "bits", "told"),
    [
        (b"a" * 43, 0o644, "read by others"),
        (b"short", 0o600, "no token"),
        (b"\xff" * 43, 0o600, "no token"),
        (b"a b" * 20, 0o600, "no token"),
    ],
)
def test_an_unfit_token_is_refused(tmp_path: Path, content: bytes, bits: int, told: str) -> None:
    path = tmp_path / "other.token"
    path.write_bytes(content)
    path.chmod(bits)
    with pytest.raises(StoreError, match=told):
        Layout(tmp_path).read_token(path)


def test_a_second_node_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with DataDir.claim(tmp_path) as first:
        first.announce(INFO)
        with pytest.raises(Conflict, match=rf"process {os.getpid()}\): stop it") as caught:
            DataDir.claim(tmp_path)
        assert "\n" not in caught.value.message
        assert first.layout.running() == INFO  # the failed attempt did not disturb it
    assert Layout(tmp_path).running() is None
    DataDir.claim(tmp_path).close()


def test_a_killed_node_leaves_nothing_that_misleads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        running = Layout(tmp_path).running()
        assert running is not None
        assert running.pid == child.pid
        with pytest.raises(Conflict, match=f"process {child.pid}"):
            DataDir.claim(tmp_path)
        child.send_signal(signal.SIGKILL)
    assert Layout(tmp_path).run.exists()
    assert Layout(tmp_path).running() is None
    with DataDir.claim(tmp_path) as data:
        assert not data.layout.run.exists()
        assert data.layout.running() is None


def test_not_ready_nothing_there_and_damaged(tmp_path: Path) -> None:
    assert Layout(tmp_path / "missing").running() is None
    with DataDir.claim(tmp_path) as data:
        assert data.layout.running() is None
        data.layout.run.write_bytes(b"{")
        with pytest.raises(StoreError, match=r"run\.json is damaged"):
            data.layout.running()
        data.close()
        data.close()


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="file cannot be used"):
        DataDir.claim(file)
    with pytest.raises(StoreError, match="cannot be used"):
        DataDir.claim(file / "below")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(StoreError, match="written by others"):
        DataDir.claim(shared)
    with DataDir.claim(tmp_path / "mine") as data:
        data.layout.lock.rename(tmp_path / "real")
    (tmp_path / "mine" / "lock").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="lock cannot be used"):
        DataDir.claim(tmp_path / "mine")
