#!/usr/bin/env python3
"""Whole nodes: small tasks under a lease, the overhead of a swarm, distributed search, start and size.

One node runs in this process and is asked through its bus; the others are daemons on loopback. Figures are medians
unless they say otherwise. `--peer-python` names an interpreter that has ray, which then runs beside us.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edgenet_node.kernels import bootstrap

bootstrap.apply()  # as the daemon does, before numpy is loaded

from edgenet_node.adapters import keystore
from edgenet_node.adapters.artifact_files import ArtifactFiles
from edgenet_node.adapters.data_dir import DataDir
from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import ExecutorSettings
from edgenet_node.adapters.sqlite_store import SqliteStore
from edgenet_node.app.node import Node
from edgenet_node.cli.devnet import Member
from edgenet_node.config import load
from edgenet_node.messages.memory import AddDocuments, CreateIndex, Document, GetIndex, SearchIndex
from edgenet_node.messages.network import GetPeers
from edgenet_node.messages.tasks import Submit, TaskOutcome
from edgenet_node.runtime.clock import SystemClock

WORDS = Path(__file__).read_text().split()

RAY = """
import json, statistics, sys, time, os
os.environ["RAY_DEDUP_LOGS"] = "0"
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
@ray.remote
def echo(x): return x
for _ in range(50): ray.get(echo.remote("hello"))
times = []
for _ in range(500):
    t = time.perf_counter(); ray.get(echo.remote("hello")); times.append((time.perf_counter() - t) * 1e3)
rates = []
for _ in range(5):
    t = time.perf_counter(); ray.get([echo.remote("hello") for _ in range(1000)])
    rates.append(1000 / (time.perf_counter() - t))
