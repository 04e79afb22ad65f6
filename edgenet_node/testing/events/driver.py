"""Drives one core as `runtime.drive` and `runtime.outbox` do, without tasks: every wait is a moment of the loop.

What is the same, since cores rely on it: due ticks come before messages; a batch is stepped whole and its saves are
committed together; stepping goes on while a commit runs, and its saves wait for the next one; outputs leave in the
order of their steps once the saves of those and of all earlier steps are durable; `Early` leaves at once; operations
are claimed at their step, started when released, completed once; asks are bounded until they are answered. What is not
here: `wait` of a `Tell` (a full mailbox sheds it), progress, the store's artifacts, computations.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ...effects import (
    Ask,
    Call,
    Cancel,
    Core,
    Delete,
    Done,
    Early,
    Envelope,
    Event,
    Part,
    Publish,
    Put,
    Reply,
    Save,
    Saved,
    Send,
    Tell,
    Tick,
)
from ...errors import InvariantError, Overloaded, StoreError, StoreFull
from .loop import Timer

if TYPE_CHECKING:
    from .host import Host

TICK: Envelope[Any] = Envelope(Tick())

OPERATIONS = frozenset((Ask, Call))
RETRY_AFTER_S = 0.1


class Operating:
    """One operation in flight."""

    __slots__ = ("effect", "error", "handle", "owner", "value", "withdrawn")

    def __init__(self, owner: Driver, effect: Ask | Call) -> None:
        self.owner = owner
        self.effect = effect
        self.handle: Any = None
        self.value: Any = None
        self.error: Exception | None = None
        self.withdrawn = False

    def answered(self, value: Any, error: Exception | None) -> None:
        self.owner.complete(self, value, error)


class Saving:
    """A `Saved` on its way."""

    __slots__ = ("tag",)

    def __init__(self, tag: Any) -> None:
        self.tag = tag


class Driver:
    """One incarnation of one core. Ends with `closed`: then nothing of it is stepped, committed or released."""

    __slots__ = (
        "_batch_max",
        "_committing",
        "_due",
        "_durable",
        "_entries",
        "_host",
        "_in_flight",
        "_loop",
        "_outbox_max",
        "_queued",
        "_running",
        "_saved",
        "_saves",
        "_scheduled",
        "_step",
        "_timer",
        "_wanted",
        "closed",
        "core",
        "items",
        "messages",
        "part",
    )

    def __init__(self, host: Host, part: Part, core: Core) -> None:
        self.part = part
        self.core = core
        self.items: deque[Any] = deque()
        self.messages = 0
        self.closed = False
        self._host = host
        self._loop = host.loop
        self._step = core.step
        self._batch_max = part.limits.batch_max
        self._outbox_max = part.limits.outbox_max
        self._scheduled = False
        self._timer: Timer | None = None
        self._due = math.inf
        self._wanted = math.inf
        self._in_flight: dict[Any, Operating] = {}
        self._queued: deque[Operating] = deque()
        self._running = 0
        self._entries: deque[tuple[int, list[Any]]] = deque()
        self._saves: list[Save] = []
        self._saved = self._durable = 0
        self._committing = False

    # ---- life

    def begin(self) -> None:
        """Restore the core; raises what it raises."""
        host = self._host
        self._take(TICK, self.core.restore(host.disk_of(self.part.name).rows(self.part.name), host.now()))
        self._wanted = self.core.wake_at()
        self._wake()

    def close(self) -> None:
        self.closed = True
        for operating in self._in_flight.values():
            operating.withdrawn = True
            self._withdraw(operating)
        if self._timer is not None:
            self._loop.drop(self._timer)

    # ---- the mailbox

    def offer(self, envelope: Envelope[Any]) -> bool:
        """False when it is full. Peers may fill three quarters of it."""
        limit = self.part.limits.mailbox_max
        if self.messages >= (max(1, limit * 3 // 4) if envelope.sender else limit):
            return False
        self.messages += 1
        self.items.append(envelope)
        if not self._scheduled:
            self._wake()
        return True

    def _complete(self, item: Any) -> None:
        self.items.append(item)
        if not self._scheduled:
            self._wake()

    def _wake(self) -> None:
        """A batch begins as soon as the machine gets to it."""
        self._scheduled = True
        self._loop.after(self._host.pause_s(), self._batch)

    # ---- batches

    def _batch(self, _argument: Any) -> None:
        if self.closed:
            return
        host = self._host
        frozen_s = host.frozen_for()
        if frozen_s > 0:
            self._loop.after(frozen_s, self._batch)
            return
        if len(self._entries) >= self._outbox_max:
            self._scheduled = False  # the commit that makes room wakes it
            return
        try:
            while self._step_all() and not self.closed:
                if host.rng.random() < 0.1:  # something else comes first
                    self._loop.after(host.pause_s(), self._batch)
                    break
            else:
                self._scheduled = False
        except Exception as error:  # noqa: BLE001 - every exception of a core is its crash, judged by the host
            host.crashed(self, error)
            return
        if self._saves and not self._committing and not self.closed:
            self._commit()

    def _step_all(self) -> bool:
        """One batch; whether another one is due at once."""
        host, items, core = self._host, self.items, self.core
        now = host.now()
        mono = now.mono
        due = self._wanted  # as it said at the end of its last batch: it depends on nothing but its state
        if due <= mono:
            self._take(TICK, self._step(TICK, now))
            self._wanted = core.wake_at()
            if self._wanted <= due:
                raise InvariantError(f"{self.part.name}: a tick did not advance wake_at from {due}")
        if not items:
            return self._rest(mono)
        left = self._batch_max
        while items and left:
            envelope = self._next(items.popleft())
            if envelope is not None:
                self._take(envelope, self._step(envelope, now))
                left -= 1
                if self.closed:
                    return False
        self._wanted = core.wake_at()
        return True if items else self._rest(mono)

    def _rest(self, mono: float) -> bool:
        """Whether there is something to do at once; if not, a timer is set."""
        due = self._wanted
        if due <= mono:
            return True
        if due != self._due or self._timer is None:
            if self._timer is not None:
                self._loop.drop(self._timer)
            self._due = due
            self._timer = None if due == math.inf else self._loop.at(self._host.clock.true(due), self._ring)
        return False

    def _ring(self, _argument: Any) -> None:
        self._timer = None
        if not self._scheduled:
            self._scheduled = True
            self._batch(None)

    def _next(self, item: Any) -> Envelope[Any] | None:
        kind = type(item)
        if kind is Envelope:
            self.messages -= 1
            if item.reply_to and not self._host.waits(item.reply_to):
                return None
            envelope: Envelope[Any] = item
            return envelope
        if kind is Saving:
            return Envelope(Done(item.tag))
        if item.withdrawn:
            return None
        del self._in_flight[item.effect.tag]
        return Envelope(Done(item.effect.tag, item.value, item.error))

    # ---- effects

    def _take(self, envelope: Envelope[Any], effects: list[Any]) -> None:
        host = self._host
        host.stepped(self, envelope, effects)
        if not effects:
            return
        saves: list[Save] = []
        outputs: list[Any] = []
        for effect in effects:
            kind = type(effect)
            if kind is Put or kind is Delete:
                saves.append(effect)
            elif kind is Early:
                inner = effect.effect
                if type(inner) is Cancel:
                    self._cancel(inner.tag)
                else:
                    self._release(self._claim(inner) if type(inner) in OPERATIONS else inner)
            elif kind in OPERATIONS:
                outputs.append(self._claim(effect))
            elif kind is Saved:
                outputs.append(Saving(effect.tag))
            elif kind is Cancel:
                self._cancel(effect.tag)
            elif kind is Tell:
                host.owner(type(effect.body))
                outputs.append(effect)
            else:
                outputs.append(effect)
        if saves:
            self._saves += saves
            self._saved += 1
            self._entries.append((self._saved, outputs))
        elif outputs:
            if self._entries:
                self._entries.append((self._saved, outputs))
            else:
                for output in outputs:
                    self._release(output)

    def _release(self, output: Any) -> None:
        """Also counts for the invariants as the moment in which the world sees it."""
        host = self._host
        kind = type(output)
        if kind is Send:
            host.send(self, output.peer, output.body)
        elif kind is Reply:
            host.answer(self, output.to, output.value, output.error)
        elif kind is Event:
            host.announce(output.body)
        elif kind is Operating:
            self._start(output)
        elif kind is Saving:
            self._complete(output)
        elif kind is Tell:
            host.tell(output.body)
        elif kind is Publish:
            host.publish(output.body)
        else:
            raise InvariantError(f"{self.part.name}: {kind.__name__} has no place in this world")

    # ---- the outbox

    def _commit(self) -> None:
        saves, self._saves = self._saves, []
        upto = self._saved
        self._committing = True

        def written(error: StoreError | None) -> None:
            if self.closed:
                return
            self._committing = False
            if error is None:
                self._durable = upto
                self._release_durable()
                if self._saves and not self._committing and not self.closed:
                    self._commit()
            elif isinstance(error, StoreFull):
                self._host.refused(self, error)
            else:
                self._host.fail(f"{self.part.name}: {error}")

        self._host.disk_of(self.part.name).commit(self.part.name, saves, written)

    def _release_durable(self) -> None:
        entries = self._entries
        was_full = len(entries) >= self._outbox_max
        while entries and entries[0][0] <= self._durable and not self.closed:
            for output in entries.popleft()[1]:
                self._release(output)
        if was_full and not self._scheduled and not self.closed:
            self._wake()

    # ---- operations

    def _claim(self, effect: Ask | Call) -> Operating:
        name = self.part.name
        if effect.tag in self._in_flight:
            raise InvariantError(f"{name}: the tag {effect.tag!r} is already in flight")
        if not effect.timeout_s < math.inf:
            raise InvariantError(f"{name}: {effect.tag!r} needs a finite timeout")
        limits = self.part.limits
        if len(self._in_flight) >= 2 * (limits.operations_max + limits.operations_queued_max):
            raise InvariantError(f"{name}: {len(self._in_flight)} operations in flight, no end in sight")
        if type(effect) is Ask:
            self._host.owner(type(effect.query))
        operating = Operating(self, effect)
        self._in_flight[effect.tag] = operating
        return operating

    def _start(self, operating: Operating) -> None:
        if operating.withdrawn:
            return
        effect = operating.effect
        if type(effect) is Ask:
            operating.handle = self._host.ask(effect.query, effect.timeout_s, operating.answered)
        elif self._running < self.part.limits.operations_max:
            self._call(operating)
        elif len(self._queued) < self.part.limits.operations_queued_max:
            self._queued.append(operating)
        else:
            self.complete(operating, None, Overloaded("too many operations", retry_after_s=RETRY_AFTER_S))

    def _call(self, operating: Operating) -> None:
        effect = operating.effect
        assert type(effect) is Call
        self._running += 1
        operating.handle = self._host.call(effect.peer, effect.query, effect.timeout_s, operating.answered)

    def complete(self, operating: Operating, value: Any, error: Exception | None) -> None:
        if type(operating.effect) is Call and operating.handle is not None:
            operating.handle = None
            self._running -= 1
            while self._queued and self._running < self.part.limits.operations_max:
                waiting = self._queued.popleft()
                if not waiting.withdrawn:
                    self._call(waiting)
        if operating.withdrawn or self.closed:
            return
        operating.value, operating.error = (None if error is not None else value), error
        self._complete(operating)

    def _cancel(self, tag: Any) -> None:
        operating = self._in_flight.pop(tag, None)
        if operating is not None:
            operating.withdrawn = True
            self._withdraw(operating)

    def _withdraw(self, operating: Operating) -> None:
        if operating.handle is None:
            return
        if type(operating.effect) is Ask:
            self._host.withdraw(operating.handle)
        else:
            self._running -= 1
            self._host.drop_call(operating.handle)
        operating.handle = None
