"""The shipped fake of the executor port: runs registered functions in place, in the order of the calls, and
misbehaves on request. No process, no thread, no real time: delays are `trio.sleep`, which a mock clock makes instant.
With `cost_s` a computation takes simulated time on one of `workers`, so that queues and stragglers are as in life.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import trio
from msgspec import Raw, Struct

from ..adapters.process_executor import frames
from ..adapters.process_executor.context import Function, Residents, WorkerContext, load_function
from ..effects import Place
from ..errors import ComputeFailed, Overloaded, TimedOut, UsageError, WorkerDied
from ..ports.executor import ExecutorStats

_RESIDENTS_MAX = 64
_RESIDENT_BYTES_MAX = 1 << 40
_BULK_BYTES_MAX = 1 << 30


class Crash(Struct, frozen=True):
    """The worker dies: `WorkerDied`, before or after the function ran; its residents are lost either way."""

    after: bool = False


class Fail(Struct, frozen=True):
    """The function raises: `ComputeFailed`."""

    message: str = "ArithmeticError: as told"


class Refuse(Struct, frozen=True):
    """The queue is full: `Overloaded`."""

    retry_after_s: float = 1.0


class Delay(Struct, frozen=True):
    """It takes this long; `math.inf` is a function that never returns, which ends in `TimedOut` or cancellation."""

    delay_s: float


class Lie(Struct, frozen=True):
    """The result is replaced by `change(result)`: a worker that computes wrongly."""

    change: Callable[[Any], Any]


Fault = Crash | Fail | Refuse | Delay | Lie


class Call(Struct):
    """What was asked, and how it ended. `running` until then."""

    place: Place
    fn: str
    args: list[Any]
    timeout_s: float
    affinity: str
    outcome: Literal["running", "value", "failed", "died", "refused", "timed out", "cancelled"] = "running"


class InlineExecutor:
    """`functions` maps names to functions or "package.module:attr". `calls` lists all calls so far.

    Arguments and results pass through the codec of the real executor, so that what cannot travel fails here as well:
    tuples become lists, arguments arrive as read-only copies, results are fresh."""

    def __init__(
        self,
        functions: Mapping[str, str | Function],
        *,
        workers: int = 2,
        cost_s: Callable[[str, Sequence[Any]], float] | None = None,
    ) -> None:
        """`cost_s(fn, args)`: simulated seconds of a computation in a thread or worker; at most `workers` run at once,
        others wait in order. Without it they take no time and there is no queue."""
        self._functions = dict(functions)
        self._workers = workers
        self._cost_s = cost_s
        self._slots = trio.Semaphore(max(1, workers))
        self._next: dict[str, deque[Fault]] = {}
        self._odds: dict[str, tuple[float, Fault, random.Random]] = {}
        self._residents = Residents(_RESIDENTS_MAX, _RESIDENT_BYTES_MAX)
        self._packer = frames.Packer(
            inline_bytes_max=_BULK_BYTES_MAX, frame_bytes_max=_BULK_BYTES_MAX, bulk_bytes_max=_BULK_BYTES_MAX
        )
        self._arguments = frames.Unpacker(memoryview(b""), bulk_bytes_max=0, copy=False)
        self._results = frames.Unpacker(memoryview(b""), bulk_bytes_max=0, copy=True)
        self._restarts = 0
        self.calls: list[Call] = []

    def on(self, fn: str, *faults: Fault) -> None:
        """The next calls of `fn` meet these, one each; `Delay(0)` lets one pass."""
        self._next.setdefault(fn, deque()).extend(faults)

    def sometimes(self, fn: str, probability: float, fault: Fault, rng: random.Random) -> None:
        """Calls of `fn` for which nothing is due by `on` meet `fault` with this probability, 0 for never again."""
        self._odds[fn] = (probability, fault, rng)

    def stats(self) -> ExecutorStats:
        running = sum(call.outcome == "running" for call in self.calls)
        completed = sum(call.outcome in {"value", "failed"} for call in self.calls)
        busy = min(running, self._workers)
        return ExecutorStats(self._workers, busy, running - busy, self._restarts, 0, completed)

    async def run(self, place: Place, fn: str, args: Sequence[Any], *, timeout_s: float, affinity: str = "") -> Any:
        """As `ports.executor.Executor`, with a checkpoint before the function runs unless it is `inline`: then there is
        none and no delay, since the runtime steps such a call to its end in place."""
        if fn not in self._functions:
            raise UsageError(f"no function is registered as {fn!r}")
        if not (timeout_s >= 0 and math.isfinite(timeout_s)):
            raise UsageError(f"timeout_s is {timeout_s}, must be finite and not negative")
        call = Call(place, fn, list(args), timeout_s, affinity)
        self.calls.append(call)
        try:
            fault = self._fault(fn)
            value = self._in_place(call, fault) if place == "inline" else await self._within(call, fault)
        except Overloaded:
            call.outcome = "refused"
            raise
        except WorkerDied:
            call.outcome = "died"
            raise
        except TimedOut:
            call.outcome = "timed out"
            raise
        except trio.Cancelled:
            call.outcome = "cancelled"
            raise
        except BaseException:
            call.outcome = "failed"
            raise
        call.outcome = "value"
        return value

    def _fault(self, fn: str) -> Fault | None:
        if self._next.get(fn):
            return self._next[fn].popleft()
        if fn in self._odds:
            probability, fault, rng = self._odds[fn]
            if rng.random() < probability:
                return fault
        return None

    async def _within(self, call: Call, fault: Fault | None) -> Any:
        self._refuse(call, fault)
        with trio.move_on_after(call.timeout_s):
            if self._cost_s is None:
                await self._take(fault, 0.0)
                return self._misbehave(call, fault)
            async with self._slots:
                await self._take(fault, self._cost_s(call.fn, call.args))
                return self._misbehave(call, fault)
        raise TimedOut(f"{call.fn} did not finish in {call.timeout_s:g} s")

    async def _take(self, fault: Fault | None, cost_s: float) -> None:
        seconds = cost_s + (fault.delay_s if isinstance(fault, Delay) else 0.0)
        if seconds > 0:
            await trio.sleep(seconds)
        else:
            await trio.lowlevel.checkpoint()

    def _in_place(self, call: Call, fault: Fault | None) -> Any:
        self._refuse(call, fault)
        return self._misbehave(call, fault)

    def _refuse(self, call: Call, fault: Fault | None) -> None:
        if isinstance(fault, Refuse):
            raise Overloaded(f"{call.fn}: refused as told", retry_after_s=fault.retry_after_s)

    def _misbehave(self, call: Call, fault: Fault | None) -> Any:
        if isinstance(fault, Crash):
            if fault.after:
                self._call(call)
            self._restarts += 1
            self._residents = Residents(_RESIDENTS_MAX, _RESIDENT_BYTES_MAX)
            raise WorkerDied(f"{call.fn}: died as told")
        if isinstance(fault, Fail):
            raise ComputeFailed(f"{call.fn}: {fault.message}")
        value = self._call(call)
        return fault.change(value) if isinstance(fault, Lie) else value

    def _call(self, call: Call) -> Any:
        try:
            args = self._travel(call.args, self._arguments)
        except frames.PackError as e:
            raise UsageError(f"arguments of {call.fn}: {e}") from e
        try:
            target = self._functions[call.fn]
            function = load_function(target) if isinstance(target, str) else target
            value = function(WorkerContext(self._residents, lambda: False), *args)
            return self._travel(value, self._results)
        except Exception as e:
            raise ComputeFailed(f"{call.fn}: {type(e).__name__}: {e}"[: frames.MESSAGE_CHARS_MAX]) from e

    def _travel(self, value: Any, unpacker: frames.Unpacker) -> Any:
        return unpacker.unpack(Raw(self._packer.pack(value).raw))[0]
