"""`ProcessExecutor`: the executor port over worker processes. See the package for its theory of operation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import structlog
import trio
from msgspec import Raw

from ...effects import Place
from ...errors import Cancelled, ComputeFailed, ConfigError, EdgenetError, Overloaded, TimedOut, UsageError, WorkerDied
from ...ports.clock import Clock
from ...ports.executor import ExecutorStats
from . import frames
from .context import NAME_CHARS_MAX, is_target
from .local import LocalPlaces
from .process import Child, Gone
from .schedule import Schedule
from .settings import ExecutorSettings

_FUNCTIONS_MAX: Final = 1024
_RETRY_MIN_S: Final = 0.05
_RETRY_MAX_S: Final = 60.0
_SERVICE_WEIGHT: Final = 0.1
"""Of the newest task in the moving average of service times, from which `retry_after_s` is guessed."""
_LAST_WORDS_S: Final = 1.0
"""For what a dead worker wrote before it died, such as the stack of a crash, to reach the log."""
_log: Final = structlog.get_logger(__name__)


class _Item:
    """A task for a worker, from its submission to its one outcome."""

    __slots__ = ("affinity", "done", "error", "fn", "frame", "id", "payload", "slot", "started", "value")

    def __init__(self, id: int, fn: str, payload: frames.Payload, affinity: str) -> None:  # noqa: A002
        self.id = id
        self.fn = fn
        self.payload = payload
        self.frame = frames.frame(frames.Run(id, fn, Raw(payload.raw)))
        self.affinity = affinity
        self.slot: _Slot | None = None
        self.started = 0.0
        self.done = trio.Event()
        self.value: Any = None
        self.error: EdgenetError | None = None

    def settle(self, value: Any = None, error: EdgenetError | None = None) -> None:
        self.value, self.error = value, error
        self.done.set()


class _Slot:
    """A place for one worker process. `child` is set while it can take work; `wanted` once it should have one."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.wanted = trio.Event()
        self.child: Child | None = None
        self.item: _Item | None = None
        self.residents: set[str] = set()
        self.reading = trio.CancelScope()

    def idle(self) -> bool:
        return self.child is not None and self.item is None


