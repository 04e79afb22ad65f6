"""Fewer turns of the loop and fewer system calls for a small message.

The library takes a lock for every read and write of the socket, which costs a turn of the loop even when nobody holds
it, and reads the length and the body of each Noise message with a system call each. `quicken` removes both; what came
with one system call is served from memory, with a turn for the others every `SLICE_S`.
"""

from __future__ import annotations

from typing import Any, Final

import trio

READ_AHEAD_BYTES: Final = 2 + 65535
"""The longest Noise message with its length."""

SLICE_S: Final = 0.002
"""Longest run of one connection's frames: the loop's lag has a budget of 5 ms at p99."""


class EagerLock:
    """As `trio.Lock`, first come first served, but taking a free one is not a turn of the loop."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_exception: object) -> None:
        self._lock.release()


class ReadAhead:
    """In place of a raw connection's `read`."""

    __slots__ = ("_at", "_data", "_read", "_turn_at")

    def __init__(self, conn: Any) -> None:
        self._read = conn.read
        self._data = b""
        self._at = 0
        self._turn_at = trio.current_time()

    async def read(self, n: int | None = None) -> bytes:
        """Up to `n` bytes, as the library's readers expect; none at the end."""
        if self._at < len(self._data):
            if trio.current_time() - self._turn_at > SLICE_S:
                await trio.lowlevel.checkpoint()
                self._turn_at = trio.current_time()
        else:
            self._data, self._at = await self._read(max(n or 0, READ_AHEAD_BYTES)), 0
            self._turn_at = trio.current_time()
        end = len(self._data) if n is None else min(self._at + n, len(self._data))
        data: bytes = self._data[self._at : end]
        self._at = end
        return data


def quicken(conn: Any) -> None:
    """A raw TCP connection whose handshake is done."""
    conn.stream.read_lock = EagerLock()
    conn.stream.write_lock = EagerLock()
    conn.read = ReadAhead(conn).read
