#!/usr/bin/env python3
"""The committee's log: three processes on loopback, durable (fsync) and encrypted, against PySyncObj and etcd.

    python scripts/bench_raft.py [--quick | --long] [--json] [--peer-python PATH]

Commands a second, p50 and p99 of one client and of 16 and 256 in flight at the leader, for ours and for the peers that
are there, by turns in the same run, medians of the rounds: PySyncObj (in memory, neither synced nor encrypted; batching
off) where --peer-python has it, Debian's etcd-server (synced, in the clear, through its HTTP gateway) where it is
installed. Of ours alone: the time from kill -9 of the leader to the next commit (median of ten, LAN profile); how long
a follower takes that was down for 100,000 entries; resident memory under load (ten minutes with --long).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import structlog
import trio
from bench_raft_peers import Etcd, PySyncObj

from edgenet_node.adapters.libp2p_network import Libp2pNetwork, NetworkSettings, host
from edgenet_node.adapters.sqlite_store import SqliteStore, StoreLimits
from edgenet_node.app.limits import LAN_TICK_S
from edgenet_node.effects import Ask, Done, Effect, Envelope, Limits, Now, Part, Row, Tell
from edgenet_node.errors import EdgenetError
from edgenet_node.messages import raft as messages
from edgenet_node.raft import core as raft_core
from edgenet_node.raft.settings import RaftSettings
from edgenet_node.runtime import Runtime, SystemClock
from edgenet_node.testing.artifacts import MemoryArtifacts
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.wire.raft import SNAPSHOT_BYTES_MAX, RosterEntry
from edgenet_node.wire.registry import WireTable

MEMBERS = 3
COMMAND = b"x" * 64
CLIENTS = (1, 16, 256)
CONSUMER = "bench"
SWARM = "be" * 21
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
ABSENT_ENTRIES = 100_000
KEPT = 50_000
MEMORY_KEPT = 10_000
"""As a node's own default: a snapshot every 20,000 entries."""


class Consumer:
    """Counts what was committed."""

    def __init__(self) -> None:
        self.cursor = self.count = 0
        self._advanced = self._upto = 0
        self._reading = False

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def wake_at(self) -> float:
        return float("inf")

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        body = e.body
        if isinstance(body, messages.LogAdvanced):
            self._advanced = max(self._advanced, body.commit)
        elif isinstance(body, messages.TakeState):
            self._upto = body.upto
        elif isinstance(body, Done):
            self._reading = False
            page = body.value
            if page is not None:
                if page.snapshot is not None:
                    self.count = int.from_bytes(page.snapshot, "big")
                self.count += sum(1 for entry in page.entries if entry.command)
                self.cursor = max(self.cursor, page.upto)
        out: list[Effect] = []
        if 0 < self._upto <= self.cursor:
            out.append(Tell(messages.GiveState(CONSUMER, self.cursor, self.count.to_bytes(8, "big"))))
            self._upto = 0
        if not self._reading and self._advanced > self.cursor:
            self._reading = True
            out.append(Ask("log", messages.ReadLog(CONSUMER, self.cursor), 30.0))
        return out


