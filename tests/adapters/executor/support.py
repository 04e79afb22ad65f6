"""What the tests of the executor share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import ExecutorSettings
from edgenet_node.effects import Now

from . import functions

REGISTERED = {
    name: f"{functions.__name__}:{name}"
    for name, value in vars(functions).items()
    if callable(value) and getattr(value, "__module__", "") == functions.__name__ and not name.startswith("_")
}


class MonotonicClock:
    """The clock of the running trio loop, mocked or not."""

    def now(self) -> Now:
        return Now(mono=trio.current_time(), wall=trio.current_time())


@asynccontextmanager
async def running(settings: ExecutorSettings) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(REGISTERED, settings, MonotonicClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve)
        yield executor
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Poll until true. The tests' own run limit ends it if that never happens."""
    while not condition():
        await trio.lowlevel.checkpoint()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}
