"""The two ends of a framed stream: frames out, coalesced and bounded in bytes; frames in, each within its deadline."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from ...errors import EdgenetError, Malformed, TimedOut
from .frames import CANCEL, Frame, FrameDecoder
from .limits import NetworkSettings
from .muxer import StreamEnded
from .pipe import Pipe

READ_BYTES: Final = 256 << 10
WRITE_BYTES: Final = 256 << 10
"""Frames taken into one write: enough to fill the connection, little enough that a response is not held up for long."""

SLOWEST_BYTES_PER_S: Final = 64 << 10


class Slot:
    """One call of ours. Exactly one of `response` and `error` is set when `done` is."""

    __slots__ = ("done", "error", "response", "withdrawn", "written")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response = b""
        self.error: EdgenetError | None = None
        self.written = False
        self.withdrawn = False

    def settle(self, response: bytes = b"", error: EdgenetError | None = None) -> None:
        if not self.done.is_set():
            self.response = response
            self.error = error
            self.done.set()


class SendQueue:
    """Frames waiting for the writer of one stream, bounded in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames: deque[tuple[bytes, Slot | None]] = deque()
        self._bytes = 0
        self._filled = trio.Event()
        self._drained = trio.Event()
        self._drained.set()
        self._idle = trio.Event()

    def put(self, frame: bytes, slot: Slot | None = None) -> None:
        self._frames.append((frame, slot))
        self._bytes += len(frame)
        self._filled.set()
        if self._idle.is_set():
            self._idle = trio.Event()
        if self._bytes >= self._bytes_max and self._drained.is_set():
            self._drained = trio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def full(self) -> bool:
        return self._bytes >= self._bytes_max

    def clear(self) -> int:
        """Forget what waits; how many frames it was."""
        count = len(self._frames)
        self._frames.clear()
        self._bytes = 0
        self._drained.set()
        return count

    async def waiting(self) -> None:
        """Until at least one frame waits."""
        while not self._frames:
            self._filled = trio.Event()
            await self._filled.wait()

    async def room(self) -> None:
        await self._drained.wait()

    async def flushed(self) -> None:
        """Until the writer has come back for more and found nothing."""
        await self._idle.wait()

    async def take(self) -> bytes:
        """Everything waiting, up to `WRITE_BYTES` (but at least one frame)."""
        while not self._frames:
            self._idle.set()
            self._filled = trio.Event()
            await self._filled.wait()
        batch = bytearray()
        while self._frames and (not batch or len(batch) + len(self._frames[0][0]) <= WRITE_BYTES):
            frame, slot = self._frames.popleft()
            if slot is not None:
                if slot.withdrawn:
                    self._bytes -= len(frame)
                    continue
                slot.written = True
            batch += frame
            self._bytes -= len(frame)
        if self._bytes < self._bytes_max:
            self._drained.set()
        return bytes(batch)


class FrameReader:
    """Frames of one stream, each whole within its deadline."""

    def __init__(self, pipe: Pipe, settings: NetworkSettings, kind_max: int = CANCEL) -> None:
        self._pipe = pipe
        self._settings = settings
        self._decoder = FrameDecoder(settings.frame_bytes_max, kind_max)
        self._first = True

    async def next(self) -> Frame | None:
        """None at a clean end. `Malformed`, `TooLarge`, `TimedOut` (trickled), `Silence`, `StreamBroken`."""
        while True:
            if frame := self._decoder.next():
                self._first = False
                return frame
            phase = self._decoder.phase
            with trio.move_on_after(self._patience(phase)) as scope:
                while self._decoder.phase == phase and not self._whole:
                    try:
                        self._decoder.feed(await self._pipe.receive(READ_BYTES))
                    except StreamEnded:
                        if phase:
                            raise Malformed("the stream ended inside a frame") from None
                        return None
            if scope.cancelled_caught:
                raise TimedOut("a frame that was begun did not end") if phase else Silence("silence")

    @property
    def _whole(self) -> bool:
        return self._decoder.missing() <= 0

    def _patience(self, phase: int) -> float:
        if phase:
            return self._settings.trickle_timeout_s + self._decoder.missing() / SLOWEST_BYTES_PER_S
        return self._settings.trickle_timeout_s if self._first else self._settings.idle_timeout_s


class Silence(TimedOut):
    """Nothing at all came, not even the first byte of a frame."""
