"""Status, peers and models, for people on 80 columns and for programs."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest

from .fixtures import OWN, PEER_A, PEER_B, Daemon, Shell

CONTRACT = {"state", "peer_id", "pi_key", "addresses", "peers", "swarm", "version", "uptime_s", "tasks", "limits"} | {
    "loop_lag_ms",
    "rss_bytes",
}
STATUS: dict[str, Any] = {
    "state": "ready",
    "peer_id": OWN,
    "pi_key": "ab" * 40,
    "short_id": "π:3f9a",
    "addresses": [f"/ip4/127.0.0.1/tcp/4001/p2p/{OWN}"],
    "peers": 2,
    "swarm": "ab" * 21,
    "swarm_origin": "founded",
    "committee": {"trust": "trusted", "members": 3, "role": "leader", "leader": OWN, "alarms": ["look here"]},
    "version": "0.1.0",
    "uptime_s": 7200.5,
    "tasks": {"done": 3, "served_items": 40, "served_chunks": 4, "serving": 1, "waiting": 0, "running_chunks": 0},
    "workers": {"workers": 2, "busy": 1, "restarts": 0},
    "limits": {"workers": 2},
    "loop_lag_ms": 0.4,
    "rss_bytes": 128 << 20,
    "counters": {},
}


def peer(name: str, state: str, reason: str = "") -> dict[str, Any]:
    return {
        "peer_id": name,
        "connected": state == "member",
        "state": state,
        "capabilities": [{"kind": "embedding"}, {"kind": "echo"}],
        "load": 1,
        "workers": 2,
        "reason": reason,
        "addresses": [f"/dns4/a-rather-long-name.of-some-host.example/tcp/4001/p2p/{name}"],
    }


PEERS = [peer(PEER_A, "member"), peer(PEER_B, "refused", "it belongs to another swarm, whose genesis is " + "cd" * 21)]


def test_status_for_programs_is_what_the_daemon_says(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/status"] = (200, STATUS)
    ran = shell("status", json=True)
    assert ran.json == STATUS
    assert ran.json.keys() >= CONTRACT


def test_status_for_people(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/status"] = (200, STATUS)
    shown = shell("status").out
    assert shown.startswith("READY  2 peers  up 2.0 h  version 0.1.0\n")
    assert "committee 3 (trusted), this node is leader\n" in shown
    assert "ALARM     look here\n" in shown
    assert "own tasks 3 done\n" in shown
    assert "for peers 40 items in 4 chunks, 1 running\n" in shown
    daemon.routes["GET /api/status"] = (200, {**STATUS, "state": "joining", "swarm": "", "swarm_origin": ""})
    assert "none yet (looking for the first peer)" in shell("status").out


def test_peers(daemon: Daemon, shell: Shell) -> None:
    daemon.routes["GET /api/peers"] = (200, PEERS)
    assert [one["connected"] for one in shell("peers", json=True).json] == [True, False]
    shown = shell("peers").out.splitlines()
    assert shown[1].split()[:4] == ["…" + PEER_A[-8:], "member", "embedding,echo", "1/2"]
    assert "cd" * 21 in shown[2]  # in a pipe nothing is cut
    daemon.routes["GET /api/peers"] = (200, [])
    ran = shell("peers")
    assert (ran.code, ran.out, ran.err) == (0, "", "no peers yet\n")


def test_models_and_stop(daemon: Daemon, shell: Shell) -> None:
    row = {"kind": "embedding", "model": "m", "available": False, "price": 10, "reason": "no weights"}
    daemon.routes["GET /api/models"] = (200, [row])
    daemon.routes["POST /api/stop"] = (202, {"state": "stopping"})
    assert shell("models").out.splitlines()[1].split() == ["embedding", "m", "no", "10", "no", "weights"]
    assert shell("models", json=True).json == [row]
    assert shell("stop").out == "stopping\n"


@pytest.mark.parametrize("columns", [80, 40])
def test_tables_never_wrap_on_a_terminal(columns: int, daemon: Daemon) -> None:
    daemon.routes["GET /api/peers"] = (200, PEERS)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "edgenet_node", "peers", "--data-dir", str(daemon.folder)]
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=60, env=environ)  # noqa: S603
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # how Linux says that nobody writes to the terminal any more
    os.close(ours)
    rows = shown.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert len(rows) == 3
    assert max(map(len, rows)) == columns
    assert rows[2].endswith("…")


def test_init_makes_an_identity_once(shell: Shell) -> None:
    made = shell("init", json=True)
    assert made.code == 0, made.err
    assert made.json["peer_id"].startswith("12D3KooW")
    assert (shell.folder / "identity.key").stat().st_mode & 0o777 == 0o600
    again = shell("init")
    assert again.code == 1
    assert "exists already" in again.err
    assert shell("init", "--swarm", "xyz").code in (1, 2)
