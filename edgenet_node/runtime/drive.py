"""The only actor loop.

It takes a batch from the mailbox, steps the core with each message, hands saves and outputs of each step to the outbox,
and yields. It never waits for a commit unless the outbox is full. A batch ends at `batch_max` steps or after `SLICE_S`,
so that no core holds the loop; due ticks come before messages, so that no flood delays time.
"""

from __future__ import annotations

import math
from typing import Any

import trio
from msgspec import Struct

from ..effects import (
    Ask,
    Call,
    Cancel,
    Compute,
    Core,
    Delete,
    Done,
    Early,
    Envelope,
    Event,
    Now,
    Progress,
    Publish,
    Put,
    Reply,
    Row,
    Save,
    Saved,
    Send,
    Tell,
    Tick,
    Transfer,
)
from ..errors import InvariantError, StoreFull
from .bus import Actor
from .kit import Kit
from .operations import Operating, Operations, Saving
from .outbox import Outbox
from .poison import Poison
from .timers import Timer

SLICE_S = 0.002
"""Longest run of steps between two yields: the loop's lag has a budget of 5 ms at p99, shared by all parts."""

OPERATIONS = frozenset((Ask, Call, Transfer, Compute))
OUTPUTS = frozenset((Reply, Progress, Event))
TICK: Envelope[Any] = Envelope(Tick())


class Stopped(Struct, frozen=True):
    """The node asked this part to stop."""


class StoreRefused(Struct, frozen=True):
    """The disk was full: steps were taken back, the core's state ran ahead of the store."""

    error: StoreFull


class Crashed(Struct, frozen=True):
    """The core raised on this envelope (None: in `restore`)."""

    error: Exception
    envelope: Envelope[Any] | None


End = Stopped | StoreRefused | Crashed


