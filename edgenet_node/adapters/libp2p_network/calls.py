"""Calls: many requests at once over one persistent stream per peer, channel and direction.

The opener sends requests, the acceptor responses; `frames` has the layout. Each side has one writer task per stream
that takes everything waiting and writes it at once, and one reader task. A call that is withdrawn or timed out sends a
cancel frame, and the acceptor cancels its handler. A stream that broke before a request was handed to it is reopened
once.

States of a client: no stream -> opening -> open -> broken (the next call opens again). Limits: frame size, calls in
flight and waiting, bytes in the send queue (the acceptor stops reading requests while its own responses do not leave),
bytes of requests per second, a first frame within `trickle_timeout_s`, a started frame within `trickle_timeout_s` plus
a second per 64 KiB, nothing at all for `idle_timeout_s`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ...errors import EdgenetError, Malformed, Overloaded, RemoteError, TimedOut, TooLarge, Unreachable
from .framed import READ_BYTES, FrameReader, SendQueue, Silence, Slot
from .frames import CANCEL, ERROR, REQUEST, RESPONSE, Frame, FrameDecoder, decode_error, encode, encode_error
from .limits import NetworkSettings, TokenBucket
from .muxer import StreamBroken, StreamEnded
from .pipe import Pipe
from .report import Report

OVERLOADED_RETRY_S: Final = 0.5

Handler = Callable[[bytes], Awaitable[bytes]]


class ClientStream:
    """The opener's side of one open stream."""

    def __init__(self, pipe: Pipe, settings: NetworkSettings, report: Report) -> None:
        self._pipe = pipe
        self._settings = settings
        self._report = report
        self._queue = SendQueue(settings.send_queue_bytes_max)
        self._slots: dict[int, Slot] = {}
        self._next_id = 1
        self._ended: EdgenetError | None = None

    @property
    def usable(self) -> bool:
        return self._ended is None and self._pipe.alive

    def start(self, request: bytes) -> tuple[int, Slot]:
        if self._queue.full:
            raise Overloaded("the send queue to this peer is full", retry_after_s=OVERLOADED_RETRY_S)
        call_id = self._next_id
        self._next_id += 1
        slot = self._slots[call_id] = Slot()
        self._queue.put(encode(REQUEST, call_id, request), slot)
        return call_id, slot

    def withdraw(self, call_id: int, slot: Slot) -> None:
        """Forget the call; tell the peer when it has the request and has not answered."""
        self._slots.pop(call_id, None)
        slot.withdrawn = True
        if slot.written and not slot.done.is_set() and self.usable:
            self._queue.put(encode(CANCEL, call_id))

    def say(self, frame: bytes) -> None:
        if self.usable:
            self._queue.put(frame)

    async def run(self) -> None:
        """Until the stream ends; then every open call fails with `Unreachable` or with the peer's parting error."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.end(Unreachable("the connection to the peer broke"))
            await self._pipe.reset()

    def end(self, error: EdgenetError) -> None:
        if self._ended is None:
            self._ended = error
        for slot in self._slots.values():
            slot.settle(error=self._ended)
        self._slots.clear()

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                batch = await self._queue.take()
                if batch:
                    await self._pipe.send(batch)
        except StreamBroken:
            scope.cancel()

    async def _read(self) -> None:
        decoder = FrameDecoder(self._settings.frame_bytes_max)
        try:
            while True:
                decoder.feed(await self._pipe.receive(READ_BYTES))
                while frame := decoder.next():
                    self._settle(frame)
        except StreamBroken:
            return
        except StreamEnded:
            # The acceptor ends a stream only when it has answered all it has read: the rest may be sent again.
            for slot in self._slots.values():
                slot.written = False
        except RemoteError as error:
            self._report.blame(self._pipe.peer, "frames_malformed", f"a response stream with {error.message}")
            self.end(type(error)(error.message, peer=self._pipe.peer))

    def _settle(self, frame: Frame) -> None:
        if frame.kind == ERROR and frame.id == 0:
            self.end(decode_error(frame.payload, self._pipe.peer))
            return
        slot = self._slots.pop(frame.id, None)
        if slot is None:
            # The answer to a call that was withdrawn meanwhile, or to none: not worth a blame.
            self._report.count("responses_late")
        elif frame.kind == RESPONSE:
            slot.settle(frame.payload)
        elif frame.kind == ERROR:
            slot.settle(error=decode_error(frame.payload, self._pipe.peer))
        else:
            raise Malformed(f"a frame of kind {frame.kind} where responses belong")


class Client:
    """Calls to one peer on one channel. `open_stream` opens a pipe or raises `Unreachable`."""

    def __init__(
        self,
        open_stream: Callable[[], Awaitable[Pipe]],
        nursery: trio.Nursery,
        settings: NetworkSettings,
        report: Report,
    ) -> None:
        self._open_stream = open_stream
        self._nursery = nursery
        self._settings = settings
        self._report = report
        self._opening = trio.Lock()
        self._places = trio.Semaphore(settings.calls_in_flight_per_peer_max)
        self._waiting = 0
        self._stream: ClientStream | None = None

    async def call(self, request: bytes) -> bytes:
        """Without a deadline of its own: cancelling withdraws the call."""
        if self._waiting >= self._settings.calls_waiting_per_peer_max and self._places.value == 0:
            raise Overloaded("too many calls wait for this peer", retry_after_s=OVERLOADED_RETRY_S)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._attempt(request)
        finally:
            self._places.release()

    async def _attempt(self, request: bytes) -> bytes:
        for last in (False, True):
            stream = await self._usable_stream()
            call_id, slot = stream.start(request)
            try:
                await slot.done.wait()
            finally:
                stream.withdraw(call_id, slot)
            if slot.error is None:
                return slot.response
            if last or slot.written or not isinstance(slot.error, Unreachable):
                raise slot.error
            self._report.count("calls_resent")
        raise Unreachable("unreachable")

    async def _usable_stream(self) -> ClientStream:
        if self._stream is not None and self._stream.usable:
            # Past the lock: every pass through it is a turn of the loop, and calls would leave one by one.
            return self._stream
        async with self._opening:
            if self._stream is None or not self._stream.usable:
                pipe = await self._open_stream()
                self._stream = ClientStream(pipe, self._settings, self._report)
                self._nursery.start_soon(self._stream.run)
            return self._stream

    def say(self, frame: bytes) -> None:
        if self._stream is not None:
            self._stream.say(frame)


class Server:
    """The acceptor's side of one stream: runs `handler` for each request."""

    def __init__(self, pipe: Pipe, handler: Handler, settings: NetworkSettings, report: Report) -> None:
        self._pipe = pipe
        self._handler = handler
        self._settings = settings
        self._report = report
        self._queue = SendQueue(settings.send_queue_bytes_max)
        self._running: dict[int, trio.CancelScope] = {}
        self._bytes = TokenBucket(settings.call_bytes_per_s, settings.call_bytes_per_s, trio.current_time())

    def say(self, frame: bytes) -> None:
        self._queue.put(frame)

    async def run(self) -> bool:
        """Serve until the peer breaks a rule, is silent for too long, or ends its half: then what it asked is answered.
        Whether it ended in good order."""
        ended = False
        async with trio.open_nursery() as writing:
            writing.start_soon(self._write, writing.cancel_scope)
            async with trio.open_nursery() as handling:
                ended = await self._read(handling)
                if not ended:
                    handling.cancel_scope.cancel()
            if ended:
                await self._queue.flushed()
            writing.cancel_scope.cancel()
        return ended

    async def _read(self, nursery: trio.Nursery) -> bool:
        """Whether the stream ends in good order: by the peer, or because nothing came for a long time."""
        reader = FrameReader(self._pipe, self._settings)
        peer = self._pipe.peer
        served = False
        try:
            while True:
                try:
                    frame = await reader.next()
                except Silence:
                    if self._running:
                        continue
                    raise
                if frame is None:
                    return True
                served = True
                await self._pace(len(frame.payload))
                self._accept(frame, nursery)
        except StreamBroken:
            return False
        except Silence:
            if served:
                self._report.count("streams_idle_closed")
                return True
            self._report.blame(peer, "streams_silent", "opened a stream and said nothing")
        except (TimedOut, TooLarge, Malformed) as error:
            self._report.bad_frames(peer, error, "a request stream")
        return False

    async def _pace(self, size: int) -> None:
        if wait_s := self._bytes.take(size, trio.current_time()):
            self._report.count("calls_paced")
            await trio.sleep(wait_s)
        if self._queue.full:
            await self._queue.room()

    def _accept(self, frame: Frame, nursery: trio.Nursery) -> None:
        if frame.kind == CANCEL:
            if scope := self._running.get(frame.id):
                scope.cancel()
        elif frame.kind == REQUEST and frame.id and frame.id not in self._running:
            if len(self._running) >= self._settings.calls_in_flight_per_peer_max:
                self._report.count("calls_refused_busy")
                busy = Overloaded("too many calls in flight", retry_after_s=OVERLOADED_RETRY_S)
                self._queue.put(encode_error(frame.id, busy))
                return
            scope = self._running[frame.id] = trio.CancelScope()
            nursery.start_soon(self._handle, frame, scope)
        elif frame.kind == ERROR and frame.id == 0:
            self._report.count("goodbyes_received")
        else:
            raise Malformed(f"a frame of kind {frame.kind} with id {frame.id} where requests belong")

    async def _handle(self, frame: Frame, scope: trio.CancelScope) -> None:
        self._report.count("calls_served")
        try:
            with scope:
                answer = await self._answer(frame)
                self._queue.put(answer)
        finally:
            del self._running[frame.id]

    async def _answer(self, frame: Frame) -> bytes:
        try:
            response = await self._handler(frame.payload)
        except EdgenetError as error:
            return encode_error(frame.id, error)
        except Exception as error:  # noqa: BLE001 - a bug above answers its caller and harms nobody else
            self._report.fault("on_call", error)
            return encode_error(frame.id, error)
        if len(response) > self._settings.frame_bytes_max:
            self._report.count("responses_oversized")
            limit = self._settings.frame_bytes_max
            return encode_error(frame.id, TooLarge(f"the response has {len(response)} bytes, the limit is {limit}"))
        return encode(RESPONSE, frame.id, response)

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                await self._pipe.send(await self._queue.take())
        except StreamBroken:
            scope.cancel()
