"""One-way messages: a persistent stream to each peer for each kind, in each direction its own.

The opener writes frames of kind `MESSAGE` with id 0, all that wait in one write; the acceptor hands each upwards and
writes nothing, but for one error frame with id 0 before it ends a stream that it refuses. A message is sent at most
once: when a stream breaks, what waits for it is lost with it, and the next message opens another.

States of an outlet: idle -> opening -> open -> broken (a pause that doubles from `REOPEN_FIRST_S`) -> idle; gone with
the peer's last connection. Limits: frames and bytes that wait (the newest is shed), one inbound stream of a kind and
peer (a newer one ends the older), bytes of messages per second, and a frame's deadlines as in `calls`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ...errors import EdgenetError, Malformed, Overloaded, RemoteError, TimedOut, TooLarge, Unreachable
from ...ports.network import NetworkListener
from .framed import FrameReader, SendQueue, Silence
from .frames import ERROR, MESSAGE, Frame, FrameDecoder, decode_error, encode
from .limits import NetworkSettings, TokenBucket, backoff_s
from .muxer import StreamBroken, StreamEnded
from .pipe import Pipe
from .report import Report

REOPEN_FIRST_S: Final = 0.05
REOPEN_MAX_S: Final = 5.0
STEADY_S: Final = 10.0
"""A stream that lived this long is reopened after the first pause again."""

RETRY_AFTER_S: Final = 0.1
SLICE_S: Final = 0.002
"""Longest run of messages handed upwards between two turns of the loop."""

PARTING_BYTES_MAX: Final = 4 << 10
"""All that an acceptor may write: one error frame."""

OpenStream = Callable[[str, str], Awaitable[Pipe]]


class Outlet:
    """Messages of one kind to one peer, while it is connected."""

    def __init__(self, open_stream: Callable[[], Awaitable[Pipe]], settings: NetworkSettings, report: Report) -> None:
        self._open_stream = open_stream
        self._settings = settings
        self._report = report
        self._queue = SendQueue(settings.message_queue_bytes_max)
        self.scope = trio.CancelScope()

    def put(self, data: bytes) -> None:
        """`Overloaded` when as many wait as may."""
        if self._queue.full or len(self._queue) >= self._settings.message_queue_frames_max:
            self._report.count("messages_shed")
            raise Overloaded("too many messages wait for this peer", retry_after_s=RETRY_AFTER_S)
        self._queue.put(encode(MESSAGE, 0, data))

    async def run(self, rng: random.Random) -> None:
        """Until cancelled."""
        failures = 0
        with self.scope:
            while True:
                await self._queue.waiting()
                began = trio.current_time()
                try:
                    await self._speak()
                except EdgenetError:
                    self._report.count("message_streams_failed")
                failures = 0 if trio.current_time() - began > STEADY_S else failures + 1
                self._report.count("messages_lost", self._queue.clear())
                if failures:
                    await trio.sleep(backoff_s(failures - 1, REOPEN_FIRST_S, REOPEN_MAX_S, rng.random()))

    async def _speak(self) -> None:
        """Write to one stream until it ends."""
        pipe = None
        with trio.move_on_after(self._settings.open_timeout_s):
            pipe = await self._open_stream()
        if pipe is None:
            raise TimedOut("the stream did not open")
        self._report.count("message_streams_opened")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_end, pipe, nursery.cancel_scope)
                while True:
                    batch = await self._queue.take()
                    try:
                        await pipe.send(batch)
                    except StreamBroken:
                        break
                nursery.cancel_scope.cancel()
        finally:
            await pipe.reset()

    async def _await_end(self, pipe: Pipe, scope: trio.CancelScope) -> None:
        """The acceptor says nothing but why it ends the stream."""
        decoder = FrameDecoder(PARTING_BYTES_MAX)
        try:
            while True:
                decoder.feed(await pipe.receive(PARTING_BYTES_MAX))
                if frame := decoder.next():
                    if frame.kind != ERROR or frame.id:
                        raise Malformed(f"a frame of kind {frame.kind} where nothing belongs")
                    self._report.count("message_streams_refused")
                    self._report.refusal(pipe.peer, decode_error(frame.payload, pipe.peer))
                    break
        except (StreamBroken, StreamEnded):
            pass
        except RemoteError as error:
            self._report.blame(pipe.peer, "frames_malformed", f"an answer to one-way messages: {error.message}")
        scope.cancel()


def message_of(frame: Frame) -> bytes:
    """`Malformed` for a frame that an opener may not send."""
    if frame.kind != MESSAGE or frame.id:
        raise Malformed(f"a frame of kind {frame.kind} with id {frame.id} where messages belong")
    return frame.payload


class Inlet:
    """The acceptor's side of one stream."""

    def __init__(
        self, name: str, pipe: Pipe, listener: NetworkListener, settings: NetworkSettings, report: Report
    ) -> None:
        self._name = name
        self._pipe = pipe
        self._listener = listener
        self._report = report
        self._reader = FrameReader(pipe, settings, kind_max=MESSAGE)
        self._bytes = TokenBucket(settings.call_bytes_per_s, settings.call_bytes_per_s, trio.current_time())
        self.scope = trio.CancelScope()

    async def run(self) -> bool:
        """Hear until the peer ends the stream, breaks a rule, or is silent for too long. Whether it ended in good
        order."""
        peer = self._pipe.peer
        heard = False
        try:
            slice_end = trio.current_time() + SLICE_S
            while True:
                frame = await self._reader.next()
                if frame is None:
                    return True
                data = message_of(frame)
                heard = True
                now = trio.current_time()
                if wait_s := self._bytes.take(len(data), now):
                    self._report.count("messages_paced")
                    await trio.sleep(wait_s)
                elif now >= slice_end:
                    await trio.lowlevel.checkpoint()
                    slice_end = trio.current_time() + SLICE_S
                self._hand_up(data)
        except StreamBroken:
            return False
        except Silence:
            if heard:
                self._report.count("streams_idle_closed")
                return True
            self._report.blame(peer, "streams_silent", "opened a stream and said nothing")
        except (TimedOut, TooLarge, Malformed) as error:
            self._report.bad_frames(peer, error, "a message stream")
        return False

    def _hand_up(self, data: bytes) -> None:
        self._report.count("messages_received")
        try:
            self._listener.on_message(self._name, self._pipe.peer, data)
        except Exception as error:  # noqa: BLE001 - the listener is ours; its bug must not become the host's
            self._report.fault("on_message", error)


