"""Nodes as an owner runs them: real processes, the real command line, loopback, free ports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil
from msgspec import Struct

from edgenet_node.cli.door import Door
from edgenet_node.cli.paths import path_of

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "plugin"
WAIT_S = 60.0
"""A hundred times what a quiet machine needs: these tests are about what happens, not about when."""

LOOK_S = 0.05
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
MARK = "E2E_MARK"
"""In the environment of every process that these tests start, so that none can be overlooked."""


def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; `AssertionError` that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {found!r}")
        time.sleep(LOOK_S)


class Ran(Struct, frozen=True):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, f"no output, exit code {self.code}: {self.err}"
        return json.loads(self.out.splitlines()[-1])

    def refused(self, code: int) -> str:
        """The one line with which it failed."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("edgenet-node: "), self.err
        return lines[0]


def environment(mark: str, extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    # Lent work is niced by default: beside other programs of this machine it would hardly run.
    return {**kept, MARK: mark, "PYTHONPATH": str(PLUGIN), "EDGENET_WORKERS__NICE": "0", **extra}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "edgenet_node", *map(str, args)]


def execute(mark: str, *args: object, env: Mapping[str, str] | None = None, timeout_s: float = 2 * WAIT_S) -> Ran:
    """A command to its end."""
    ended = subprocess.run(  # noqa: S603 - this very program
        command(*args),
        env=environment(mark, env or {}),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


class Node:
    """One daemon and its folder. May be started again after it ended."""

    def __init__(self, folder: Path, weights: Path, mark: str, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.cache = self.home / "cache"
        self.ready: dict[str, Any] = {}
        self._weights = weights
        self._mark = mark
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    # -- life

    def launch(self, *args: object, listen: str = LOOPBACK, bootstrap: Iterable[str] = ()) -> None:
        """Start without waiting."""
        self._share_weights()
        self._out.unlink(missing_ok=True)
        line = ["run", "--json", "--data-dir", self.home, "--listen", listen, "--api", "127.0.0.1:0", "--workers", 1]
        for address in bootstrap:
            line += ["--bootstrap", address]
        with self._out.open("wb") as out, (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                command(*line, *args),
                env=environment(self._mark, self._env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def _share_weights(self) -> None:
        """All nodes map one prepared file, and none spends its time on folding it."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.cache.mkdir(mode=0o700, exist_ok=True)
        for prepared in self._weights.iterdir():
            with contextlib.suppress(FileExistsError):
                (self.cache / prepared.name).hardlink_to(prepared)

    def wait_ready(self) -> Node:
        def line() -> str:
            if self.process.poll() is not None:
                self.fail("ended before it was ready")
            return self._out.read_text()

        self.ready = json.loads(until(lambda: line().endswith("\n") and line(), f"{self.folder.name} ready"))
        return self

    def start(self, *args: object, listen: str = LOOPBACK, bootstrap: Iterable[str] = ()) -> Node:
        self.launch(*args, listen=listen, bootstrap=bootstrap)
        return self.wait_ready()

    @property
    def _out(self) -> Path:
        return self.folder / "out"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def freeze(self) -> None:
        """Stop it without ending it: connections stay, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.process.wait(WAIT_S)

    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def fail(self, what: str) -> NoReturn:
        raise AssertionError(f"{self.folder.name} {what}:\n" + "\n".join(self.log().splitlines()[-15:]))

    # -- questions

    @property
    def id(self) -> str:
        return str(self.ready["peer_id"])

    @property
    def address(self) -> str:
        return str(self.ready["addresses"][0])

    @property
    def door(self) -> Door:
        return Door.of(self.home)

    def cli(self, *args: object, timeout_s: float = 2 * WAIT_S) -> Ran:
        """A command against this daemon."""
        return execute(self._mark, *args, "--data-dir", self.home, timeout_s=timeout_s)

    def get(self, *parts: str, **query: object) -> Any:
        return self.door.request("GET", path_of(*parts, **query))

    def post(self, *parts: str, body: Any, timeout_s: float = 2 * WAIT_S) -> Any:
        return self.door.request("POST", path_of(*parts), body, timeout_s=timeout_s)

    def submit(self, kind: str, payload: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """The finished task, or with `wait=False` the task just saved."""
        body = {"kind": kind, "payload": payload, "wait": True, "timeout_s": WAIT_S, **options}
        found: dict[str, Any] = self.post("tasks", body=body)
        return found

    def task(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("tasks", task)
        return found

    def wait_task(self, task: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            seen = self.task(task)
            return seen if seen["state"] not in ("queued", "running") else None

        found: dict[str, Any] = until(ended, f"task {task} ended")
        return found

    def events(self, task: str) -> list[dict[str, Any]]:
        """All events of a task that has ended."""
        return list(self.door.events(task))

    def peers(self) -> dict[str, dict[str, Any]]:
        return {peer["peer_id"]: peer for peer in self.get("peers")}

    def counters(self) -> dict[str, int]:
        found: dict[str, int] = self.get("status")["counters"]
        return found

    def offers(self, other: Node) -> bool:
        """The other is a member here, and has said what it computes."""
        peer = self.peers().get(other.id)
        return peer is not None and peer["connected"] and bool(peer["capabilities"])

    # -- the gate (see plugin/edgenet_gate.py)

    def hold(self) -> None:
        (self.cache / "waiting").unlink(missing_ok=True)
        (self.cache / "hold").touch()

    def release(self) -> None:
        (self.cache / "hold").unlink(missing_ok=True)

    @property
    def waiting(self) -> bool:
        """A worker has come to an item that is held."""
        return (self.cache / "waiting").exists()

    def computed(self) -> list[str]:
        path = self.cache / "runs.log"
        return path.read_text().splitlines() if path.exists() else []


class Land:
    """Everything that one test module has started; `close` leaves nothing of it, and no traceback unseen."""

    def __init__(self, root: Path, weights: Path) -> None:
        self._root = root
        self._weights = weights
        self.mark = root.name + "-" + os.urandom(8).hex()
        self.nodes: list[Node] = []

    def node(self, name: str, **env: str) -> Node:
        """A node that was not started yet. Keywords are environment variables."""
        made = Node(self._root / name, self._weights, self.mark, env)
        self.nodes.append(made)
        return made

    def swarm(self, names: str, options: Mapping[str, Sequence[str]] | None = None, **env: str) -> tuple[Node, ...]:
        """A node for each letter: the first founds, the others join through it; all see all. `options` by letter."""
        given = options or {}
        first, *others = (self.node(name, **env) for name in names)
        first.start(*given.get(names[0], ()))
        for name, node in zip(names[1:], others, strict=True):
            node.launch(*given.get(name, ()), bootstrap=[first.address])
        for node in others:
            node.wait_ready()
        wait_joined(first, *others)
        return (first, *others)

    def execute(self, *args: object, env: Mapping[str, str] | None = None) -> Ran:
        return execute(self.mark, *args, env=env)

    def processes(self) -> list[psutil.Process]:
        """What runs of this land: daemons, workers, commands."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        for node in self.nodes:
            if node.alive:
                node.kill()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        crashed = [node for node in self.nodes if "Traceback" in node.log()]
        if crashed:
            crashed[0].fail("has a traceback in its log")
        shutil.rmtree(self._root, ignore_errors=True)


def wait_joined(*nodes: Node) -> None:
    for node in nodes:
        for other in nodes:
            if node is not other:
                until(lambda: node.offers(other), f"{node.folder.name} sees {other.folder.name}")  # noqa: B023 - at once
