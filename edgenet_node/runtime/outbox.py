"""The in-order releaser: effects leave in the order of their steps, after the saves of those and all earlier steps.

While one commit runs, further steps queue up here, and the next commit takes the saves of all of them: one transaction,
one fsync for however many steps came meanwhile. A step without saves is released at once if nothing earlier waits.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..effects import Event, Progress, Reply, Save, Tell
from ..errors import InvariantError, StoreError, StoreFull
from .bus import Actor
from .kit import Kit
from .operations import Operating, Operations, Saving
from .timers import Sleeper
from .wiring import Notice, Parcel


class _Entry:
    """What one step releases once the saves up to number `needs` are durable; `next`: where it was stopped."""

    __slots__ = ("needs", "next", "outputs")

    def __init__(self, needs: int, outputs: list[Any], next_: int = 0) -> None:
        self.needs = needs
        self.outputs = outputs
        self.next = next_


class Outbox:
    """One for each incarnation. `run` is its committer and releaser; `refusal` is set when the disk was full: then
    everything that was not durable is gone from here, and the core, whose state ran ahead, must be rebuilt."""

    def __init__(self, actor: Actor, kit: Kit, operations: Operations) -> None:
        self._actor = actor
        self._bus = kit.bus
        self._wiring = kit.wiring
        self._store = kit.store
        self._operations = operations
        self._entries: deque[_Entry] = deque()
        self._saves: list[Save] = []
        self._saved = 0
        self._durable = 0
        self._entries_max = actor.part.limits.outbox_max
        self._sleeper = Sleeper()
        self._closed = False
        self.refusal: StoreFull | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return len(self._entries) >= self._entries_max

    def add(self, saves: list[Save], outputs: list[Any]) -> None:
        """One step's saves and outputs (effects, and operations that were claimed)."""
        if not saves and not self._entries:
            stopped = self._release(outputs, 0)
            if stopped < len(outputs):
                self._entries.append(_Entry(self._durable, outputs, stopped))
                self._sleeper.wake()
            return
        if saves:
            self._saves += saves
            self._saved += 1
        self._entries.append(_Entry(self._saved, outputs))
        self._sleeper.wake()

    def release_early(self, output: Any) -> None:
        """Before anything is durable; a full mailbox sheds."""
        if not self._release_one(output):
            self._actor.tally.shed += 1

    def close(self) -> None:
        """No further steps come: `run` returns when everything is released."""
        self._closed = True
        self._sleeper.wake()

    async def run(self) -> None:
        """Raises the `StoreError` of a commit that failed for any reason but a full disk: the node must end."""
        while True:
            await self._release_durable()
            if self._bus.halted:
                return
            if self._saves:
                await self._commit()
            elif not self._entries:
                if self._closed:
                    return
                await self._sleeper.wait()

    async def _commit(self) -> None:
        saves, self._saves = self._saves, []
        upto = self._saved
        tally = self._actor.tally
        try:
            await self._store.commit(self._actor.part.name, saves)
        except StoreFull as refusal:
            tally.store_refusals += 1
            self.refusal = refusal
            self._entries.clear()
            self._saves.clear()
            self._actor.sleeper.wake()
            return
        except StoreError:
            self._bus.halted = True
            raise
        except Exception as error:
            self._bus.halted = True
            raise StoreError(f"commit of {self._actor.part.name} failed: {type(error).__name__}: {error}") from error
        tally.commits += 1
        tally.saves += len(saves)
        self._durable = upto

    async def _release_durable(self) -> None:
        entries = self._entries
        while entries and entries[0].needs <= self._durable and not self._bus.halted:
            entry = entries[0]
            entry.next = self._release(entry.outputs, entry.next)
            if entry.next < len(entry.outputs):
                await self._wait_for_room(entry.outputs[entry.next])
                continue
            entries.popleft()
            if len(entries) + 1 >= self._entries_max:
                self._actor.sleeper.wake()

    async def _wait_for_room(self, tell: Tell) -> None:
        owner = self._bus.owner(type(tell.body))
        if isinstance(owner, Actor):
            await owner.mailbox.room()

    def _release(self, outputs: list[Any], start: int) -> int:
        """Release in order; returns how far it came (a waiting tell may find no room)."""
        if self._bus.halted:
            return len(outputs)
        for index in range(start, len(outputs)):
            if not self._release_one(outputs[index]):
                return index
        return len(outputs)

    def _release_one(self, output: Any) -> bool:
        """False only for a waiting tell that found no room."""
        kind = type(output)
        if kind is Reply:
            self._bus.answer(self._actor, output.to, output.value, output.error)
        elif kind is Operating:
            self._operations.start(output)
        elif kind is Parcel:
            self._wiring.send(output)
        elif kind is Saving:
            self._operations.saved(output)
        elif kind is Tell:
            if output.wait:
                return self._tell_waiting(output.body)
            self._bus.post(output.body)
        elif kind is Event:
            self._bus.announce(output.body)
        elif kind is Progress:
            self._bus.progress(self._actor, output.to, output.value)
        elif kind is Notice:
            self._wiring.publish(output)
        else:
            raise InvariantError(f"{self._actor.part.name}: {kind.__name__} is not an effect that can be released")
        return True

    def _tell_waiting(self, body: Any) -> bool:
        owner = self._bus.owner(type(body))
        if isinstance(owner, Actor) and not owner.mailbox.closed and not owner.mailbox.has_room(""):
            return False
        self._bus.post(body)
        return True
