"""The bus: who owns which message type, and every promise to answer.

A message has one owner: a part (its core's mailbox) or a service (a handler of an adapter). An ask that is accepted is
a promise, kept in one table until it is settled exactly once: by the owner's reply, by its deadline, by the crash or
stop of its owner, or withdrawn by the asker (then nobody is told). A local ask costs a table entry and a heap entry, no
task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import trio

from ..effects import Envelope, Part, Query
from ..errors import Cancelled, EdgenetError, InvariantError, LocalError, Overloaded, TimedOut
from ..ports.clock import Clock
from .counters import Counters, PartCounters, Tally, WiringCounters
from .mailbox import Mailbox
from .timers import Deadlines, Sleeper, Timer

R = TypeVar("R")
OnAnswer = Callable[[Any, Exception | None], None]
OnProgress = Callable[[Any], None]
Handler = Callable[[Any], Any]

RETRY_AFTER_S = 0.1
"""A full mailbox of 1024 empties in a few milliseconds; a stuck one is not helped by asking more often."""

SERVICES_RUNNING_MAX = 256
"""Queries to adapters that run at once; further ones are refused."""

log = structlog.get_logger("edgenet_node.runtime")


class Actor:
    """What outlives the incarnations of one part: its mailbox, its counts, its wake-ups, its open promises."""

    __slots__ = ("asks_open", "gauge", "mailbox", "part", "sleeper", "stopping", "tally")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.sleeper = Sleeper()
        self.mailbox = Mailbox(part.limits.mailbox_max, self.sleeper)
        self.tally = Tally()
        self.asks_open = 0
        self.stopping = False
        # (operations running, operations queued, steps in the outbox) of the incarnation that lives
        self.gauge: Callable[[], tuple[int, int, int]] = _nothing

    def has_room(self, sender: str) -> bool:
        """Asks are limited until they are answered, not only while they are queued."""
        mailbox = self.mailbox
        return mailbox.has_room(sender) and self.asks_open < (mailbox.remote_max if sender else mailbox.messages_max)

    def counters(self) -> PartCounters:
        running, queued, outbox = self.gauge()
        tally = self.tally
        return PartCounters(
            name=self.part.name,
            mailbox=len(self.mailbox.items),
            asks_open=self.asks_open,
            operations_running=running,
            operations_queued=queued,
            outbox=outbox,
            restarts=tally.crashes,
            **{name: getattr(tally, name) for name in Tally.__slots__ if name != "crashes"},
        )


def _nothing() -> tuple[int, int, int]:
    return 0, 0, 0


class Service:
    """A message type that an adapter owns."""

    __slots__ = ("asks_open", "handler", "message")

    def __init__(self, message: type, handler: Handler) -> None:
        self.message = message
        self.handler = handler
        self.asks_open = 0


class Promise:
    """An accepted ask. `delivered`: the core has seen it."""

    __slots__ = ("delivered", "on_answer", "on_progress", "owner", "scope", "timer")

    def __init__(self, owner: Actor | Service, on_answer: OnAnswer, on_progress: OnProgress | None) -> None:
        self.owner = owner
        self.on_answer = on_answer
        self.on_progress = on_progress
        self.delivered = False
        self.scope: trio.CancelScope | None = None
        self.timer: Timer | None = None


class Bus:
    """Gateway, adapters and the runtime speak through this. Public methods are for the outside; they refuse while the
    node drains. `submit`, `post`, `announce` are the inside, for effects of cores."""

    def __init__(self, clock: Clock, deadlines: Deadlines) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._owners: dict[type, Actor | Service] = {}
        self._hearers: dict[type, list[Actor]] = {}
        self._listeners: dict[type, list[Handler]] = {}
        self._promises: dict[int, Promise] = {}
        self._last_id = 0
        self._services: trio.Nursery | None = None
        self._services_running = 0
        self._services_refused = 0
        self._services_failed = 0
        self._started = False
        self.draining = False
        self.halted = False
        self.actors: dict[str, Actor] = {}
        self.wiring_counters: Callable[[], WiringCounters] = WiringCounters

    # ---- composition

    def serve(self, message: type, handler: Handler) -> None:
        """An adapter owns this type: `async handler(query)` for a `Query`, else `handler(body)`, quick and synchronous.
        Before the start only."""
        if self._started:
            raise InvariantError("services are declared before the node starts")
        if message in self._owners:
            raise InvariantError(f"{message.__name__} has two owners")
        self._owners[message] = Service(message, handler)

    def listen(self, event: type, handler: Handler) -> Callable[[], None]:
        """Call `handler(body)`, quick and synchronous, on every event of this type; returns what ends it."""
        handlers = self._listeners.setdefault(event, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler) if handler in handlers else None

    def register(self, actor: Actor) -> None:
        self.actors[actor.part.name] = actor
        for message in actor.part.accepts:
            if message in self._owners:
                raise InvariantError(f"{message.__name__} has two owners")
            self._owners[message] = actor
        for event in actor.part.hears:
            self._hearers.setdefault(event, []).append(actor)

    @property
    def services(self) -> list[type]:
        return [message for message, owner in self._owners.items() if isinstance(owner, Service)]

    def open(self, services: trio.Nursery) -> None:
        self._services = services
        self._started = True

    def owner(self, message: type) -> Actor | Service:
        try:
            return self._owners[message]
        except KeyError:
            raise InvariantError(f"no part and no service accepts {message.__name__}") from None

    # ---- for the gateway and the adapters

    async def ask(self, query: Query[R], timeout_s: float, *, sender: str = "") -> R:
        """The owner's answer. Raises its error, `Overloaded`, `TimedOut`, or `Cancelled` when the node stops."""
        self._check_open()
        answer: R = await self._ask(query, timeout_s, None, sender)
        return answer

    async def ask_stream(self, query: Query[R], timeout_s: float, on_progress: OnProgress) -> R:
        """As `ask`; `on_progress(value)`, quick and synchronous, gets each `Progress`. If it raises, the ask ends."""
        self._check_open()
        answer: R = await self._ask(query, timeout_s, on_progress, "")
        return answer

    def ask_soon(self, query: Query[Any], deadline: float, on_answer: OnAnswer, *, sender: str = "") -> int:
        """Callback form: `on_answer(value, error)` exactly once, unless `withdraw(id)` comes first. `deadline` is
        monotonic. Returns the id, or 0 when it was refused (then `on_answer` has been called already)."""
        if self.draining:
            on_answer(None, Cancelled("the node is shutting down"))
            return 0
        return self.submit(query, deadline, on_answer, sender=sender)

    def tell(self, body: Any, *, sender: str = "") -> bool:
        """At most once; False when it was shed."""
        return not self.draining and self.post(body, sender)

    def event(self, body: Any) -> None:
        """To every part that hears its type; shed where a mailbox is full."""
        if not self.draining:
            self.announce(body)

    def withdraw(self, ask_id: int) -> None:
        """The asker lost interest; unknown ids are ignored."""
        promise = self._promises.get(ask_id)
        if promise is not None:
            self._forget(ask_id, promise)

    def counters(self) -> Counters:
        return Counters(
            parts={name: actor.counters() for name, actor in self.actors.items()},
            wiring=self.wiring_counters(),
            services_running=self._services_running,
            services_refused=self._services_refused,
            services_failed=self._services_failed,
            asks_open=len(self._promises),
        )

    # ---- inside

    async def ask_inside(self, query: Any, timeout_s: float, *, sender: str) -> Any:
        """As `ask`, also while the node drains."""
        return await self._ask(query, timeout_s, None, sender)

    def submit(
        self,
        query: Any,
        deadline: float,
        on_answer: OnAnswer,
        on_progress: OnProgress | None = None,
        sender: str = "",
    ) -> int:
        owner = self.owner(type(query))
        if isinstance(owner, Service):
            return self._submit_service(owner, query, deadline, on_answer)
        if owner.mailbox.closed:
            on_answer(None, Cancelled("the node is shutting down"))
            return 0
        if not owner.has_room(sender):
            owner.tally.refused += 1
            on_answer(None, Overloaded(f"{owner.part.name} is busy", retry_after_s=RETRY_AFTER_S))
            return 0
        ask_id = self._promise(owner, deadline, on_answer, on_progress)
        owner.mailbox.offer(Envelope(query, ask_id, sender))
        return ask_id

    def post(self, body: Any, sender: str = "") -> bool:
        """A tell that does not wait."""
        owner = self.owner(type(body))
        if isinstance(owner, Service):
            return self._call_handler(owner.handler, body)
        if owner.mailbox.offer(Envelope(body, 0, sender)):
            return True
        owner.tally.shed += 1
        return False

    def announce(self, body: Any) -> None:
        """An event."""
        envelope = Envelope(body)
        for actor in self._hearers.get(type(body), ()):
            if not actor.mailbox.offer(envelope):
                actor.tally.shed += 1
        for handler in tuple(self._listeners.get(type(body), ())):
            self._call_handler(handler, body)

    def delivering(self, ask_id: int) -> bool:
        """The driver is about to step this ask. False when nobody waits for it any more."""
        promise = self._promises.get(ask_id)
        if promise is None:
            return False
        promise.delivered = True
        return True

    def answer(self, owner: Actor, ask_id: int, value: Any, error: Exception | None) -> None:
        """A reply of a core; dropped when nobody waits for it (timed out, withdrawn, answered before)."""
        promise = self._promises.get(ask_id)
        if promise is not None and promise.owner is owner:
            self._settle(ask_id, promise, value, error)

    def progress(self, owner: Actor, ask_id: int, value: Any) -> None:
        promise = self._promises.get(ask_id)
        if promise is None or promise.owner is not owner or promise.on_progress is None:
            return
        try:
            promise.on_progress(value)
        except Exception as error:  # noqa: BLE001 - the asker's fault goes to the asker, not to the core
            self._settle(ask_id, promise, None, error)

    def settle_all(self, error: EdgenetError, owner: Actor | None = None, *, delivered_only: bool = False) -> None:
        """Answer every open promise (of this owner) with the error."""
        for ask_id, promise in list(self._promises.items()):
            if owner is not None and promise.owner is not owner:
                continue
            if delivered_only and not promise.delivered:
                continue
            self._settle(ask_id, promise, None, error)

    @property
    def idle(self) -> bool:
        """No promise is open and no service runs."""
        return not self._promises and not self._services_running

    # ---- promises

    def _check_open(self) -> None:
        if self.draining:
            raise Cancelled("the node is shutting down")

    async def _ask(self, query: Any, timeout_s: float, on_progress: OnProgress | None, sender: str) -> Any:
        waiting = _Waiting()
        deadline = self._clock.now().mono + timeout_s
        ask_id = self.submit(query, deadline, waiting.answered, on_progress, sender)

        def abort(_raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            self.withdraw(ask_id)
            return trio.lowlevel.Abort.SUCCEEDED

        if waiting.settled:
            await trio.lowlevel.checkpoint()
        else:
            waiting.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)
        if waiting.error is not None:
            raise waiting.error
        return waiting.value

    def _promise(
        self, owner: Actor | Service, deadline: float, on_answer: OnAnswer, on_progress: OnProgress | None = None
    ) -> int:
        self._last_id = ask_id = self._last_id + 1
        promise = Promise(owner, on_answer, on_progress)
        promise.timer = self._deadlines.at(deadline, self._expire, ask_id)
        self._promises[ask_id] = promise
        owner.asks_open += 1
        return ask_id

    def _expire(self, ask_id: int) -> None:
        promise = self._promises.get(ask_id)
        if promise is not None:
            if isinstance(promise.owner, Actor):
                promise.owner.tally.timed_out += 1
            self._settle(ask_id, promise, None, TimedOut("no answer within the deadline"))

    def _forget(self, ask_id: int, promise: Promise) -> None:
        del self._promises[ask_id]
        promise.owner.asks_open -= 1
        if promise.timer is not None:
            self._deadlines.drop(promise.timer)
        if promise.scope is not None:
            promise.scope.cancel()

    def _settle(self, ask_id: int, promise: Promise, value: Any, error: Exception | None) -> None:
        self._forget(ask_id, promise)
        try:
            promise.on_answer(value, error)
        except Exception:
            log.exception("an asker's callback raised")

    # ---- services

    def _submit_service(self, service: Service, query: Any, deadline: float, on_answer: OnAnswer) -> int:
        if self._services is None or self._services_running >= SERVICES_RUNNING_MAX:
            self._services_refused += 1
            on_answer(None, Overloaded(f"too many {service.message.__name__} at once", retry_after_s=RETRY_AFTER_S))
            return 0
        ask_id = self._promise(service, deadline, on_answer)
        scope = self._promises[ask_id].scope = trio.CancelScope()
        self._services_running += 1
        self._services.start_soon(self._run_service, service, query, ask_id, scope)
        return ask_id

    async def _run_service(self, service: Service, query: Any, ask_id: int, scope: trio.CancelScope) -> None:
        value: Any = None
        error: Exception | None = None
        try:
            with scope:
                value = await service.handler(query)
        except EdgenetError as caught:
            error = caught
        except Exception as caught:
            log.exception("a service raised", message=service.message.__name__)
            error = LocalError(f"{type(caught).__name__}: {caught}")
        finally:
            self._services_running -= 1
        promise = self._promises.get(ask_id)
        if promise is not None:
            self._settle(ask_id, promise, value, error)

    def _call_handler(self, handler: Handler, body: Any) -> bool:
        try:
            handler(body)
        except Exception:
            self._services_failed += 1
            log.exception("a handler raised", message=type(body).__name__)
            return False
        return True


class _Waiting:
    """A task that waits for one answer."""

    __slots__ = ("error", "settled", "task", "value")

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.settled = False
        self.value: Any = None
        self.error: Exception | None = None

    def answered(self, value: Any, error: Exception | None) -> None:
        self.settled = True
        self.value = value
        self.error = error
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
