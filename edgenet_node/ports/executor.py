"""The executor port: registered pure functions, run somewhere off the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from ..effects import Place


class ExecutorStats(Struct, frozen=True):
    """`busy` of `workers` run something, `queued` wait, `restarts` workers died so far, `stolen` ran
    elsewhere than queued."""

    workers: int
    busy: int
    queued: int
    restarts: int
    stolen: int
    completed: int


class Executor(Protocol):
    """Runs `fn(context, *args)` for a registered name. Arguments and results: None, bool, int, float, str, bytes,
    lists, tuples (as lists), str-keyed dicts, and C-contiguous numpy arrays."""

    async def run(self, place: Place, fn: str, args: Sequence[Any], *, timeout_s: float, affinity: str = "") -> Any:
        """`ComputeFailed` if it raised, `WorkerDied` if its process did, `TimedOut`, `Overloaded` if the queue is full.
        Cancelling the awaiting task withdraws it: unstarted work is dropped, running work asked to stop, then
        killed."""
        ...

    def stats(self) -> ExecutorStats: ...
