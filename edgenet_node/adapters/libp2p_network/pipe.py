"""One stream, as the rest of the adapter sees it: bytes in, bytes out, two ways to end."""

from __future__ import annotations

from typing import Any

import trio

from .muxer import GuardedYamux


class Pipe:
    """Bypasses the library's stream object on the hot path: its state locks cost two task switches per read and
    write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._conn: GuardedYamux = stream.muxed_conn
        self.peer = self._conn.peer

    @property
    def alive(self) -> bool:
        return not (self._muxed.closed or self._muxed.send_closed or self._conn.event_shutting_down.is_set())

    async def send(self, data: bytes | memoryview) -> None:
        await self._conn.send(self._muxed, data)

    async def receive(self, size_max: int) -> bytes:
        return await self._conn.receive(self._muxed, size_max)

    async def close(self) -> None:
        """End our half. The other side still may send; nobody will read it."""
        with trio.CancelScope(shield=True):
            await self._stream.close()

    async def reset(self) -> None:
        """End both halves now, and wake whoever waits in `receive`: the library forgets the waiter."""
        event = self._conn.stream_events.get(self._muxed.stream_id)
        with trio.CancelScope(shield=True):
            await self._stream.reset()
        if event is not None:
            event.set()
