"""One accepted connection, as hypercorn's server of connections uses it, but one that always comes to an end."""

from __future__ import annotations

import trio


class Connection:
    """A TCP stream. hypercorn shields its writes from cancellation, so a client that does not read would hold its
    handler, and the node's shutdown, for ever: here a write ends after `write_timeout_s`, and `abort` ends everything.
    """

    def __init__(self, stream: trio.SocketStream, write_timeout_s: float) -> None:
        self._stream = stream
        self._write_timeout_s = write_timeout_s
        self.socket = stream.socket

    def abort(self) -> None:
        """Now. Whoever reads or writes gets `ClosedResourceError`."""
        self.socket.close()

    async def receive_some(self, bytes_max: int) -> bytes:
        return bytes(await self._stream.receive_some(bytes_max))

    async def send_all(self, data: bytes) -> None:
        try:
            with trio.fail_after(self._write_timeout_s):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            self.abort()  # the reading side must end, too
            raise trio.BrokenResourceError(f"the client took nothing for {self._write_timeout_s:g} s") from None

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
