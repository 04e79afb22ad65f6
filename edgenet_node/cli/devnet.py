"""A swarm on this machine, to try everything: real processes, real libp2p, loopback only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LocalError, TimedOut
from .options import DebugOption, JsonOption, print_json, say, short

if TYPE_CHECKING:
    from .door import Door

START_TIMEOUT_S = 60.0
"""A node is ready within two seconds; a loaded machine may take ten times as long."""

STOP_TIMEOUT_S = 15.0
NODES_MAX = 32


class Member:
    """One `edgenet-node run` process."""

    def __init__(self, number: int, folder: Path, *, liar: bool) -> None:
        self.number = number
        self.folder = folder
        self.liar = liar
        self.ready: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, bootstrap: list[str], workers: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "edgenet_node", "run", "--json", "--data-dir", str(self.folder)]
        environ = {**os.environ, "EDGENET_COMMITTEE__PROFILE": "lan"}
        command += ["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0", "--workers", str(workers)]
        for address in bootstrap:
            command += ["--bootstrap", address]
        if self.liar:
            command.append("--lie")
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environ,
            )

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """`LocalError` with the end of its log when it stops instead, `TimedOut` when it takes too long."""
        if self.process is None or self.process.stdout is None:
            raise LocalError("the node was not started")
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise TimedOut(f"node {self.number} was not ready within {timeout_s:g} s; see {self.folder}/node.log")
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise LocalError(f"node {self.number} stopped at its start: {self._last_words()}")
            line += got
        self.ready = json.loads(line)

    def _last_words(self) -> str:
        text = (self.folder / "node.log").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "its log is empty"

    @property
    def peer_id(self) -> str:
        return str(self.ready["peer_id"])

    @property
    def door(self) -> Door:
        from .door import Door

        return Door.of(self.folder)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def interrupt(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Graceful, then forceful. The exit code."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class Swarm:
    """`count` nodes; the first founds the swarm, the others join through it; the last `liars` of them lie."""

    def __init__(self, root: Path, count: int, *, liars: int = 0, workers: int = 1) -> None:
        self.members = [Member(n, root / f"node{n}", liar=n > count - liars) for n in range(1, count + 1)]
        self._workers = workers

    def start(self, report: Callable[[Member], None]) -> None:
        first, *others = self.members
        first.start([], self._workers)
        first.wait_ready()
        report(first)
        for member in others:
            member.start(first.ready["addresses"][:1], self._workers)
        for member in others:
            member.wait_ready()
            report(member)

    def wait_joined(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until every node sees every other as a member that offers something."""
        deadline = time.monotonic() + timeout_s
        wanted = len(self.members) - 1
        waiting = list(self.members)
        while waiting:
            peers = waiting[0].door.request("GET", "/api/peers")
            if sum(peer["connected"] and bool(peer["capabilities"]) for peer in peers) >= wanted:
                waiting.pop(0)
            elif time.monotonic() > deadline:
                raise TimedOut(f"node {waiting[0].number} does not see all {wanted} others after {timeout_s:g} s")
            else:
                time.sleep(0.1)

    def form_committee(self, size: int) -> dict[str, Any]:
        """Of the first `size` nodes."""
        from .paths import path_of

        node = self.members[0].door
        wanted = {member.peer_id for member in self.members[:size]}
        deadline = time.monotonic() + START_TIMEOUT_S
        asked = False
        while True:
            seen: dict[str, Any] = node.request("GET", path_of("committee"))
            if set(seen["committee"]) == wanted and not seen["joint"]:
                return seen
            if not asked and seen["role"] == "leader":
                body = {"add": sorted(wanted - set(seen["committee"]))}
                node.request("POST", path_of("committee", "change"), body)
                asked = True
            if time.monotonic() > deadline:
                raise TimedOut(f"the committee did not form: {seen['reshaping'] or 'no leader'}")
            time.sleep(0.1)

    def stop(self) -> list[int]:
        for member in self.members:
            member.interrupt()
        return [member.stop() for member in self.members]


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """The folder given, kept; or a fresh one, deleted afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    made = Path(tempfile.mkdtemp(prefix="edgenet-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def devnet(
    count: Annotated[int, typer.Argument(help="Number of nodes.", min=1, max=NODES_MAX)] = 5,
    liar: Annotated[bool, typer.Option("--liar", help="The last node returns wrong results.")] = False,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep the nodes' data here.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Worker processes of each node.", min=1, max=64)] = 1,
    committee: Annotated[
        int, typer.Option("--committee", metavar="N", help="Members of the committee: 1, 3, 4, 5 or 7.")
    ] = 1,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a swarm of several nodes on this machine until Ctrl-C.

    Example: edgenet-node devnet 5 --liar
    """
    if committee not in (1, 3, 4, 5, 7) or committee > count:
        raise typer.BadParameter(f"1, 3, 4, 5 or 7, and at most {count} nodes", param_hint="--committee")
    with scratch(folder) as root:
        swarm = Swarm(root, count, liars=1 if liar else 0, workers=workers)

        def report(member: Member) -> None:
            if as_json:
                print_json({**member.ready, "data_dir": str(member.folder), "liar": member.liar})
            else:
                lies = "  (liar)" if member.liar else ""
                say(f"node {member.number}  {short(member.peer_id)}  --data-dir {member.folder}{lies}")

        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            swarm.start(report)
            swarm.wait_joined()
            if committee > 1:
                seen = swarm.form_committee(committee)
                if not as_json:
                    say(f"committee of {committee}: {seen['trust']}")
            if not as_json:
                say("all joined; try in another terminal:")
                say(f"  edgenet-node submit embedding --text hello --follow --data-dir {swarm.members[0].folder}")
                say("Ctrl-C stops them")
            while all(m.process is not None and m.process.poll() is None for m in swarm.members):
                time.sleep(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            swarm.stop()
