"""Raw bytes on the streams of a node: each kind is counted, blamed on its sender, and the node lives."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamError
from libp2p.stream_muxer.yamux import yamux

from edgenet_node.adapters.libp2p_network import NetworkSettings
from edgenet_node.adapters.libp2p_network.frames import CANCEL, ERROR, REQUEST, RESPONSE, encode
from edgenet_node.ports.network import Channel

from .fakes import SWARM, Node, join, raw_stream, reach, running, settings, stranger, until

HELLO = "/edgenet/hello/1"
RPC = f"/edgenet/{SWARM}/rpc/1"
HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)


@asynccontextmanager
async def under_attack(changes: NetworkSettings) -> AsyncIterator[tuple[Node, Any]]:
    """A node and an attacker. Afterwards the node must still serve a friend, without having been rebuilt."""
    node, friend = Node(1, changes), Node(2, settings())
    async with running(node, friend):
        node.network.set_swarm(SWARM)
        async with stranger(9) as attacker:
            yield node, attacker
            await join(friend, node)
            assert await friend.network.call("rpc", node.id, b"x", timeout_s=10) == b"rpc:x"
            blamed = {peer for peer, _ in node.listener.blames}
            assert blamed <= {attacker.get_id().to_base58()}
        assert node.count("host_restarts") == 0
        assert node.count("faults") == 0


async def read_for_ever(stream: Any) -> None:
    while True:
        await stream.read(1)


async def blamed(node: Node, counter: str) -> str:
    await until(lambda: node.count(counter) > 0 and node.listener.blames != [])
    return node.listener.blames[-1][1]


@pytest.mark.parametrize(
    ("payload", "counter", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "frames_malformed", "not a frame"),
        (b"\xff" * 64, "frames_malformed", "not a frame"),
        (bytes(64), "frames_malformed", "not a frame"),
        (struct.pack(">IQB", 9 + (1 << 20) + 1, 1, REQUEST), "frames_oversized", "1048577 bytes"),
        (struct.pack(">IQB", 0xFFFFFFFF, 1, REQUEST), "frames_oversized", "limit"),
        (encode(RESPONSE, 1, b"x"), "frames_malformed", "where requests belong"),
        (encode(ERROR, 1, b"x"), "frames_malformed", "where requests belong"),
        (encode(REQUEST, 0, b"x"), "frames_malformed", "where requests belong"),
    ],
)
async def test_garbage_is_blamed_and_the_stream_reset(payload: bytes, counter: str, reason: str) -> None:
    async with under_attack(settings()) as (node, attacker):
        stream = await raw_stream(attacker, node, HELLO)
        await stream.write(payload)
        assert reason in await blamed(node, counter)
        with trio.fail_after(5), pytest.raises(StreamError):
            await read_for_ever(stream)


async def test_an_id_in_use_is_refused() -> None:
    async with under_attack(settings()) as (node, attacker):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            if request == b"hang":
                await trio.sleep_forever()
            return channel.encode() + b":" + request

        node.listener.answer = answer
        stream = await raw_stream(attacker, node, HELLO)
        await stream.write(encode(REQUEST, 1, b"hang") * 2)
        assert "where requests belong" in await blamed(node, "frames_malformed")


async def test_cancels_of_unknown_calls_are_harmless() -> None:
    async with under_attack(settings()) as (node, attacker):
        stream = await raw_stream(attacker, node, HELLO)
        await stream.write(encode(CANCEL, 77) * 1000 + encode(REQUEST, 1, b"x"))
        await until(lambda: node.count("calls_served") == 1)
        assert not node.listener.blames


async def test_a_truncated_frame_is_blamed() -> None:
    async with under_attack(settings()) as (node, attacker):
        stream = await raw_stream(attacker, node, HELLO)
        await stream.write(encode(REQUEST, 1, bytes(100))[:50])
        await stream.close_write()
        assert "ended inside a frame" in await blamed(node, "frames_malformed")


@pytest.mark.parametrize("length", [3, 20])
async def test_a_trickled_frame_is_blamed(length: int) -> None:
    async with under_attack(settings(trickle_timeout_s=0.2)) as (node, attacker):
        stream = await raw_stream(attacker, node, HELLO)
        await stream.write(encode(REQUEST, 1, bytes(100))[:length])
        assert "did not end" in await blamed(node, "frames_trickled")


async def test_silence_is_blamed_when_nothing_was_ever_said() -> None:
    async with under_attack(settings(trickle_timeout_s=0.2)) as (node, attacker):
        await raw_stream(attacker, node, HELLO)
        assert "said nothing" in await blamed(node, "streams_silent")


async def test_a_thousand_streams_of_one_peer() -> None:
    async with under_attack(settings(streams_per_peer_max=16)) as (node, attacker):
        peer = await reach(attacker, node)
        await until(lambda: len(node.network.connections()) == 1)
        muxer = attacker.get_network().get_connections(peer)[0].muxed_conn
        with_syn = [HEADER.pack(0, yamux.TYPE_DATA, yamux.FLAG_SYN, 100_001 + 2 * i, 0) for i in range(1000)]
        try:
            for frame in with_syn:
                await muxer._write_frame(frame)
        except Exception:  # noqa: BLE001 - the node has cut the connection, as it should
            assert node.count("streams_flooded") > 0
        assert "more than 16 streams" in await blamed(node, "streams_flooded")
        await until(lambda: len(node.listener.disconnected) == 1)


async def test_an_ignored_window_costs_the_connection() -> None:
    limit = 1 << 20
    async with under_attack(settings(buffered_bytes_per_connection_max=limit, admission_wait_s=60.0)) as (
        node,
        attacker,
    ):
        # The stream of an undecided peer: nobody reads it, and its window is 256 KiB.
        stream = await raw_stream(attacker, node, RPC)
        muxer, sid = stream.muxed_conn, stream.muxed_stream.stream_id
        frame = HEADER.pack(0, yamux.TYPE_DATA, 0, sid, 60_000) + bytes(60_000)
        try:
            for _ in range(100):
                await muxer._write_frame(frame)
        except Exception:  # noqa: BLE001 - the node has cut the connection, as it should
            assert node.count("windows_ignored") > 0
        assert "ignored the receive window" in await blamed(node, "windows_ignored")
        await until(lambda: len(node.listener.disconnected) == 1)


async def test_a_peer_that_reads_no_answers_is_cut_off() -> None:
    few = settings(write_timeout_s=0.3, send_queue_bytes_max=1 << 16, calls_in_flight_per_peer_max=4)
    async with under_attack(few) as (node, attacker):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            return bytes(300_000) if channel == "hello" else b"rpc:" + request

        node.listener.answer = answer
        stream = await raw_stream(attacker, node, HELLO)
        for i in range(1, 100):
            await stream.write(encode(REQUEST, i, b"more"))
        await until(lambda: node.count("streams_stalled") == 1)
        assert node.count("calls_served") < 20


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff\xff\x0f", b"\x80" * 20, b"\x05abcde", b"\x13/multistream/1.0.0\n\xff\xff\x7f", bytes(300)],
)
async def test_hostile_negotiation_on_a_stream(payload: bytes) -> None:
    async with under_attack(settings()) as (node, attacker):
        peer = await reach(attacker, node)
        stream = await attacker.get_network().new_stream(peer)
        await stream.write(payload)
        await stream.close_write()
        await until(lambda: node.count("streams_failed") > 0)


@pytest.mark.parametrize(
    "payload", [b"\xff" * 200_000, b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n" + bytes(9000)]
)
async def test_hostile_bytes_before_the_handshake(payload: bytes) -> None:
    async with under_attack(settings(handshake_timeout_s=1.0)) as (node, _):
        parts = node.network.addresses()[0].split("/")
        tcp = await trio.open_tcp_stream(parts[2], int(parts[4]))
        try:
            await tcp.send_all(payload)
            await tcp.send_eof()
        except (trio.BrokenResourceError, OSError):
            assert not node.network.connections()
        with trio.fail_after(10):
            try:
                while await tcp.receive_some():
                    pass
            except trio.BrokenResourceError:
                assert not node.network.connections()


async def test_sockets_that_say_nothing_give_their_place_back() -> None:
    """Three times as many silent sockets as there are places for handshakes and connections, then a friend."""
    few = settings(handshake_timeout_s=0.3, handshakes_max=4, peers_max=1, connections_per_peer_max=1)
    node, friend = Node(1, few), Node(2, settings())
    async with running(node, friend):
        parts = node.network.addresses()[0].split("/")
        silent = [socket.create_connection((parts[2], int(parts[4]))) for _ in range(15)]
        friend.knows(node)
        await until(lambda: friend.sees(node))
        for sock in silent:
            sock.close()


async def test_more_connections_in_its_life_than_places() -> None:
    """As shipped the place of an inbound connection is never given back."""
    few = settings(handshakes_max=1, peers_max=4, connections_per_peer_max=1)
    node = Node(1, few)
    async with running(node):
        for number in range(2, 10):
            async with stranger(number) as host:
                await reach(host, node)
                await until(lambda: len(node.network.connections()) == 1)
            await until(lambda: not node.network.connections())


async def test_a_full_house_refuses_strangers() -> None:
    node = Node(1, settings(peers_max=2))
    async with running(node), stranger(5) as first, stranger(6) as second:
        await reach(first, node)
        await reach(second, node)
        await until(lambda: len(node.network.connections()) == 2)
        async with stranger(7) as third:
            await reach(third, node)
            await until(lambda: node.count("connections_refused") == 1)
        assert len(node.listener.connected) == 2


async def test_several_connections_of_one_peer_count_as_one_and_are_bounded() -> None:
    node = Node(1, settings(connections_per_peer_max=2))
    async with running(node), stranger(5) as host:
        peer = await reach(host, node)
        swarm = host.get_network()
        for _ in range(3):
            await swarm.dial_addr(host.get_peerstore().addrs(peer)[0], peer)
        await until(lambda: node.count("connections_refused") == 2)
        assert len(node.listener.connected) == len(node.network.connections()) == 1
        swarm.get_connections(peer)
    await until(lambda: len(node.listener.disconnected) == 1)