class Driver:
    """Drives one incarnation of one core."""

    def __init__(
        self,
        actor: Actor,
        core: Core,
        kit: Kit,
        operations: Operations,
        outbox: Outbox,
        poison: Poison,
    ) -> None:
        self._actor = actor
        self._core = core
        self._bus = kit.bus
        self._wiring = kit.wiring
        self._deadlines = kit.deadlines
        self._clock = kit.clock
        self._operations = operations
        self._outbox = outbox
        self._poison = poison
        self._waits = frozenset(actor.part.tells)
        self._current: Envelope[Any] | None = None
        self._resting = False
        self._tick: Timer | None = None
        self._tick_at = math.inf

    def restore(self, rows: list[Row]) -> Crashed | None:
        try:
            self._take(self._core.restore(rows, self._clock.now()))
        except Exception as error:  # noqa: BLE001 - every exception of a core is its crash, judged by the supervisor
            return Crashed(error, None)
        return None

    async def run(self) -> End:
        """Until the core crashes, the disk is full, or the node stops. Never raises for the core's sake."""
        actor, outbox, bus = self._actor, self._outbox, self._bus
        try:
            while True:
                if outbox.refusal is not None:
                    return StoreRefused(outbox.refusal)
                if actor.stopping or bus.halted:
                    return Stopped()
                if outbox.full:
                    await actor.sleeper.wait()
                    continue
                crash = self._batch()
                if crash is not None:
                    return crash
                if self._resting:
                    await actor.sleeper.wait()
                else:
                    await trio.lowlevel.checkpoint()
        finally:
            if self._tick is not None:
                self._deadlines.drop(self._tick)

    def _batch(self) -> Crashed | None:
        try:
            self._step_all()
        except Exception as error:  # noqa: BLE001 - every exception of a core is its crash, judged by the supervisor
            return Crashed(error, self._current)
        finally:
            self._current = None
        return None

    def _step_all(self) -> None:
        clock_now, step, items, outbox = self._clock.now, self._core.step, self._actor.mailbox.items, self._outbox
        now = clock_now()
        slice_end = now.mono + SLICE_S
        steps = self._step_tick(now)
        left = self._actor.part.limits.batch_max
        while items and left and not outbox.full:
            envelope = self._next(items.popleft())
            if envelope is None:
                continue
            self._current = envelope
            effects = step(envelope, now)
            if effects:
                self._take(effects)
            steps += 1
            left -= 1
            now = clock_now()
            if now.mono >= slice_end:
                break
        tally = self._actor.tally
        tally.steps += steps
        tally.batches += 1
        tally.batch_largest = max(tally.batch_largest, steps)
        self._current = TICK
        self._resting = not items and not self._tick_due()

    def _next(self, item: Any) -> Envelope[Any] | None:
        """What to step for this entry of the mailbox, or None: withdrawn, expired, of an earlier incarnation, or
        poison."""
        if type(item) is Operating:
            if not self._operations.deliver(item):
                return None
            return Envelope(self._poison.screen_done(Done(item.effect.tag, item.value, item.error)))
        if type(item) is Saving:
            if item.owner.closed:
                return None
            return Envelope(self._poison.screen_done(Done(item.tag)))
        self._actor.mailbox.took_message()
        envelope: Envelope[Any] = item
        if envelope.reply_to and not self._bus.delivering(envelope.reply_to):
            self._actor.tally.expired += 1
            return None
        refusal = self._poison.screen(envelope.body)
        if refusal is not None:
            self._actor.tally.quarantined += 1
            self._bus.answer(self._actor, envelope.reply_to, None, refusal)
            return None
        return envelope

    # ---- ticks

    def _wake_at(self) -> float:
        due = self._core.wake_at()
        if due != due:  # NaN would never come and never be noticed
            raise InvariantError(f"{self._actor.part.name}: wake_at is not a number")
        return due

    def _step_tick(self, now: Now) -> int:
        self._current = TICK
        due = self._wake_at()
        if due > now.mono:
            return 0
        effects = self._core.step(TICK, now)
        if effects:
            self._take(effects)
        if self._wake_at() <= due:
            raise InvariantError(f"{self._actor.part.name}: a tick did not advance wake_at from {due}")
        return 1

    def _tick_due(self) -> bool:
        """False when the driver may sleep: its timer is set to what the core wants."""
        due = self._wake_at()
        if due <= self._clock.now().mono:
            return True
        if self._tick is None or due < self._tick_at:
            # A timer that is too early wakes the driver for nothing, once; it is not worth moving.
            if self._tick is not None:
                self._deadlines.drop(self._tick)
            self._tick_at = due
            self._tick = self._deadlines.at(due, self._ring)
        return False

    def _ring(self, _argument: Any) -> None:
        self._tick = None
        self._actor.sleeper.wake()

    # ---- effects

    def _take(self, effects: list[Any]) -> None:
        """Check one step's effects, claim its operations, and hand all to the outbox. `InvariantError` for what a core
        may not do; then nothing of this step is saved or released."""
        saves: list[Save] = []
        outputs: list[Any] = []
        early: list[Any] = []
        for effect in effects:
            kind = type(effect)
            if kind in OUTPUTS:
                outputs.append(effect)
            elif kind is Put or kind is Delete:
                saves.append(effect)
            elif kind in OPERATIONS:
                outputs.append(self._claim(effect))
            elif kind is Tell:
                outputs.append(self._check_tell(effect))
            elif kind is Send:
                self._address(effect, outputs)
            elif kind is Saved:
                outputs.append(Saving(self._operations, effect.tag))
            elif kind is Publish:
                self._encode(effect, outputs)
            elif kind is Cancel:
                self._operations.withdraw(effect.tag)
            elif kind is Early:
                self._take_early(effect.effect, early)
            else:
                raise InvariantError(f"{self._actor.part.name}: {kind.__name__} is not an effect")
        for output in early:
            self._outbox.release_early(output)
        if saves or outputs:
            self._outbox.add(saves, outputs)

    def _take_early(self, effect: Any, early: list[Any]) -> None:
        kind = type(effect)
        if kind in OUTPUTS:
            early.append(effect)
        elif kind in OPERATIONS:
            early.append(self._claim(effect))
        elif kind is Tell:
            early.append(self._check_tell(effect))
        elif kind is Send:
            self._address(effect, early)
        elif kind is Publish:
            self._encode(effect, early)
        elif kind is Cancel:
            self._operations.withdraw(effect.tag)
        else:
            raise InvariantError(f"{self._actor.part.name}: {kind.__name__} cannot be early")

    def _claim(self, effect: Any) -> Operating:
        if type(effect) is Ask:
            self._bus.owner(type(effect.query))
        return self._operations.claim(effect)

    def _encode(self, publish: Publish, outputs: list[Any]) -> None:
        notice = self._wiring.encode(publish.body)
        if notice is not None:
            outputs.append(notice)

    def _address(self, send: Send, outputs: list[Any]) -> None:
        parcel = self._wiring.address(send.peer, send.body)
        if parcel is not None:
            outputs.append(parcel)

    def _check_tell(self, tell: Tell) -> Tell:
        kind = type(tell.body)
        self._bus.owner(kind)
        if tell.wait and kind not in self._waits:
            raise InvariantError(f"{self._actor.part.name} waits on {kind.__name__}, which its part does not declare")
        return tell