class Member:
    """One process: a node that has a log and nothing else. Takes commands as JSON lines, answers each with one."""

    def __init__(self, number: int, folder: Path, entries_kept: int) -> None:
        self.number = number
        self.folder = folder
        self.consumer = Consumer()
        self.settings = RaftSettings(
            tick_s=LAN_TICK_S, consumers=(CONSUMER,), snapshot_entries=2 * entries_kept, keep_entries=entries_kept
        )
        self.epoch_client = os.urandom(16)
        self.sequence = 0

    async def run(self) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        store = await SqliteStore.open(
            folder / "raft.sqlite", limits=StoreLimits(value_bytes_max=SNAPSHOT_BYTES_MAX + 65536)
        )
        clock, rng = SystemClock(), random.Random(self.number)
        settings = NetworkSettings(listen=(LOOPBACK,))
        ear = _Ear()
        seed = bytes([self.number]) * 32
        self.network = Libp2pNetwork(seed, settings, ear, MemoryArtifacts(), clock, rng)
        own = host.peer_id(seed)
        parts = [
            Part(
                "raft",
                lambda: raft_core.RaftCore(own, self.settings, rng, os.urandom),
                accepts=raft_core.ACCEPTS,
                remote=raft_core.REMOTE,
                hears=raft_core.HEARS,
                limits=Limits(mailbox_max=4096, batch_max=512),
                fail_stop=True,
            ),
            Part("bench", lambda: self.consumer, hears=(messages.LogAdvanced, messages.TakeState)),
        ]
        self.runtime = Runtime(
            parts,
            store=store,
            network=self.network,
            executor=InlineExecutor({}),
            clock=clock,
            rng=rng,
            wire=WireTable(),
        )
        ear.wiring = self.runtime.listener
        async with trio.open_nursery() as nursery:
            await nursery.start(self.runtime.run)
            self.runtime.set_swarm(SWARM)
            await nursery.start(self.network.run)
            print(json.dumps({"peer": own, "addresses": list(self.network.addresses())}), flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                print(json.dumps(await self.obey(json.loads(line))), flush=True)
            nursery.cancel_scope.cancel()

    async def obey(self, order: dict[str, Any]) -> Any:
        ask = self.runtime.bus.ask
        match order["do"]:
            case "meet":
                for peer, addresses in order["others"].items():
                    self.network.learn(peer, addresses, keep=True)
                    self.network.admit(peer)
                return True
            case "found":
                return await ask(messages.FoundCommittee(), timeout_s=10)
            case "prepare":
                roster = tuple(RosterEntry(one["member"], one["peer"]) for one in order["roster"])
                return await ask(messages.PrepareMember(0, roster), timeout_s=10)
            case "change":
                changes = tuple(messages.MemberChange(**one) for one in order["changes"])
                return await ask(messages.ChangeMembers(changes), timeout_s=10)
            case "leave":
                return await ask(messages.LeaveJoint(), timeout_s=10)
            case "status":
                view = await ask(messages.GetCommittee(), timeout_s=10)
                return {
                    "role": view.role,
                    "leader": view.leader,
                    "term": view.term,
                    "commit": view.commit,
                    "applied": view.applied,
                    "counted": self.consumer.count,
                    "match": {one.peer: one.match for one in view.members},
                    "fsync_ms": 1e3 * view.figures.fsync_s,
                    "batch": view.figures.batch,
                    "rss": _rss(),
                }
            case "load":
                return await self.load(order["clients"], order["seconds"])
            case "fill":
                return await self.fill(order["entries"])
        raise ValueError(order["do"])

    async def load(self, clients: int, seconds: float) -> dict[str, float]:
        times: list[float] = []
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                began = time.perf_counter()
                await self.propose()
                times.append(time.perf_counter() - began)

        cpu = time.process_time()
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(client)
        took = time.perf_counter() - began
        times.sort()
        return {
            "per_s": round(len(times) / took, 1),
            "p50_ms": round(1e3 * times[len(times) // 2], 3),
            "p99_ms": round(1e3 * times[len(times) * 99 // 100], 3),
            "leader_cpu_us": round(1e6 * (time.process_time() - cpu) / len(times), 1),
        }

    async def propose(self) -> None:
        self.sequence += 1
        mine = self.sequence
        query = messages.Propose(CONSUMER, self.epoch_client, mine, max(1, mine - 1000), COMMAND)
        while True:
            try:
                await self.runtime.bus.ask(query, timeout_s=15)
                return
            except EdgenetError:
                await trio.sleep(0.01)

    async def fill(self, entries: int) -> bool:
        async def some(count: int) -> None:
            for _ in range(count):
                await self.propose()

        async with trio.open_nursery() as nursery:
            for _ in range(512):
                nursery.start_soon(some, entries // 512 + 1)
        return True


def _rss(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Ear:
    """The transport is made before the runtime that listens to it."""

    wiring: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wiring, name)


class Process:
    """A member, seen from outside."""

    def __init__(self, number: int, folder: Path, kept: int) -> None:
        self.number, self.folder, self.kept = number, folder, kept
        self.start()

    def start(self) -> None:
        command = [sys.executable, __file__, "--member", str(self.number), "--folder", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, "--kept", str(self.kept)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("no pipes to a member")
        self.input, self.output = self.process.stdin, self.process.stdout
        where = self.read()
        self.peer, self.addresses = where["peer"], where["addresses"]

    def read(self) -> Any:
        line = self.output.readline()
        if not line:
            raise RuntimeError(f"member {self.number} ended")
        return json.loads(line)

    def say(self, **order: Any) -> None:
        self.input.write(json.dumps(order) + "\n")
        self.input.flush()

    def do(self, **order: Any) -> Any:
        self.say(**order)
        return self.read()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.input.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Committee:
    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self.members = [Process(number, folder / str(number), kept) for number in range(1, MEMBERS + 1)]
        self.introduce()
        first, *others = self.members
        roster = [{"member": first.do(do="found"), "peer": first.peer}]
        self.await_leader()
        for other in others:
            member = other.do(do="prepare", roster=roster)
            changes = [{"member": member, "peer": other.peer, "role": "learner"}]
            first.do(do="change", changes=changes)
            self.await_match(first, other)
            changes[0]["role"] = "voter"
            first.do(do="change", changes=changes)
            first.do(do="leave")
            roster.append({"member": member, "peer": other.peer})

    def introduce(self) -> None:
        for one in self.members:
            others = {other.peer: other.addresses for other in self.members if other is not one}
            one.do(do="meet", others=others)

    def await_leader(self, among: Sequence[Process] | None = None) -> Process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for one in among or self.members:
                if one.do(do="status")["role"] == "leader":
                    return one
            time.sleep(0.002)
        raise RuntimeError("no leader")

    @staticmethod
    def await_match(leader: Process, other: Process) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            seen = leader.do(do="status")
            if seen["match"].get(other.peer, 0) >= seen["commit"] > 0:
                return
            time.sleep(0.02)
        raise RuntimeError("no progress")

    def close(self) -> None:
        for one in self.members:
            one.close()


class Loaded(Protocol):
    """Something that takes commands."""

    name: str

    def load(self, clients: int, seconds: float) -> dict[str, float]: ...


class Ours:
    name = "ours"

    def __init__(self, committee: Committee) -> None:
        self._committee = committee

    def load(self, clients: int, seconds: float) -> dict[str, float]:
        leader = self._committee.await_leader()
        found: dict[str, float] = leader.do(do="load", clients=clients, seconds=seconds)
        return found


@contextmanager
def committee(kept: int = KEPT) -> Iterator[Committee]:
    with tempfile.TemporaryDirectory() as folder, closing(Committee(Path(folder), kept)) as made:
        yield made


def measure(quick: bool, long: bool, peer_python: str) -> dict[str, Any]:
    figures: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2), "cores": os.cpu_count()}
    with ExitStack() as stack:
        own = stack.enter_context(committee())
        rivals: list[Loaded] = [Ours(own)]
        if peer_python:
            rivals.append(stack.enter_context(closing(PySyncObj(peer_python, len(COMMAND)))))
        else:
            print("without PySyncObj: no --peer-python", file=sys.stderr)
        if shutil.which("etcd"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            rivals.append(stack.enter_context(closing(Etcd(Path(folder), len(COMMAND)))))
        else:
            print("without etcd: it is not installed", file=sys.stderr)
        figures["throughput"] = by_turns(rivals, rounds=2 if quick else 5, seconds=1.5 if quick else 4.0)
        seen = own.await_leader().do(do="status")
        figures["fsync_ms"] = round(seen["fsync_ms"], 3)
    with committee() as own:
        figures["failover_s"] = failover(own, 3 if quick else 10)
        figures["catch_up"] = catch_up(own, 5_000 if quick else ABSENT_ENTRIES)
    with committee(MEMORY_KEPT) as own:
        figures["memory"] = memory(own, 600.0 if long else 10.0 if quick else 60.0)
    return figures


def by_turns(rivals: Sequence[Loaded], rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Medians over the rounds, by name and number of clients."""
    seen: dict[str, dict[int, list[dict[str, float]]]] = {one.name: {} for one in rivals}
    for one in rivals:
        one.load(16, 1.0)
    for _ in range(rounds):
        for clients in CLIENTS:
            for one in rivals:
                seen[one.name].setdefault(clients, []).append(one.load(clients, seconds))
    return {
        name: {
            str(clients): {what: statistics.median(one[what] for one in found) for what in found[0]}
            for clients, found in by_clients.items()
        }
        for name, by_clients in seen.items()
    }


def memory(own: Committee, seconds: float) -> dict[str, Any]:
    """MiB of the leader and of a follower under 256 clients: at a tenth, at half and at the end of the time."""
    leader = own.await_leader()
    follower = next(one for one in own.members if one is not leader)
    found: dict[str, Any] = {"seconds": seconds, "leader_mib": [], "follower_mib": []}
    for part in (0.1, 0.4, 0.5):
        leader.do(do="load", clients=256, seconds=part * seconds)
        found["leader_mib"].append(round(_rss(leader.process.pid) / 2**20, 1))
        found["follower_mib"].append(round(_rss(follower.process.pid) / 2**20, 1))
    found["entries"] = leader.do(do="status")["commit"]
    return found


def show(figures: dict[str, Any]) -> None:
    print(f"load average {figures['load_average']} on {figures['cores']} cores")
    print(f"{'':12}{'clients':>8}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}{'ours/it':>9}")
    for clients in map(str, CLIENTS):
        for name, found in figures["throughput"].items():
            one = found[clients]
            ratio = figures["throughput"]["ours"][clients]["per_s"] / one["per_s"]
            print(f"{name:12}{clients:>8}{one['per_s']:>10.0f}{one['p50_ms']:>9.2f}{one['p99_ms']:>9.2f}{ratio:>9.2f}")
    print(f"sync        {figures['fsync_ms']} ms")
    print(f"failover    {figures['failover_s']} s")
    back = figures["catch_up"]
    print(f"catch-up    {back['entries']} entries in {back['seconds']} s, leader {back['leader_rss_mib']} MiB")
    held = figures["memory"]
    print(
        f"memory      over {held['seconds']:.0f} s and {held['entries']} entries: "
        f"leader {held['leader_mib']} MiB, follower {held['follower_mib']} MiB"
    )


def failover(committee: Committee, rounds: int) -> float:
    """From the kill to the first command that a new leader committed."""
    times = []
    for _ in range(rounds):
        leader = committee.await_leader()
        others = [one for one in committee.members if one is not leader]
        leader.kill()
        began = time.perf_counter()
        following = committee.await_leader(others)
        following.do(do="fill", entries=1)
        times.append(time.perf_counter() - began)
        leader.start()
        committee.introduce()
        committee.await_match(committee.await_leader(), leader)
    return round(statistics.median(times), 3)


def catch_up(committee: Committee, entries: int) -> dict[str, float]:
    """A follower that was down while so many were committed."""
    leader = committee.await_leader()
    absent = next(one for one in committee.members if one is not leader)
    absent.kill()
    leader.do(do="fill", entries=entries)
    rss = leader.do(do="status")["rss"]
    absent.start()
    began = time.perf_counter()
    committee.introduce()
    committee.await_match(leader, absent)
    seconds = time.perf_counter() - began
    return {"entries": entries, "seconds": round(seconds, 2), "leader_rss_mib": round(rss / 2**20, 1)}


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true", help="Ten minutes of load for the memory figures.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer-python", default=os.environ.get("EDGENET_BENCH_PYTHON", ""))
    parser.add_argument("--member", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("--kept", type=int, default=KEPT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.member:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        trio.run(Member(options.member, options.folder, options.kept).run)
        return {}
    figures = measure(options.quick, options.long, options.peer_python)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
