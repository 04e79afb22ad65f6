"""One accepted connection: hypercorn's HTTP/1.1 protocol on a stream of ours, and an end to every wait."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import trio
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup

from .settings import GatewaySettings

READ_BYTES = 64 * 1024


class _Http11(H11Protocol):  # type: ignore[misc]  # hypercorn is not checked
    async def _check_protocol(self, event: Any) -> None:
        """Offers to upgrade to HTTP/2 are ignored (RFC 9110, 7.8): it would be a second way in, with its own waits."""


class Connection:
    """hypercorn's own server of connections shields writes from cancellation, so a client that does not read would hold
    its handler, and the shutdown of the node, for ever; it also keeps idle connections for seconds after the client has
    left. Here a write ends after `write_timeout_s`, silence between requests after `head_timeout_s`."""

    def __init__(self, stream: trio.SocketStream, settings: GatewaySettings) -> None:
        self._stream = stream
        self._settings = settings
        self._protocol: Any = None
        self._writing = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle_until = trio.current_time() + settings.head_timeout_s

    def abort(self) -> None:
        """Now: whoever reads or writes gets `ClosedResourceError`."""
        self._stream.socket.close()

    def retire(self) -> None:
        """After the answer that is under way, if there is one."""
        if self._idle_until < inf:
            self.abort()

    async def run(self, app: Any, config: Any, context: Any) -> None:
        """Until the client leaves, is silent or too slow, or `abort`."""
        socket = self._stream.socket
        async with TaskGroup() as handlers:
            client, server = socket.getpeername()[:2], socket.getsockname()[:2]
            self._protocol = _Http11(app, config, context, handlers, {}, False, client, server, self._send)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._read()
            self.abort()
            await self._protocol.handle(Closed())  # tells the handler, which withdraws its ask

    async def _read(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._idle_until) as self._reading:
                data = await self._stream.receive_some(READ_BYTES)
            if self._reading.cancelled_caught:
                return
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                return

    async def _send(self, event: Any) -> None:
        """What the protocol wants."""
        if isinstance(event, Updated):
            self._idle_until = trio.current_time() + self._settings.head_timeout_s if event.idle else inf
            self._reading.deadline = self._idle_until
        elif isinstance(event, Closed):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()
            self.abort()
            await self._protocol.handle(Closed())
        else:
            await self._write(event.data)

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            try:
                with trio.fail_after(self._settings.write_timeout_s):
                    await self._stream.send_all(data)
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self.abort()
        await self._protocol.handle(Closed())
