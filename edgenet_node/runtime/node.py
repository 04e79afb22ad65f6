"""One running node: its parts, from start to graceful stop or failure."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
import trio

from ..effects import Part
from ..errors import Cancelled, InvariantError, StoreError
from ..ports.clock import Clock
from ..ports.executor import Executor
from ..ports.network import Network
from ..ports.store import RowStore
from .bus import Actor, Bus, Handler
from .checks import check_parts
from .kit import Kit, Supervision
from .supervisor import NodeFailed, Supervisor
from .timers import Deadlines
from .wiring import InboundLimits, WireTable, Wiring

DRAIN_POLL_S = 0.01
"""How often a draining node looks whether it is done."""

FLUSH_MAX_S = 5.0
"""After the grace: for the last commits. A disk that takes longer is as good as broken."""

GRACE_S = 10.0

log = structlog.get_logger("edgenet_node.runtime")


class Runtime:
    """Drives `parts` over the ports. `bus` is for gateway and adapters, `listener` for the transport.

    `services` are message types that adapters own (see `Bus.serve`). The clock's monotonic time must advance as trio's
    does; it may differ by a constant.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        store: RowStore,
        network: Network,
        executor: Executor,
        clock: Clock,
        rng: random.Random,
        wire: WireTable,
        services: Mapping[type, Handler] | None = None,
        supervision: Supervision | None = None,
        inbound: InboundLimits | None = None,
    ) -> None:
        check_parts(parts, ())
        self._parts = tuple(parts)
        self._store = store
        self._deadlines = Deadlines(clock)
        self.bus = Bus(clock, self._deadlines)
        self._wiring = Wiring(parts, self.bus, network, wire, inbound or InboundLimits())
        self.bus.wiring_counters = self._wiring.counters
        kit = Kit(
            bus=self.bus,
            wiring=self._wiring,
            store=store,
            executor=executor,
            deadlines=self._deadlines,
            clock=clock,
            rng=rng,
            supervision=supervision or Supervision(),
            fail=self.fail,
        )
        self._actors = [Actor(part) for part in parts]
        self._supervisors = [Supervisor(actor, kit) for actor in self._actors]
        for actor in self._actors:
            self.bus.register(actor)
        for message, handler in (services or {}).items():
            self.bus.serve(message, handler)
        self._root: trio.CancelScope | None = None
        self._failure: Exception | None = None
        self._stop = trio.Event()
        self._grace_s = GRACE_S
        self._started = False

    @property
    def started(self) -> bool:
        """Every core has been restored (or the node was asked to stop before that)."""
        return self._started

    @property
    def listener(self) -> Wiring:
        """A `ports.network.NetworkListener`."""
        return self._wiring

    def set_swarm(self, swarm: str) -> None:
        """Join the swarm (hex genesis): from now on notices are published and swarm-bound streams spoken. Once."""
        self._wiring.set_swarm(swarm)

    def request_stop(self, grace_s: float = GRACE_S) -> None:
        """Close the intakes, drain, settle, flush; cancel what is open after `grace_s`; `run` returns."""
        self._grace_s = grace_s
        self._stop.set()

    def fail(self, error: Exception) -> None:
        """End the node now: nothing more is released, and `run` raises the first such error."""
        self.bus.halted = True
        if self._failure is None:
            self._failure = error
            log.critical("the node fails", error=str(error))
        if self._root is not None:
            self._root.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `request_stop`. Started when every core is restored. Raises `NodeFailed` (crashes without end, a store
        that fails), or `InvariantError` (a `fail_stop` part, a wrong parts list, a defect of the runtime). Once."""
        if self._root is not None:
            raise InvariantError("a runtime runs once")
        check_parts(self._parts, self.bus.services)
        try:
            async with trio.open_nursery() as root:
                self._root = root.cancel_scope
                self.bus.open(root)
                root.start_soon(self._guard, self._deadlines.run)
                for supervisor in self._supervisors:
                    root.start_soon(self._guard, supervisor.run)
                root.start_soon(self._await_start, task_status)
                await self._stop.wait()
                self._tell_started(task_status)
                await self._shut_down()
                root.cancel_scope.cancel()
        finally:
            self.bus.halted = self.bus.draining = True
            self.bus.settle_all(Cancelled("the node has stopped"))
        if self._failure is not None:
            await self._close_after_failure()
            raise self._failure

    async def _await_start(self, task_status: trio.TaskStatus[None]) -> None:
        for supervisor in self._supervisors:
            await supervisor.restored.wait()
        self._tell_started(task_status)

    def _tell_started(self, task_status: trio.TaskStatus[None]) -> None:
        """Once; also when the stop comes before every core is restored."""
        if not self._started:
            self._started = True
            task_status.started()

    async def _guard(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - anything that surfaces here is a defect of the runtime itself
            failure = InvariantError(f"the runtime failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self.fail(failure)

    async def _shut_down(self) -> None:
        self.bus.draining = True
        with trio.move_on_after(self._grace_s):
            while not self._quiet():  # noqa: ASYNC110 - it has no one event: quiet is several counts at once
                await trio.sleep(DRAIN_POLL_S)
        for actor in self._actors:
            actor.stopping = True
            actor.sleeper.wake()
        with trio.move_on_after(FLUSH_MAX_S) as flush:
            for supervisor in self._supervisors:
                await supervisor.ended.wait()
        if flush.cancelled_caught:
            self.fail(NodeFailed(f"the last rows were not written within {FLUSH_MAX_S:g} s"))
            return
        try:
            await self._store.close()
        except StoreError as error:
            failure = NodeFailed(f"the store could not be closed: {error}")
            failure.__cause__ = error
            self.fail(failure)

    def _quiet(self) -> bool:
        return self.bus.idle and not any(actor.mailbox.items or any(actor.gauge()) for actor in self._actors)

    async def _close_after_failure(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_MAX_S):
            try:
                await self._store.close()
            except StoreError as error:
                log.warning("the store could not be closed", error=str(error))
