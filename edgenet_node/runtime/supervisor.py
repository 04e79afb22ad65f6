"""The lives of one core: built from the store, driven, and rebuilt after a crash or a full disk."""

from __future__ import annotations

from collections import deque

import structlog
import trio

from ..effects import Envelope
from ..errors import Cancelled, InvariantError, LocalError, StoreError, StoreFull
from .bus import Actor
from .drive import Crashed, Driver, End, Stopped, StoreRefused
from .kit import Kit
from .operations import Operations
from .outbox import Outbox
from .poison import Poison

log = structlog.get_logger("edgenet_node.runtime")

FULL_RETRY_AFTER_S = 5.0
"""Hint for what a full disk refused: space comes back when an owner or a cache makes it."""


class NodeFailed(LocalError):
    """The node cannot go on; the message is its last line, `exit_code` its process's. The cause is chained."""

    code = "node_failed"

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Supervisor:
    """Runs one part until the node stops or fails."""

    def __init__(self, actor: Actor, kit: Kit) -> None:
        self._actor = actor
        self._kit = kit
        self._name = actor.part.name
        self._poison = Poison(self._name)
        self._crashes: deque[float] = deque()
        self._refusals = 0
        self.restored = trio.Event()
        self.ended = trio.Event()

    async def run(self) -> None:
        try:
            while not self._actor.stopping:
                commits = self._actor.tally.commits
                end = await self._live()
                match end:
                    case Stopped():
                        break
                    case StoreRefused(error=error):
                        self._refusals = 1 if self._actor.tally.commits > commits else self._refusals + 1
                        await self._pause(self._refused(error))
                    case Crashed():
                        delay_s = self._crashed(end)
                        if delay_s is None:
                            return
                        await self._pause(delay_s)
            self._actor.mailbox.close()
            self._kit.bus.settle_all(Cancelled("the node is shutting down"), self._actor)
        finally:
            self.ended.set()

    async def _live(self) -> End:
        """One incarnation. However it ends, its operations end with it, and what it had stepped before is committed and
        released, unless the node is to end at once."""
        actor, kit = self._actor, self._kit
        try:
            rows = await kit.store.load(self._name)
        except StoreError as error:
            self._fail(NodeFailed(f"{self._name}: its rows cannot be read: {error}"), error)
            return Stopped()
        try:
            core = actor.part.make()
        except Exception as error:  # noqa: BLE001 - as a crash of the core, whose first act this is
            return Crashed(error, None)
        operations = Operations(actor, kit)
        outbox = Outbox(actor, kit, operations)
        driver = Driver(actor, core, kit, operations, outbox, self._poison)
        actor.gauge = lambda: (operations.running, operations.queued, len(outbox))
        end: End = Stopped()
        async with trio.open_nursery() as committing:
            committing.start_soon(self._commit, outbox)
            async with trio.open_nursery() as operating:
                operations.open(operating)
                try:
                    end = driver.restore(rows) or await self._drive(driver)
                finally:
                    # Also when all of the node is cancelled: a commit under way may still release what it was for.
                    operations.close()
                operating.cancel_scope.cancel()
            if isinstance(end, Crashed) and actor.part.fail_stop:
                kit.bus.halted = True
            outbox.close()
        return end

    async def _drive(self, driver: Driver) -> End:
        self.restored.set()
        return await driver.run()

    async def _commit(self, outbox: Outbox) -> None:
        try:
            await outbox.run()
        except StoreError as error:
            self._fail(NodeFailed(f"{self._name}: its rows cannot be written: {error}"), error)

    def _refused(self, error: StoreFull) -> float:
        """Answer what the disk refused; everything not yet stepped stays queued."""
        log.error("the disk is full; work is refused", part=self._name, error=str(error))
        answer = StoreFull(error.message, retry_after_s=error.retry_after_s or FULL_RETRY_AFTER_S)
        self._kit.bus.settle_all(answer, self._actor, delivered_only=True)
        return self._backoff_s(self._refusals)

    def _crashed(self, end: Crashed) -> float | None:
        """Seconds to pause before the next incarnation, or None: the node ends."""
        body = end.envelope.body if isinstance(end.envelope, Envelope) else None
        on = type(body).__name__ if body is not None else "its start"
        self._actor.tally.crashes += 1
        log.error("a core crashed", part=self._name, on=on, exc_info=end.error)
        if self._actor.part.fail_stop:
            self._fail(InvariantError(f"{self._name} failed on {on}: {_brief(end.error)}"), end.error)
            return None
        now = self._kit.clock.now().mono
        rules = self._kit.supervision
        self._crashes.append(now)
        while self._crashes[0] < now - rules.window_s:
            self._crashes.popleft()
        if len(self._crashes) > rules.restarts_max:
            text = f"{self._name} crashed {len(self._crashes)} times in {rules.window_s:g} s, last on {on}"
            self._fail(NodeFailed(f"{text}: {_brief(end.error)}"), end.error)
            return None
        if body is not None and self._poison.crashed_on(body):
            log.error("a message crashed a core twice and is quarantined", part=self._name, type=on)
        delay_s = self._backoff_s(len(self._crashes))
        answer = LocalError(f"{self._name} failed while this request waited", retry_after_s=delay_s)
        self._kit.bus.settle_all(answer, self._actor)
        return delay_s

    def _backoff_s(self, attempt: int) -> float:
        rules = self._kit.supervision
        whole = min(rules.backoff_max_s, rules.backoff_min_s * 2.0 ** (attempt - 1))
        return whole * (0.5 + 0.5 * self._kit.rng.random())

    async def _pause(self, delay_s: float) -> None:
        with trio.move_on_after(delay_s):
            while not self._actor.stopping:
                await self._actor.sleeper.wait()

    def _fail(self, failure: Exception, cause: Exception) -> None:
        failure.__cause__ = cause
        self._kit.fail(failure)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
