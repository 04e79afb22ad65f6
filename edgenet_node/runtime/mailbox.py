"""The bounded queue in front of one core.

One first-in first-out queue for everything, so that nothing starves: messages are bounded by `messages_max`;
completions of operations have room of their own, because each was reserved when its operation was claimed. Peers may
fill three quarters of the room, so that the owner's own requests are not locked out by the swarm.

It outlives its core. Asks that were answered meanwhile, and completions of an earlier incarnation (all withdrawn), stay
where they are and are skipped when they come up.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from ..effects import Envelope
from .timers import Sleeper


class Mailbox:
    """`items`: `Envelope`s, and completed operations (anything else). Only the driver takes from it."""

    __slots__ = ("_closed", "_driver", "_room", "items", "messages", "messages_max", "remote_max")

    def __init__(self, messages_max: int, driver: Sleeper) -> None:
        self.items: deque[Any] = deque()
        self.messages = 0
        self.messages_max = messages_max
        self.remote_max = max(1, messages_max * 3 // 4)
        self._driver = driver
        self._room = trio.lowlevel.ParkingLot()
        self._closed = False

    def has_room(self, sender: str) -> bool:
        return self.messages < (self.remote_max if sender else self.messages_max)

    def offer(self, envelope: Envelope[Any]) -> bool:
        """False when it is full (or closed): the caller counts what is shed."""
        if self.messages >= (self.remote_max if envelope.sender else self.messages_max) or self._closed:
            return False
        self.messages += 1
        self.items.append(envelope)
        self._driver.wake()
        return True

    def complete(self, operation: Any) -> None:
        """A completion: never shed."""
        self.items.append(operation)
        self._driver.wake()

    def took_message(self) -> None:
        """The driver took an `Envelope` from `items`: one waiting sender may go on."""
        self.messages -= 1
        if self._room:
            self._room.unpark()

    async def room(self) -> None:
        """Wait, in order of arrival, until there may be room (or the mailbox is closed, which sheds)."""
        while self.messages >= self.messages_max and not self._closed:
            await self._room.park()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Take nothing more: the node stops."""
        self._closed = True
        self._room.unpark_all()