class Messages:
    """All one-way streams of a node. `speak` and `hush` follow the incarnations of the host."""

    def __init__(
        self, listener: NetworkListener, settings: NetworkSettings, report: Report, rng: random.Random
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._report = report
        self._rng = rng
        self._outlets: dict[tuple[str, str], Outlet] = {}
        self._inlets: dict[tuple[str, str], Inlet] = {}
        self._nursery: trio.Nursery | None = None
        self._open: OpenStream | None = None

    def speak(self, nursery: trio.Nursery, open_stream: OpenStream) -> None:
        """Outlets live in `nursery`; `open_stream(peer, name)` opens a pipe or raises `Unreachable`."""
        self._nursery = nursery
        self._open = open_stream

    def hush(self) -> None:
        self._nursery = None
        self._outlets.clear()

    def send(self, name: str, peer: str, data: bytes) -> None:
        """To a peer that is connected and admitted. `TooLarge`, `Overloaded`, `Unreachable`."""
        if len(data) > self._settings.frame_bytes_max:
            raise TooLarge(f"a message of {len(data)} bytes, the limit is {self._settings.frame_bytes_max}")
        outlet = self._outlets.get((peer, name))
        if outlet is None:
            outlet = self._begin(name, peer)
        outlet.put(data)

    def left(self, peer: str) -> None:
        for key in [key for key in self._outlets if key[0] == peer]:
            self._outlets.pop(key).scope.cancel()

    async def hear(self, name: str, pipe: Pipe) -> None:
        """Serve an inbound stream of an admitted peer."""
        key = pipe.peer, name
        inlet = Inlet(name, pipe, self._listener, self._settings, self._report)
        if older := self._inlets.get(key):
            self._report.count("message_streams_replaced")
            older.scope.cancel()
        self._inlets[key] = inlet
        clean = False
        try:
            with inlet.scope:
                clean = await inlet.run()
        finally:
            if self._inlets.get(key) is inlet:
                del self._inlets[key]
        await (pipe.close() if clean else pipe.reset())

    def _begin(self, name: str, peer: str) -> Outlet:
        nursery, open_stream = self._nursery, self._open
        if nursery is None or open_stream is None:
            raise Unreachable("the network is being restarted")
        outlet = Outlet(lambda: open_stream(peer, name), self._settings, self._report)
        self._outlets[peer, name] = outlet
        nursery.start_soon(outlet.run, self._rng)
        return outlet