class ProcessExecutor:
    """`functions` maps registered names to "package.module:attr"; only these can run. Processes start with the first
    work for them. `serve` must run for the place `worker`; the others need no service. `ConfigError` for bad names.
    Args of `run` are encoded when it is called, except bulk above `inline_bytes_max`, which must not change until it
    returns; result arrays are fresh and writable."""

    def __init__(
        self,
        functions: Mapping[str, str],
        settings: ExecutorSettings,
        clock: Clock,
        *,
        rng: random.Random | None = None,
    ) -> None:
        if len(functions) > _FUNCTIONS_MAX:
            raise ConfigError(f"executor: {len(functions)} functions are registered, at most {_FUNCTIONS_MAX}")
        for fn, target in functions.items():
            if not 0 < len(fn) <= NAME_CHARS_MAX or len(target) > NAME_CHARS_MAX or not is_target(target):
                raise ConfigError(
                    f'executor: function {fn!r} is registered as {target!r}, not as "package.module:attr"'
                )
        self._functions = MappingProxyType(dict(functions))
        self._settings = settings
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._packer = frames.Packer(
            inline_bytes_max=settings.inline_bytes_max,
            frame_bytes_max=settings.frame_bytes_max,
            bulk_bytes_max=settings.args_bytes_max,
        )
        self._local = LocalPlaces(
            self._functions,
            threads=settings.threads,
            queued_max=settings.threads_queued_max,
            residents=(settings.resident_count_max, settings.resident_bytes_max),
        )
        self._slots = [_Slot(n) for n in range(settings.workers)]
        self._schedule: Schedule[_Item] = Schedule(settings.workers, settings.starve_after_s)
        self._nursery: trio.Nursery | None = None
        self._ids = 0
        self._restarts = 0
        self._stolen = 0
        self._completed = 0
        self._service_s = 0.0

    def stats(self) -> ExecutorStats:
        """`workers` counts slots, started or not; `completed` tasks that ran to a value or an exception."""
        return ExecutorStats(
            workers=len(self._slots),
            busy=sum(slot.item is not None for slot in self._slots),
            queued=self._schedule.queued,
            restarts=self._restarts,
            stolen=self._stolen,
            completed=self._completed,
        )

    def pids(self) -> list[int]:
        """Of the workers that can take work now."""
        return [slot.child.pid for slot in self._slots if slot.child is not None]

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; then workers are asked to exit and killed after `stop_grace_s`; waiting calls get
        `Cancelled`."""
        if self._nursery is not None:
            raise RuntimeError("serve is running already")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for slot in self._slots:
                    nursery.start_soon(self._tend, slot)
                task_status.started()
        finally:
            self._nursery = None
            for item in self._schedule.drain():
                item.settle(error=Cancelled("the executor is shutting down"))

    async def run(self, place: Place, fn: str, args: Sequence[Any], *, timeout_s: float, affinity: str = "") -> Any:
        """See `ports.executor.Executor`. `timeout_s` counts from this call, waiting included. Also `UsageError` for an
        unregistered name and for arguments that cannot travel, `Cancelled` while `serve` does not run."""
        if fn not in self._functions:
            raise UsageError(f"no function is registered as {fn!r}")
        if not (timeout_s >= 0 and math.isfinite(timeout_s)):
            raise UsageError(f"timeout_s is {timeout_s}, must be finite and not negative")
        if place == "inline":
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._local.inline(fn, args)
        if place == "thread":
            return await self._local.thread(fn, args, timeout_s)
        item = self._item(fn, args, affinity)
        self._submit(item)
        try:
            with trio.move_on_after(timeout_s):
                await item.done.wait()
        finally:
            started = item.slot is not None
            if not item.done.is_set():
                self._withdraw(item)
        if not item.done.is_set():
            raise TimedOut(f"{fn} did not {'finish' if started else 'start'} in {timeout_s:g} s")
        if item.error is not None:
            raise item.error
        return item.value

    def _item(self, fn: str, args: Sequence[Any], affinity: str) -> _Item:
        if len(affinity) > NAME_CHARS_MAX:
            raise UsageError(f"affinity has more than {NAME_CHARS_MAX} characters")
        try:
            payload = self._packer.pack(list(args))
        except frames.PackError as e:
            raise UsageError(f"arguments of {fn}: {e}") from e
        self._ids += 1
        return _Item(self._ids, fn, payload, affinity)

    def _submit(self, item: _Item) -> None:
        """To an idle worker, if possible one that holds the resident; else to a holder's deque, else the shortest."""
        if self._nursery is None:
            raise Cancelled("the executor is not running")
        holders = [slot for slot in self._slots if item.affinity and item.affinity in slot.residents]
        for slot in (*holders, *self._slots):
            if slot.idle():
                self._begin(slot, item)
                return
        if self._schedule.queued >= self._settings.queued_max:
            raise Overloaded(f"{self._schedule.queued} tasks wait for a worker", retry_after_s=self._retry_after_s())
        target = min(holders or self._slots, key=lambda slot: self._schedule.length(slot.index))
        self._schedule.put(target.index, item, self._clock.now().mono)
        self._want()

    def _want(self) -> None:
        """Start one more worker if more tasks wait than workers are starting."""
        starting = sum(slot.wanted.is_set() and slot.child is None for slot in self._slots)
        if self._schedule.queued > starting:
            for slot in self._slots:
                if not slot.wanted.is_set():
                    slot.wanted.set()
                    return

    def _retry_after_s(self) -> float:
        guess = self._service_s * self._schedule.queued / len(self._slots)
        return min(max(guess, _RETRY_MIN_S), _RETRY_MAX_S)

    def _begin(self, slot: _Slot, item: _Item) -> None:
        """Send the task to an idle worker: at once if it is small, else from a task of its own."""
        child = slot.child
        assert child is not None and self._nursery is not None  # noqa: S101, PT018 - `idle` was just asked
        slot.item, item.slot = item, slot
        item.started = self._clock.now().mono
        if item.affinity:
            slot.residents.add(item.affinity)
        rest = child.post(item.frame, item.payload)
        if rest is not None:
            self._nursery.start_soon(child.deliver, rest, item.payload)

    def _next(self, slot: _Slot) -> None:
        taken = self._schedule.take(slot.index, self._clock.now().mono)
        if taken is not None:
            self._stolen += taken.stolen
            self._begin(slot, taken.item)

    def _withdraw(self, item: _Item) -> None:
        """Nobody waits for this task any more: drop it, or ask it to stop and put a limit to its worker's patience."""
        slot = item.slot
        if slot is None:
            self._schedule.remove(item)
        elif slot.item is item and slot.child is not None:
            slot.child.ask_to_stop()
            slot.reading.deadline = trio.current_time() + self._settings.stop_grace_s

    async def _tend(self, slot: _Slot) -> None:
        """Keep a worker process in this slot, from its first work on."""
        failures = 0
        await slot.wanted.wait()
        while True:
            ready = False
            try:
                child = Child(self._settings, self._functions)
            except OSError as e:
                reason = f"a worker process could not be started: {e}"
            else:
                ready, reason = await self._live(slot, child)
            self._restarts += 1
            failures = 0 if ready else failures + 1
            _log.warning("worker replaced", slot=slot.index, reason=reason, failures=failures)
            if failures:
                pause_s = min(self._settings.backoff_s * 2.0 ** min(failures - 1, 30), self._settings.backoff_max_s)
                await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))

    async def _live(self, slot: _Slot, child: Child) -> tuple[bool, str]:
        """One process from start to burial: whether it ever was ready, and what it died of."""
        gone: Gone | None = None
        ready = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.log_output)
                try:
                    with trio.move_on_after(self._settings.start_timeout_s) as starting:
                        await child.ready()
                    if starting.cancelled_caught:
                        raise Gone(f"the worker was not ready in {self._settings.start_timeout_s:g} s")
                    ready = True
                    await self._converse(slot, child)
                except Gone as e:
                    gone = e
                self._lose(slot, gone)
                child.kill(str(gone))
                nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_S
        finally:
            self._lose(slot, gone)
            with trio.CancelScope(shield=True):
                await child.end(0.0 if gone else self._settings.stop_grace_s)
        return ready, str(gone)

    def _lose(self, slot: _Slot, gone: Gone | None) -> None:
        """The worker of this slot is no more: `gone` says why, None that the service ends."""
        item, slot.item, slot.child = slot.item, None, None
        slot.residents.clear()
        if item is not None:
            error = WorkerDied(f"{item.fn}: {gone}") if gone else Cancelled("the executor is shutting down")
            item.settle(error=error)

    async def _converse(self, slot: _Slot, child: Child) -> None:
        """Answer by answer until `Gone`."""
        slot.child = child
        self._next(slot)
        while True:
            # A scope for each answer: a deadline that expires just as its task ends must not hit the next one.
            with trio.CancelScope() as slot.reading:
                message = await child.receive()
            if slot.reading.cancelled_caught:
                raise Gone(f"it did not stop within {self._settings.stop_grace_s:g} s, so its worker was killed")
            item = slot.item
            if isinstance(message, frames.Ready) or item is None or message.id != item.id:
                raise Gone("the worker spoke out of turn")
            outcome: tuple[Any, EdgenetError | None]
            if isinstance(message, frames.Value):
                outcome = await child.value(message), None
            elif message.memory:
                raise Gone(f"the worker hit its memory limit of {self._settings.memory_bytes_max} bytes")
            else:
                outcome = None, ComputeFailed(f"{item.fn}: {message.message[: frames.MESSAGE_CHARS_MAX]}")
            self._note(slot, item, message.residents)
            slot.item = None
            self._next(slot)
            item.settle(*outcome)

    def _note(self, slot: _Slot, item: _Item, residents: list[str] | None) -> None:
        self._completed += 1
        took_s = self._clock.now().mono - item.started
        self._service_s += _SERVICE_WEIGHT * (took_s - self._service_s)
        if residents is None:
            return
        if len(residents) > self._settings.resident_count_max or any(len(name) > NAME_CHARS_MAX for name in residents):
            raise Gone("the worker reports more residents than it may have")
        slot.residents = set(residents)
