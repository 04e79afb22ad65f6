#!/usr/bin/env python3
"""Worker pool: dispatch round trip, a 16 MB array there and back, and the lag of the loop while all workers are busy.

Ends with status 1 if the loop's lag misses its target. `--quick` takes a tenth of the samples.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgenet_node.adapters.process_executor.context import WorkerContext
from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import ExecutorSettings
from edgenet_node.effects import Now

LAG_P99_MAX_MS: Final = 5.0
_TICK_S: Final = 0.002
_TIMEOUT_S: Final = 120.0


class _Clock:
    def now(self) -> Now:
        return Now(mono=time.monotonic(), wall=time.time())


def echo(context: WorkerContext, value: Any) -> Any:
    return value


def first(context: WorkerContext, value: Any) -> float:
    return float(value[0])


def multiply(context: WorkerContext, duration_s: float) -> int:
    """Saturate a core with matrix products and Python for `duration_s`."""
    a = np.full((256, 256), 0.5, np.float32)
    product = np.empty_like(a)
    end = time.monotonic() + duration_s
    turns = 0
    while time.monotonic() < end:
        np.matmul(a, a, out=product)
        turns += sum(range(1000)) > 0
    return turns


def _summary(times_s: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times_s, n=100)
    return {"p50_ms": round(cuts[49] * 1e3, 4), "p99_ms": round(cuts[98] * 1e3, 4), "n": len(times_s)}


async def _round_trips(executor: ProcessExecutor, fn: str, value: Any, count: int) -> dict[str, float]:
    times_s = []
    for n in range(count + count // 10):
        start = time.perf_counter()
        await executor.run("worker", fn, [value], timeout_s=_TIMEOUT_S)
        if n >= count // 10:  # the first ones fault in the slabs
            times_s.append(time.perf_counter() - start)
    return _summary(times_s)


async def _lag(executor: ProcessExecutor | None, workers: int, count: int) -> dict[str, float]:
    """How late a 2 ms sleep wakes up, while every worker computes (no executor: while nothing does)."""
    late_s = []
    async with trio.open_nursery() as nursery:

        async def busy(executor: ProcessExecutor) -> None:
            while True:
                await executor.run("worker", "multiply", [0.05], timeout_s=_TIMEOUT_S)

        if executor is not None:
            for _ in range(workers):
                nursery.start_soon(busy, executor)
            while len(executor.pids()) < workers:
                await executor.run("worker", "echo", [0], timeout_s=_TIMEOUT_S)
        for _ in range(count):
            due = trio.current_time() + _TICK_S
            await trio.sleep_until(due)
            late_s.append(trio.current_time() - due)
        nursery.cancel_scope.cancel()
    return _summary(late_s)


async def _main(workers: int, scale: int) -> dict[str, Any]:
    module = Path(__file__).stem
    functions = {name: f"{module}:{name}" for name in ("echo", "first", "multiply")}
    executor = ProcessExecutor(functions, ExecutorSettings(workers=workers), _Clock())
    array = np.random.default_rng(1).random(2_000_000)
    figures: dict[str, Any] = {"workers": workers}
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve)
        start = time.perf_counter()
        await executor.run("worker", "echo", [0], timeout_s=_TIMEOUT_S)
        figures["first_task_ms"] = round((time.perf_counter() - start) * 1e3, 1)
        figures["dispatch"] = await _round_trips(executor, "echo", 1, 500 * scale)
        figures["array_16mb_in"] = await _round_trips(executor, "first", array, 10 * scale)
        figures["array_16mb_in_and_out"] = await _round_trips(executor, "echo", array, 10 * scale)
        figures["loop_lag_idle"] = await _lag(None, workers, 200 * scale)
        figures["loop_lag_saturated"] = await _lag(executor, workers, 200 * scale)
        nursery.cancel_scope.cancel()
    figures["ok"] = figures["loop_lag_saturated"]["p99_ms"] < LAG_P99_MAX_MS
    return figures


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Measure and return the figures: milliseconds, and `ok` for the loop's lag against its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    figures: dict[str, Any] = trio.run(_main, options.workers, 1 if options.quick else 10)
    return figures


if __name__ == "__main__":
    result = main(sys.argv[1:])
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["ok"] else 1)
