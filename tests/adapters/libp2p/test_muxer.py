"""The guarded muxer alone, over a connection whose other end is the test."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux import yamux

from edgenet_node.adapters.libp2p_network.limits import Counters
from edgenet_node.adapters.libp2p_network.muxer import (
    ANSWERS_MAX,
    FRAME_BYTES_MAX,
    GuardedYamux,
    StreamBroken,
    StreamEnded,
)
from edgenet_node.adapters.libp2p_network.report import Report

from .fakes import Listener, settings

HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)
PEER = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)


class Wire:
    """What the peer sent is read; what is written is kept, once `open` is set."""

    is_initiator = False

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[bytes](10_000)
        self._rest = b""
        self.open = trio.Event()
        self.open.set()
        self.written: list[bytes] = []
        self.closed = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        if not self._rest:
            try:
                self._rest = await self._receive.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return b""
        n = n or len(self._rest)
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    async def write(self, data: bytes) -> None:
        await self.open.wait()
        self.written.append(data)

    async def close(self) -> None:
        self.closed.set()
        self._receive.close()

    def frames(self, kind: int) -> list[bytes]:
        return [frame for frame in self.written if HEADER.unpack_from(frame)[1] == kind]


@asynccontextmanager
async def muxer(**changes: object) -> AsyncIterator[tuple[GuardedYamux, Wire, Listener]]:
    wire, listener = Wire(), Listener()
    changes = {"health_interval_s": 60.0, **changes}
    conn = GuardedYamux(wire, PEER, settings(**changes), Report(listener, Counters()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.start)
        await conn.event_started.wait()
        yield conn, wire, listener
        nursery.cancel_scope.cancel()


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return HEADER.pack(0, yamux.TYPE_DATA, flags, stream, len(payload)) + payload


def ping(number: int) -> bytes:
    return HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, number)


async def test_reading_goes_on_while_answers_cannot_be_written(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer() as (conn, wire, listener):
        wire.open = trio.Event()
        for number in range(100):
            await wire.send.send(ping(number))
        await wire.send.send(data(1, b"", yamux.FLAG_SYN) + data(1, b"hello"))
        stream = await conn.accept_stream()
        assert await conn.receive(stream, 100) == b"hello"
        wire.open.set()
        await trio.testing.wait_all_tasks_blocked()
        answered = [HEADER.unpack(f)[4] for f in wire.frames(yamux.TYPE_PING) if HEADER.unpack(f)[2] == yamux.FLAG_ACK]
        assert answered == list(range(100))
        assert not listener.blames


async def test_a_peer_that_asks_and_never_reads_loses_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer(write_timeout_s=100.0, health_timeout_s=50.0) as (_conn, wire, listener):
        wire.open = trio.Event()
        await wire.send.send(b"".join(ping(number) for number in range(ANSWERS_MAX + 10)))
        await wire.closed.wait()
        assert [reason for _, reason in listener.blames] == ["asked for more answers than it reads"]


async def test_a_frame_is_written_whole_or_the_connection_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer(write_timeout_s=5.0, health_timeout_s=50.0) as (conn, wire, _):
        stream = await conn.open_stream()
        wire.open = trio.Event()
        with pytest.raises(StreamBroken, match="write timeout"), trio.move_on_after(1):
            await conn.send(stream, b"half")
        assert trio.current_time() >= 5
        assert wire.closed.is_set()


async def test_a_cancelled_writer_does_not_tear_a_frame(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer(write_timeout_s=50.0, health_timeout_s=50.0) as (conn, wire, _):
        stream = await conn.open_stream()
        wire.open = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.send, stream, b"whole")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            wire.open.set()
        assert wire.frames(yamux.TYPE_DATA) == [data(1 if conn.is_initiator else 2, b"whole")]
        assert not wire.closed.is_set()


async def test_the_window_bounds_what_is_sent_and_frames_fit_one_noise_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with muxer() as (conn, wire, _):
        stream = await conn.open_stream()
        sid = stream.stream_id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.send, stream, bytes(300_000))
            await trio.sleep(1)
            sent = [len(frame) - HEADER.size for frame in wire.frames(yamux.TYPE_DATA)]
            assert sum(sent) == 256 << 10
            assert max(sent) <= FRAME_BYTES_MAX
            await wire.send.send(HEADER.pack(0, yamux.TYPE_WINDOW_UPDATE, 0, sid, 100_000))
        assert sum(len(frame) - HEADER.size for frame in wire.frames(yamux.TYPE_DATA)) == 300_000


async def test_a_window_that_never_opens_breaks_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer(write_timeout_s=5.0, health_timeout_s=50.0) as (conn, _, __):
        stream = await conn.open_stream()
        with pytest.raises(StreamBroken, match="read nothing"):
            await conn.send(stream, bytes(300_000))


async def test_credit_is_returned_at_half_a_window(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer() as (conn, wire, _):
        await wire.send.send(data(1, b"", yamux.FLAG_SYN))
        stream = await conn.accept_stream()
        await trio.testing.wait_all_tasks_blocked()
        updates = len(wire.frames(yamux.TYPE_WINDOW_UPDATE))
        for _ in range(12):
            await wire.send.send(data(1, bytes(10_000)))
            assert len(await conn.receive(stream, 1 << 20)) == 10_000
        assert len(wire.frames(yamux.TYPE_WINDOW_UPDATE)) == updates
        for _ in range(2):
            await wire.send.send(data(1, bytes(10_000)))
            await conn.receive(stream, 1 << 20)
        given = [HEADER.unpack(f)[4] for f in wire.frames(yamux.TYPE_WINDOW_UPDATE)[updates:]]
        assert len(given) == 1
        assert given[0] >= 140_000


async def test_the_end_of_a_stream_comes_after_its_bytes(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer() as (conn, wire, _):
        await wire.send.send(data(1, b"", yamux.FLAG_SYN) + data(1, b"last", yamux.FLAG_FIN))
        stream = await conn.accept_stream()
        assert await conn.receive(stream, 2) == b"la"
        assert await conn.receive(stream, 100) == b"st"
        with pytest.raises(StreamEnded):
            await conn.receive(stream, 100)


async def test_a_reset_wakes_the_reader(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer() as (conn, wire, _):
        await wire.send.send(data(1, b"", yamux.FLAG_SYN))
        stream = await conn.accept_stream()
        await wire.send.send(HEADER.pack(0, yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_RST, 1, 0))
        with pytest.raises(StreamBroken):
            await conn.receive(stream, 100)


async def test_a_silent_peer_is_dropped_and_one_that_only_sends_is_not(autojump_clock: trio.testing.MockClock) -> None:
    async with muxer(health_interval_s=2.0, health_timeout_s=2.0) as (_conn, wire, _):
        await wire.send.send(data(1, b"", yamux.FLAG_SYN))
        for _ in range(20):
            await trio.sleep(1)
            await wire.send.send(data(1, b"x"))
        assert not wire.closed.is_set()
        silent_since = trio.current_time()
        await wire.closed.wait()
        assert trio.current_time() - silent_since <= 2 + 2 + 1 + 2
