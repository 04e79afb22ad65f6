"""Yamux, made safe to share: no torn frames, a bound on what a peer makes us hold, a frozen peer noticed in seconds.

What the library's muxer leaves open, and what this subclass does about it:

* A writer that is cancelled in the middle of a frame leaves half a Noise message on the wire and so breaks every stream
  of the connection. Here a frame is written whole or the connection is dropped, after `write_timeout_s`.
* The task that reads also writes the answers to pings and new streams. Two nodes that fill both directions of a slow
  connection then wait for each other to read, for ever. Here a second task writes the answers.
* A peer that ignores the receive window is only warned about. Here the unread bytes of all its streams together are
  bounded; above that the connection is dropped and the peer blamed.
* A frozen peer or a pulled cable is never noticed. Here a muxer ping every `health_interval_s` must be answered, or
  anything else be heard, within `health_timeout_s` and half of it again; this measures the round trip as well. It costs
  two 12-byte frames, where the library's health monitor opens and negotiates a stream per probe.
* A frame of 64 KiB does not fit in one Noise message and is sent as two. Here frames carry at most 65507 bytes.
* Every read is followed by a window update on the wire. Here a stream read through `receive` returns credit when half
  of the window is used, as yamux implementations do.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final

import trio
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.yamux import yamux

from .limits import NetworkSettings
from .report import Report
from .turns import EagerLock

FRAME_BYTES_MAX: Final = 65535 - 16 - yamux.HEADER_SIZE
"""A Noise message holds 65535 bytes, 16 of them the authenticator."""

WINDOW_POLL_S: Final = 0.002
ROUND_TRIPS_KEPT: Final = 8
ANSWERS_MAX: Final = 1024
"""Control frames of 12 bytes that wait for a peer which does not read; the connection ends above that."""

_HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)


class StreamEnded(Exception):
    """The other side closed its half: no more bytes will come."""


class StreamBroken(Exception):
    """The stream was reset, or its connection is gone."""


class GuardedYamux(yamux.Yamux):  # type: ignore[misc]
    """`bytes_in`, `bytes_out`: plaintext bytes of all streams, muxer frames included. `heard_at`: time of the last
    byte."""

    def __init__(self, conn: Any, peer_id: Any, settings: NetworkSettings, report: Report) -> None:
        super().__init__(conn, peer_id, is_initiator=conn.is_initiator)
        self.peer = peer_id.to_base58()
        self.bytes_in = 0
        self.bytes_out = 0
        self.streams_refused = 0
        self.round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS_KEPT)
        self.heard_at = trio.current_time()
        self._settings = settings
        self._report = report
        self._reader: trio.lowlevel.Task | None = None
        self.streams_lock = EagerLock()
        self._write_lock = EagerLock()
        self._answers: deque[bytes] = deque()
        self._answers_wake = trio.Event()
        self._read = conn.read
        conn.read = self._metered_read

    @property
    def round_trip_s(self) -> float:
        """The quickest of the last pings, so that our own bulk traffic does not count; 0 before the first."""
        return min(self.round_trips_s, default=0.0)

    async def _metered_read(self, n: int | None = None) -> bytes:
        data: bytes = await self._read(n)
        self.bytes_in += len(data)
        self.heard_at = trio.current_time()
        return data

    async def handle_incoming(self) -> None:
        self._reader = trio.lowlevel.current_task()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer)
            await super().handle_incoming()
            nursery.cancel_scope.cancel()

    async def _answer(self) -> None:
        """Write the control frames that the reading task wants to send."""
        try:
            while True:
                while self._answers:
                    await self._write_whole(self._answers.popleft())
                self._answers_wake = trio.Event()
                await self._answers_wake.wait()
        except (RawConnError, IOException, OSError):
            return

    async def _write_frame(self, data: bytes) -> None:
        if trio.lowlevel.current_task() is not self._reader:
            await self._write_whole(data)
            return
        if len(self._answers) >= ANSWERS_MAX:
            self._report.blame(self.peer, "answers_ignored", "asked for more answers than it reads")
            raise trio.TooSlowError
        self._answers.append(data)
        self._answers_wake.set()

    async def _write_whole(self, data: bytes) -> None:
        async with self._write_lock:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._settings.write_timeout_s) as scope:
                await self.secured_conn.write(data)
        if scope.cancelled_caught:
            self._report.count("connections_stalled")
            await self.abort()
            raise RawConnError("the peer took no bytes for the write timeout: connection closed")
        self.bytes_out += len(data)

    async def _read_data_body(self, length: int) -> bytes:
        held = sum(map(len, self.stream_buffers.values()))
        if held + length > self._settings.buffered_bytes_per_connection_max:
            self._report.blame(
                self.peer, "windows_ignored", f"ignored the receive window: {held + length} bytes unread"
            )
            # The one exception that the frame loop answers by closing the connection.
            raise trio.TooSlowError
        body: bytes = await super()._read_data_body(length)
        return body

    async def _measure_rtt_loop(self) -> None:
        timeout_s = self._settings.health_timeout_s
        while not self.event_shutting_down.is_set():
            sent_at = trio.current_time()
            with trio.move_on_after(timeout_s):
                await self._send_ping()
                await self._ping_event.wait()
            if not self._answered(sent_at):
                # A second, shorter wait: after a stall of our own loop the answer may lie unread in the socket.
                with trio.move_on_after(timeout_s / 2):
                    await self._ping_event.wait()
            if not self._answered(sent_at):
                self._report.count("peers_frozen")
                await self.abort()
                return
            if self._ping_event.is_set():
                self.round_trips_s.append(trio.current_time() - sent_at)
            with trio.move_on_after(self._settings.health_interval_s):
                await self.event_shutting_down.wait()

    def _answered(self, sent_at: float) -> bool:
        return self._ping_event.is_set() or self.heard_at > sent_at or self.event_shutting_down.is_set()

    async def _send_ping(self) -> None:
        self._ping_id: int = (self._ping_id + 1) & 0xFFFFFFFF
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        frame = _HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
        try:
            await self._write_frame(frame)
        except (RawConnError, IOException, OSError):
            await self.event_shutting_down.wait()

    async def abort(self) -> None:
        """Close the socket under everything; the reading task then takes the connection down in order."""
        await self.secured_conn.close()

    async def send(self, stream: Any, data: bytes | memoryview) -> None:
        """Write all of `data`, as far as the window lets us. One writer a stream. `StreamBroken` when it cannot."""
        view = memoryview(data)
        offset = 0
        while offset < len(view):
            if stream.send_closed or stream.closed or self.event_shutting_down.is_set():
                raise StreamBroken("closed for writing")
            if stream.send_window <= 0:
                await self._window_opens(stream)
                continue
            size = min(stream.send_window, FRAME_BYTES_MAX, len(view) - offset)
            stream.send_window -= size
            header = _HEADER.pack(0, yamux.TYPE_DATA, 0, stream.stream_id, size)
            try:
                await self._write_frame(header + view[offset : offset + size])
            except (RawConnError, ConnectionClosedError, IOException, OSError) as error:
                raise StreamBroken(str(error)) from error
            offset += size

    async def _window_opens(self, stream: Any) -> None:
        """Window updates set no event, so look again every 2 ms; a full window lasts far longer than that."""
        with trio.move_on_after(self._settings.write_timeout_s) as scope:
            while stream.send_window <= 0 and not stream.closed:  # noqa: ASYNC110 - there is no event to wait for
                await trio.sleep(WINDOW_POLL_S)
        if scope.cancelled_caught:
            self._report.count("streams_stalled")
            raise StreamBroken("the peer read nothing for the write timeout")

    async def receive(self, stream: Any, size_max: int) -> bytes:
        """At least one byte and at most `size_max`; `StreamEnded` at a clean end, else `StreamBroken`."""
        sid = stream.stream_id
        while True:
            buffer = self.stream_buffers.get(sid)
            if buffer:
                return await self._take(stream, buffer, size_max)
            if stream.reset_received or self.event_shutting_down.is_set():
                raise StreamBroken("reset, or connection closed")
            if stream.recv_closed:
                raise StreamEnded
            event = self.stream_events.get(sid)
            if event is None:
                raise StreamBroken("closed")
            await event.wait()
            if self.stream_events.get(sid) is event:
                self.stream_events[sid] = trio.Event()

    async def _take(self, stream: Any, buffer: bytearray, size_max: int) -> bytes:
        if len(buffer) <= size_max:
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(memoryview(buffer)[:size_max])
            del buffer[:size_max]
        used = stream.target_recv_window - stream.recv_window - len(buffer)
        if 2 * used >= stream.target_recv_window and not stream.recv_closed:
            await self._return_credit(stream, used)
        return data

    async def _return_credit(self, stream: Any, used: int) -> None:
        """Give back what was read; while below the limit, let the library widen the window to the connection's
        speed."""
        try:
            if 2 * stream.target_recv_window > self._settings.stream_window_bytes_max:
                stream.recv_window += used
                await stream.send_window_update(used)
            else:
                await stream._auto_tune_and_send_window_update()
        except (RawConnError, IOException, OSError) as error:
            raise StreamBroken(str(error)) from error
