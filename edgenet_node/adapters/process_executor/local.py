"""The places inside this process: on the loop, and in a few threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from ...errors import ComputeFailed, Overloaded, TimedOut
from .context import Function, Residents, WorkerContext, load_function

_RETRY_AFTER_S: Final = 0.1
_MESSAGE_CHARS_MAX: Final = 2000


def failed(fn: str, e: BaseException) -> ComputeFailed:
    return ComputeFailed(f"{fn}: {type(e).__name__}: {e}"[:_MESSAGE_CHARS_MAX])


class LocalPlaces:
    """Runs light functions here. Values are handed over as they are: no copy, no check, tuples stay tuples."""

    def __init__(
        self, functions: Mapping[str, str], *, threads: int, queued_max: int, residents: tuple[int, int]
    ) -> None:
        self._functions = functions
        self._loaded: dict[str, Function] = {}
        self._limiter = trio.CapacityLimiter(threads)
        self._queued_max = queued_max
        self._inline = WorkerContext(Residents(*residents), lambda: False)
        self._threads = _LockedResidents(*residents)

    def _function(self, fn: str) -> Function:
        function = self._loaded.get(fn)
        if function is None:
            function = self._loaded[fn] = load_function(self._functions[fn])
        return function

    def inline(self, fn: str, args: Sequence[Any]) -> Any:
        """Now, on the loop: at most 200 us, which nobody enforces."""
        try:
            return self._function(fn)(self._inline, *args)
        except Exception as e:
            raise failed(fn, e) from e

    async def thread(self, fn: str, args: Sequence[Any], timeout_s: float) -> Any:
        """In a thread, for native code that releases the GIL. A thread cannot be killed: one that outlives its
        timeout or its caller keeps its slot of `threads` until it looks at `should_stop`."""
        waiting = self._limiter.statistics().tasks_waiting
        if waiting >= self._queued_max:
            raise Overloaded(f"{waiting} tasks wait for a thread", retry_after_s=_RETRY_AFTER_S)
        stop = threading.Event()

        def call() -> Any:
            if stop.is_set():
                return None
            try:
                return self._function(fn)(WorkerContext(self._threads, stop.is_set), *args)
            except Exception as e:
                raise failed(fn, e) from e

        try:
            with trio.move_on_after(timeout_s):
                return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
            raise TimedOut(f"{fn} did not finish in {timeout_s:g} s")
        finally:
            stop.set()


class _LockedResidents(Residents):
    """For several threads: a load holds up the others that look for a resident."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        super().__init__(count_max, bytes_max)
        self._lock = threading.RLock()

    def get(self, name: str, load: Any, size_bytes: int) -> Any:
        with self._lock:
            return super().get(name, load, size_bytes)
