"""A program with one deaf and one idle worker: prints their pids and waits to be killed."""

from __future__ import annotations

import sys
from functools import partial

import trio

from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import ExecutorSettings

from . import functions
from .support import MonotonicClock, until


async def main(started: str) -> None:
    names = ("spin", "pid")
    executor = ProcessExecutor(
        {name: f"{functions.__name__}:{name}" for name in names}, ExecutorSettings(), MonotonicClock()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve)
        nursery.start_soon(partial(executor.run, "worker", "spin", [started], timeout_s=600))
        await executor.run("worker", "pid", [], timeout_s=60)
        await until(lambda: len(executor.pids()) == 2)
        print(*executor.pids(), flush=True)  # noqa: T201
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
