#!/usr/bin/env python3
"""The runtime alone: a step with its driver, a local ask, an ask that calls a peer, and durable replies.

`--quick` takes a tenth of the samples, `--json` prints one object.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgenet_node.adapters.sqlite_store import SqliteStore
from edgenet_node.effects import Effect, Envelope, Now, Part, Put, Query, Reply, Row
from edgenet_node.ports.store import RowStore
from edgenet_node.runtime import Runtime, SystemClock
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.network import FakeNetwork
from edgenet_node.testing.store import MemoryStore
from edgenet_node.wire.registry import WireTable

CLIENTS = 256


class Plain(Struct, frozen=True):
    """A message without effects."""


class Ping(Query[int], frozen=True):
    pass


class Save(Query[int], frozen=True):
    number: int


class Counter:
    """Answers `Ping` from memory and `Save` once it is durable."""

    def __init__(self) -> None:
        self.plain = 0

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        return []

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        body = e.body
        if type(body) is Plain:
            self.plain += 1
            return []
        if type(body) is Ping:
            return [Reply(e.reply_to, self.plain)]
        return [Put("saved", str(body.number % 4096), b"x" * 64), Reply(e.reply_to, body.number)]

    def wake_at(self) -> float:
        return math.inf


@asynccontextmanager
async def running(core: Counter, store: RowStore) -> AsyncIterator[Runtime]:
    async with trio.open_nursery() as nursery:
        network = FakeNetwork(0)
        await nursery.start(network.run)
        runtime = Runtime(
            [Part("bench", lambda: core, (Plain, Ping, Save))],
            store=store,
            network=network.node("self"),
            executor=InlineExecutor({}),
            clock=SystemClock(),
            rng=random.Random(0),
            wire=WireTable(),
        )
        await nursery.start(runtime.run)
        yield runtime
        runtime.request_stop()
        while runtime.bus.counters().asks_open:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def bench_steps(rounds: int) -> dict[str, float]:
    """Microseconds for each of 1000 messages: putting them into the mailbox, and driving them through the core."""
    core = Counter()
    post_us: list[float] = []
    drive_us: list[float] = []
    async with running(core, MemoryStore()) as runtime:
        body = Plain()
        for _ in range(rounds):
            before = core.plain
            start = time.perf_counter()
            for _ in range(1000):
                runtime.bus.tell(body)
            posted = time.perf_counter()
            while core.plain < before + 1000:
                await trio.lowlevel.checkpoint()
            drive_us.append((time.perf_counter() - posted) * 1e3)
            post_us.append((posted - start) * 1e3)
    return {
        "tell_us": round(statistics.median(post_us), 3),
        "step_and_driver_us": round(statistics.median(drive_us), 3),
    }


async def bench_asks(count: int) -> dict[str, float]:
    """One task that asks again and again, in microseconds."""
    times: list[float] = []
    async with running(Counter(), MemoryStore()) as runtime:
        for _ in range(count):
            start = time.perf_counter()
            await runtime.bus.ask(Ping(), 10.0)
            times.append((time.perf_counter() - start) * 1e6)
    cuts = statistics.quantiles(times, n=100)
    return {"ask_p50_us": round(cuts[49], 1), "ask_p99_us": round(cuts[98], 1)}


async def bench_saves(store: RowStore, count: int) -> dict[str, float]:
    """Replies a second, each after its save is durable, from 256 clients that ask one thing at a time."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def client(runtime: Runtime) -> None:
        for number in numbers:
            start = time.perf_counter()
            await runtime.bus.ask(Save(number), 60.0)
            latencies.append(time.perf_counter() - start)

    async with running(Counter(), store) as runtime:
        start = time.perf_counter()
        async with trio.open_nursery() as clients:
            for _ in range(CLIENTS):
                clients.start_soon(client, runtime)
        seconds = time.perf_counter() - start
        commits = runtime.bus.counters().parts["bench"].commits
    return {
        "replies_per_s": round(count / seconds),
        "p50_ms": round(statistics.median(latencies) * 1e3, 3),
        "saves_per_commit": round(count / commits, 1),
    }


async def bench_alone(store: RowStore, count: int) -> float:
    """Median milliseconds of a durable reply when nobody else asks."""
    times: list[float] = []
    async with running(Counter(), store) as runtime:
        for number in range(count):
            start = time.perf_counter()
            await runtime.bus.ask(Save(number), 60.0)
            times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e3, 3)


async def bench_sqlite(bench: Callable[[RowStore, int], Any], count: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "bench.db")
        try:
            return await bench(store, count)
        finally:
            await store.close()


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    scale = 1 if options.quick else 10
    figures: dict[str, Any] = {
        **trio.run(bench_steps, 20 * scale),
        **trio.run(bench_asks, 2000 * scale),
        "saved_memory": trio.run(bench_saves, MemoryStore(), 10_000 * scale),
        "saved_sqlite": trio.run(bench_sqlite, bench_saves, 4_000 * scale),
        "saved_sqlite_alone_p50_ms": trio.run(bench_sqlite, bench_alone, 100 * scale),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
