"""One request on its way through the door: its body, its client, its place among the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from ..errors import EdgenetError, Overloaded, TimedOut
from .settings import GatewaySettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RETRY_AFTER_S = 1.0


class BodyTooLarge(EdgenetError):
    """The owner's own request is above the limit; nobody is blamed."""

    code = "too_large"


class Room:
    """A bounded number of requests of one sort."""

    def __init__(self, name: str, places: int) -> None:
        self._name = name
        self._places = places
        self.taken = 0

    def enter(self) -> None:
        if self.taken >= self._places:
            raise Overloaded(f"{self.taken} {self._name} are being served: try again", retry_after_s=RETRY_AFTER_S)
        self.taken += 1

    def leave(self) -> None:
        self.taken -= 1


class Rooms:
    """All requests of the door, by how long they may take, and the bytes of their bodies."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.quick = Room("requests", settings.requests_max)
        self.waiting = Room("requests that wait for work", settings.waits_max)
        self.probes = Room("probes", settings.probes_max)
        self.body_bytes = 0


class Exchange:
    """One request. `attend` runs beside its handler: it takes what the client sends, so that hypercorn's queue is never
    full (it would then wait for ever), and cancels the handler when the client has left, which withdraws its ask."""

    def __init__(self, rooms: Rooms, settings: GatewaySettings, receive: Receive, send: Send) -> None:
        self._rooms = rooms
        self._settings = settings
        self._receive = receive
        self._send = send
        self._room: Room | None = None
        self._body = bytearray()
        self._seen = 0
        self._crowded = False
        self._complete = trio.Event()
        self._ending = False
        self.started = False

    def enter(self, room: Room) -> None:
        """Count in `room`, and no longer in another. `Overloaded` when it is full."""
        room.enter()
        if self._room is not None:
            self._room.leave()
        self._room = room

    def wait_for_work(self) -> None:
        """From here on this request may take long."""
        self.enter(self._rooms.waiting)

    def leave(self) -> None:
        self._forget_body()
        if self._room is not None:
            self._room.leave()
            self._room = None

    async def attend(self, handler: trio.CancelScope) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                # The end of our own answer looks the same; cutting hypercorn off then would leave the connection open.
                if not self._ending:
                    handler.cancel()
                return
            self._keep(message.get("body", b""))
            if not message.get("more_body", False):
                self._complete.set()

    def _keep(self, piece: bytes) -> None:
        limit = self._settings.body_bytes_max
        self._seen += len(piece)
        if self._rooms.body_bytes + len(piece) > self._settings.bodies_bytes_max:
            self._crowded = True
        if self._seen > limit or self._crowded:
            self._forget_body()  # what follows is read and dropped: a client that still sends would not see our answer
            if self._seen > 2 * limit:
                self._complete.set()
            return
        self._rooms.body_bytes += len(piece)
        self._body += piece

    def _forget_body(self) -> None:
        self._rooms.body_bytes -= len(self._body)
        self._body = bytearray()

    async def swallow(self) -> None:
        """Before a refusal: let the client finish sending, within bounds, or it would miss the answer."""
        with trio.move_on_after(min(2.0, self._settings.body_timeout_s)):
            await self._complete.wait()
        self._forget_body()

    async def take_body(self) -> bytes:
        """The whole body, once. `BodyTooLarge`, `Overloaded`, `TimedOut`."""
        with trio.move_on_after(self._settings.body_timeout_s):
            await self._complete.wait()
        if self._seen > self._settings.body_bytes_max:
            raise BodyTooLarge(f"the body may have {self._settings.body_bytes_max} bytes at most")
        if not self._complete.is_set():
            raise TimedOut(f"the body did not arrive within {self._settings.body_timeout_s:g} s")
        if self._crowded:
            raise Overloaded("too many large bodies at once: try again", retry_after_s=RETRY_AFTER_S)
        body = bytes(self._body)
        self._forget_body()
        return body

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
        elif not message.get("more_body", False):
            self._ending = True
        await self._send(message)