found = {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[-5], "tasks_per_s": statistics.median(rates)}
print(json.dumps(found))
"""


class _NoDoor:
    async def serve(self, node: object, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        del node
        task_status.started()
        await trio.sleep_forever()


@asynccontextmanager
async def own_node(root: Path, bootstrap: Sequence[str], workers: int) -> AsyncIterator[Node]:
    """A node in this process."""
    overrides: dict[str, object] = {
        "node.data_dir": str(root),
        "node.log_level": "error",
        "network.listen": ("/ip4/127.0.0.1/tcp/0",),
        "network.bootstrap": tuple(bootstrap),
        "workers.count": workers,
    }
    with DataDir.claim(root) as folder:
        identity = keystore.create(folder.layout.identity_key, keystore.generate_seed())
        store = await SqliteStore.open(folder.layout.store)
        node = Node(
            load(None, {}, overrides), folder, store, await ArtifactFiles.open(folder.layout.artifacts), identity
        )
        ready = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run, _NoDoor(), "", lambda _: ready.set())
            await ready.wait()
            try:
                yield node
            finally:
                node.stop()
        await store.close()


@asynccontextmanager
async def swarm(others: int, own_workers: int = 1) -> AsyncIterator[tuple[Node, list[Member]]]:
    """A node here and `others` daemons with one worker each, all joined."""
    with tempfile.TemporaryDirectory(prefix="edgenet-bench-") as folder:
        root = Path(folder)
        members = [Member(n, root / f"n{n}", liar=False) for n in range(others)]
        try:
            if members:
                members[0].start([], 1)
                await trio.to_thread.run_sync(members[0].wait_ready)
            for member in members[1:]:
                member.start(members[0].ready["addresses"][:1], 1)
            for member in members[1:]:
                await trio.to_thread.run_sync(member.wait_ready)
            bootstrap = members[0].ready["addresses"][:1] if members else []
            async with own_node(root / "own", bootstrap, own_workers) as node:

                async def joined() -> bool:
                    return sum(bool(p.capabilities) for p in await node.runtime.bus.ask(GetPeers(), 5)) >= others

                await until(joined)
                yield node, members
        finally:
            for member in members:
                member.interrupt()
            for member in members:
                await trio.to_thread.run_sync(member.stop)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    with trio.fail_after(timeout_s):
        while not await condition():  # noqa: ASYNC110 - reached in other processes: there is no event to wait for
            await trio.sleep(0.05)


def quantiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50_ms": statistics.median(times) * 1e3, "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3}


async def lease(tasks: int) -> dict[str, Any]:
    """Small tasks between two daemons: one at a time, then many at once."""
    async with swarm(1) as (node, members):
        peer = members[0].peer_id

        async def one() -> TaskOutcome:
            query = Submit("echo", payload={"data": "hello"}, only=(peer,), durable=False, timeout_s=30.0)
            outcome: TaskOutcome = await node.runtime.bus.ask(query, 30.0)
            if outcome.view.state != "done" or outcome.view.executors != {peer: 1}:
                raise SystemExit(f"a small task ended {outcome.view}")
            return outcome

        for _ in range(50):
            await one()
        times = []
        for _ in range(tasks):
            start = time.perf_counter()
            await one()
            times.append(time.perf_counter() - start)
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            todo = iter(range(tasks))

            async def client(todo: Iterator[int] = todo) -> None:
                for _ in todo:
                    await one()

            async with trio.open_nursery() as nursery:
                for _ in range(64):
                    nursery.start_soon(client)
            rates.append(tasks / (time.perf_counter() - start))
        return {**quantiles(times), "tasks_per_s": statistics.median(rates)}


def ray_peer(python: str) -> dict[str, Any]:
    done = subprocess.run([python, "-c", RAY], capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def passages(count: int, low: int, high: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high))) for _ in range(count)]


async def overhead(count: int) -> dict[str, Any]:
    """A job on two remote nodes with one worker each, against two workers of the bare executor, interleaved."""
    texts = passages(count, 30, 60)
    items = tuple(text.encode() for text in texts)
    local: list[float] = []
    remote: list[float] = []
    shown: Any = None
    async with swarm(2) as (node, members):
        handler = node.registry.get("embedding")
        peers = tuple(member.peer_id for member in members)
        executor = ProcessExecutor(node.registry.functions(), ExecutorSettings(workers=2), SystemClock())

        async def bare() -> float:
            start = time.perf_counter()
            chunks = [items[n : n + 32] for n in range(0, count, 32)]

            async def one(chunk: Sequence[bytes]) -> None:
                data = handler.pack(chunk)
                await executor.run(handler.place, handler.function, handler.args(b"", data), timeout_s=600)

            async with trio.open_nursery() as nursery:
                for chunk in chunks:
                    nursery.start_soon(one, chunk)
            return time.perf_counter() - start

        async def spread(part: tuple[bytes, ...]) -> tuple[float, TaskOutcome]:
            start = time.perf_counter()
            query = Submit("embedding", items=part, only=peers, durable=True, timeout_s=600.0)
            outcome: TaskOutcome = await node.runtime.bus.ask(query, 600.0)
            return time.perf_counter() - start, outcome

        async with trio.open_nursery() as nursery:
            await nursery.start(executor.serve)
            await bare()
            for _ in range(4):
                await spread(items[:400])  # the peers earn a record, the workers load the model
            for _ in range(3):
                local.append(await bare())
                seconds, outcome = await spread(items)
                remote.append(seconds)
                shown = outcome.view.verified
            nursery.cancel_scope.cancel()
    ratios = [far / near for far, near in zip(remote, local, strict=True)]
    redone = 1 + shown.checked / shown.total
    return {
        "local_s": statistics.median(local),
        "swarm_s": statistics.median(remote),
        "ratio": statistics.median(ratios),
        "checked": shown.checked,
        "total": shown.total,
        "overhead_besides_sample": statistics.median(ratios) / redone - 1,
    }


async def search(rows: int, others: int, queries: int) -> dict[str, Any]:
    """`rows` short texts indexed here, spread over `others`; queries given as vectors."""
    import numpy as np

    async with swarm(others, own_workers=2 if others == 0 else 1) as (node, _):
        bus = node.runtime.bus
        await bus.ask(CreateIndex("bench"), 10.0)
        texts = passages(rows, 3, 5)
        for first in range(0, rows, 2000):
            part = tuple(Document(f"{n}", texts[n]) for n in range(first, min(rows, first + 2000)))
            await bus.ask(AddDocuments("bench", part), 600.0)

        async def spread() -> bool:
            return (await bus.ask(GetIndex("bench"), 5.0)).replicas >= min(2, others)

        await until(spread)
        rng = np.random.default_rng(1)
        matrix = rng.standard_normal((rows, 384)).astype(np.float32)
        ours, bare, holders = [], [], {}
        for _ in range(queries + 5):
            vector = rng.standard_normal(384).astype(np.float32)
            vector /= np.linalg.norm(vector)
            start = time.perf_counter()
            found = await bus.ask(SearchIndex("bench", vector=vector.tobytes(), k=10), 30.0)
            ours.append(time.perf_counter() - start)
            holders = found.holders
            start = time.perf_counter()
            scores = matrix @ vector
            top = np.argpartition(scores, -10)[-10:]
            top[np.argsort(-scores[top])]
            bare.append(time.perf_counter() - start)
            if not found.complete or found.rows != rows:
                raise SystemExit(f"an incomplete search: {found.rows} of {rows} rows")
        ours, bare = ours[5:], bare[5:]
        figures = quantiles(ours)
        ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
        return {**figures, "bare_numpy_ms": statistics.median(bare) * 1e3, "ratio": ratio, "holders": len(holders)}


def start_and_size(runs: int) -> dict[str, Any]:
    """Start to ready, resident memory of an idle daemon before any worker, the time of `--help`."""
    ready, rss, helps = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="edgenet-bench-") as folder:
            member = Member(1, Path(folder) / "n", liar=False)
            start = time.perf_counter()
            member.start([], 1)
            member.wait_ready()
            ready.append(time.perf_counter() - start)
            time.sleep(1.0)
            rss.append(member.door.request("GET", "/api/status")["rss_bytes"] / 2**20)
            member.interrupt()
            member.stop()
        start = time.perf_counter()
        command = str(Path(sys.executable).parent / "edgenet-node")
        subprocess.run([command, "--help"], stdout=subprocess.DEVNULL, check=True)
        helps.append(time.perf_counter() - start)
    return {
        "start_to_ready_s": statistics.median(ready),
        "idle_rss_mib": statistics.median(rss),
        "help_ms": statistics.median(helps) * 1e3,
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["start", "lease", "search", "overhead"])
    parser.add_argument("--peer-python", default=os.environ.get("EDGENET_BENCH_PYTHON", sys.executable))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    scale = 0.25 if options.quick else 1.0
    figures: dict[str, Any] = {}
    for part in options.parts:
        match part:
            case "start":
                figures["start"] = start_and_size(3 if options.quick else 5)
            case "lease":
                figures["lease"] = trio.run(lease, int(2000 * scale))
                figures["ray"] = ray_peer(options.peer_python)
            case "search":
                figures["search_one_node"] = trio.run(search, int(20_000 * scale), 0, 200)
                figures["search_five_nodes"] = trio.run(search, int(20_000 * scale), 4, 200)
            case "overhead":
                figures["overhead"] = trio.run(overhead, int(2000 * scale))
            case _:
                parser.error(f"unknown part {part}: start, lease, search, overhead")
    return figures


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2, default=lambda value: round(value, 4)))
