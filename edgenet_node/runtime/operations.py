"""The operations of one incarnation of a core: each is claimed at its step, started when released, completed once.

Life of an operation: claimed (its step was taken, its tag is in use) -> queued (all slots busy; the wait counts against
its own deadline) -> running -> completed (its `Done` is in the mailbox) -> delivered (the tag is free again). `Cancel`
withdraws it at any point before delivery, at the step that says so: no `Done` follows, not even one already queued.
Everything here dies with the incarnation, so a late completion cannot reach the next one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import trio

from ..effects import Ask, Call, Compute, Limits, Operation, Transfer
from ..errors import EdgenetError, InvariantError, LocalError, Overloaded, TimedOut
from .bus import RETRY_AFTER_S, Actor
from .kit import Kit
from .timers import Timer


class Operating:
    """One operation in flight."""

    __slots__ = (
        "ask_id",
        "completed",
        "deadline",
        "effect",
        "error",
        "excess",
        "owner",
        "scope",
        "timer",
        "value",
        "withdrawn",
    )

    def __init__(self, owner: Operations, effect: Operation) -> None:
        self.owner = owner
        self.effect = effect
        self.deadline = 0.0
        self.ask_id = 0
        self.scope: trio.CancelScope | None = None
        self.timer: Timer | None = None
        self.value: Any = None
        self.error: Exception | None = None
        self.completed = False
        self.withdrawn = False
        self.excess = False

    def answered(self, value: Any, error: Exception | None) -> None:
        """The completion of an `Ask`, as the bus calls it."""
        self.owner.complete(self, value, error)


class Saving:
    """A `Saved` on its way: to the mailbox when it is released, to its core unless the incarnation has ended."""

    __slots__ = ("owner", "tag")

    def __init__(self, owner: Operations, tag: Any) -> None:
        self.owner = owner
        self.tag = tag


class Operations:
    """Claims, runs and completes the operations of one incarnation, within its part's `Limits`."""

    def __init__(self, actor: Actor, kit: Kit) -> None:
        self._actor = actor
        self._bus = kit.bus
        self._remote = kit.wiring
        self._executor = kit.executor
        self._deadlines = kit.deadlines
        self._clock = kit.clock
        self._limits: Limits = actor.part.limits
        self._outstanding_max = self._limits.operations_max + self._limits.operations_queued_max
        self._in_flight: dict[Any, Operating] = {}
        self._queued: OrderedDict[int, Operating] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._closed = False
        self.running = 0

    @property
    def outstanding(self) -> int:
        return len(self._in_flight)

    @property
    def queued(self) -> int:
        return len(self._queued)

    @property
    def closed(self) -> bool:
        return self._closed

    def open(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def close(self) -> None:
        """The incarnation ends: nothing starts, nothing completes any more; asks to others are withdrawn."""
        self._closed = True
        for operating in self._in_flight.values():
            self._stop(operating)
        self._in_flight.clear()
        self._queued.clear()

    # ---- at the step

    def claim(self, effect: Operation) -> Operating:
        """Take the tag. `InvariantError` if it is in flight, or if twice as many operations are claimed as may ever run
        and queue (the core then issues them without looking at their refusals)."""
        if effect.tag in self._in_flight:
            raise InvariantError(f"{self._actor.part.name}: the tag {effect.tag!r} is already in flight")
        if not effect.timeout_s < math.inf:
            raise InvariantError(f"{self._actor.part.name}: {effect.tag!r} needs a finite timeout")
        if len(self._in_flight) >= 2 * self._outstanding_max:
            raise InvariantError(
                f"{self._actor.part.name}: {len(self._in_flight)} operations in flight, no end in sight"
            )
        operating = Operating(self, effect)
        operating.excess = len(self._in_flight) >= self._outstanding_max
        self._in_flight[effect.tag] = operating
        return operating

    def withdraw(self, tag: Any) -> None:
        operating = self._in_flight.pop(tag, None)
        if operating is not None:
            self._stop(operating)

    def deliver(self, operating: Operating) -> bool:
        """The driver is about to step this completion: free the tag. False if it was withdrawn."""
        if operating.withdrawn:
            return False
        del self._in_flight[operating.effect.tag]
        self._actor.tally.completed += 1
        return True

    # ---- at the release

    def start(self, operating: Operating) -> None:
        if operating.withdrawn or self._closed:
            return
        effect = operating.effect
        operating.deadline = self._clock.now().mono + effect.timeout_s
        if operating.excess:
            self._refuse(operating)
        elif type(effect) is Ask:
            operating.ask_id = self._bus.submit(effect.query, operating.deadline, operating.answered)
        elif type(effect) is Compute and effect.place == "inline":
            self._run_inline(operating, effect)
        elif self.running < self._limits.operations_max:
            self._spawn(operating)
        elif len(self._queued) < self._limits.operations_queued_max:
            self._queued[id(operating)] = operating
            operating.timer = self._deadlines.at(operating.deadline, self._expire, operating)
        else:
            self._refuse(operating)

    def saved(self, saving: Saving) -> None:
        """The saves of its step and of all earlier ones are durable. Its completion has no bound of its own: there is
        at most one step of them for each step in the outbox."""
        if not self._closed:
            self._actor.mailbox.complete(saving)

    def complete(self, operating: Operating, value: Any, error: Exception | None) -> None:
        """Exactly one `Done` for an operation that was not withdrawn."""
        if operating.withdrawn or self._closed:
            return
        if operating.completed:
            raise InvariantError(f"{self._actor.part.name}: {operating.effect.tag!r} completed twice")
        operating.completed = True
        operating.value = None if error is not None else value
        operating.error = error
        self._actor.mailbox.complete(operating)

    def _refuse(self, operating: Operating) -> None:
        error = Overloaded(f"{self._actor.part.name} has too many operations in flight", retry_after_s=RETRY_AFTER_S)
        self.complete(operating, None, error)

    def _expire(self, operating: Operating) -> None:
        """Its deadline passed while it waited for a slot."""
        self._queued.pop(id(operating), None)
        self.complete(operating, None, TimedOut("the deadline passed while the operation waited for a free slot"))

    def _stop(self, operating: Operating) -> None:
        operating.withdrawn = True
        if operating.ask_id:
            self._bus.withdraw(operating.ask_id)
        if operating.timer is not None:
            self._deadlines.drop(operating.timer)
        self._queued.pop(id(operating), None)
        if operating.scope is not None:
            operating.scope.cancel()

    def _run_inline(self, operating: Operating, effect: Compute) -> None:
        """Step the executor's coroutine to its end right here: an inline computation has no await to pause at."""
        coroutine = self._executor.run("inline", effect.fn, effect.args, timeout_s=effect.timeout_s, affinity="")
        try:
            coroutine.send(None)
        except StopIteration as stop:
            self.complete(operating, stop.value, None)
        except Exception as error:  # noqa: BLE001 - the core gets every failure as its Done
            self.complete(operating, None, local(error))
        else:
            coroutine.close()
            self.complete(operating, None, InvariantError(f"inline computation {effect.fn} paused"))

    # ---- tasks

    def _spawn(self, operating: Operating) -> None:
        if self._nursery is None:
            raise InvariantError("operations are started before their nursery is open")
        self.running += 1
        operating.scope = trio.CancelScope()
        self._nursery.start_soon(self._run, operating, operating.scope)

    async def _run(self, operating: Operating, scope: trio.CancelScope) -> None:
        value: Any = None
        error: Exception | None = None
        left_s = max(0.0, operating.deadline - self._clock.now().mono)
        scope.deadline = trio.current_time() + left_s
        with scope:
            try:
                value = await self._perform(operating.effect, left_s)
            except Exception as caught:  # noqa: BLE001 - the core gets every failure as its Done
                error = local(caught)
        if scope.cancelled_caught:
            error = TimedOut(f"no result within {operating.effect.timeout_s:g} s")
        self.running -= 1
        self.complete(operating, value, error)
        self._advance()

    async def _perform(self, effect: Operation, left_s: float) -> Any:
        match effect:
            case Call():
                return await self._remote.call(effect.peer, effect.query, left_s)
            case Transfer():
                return await self._remote.fetch(effect.peer, effect.digest, effect.size_max, left_s)
            case Compute():
                return await self._executor.run(
                    effect.place, effect.fn, effect.args, timeout_s=left_s, affinity=effect.affinity
                )
            case _:
                raise InvariantError(f"{type(effect).__name__} needs no task")

    def _advance(self) -> None:
        while self._queued and self.running < self._limits.operations_max and not self._closed:
            _, operating = self._queued.popitem(last=False)
            if operating.timer is not None:
                self._deadlines.drop(operating.timer)
            self._spawn(operating)


def local(error: Exception) -> Exception:
    """Errors of ours pass; a foreign one that crossed a seam unmapped is this node's fault."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, EdgenetError):
        return error
    if isinstance(error, TimeoutError):
        return TimedOut(str(error) or "timed out")
    wrapped = LocalError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
