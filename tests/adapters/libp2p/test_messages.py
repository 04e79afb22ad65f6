"""One-way messages between two real hosts on loopback, and hostile bytes on their stream."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Final

import pytest
import trio
from libp2p.network.stream.exceptions import StreamError

from edgenet_node.adapters.libp2p_network.framed import SendQueue
from edgenet_node.adapters.libp2p_network.frames import ERROR, MESSAGE, REQUEST, decode_error, encode
from edgenet_node.errors import Overloaded, Refused, TooLarge, Unreachable
from edgenet_node.wire.registry import MESSAGES

from .fakes import SWARM, Node, join, pair, raw_stream, reach, running, settings, stranger, until
from .test_hostile_streams import blamed, read_for_ever, under_attack

STREAM = MESSAGES[0].name
PROTOCOL = f"/edgenet/{SWARM}/{STREAM}"


async def test_messages_arrive_in_order_on_one_stream_each_way() -> None:
    async with pair() as (a, b):
        for number in range(500):
            a.network.send(STREAM, b.id, b"%d" % number)
            b.network.send(STREAM, a.id, b"%d" % -number)
        await until(lambda: len(a.listener.messages) == len(b.listener.messages) == 500)
        assert b.listener.messages == [(STREAM, a.id, b"%d" % number) for number in range(500)]
        assert a.listener.messages == [(STREAM, b.id, b"%d" % -number) for number in range(500)]
        assert a.count("message_streams_opened") == b.count("message_streams_opened") == 1
        assert not a.listener.blames
        assert not b.listener.blames


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
async def test_messages_of_every_size(size: int) -> None:
    async with pair() as (a, b):
        a.network.send(STREAM, b.id, bytes(size))
        await until(lambda: bool(b.listener.messages))
        assert b.listener.messages == [(STREAM, a.id, bytes(size))]
        with pytest.raises(TooLarge):
            a.network.send(STREAM, b.id, bytes((1 << 20) + 1))


async def test_only_to_peers_that_are_connected_and_admitted() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        a.knows(b)
        await until(lambda: a.sees(b))
        with pytest.raises(Unreachable):
            a.network.send(STREAM, b.id, b"no swarm yet")
        a.network.set_swarm(SWARM)
        with pytest.raises(Unreachable):
            a.network.send(STREAM, b.id, b"not admitted")
        a.network.admit(b.id)
        a.network.send(STREAM, b.id, b"b does not serve it yet")
        await until(lambda: a.count("messages_lost") == 1)
        await join(a, b)
        with pytest.raises(Unreachable):
            a.network.send(STREAM, "nobody", b"x")
        a.network.send(STREAM, b.id, b"now")
        await until(lambda: bool(b.listener.messages))
        assert b.listener.messages == [(STREAM, a.id, b"now")]


async def test_a_message_waits_for_the_decision_of_its_receiver() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        a.knows(b)
        await until(lambda: a.sees(b))
        for node in (a, b):
            node.network.set_swarm(SWARM)
        a.network.admit(b.id)
        a.network.send(STREAM, b.id, b"early")
        await until(lambda: a.count("message_streams_opened") == 1)
        assert not b.listener.messages
        b.network.admit(a.id)
        await until(lambda: bool(b.listener.messages))
        assert b.listener.messages == [(STREAM, a.id, b"early")]


async def test_a_peer_that_never_decides_refuses_the_stream() -> None:
    a, b = Node(1, settings()), Node(2, settings(admission_wait_s=0.0))
    async with running(a, b):
        a.knows(b)
        await until(lambda: a.sees(b))
        for node in (a, b):
            node.network.set_swarm(SWARM)
        a.network.admit(b.id)
        a.network.send(STREAM, b.id, b"x")
        await until(lambda: a.count("message_streams_refused") == 1)
        assert not b.listener.messages
        assert not a.listener.blames
        b.network.admit(a.id)
        await until(lambda: said(a, b.id, b"again") and bool(b.listener.messages))


def said(node: Node, peer: str, data: bytes) -> bool:
    """At most once: what a failed stream had taken is lost, so it is said again and again."""
    with suppress(Overloaded):
        node.network.send(STREAM, peer, data)
    return True


async def test_the_newest_is_shed_when_the_queue_is_full() -> None:
    async with pair(settings(message_queue_frames_max=8)) as (a, b):
        shed = 0
        for number in range(20):
            try:
                a.network.send(STREAM, b.id, b"%d" % number)
            except Overloaded:
                shed += 1
        assert shed == a.count("messages_shed") == 12
        await until(lambda: len(b.listener.messages) == 8)
        assert [data for _, _, data in b.listener.messages] == [b"%d" % number for number in range(8)]


async def test_the_queue_is_bounded_in_bytes_too() -> None:
    async with pair(settings(message_queue_bytes_max=1 << 20)) as (a, b):
        for _ in range(11):
            a.network.send(STREAM, b.id, bytes(100_000))
        with pytest.raises(Overloaded) as refused:
            a.network.send(STREAM, b.id, bytes(100_000))
        assert refused.value.retry_after_s > 0
        await until(lambda: len(b.listener.messages) == 11)


async def test_a_stream_opens_again_after_a_failure() -> None:
    """The acceptor resets it; what is sent later arrives on another one."""
    async with under_attack(settings()) as (node, attacker):
        heard: list[bytes] = []

        async def first_reset(stream: object) -> None:
            heard.append(await stream.read(64))  # type: ignore[attr-defined]
            await (stream.reset() if len(heard) == 1 else read_for_ever(stream))  # type: ignore[attr-defined]

        attacker.set_stream_handler(PROTOCOL, first_reset)
        await reach(attacker, node)
        peer = attacker.get_id().to_base58()
        await until(lambda: any(link.peer == peer for link in node.network.connections()))
        node.network.admit(peer)
        node.network.send(STREAM, peer, b"one")
        await until(lambda: len(heard) == 1)
        await until(lambda: said(node, peer, b"two") and len(heard) > 1)
        assert heard[0] == encode(MESSAGE, 0, b"one")
        assert heard[1].startswith(encode(MESSAGE, 0, b"two"))
        assert node.count("message_streams_opened") == 2


async def test_a_broken_connection_loses_what_waits_and_the_next_one_carries_on() -> None:
    async with pair() as (a, b):
        a.network.send(STREAM, b.id, b"before")
        await until(lambda: len(b.listener.messages) == 1)
        await a.network._links.drop(b.id)
        await until(lambda: b.id in a.listener.disconnected)
        await until(lambda: a.sees(b) and b.sees(a))
        a.network.send(STREAM, b.id, b"after")
        await until(lambda: len(b.listener.messages) == 2)
        assert [data for _, _, data in b.listener.messages] == [b"before", b"after"]


async def test_a_listener_that_raises_harms_no_stream() -> None:
    async with pair() as (a, b):
        real = b.listener.on_message

        def raising(stream: str, peer: str, data: bytes) -> None:
            real(stream, peer, data)
            raise RuntimeError("a bug above")

        b.listener.on_message = raising  # type: ignore[method-assign]
        for number in range(3):
            a.network.send(STREAM, b.id, b"%d" % number)
        await until(lambda: len(b.listener.messages) == 3)
        assert b.count("faults") == 3
        assert not b.listener.blames


# -- hostile bytes


GARBAGE: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    bytes(64),
    encode(5, 0, b"x"),
    struct.pack(">IQB", 9 + (1 << 20) + 1, 0, MESSAGE),
    encode(MESSAGE, 1, b"x"),
    encode(REQUEST, 0, b"x"),
    encode(ERROR, 0, b"x"),
)


async def test_garbage_is_blamed_and_the_stream_reset() -> None:
    """Whatever came well before it is heard."""
    async with under_attack(settings()) as (node, attacker):
        node.network.admit(attacker.get_id().to_base58())
        for number, payload in enumerate(GARBAGE, 1):
            stream = await raw_stream(attacker, node, PROTOCOL)
            await stream.write(encode(MESSAGE, 0, b"well") + payload)
            with trio.fail_after(5), pytest.raises(StreamError):
                await read_for_ever(stream)
            assert node.count("frames_malformed") + node.count("frames_oversized") == number
            assert len(node.listener.messages) == number
        assert node.count("frames_oversized") == 1
        assert node.listener.blames


async def test_a_message_frame_has_no_place_on_a_call_stream() -> None:
    async with under_attack(settings()) as (node, attacker):
        stream = await raw_stream(attacker, node, "/edgenet/hello/1")
        await stream.write(encode(MESSAGE, 0, b"x"))
        assert "not a frame" in await blamed(node, "frames_malformed")


async def test_a_stranger_is_told_why_and_heard_by_nobody() -> None:
    async with under_attack(settings(admission_wait_s=0.0)) as (node, attacker):
        stream = await raw_stream(attacker, node, PROTOCOL)
        await stream.write(encode(MESSAGE, 0, b"x"))
        data = b""
        with trio.fail_after(5):
            while len(data) < 13:
                data += await stream.read(1)
            data += await stream.read(int.from_bytes(data[:4], "big") - 9)
        error = decode_error(data[13:], "peer")
        assert isinstance(error, Refused)
        assert not node.listener.messages


async def test_a_newer_stream_ends_the_older_one() -> None:
    async with under_attack(settings()) as (node, attacker):
        node.network.admit(attacker.get_id().to_base58())
        older = await raw_stream(attacker, node, PROTOCOL)
        await older.write(encode(MESSAGE, 0, b"older"))
        await until(lambda: len(node.listener.messages) == 1)
        newer = await attacker.new_stream((await reach(attacker, node)), [PROTOCOL])
        await newer.write(encode(MESSAGE, 0, b"newer"))
        await until(lambda: len(node.listener.messages) == 2)
        assert node.count("message_streams_replaced") == 1
        with trio.fail_after(5), pytest.raises(StreamError):
            await read_for_ever(older)


async def test_an_acceptor_that_talks_is_blamed() -> None:
    async with under_attack(settings()) as (node, attacker):

        async def chatter(stream: object) -> None:
            await stream.write(encode(REQUEST, 1, b"hello"))  # type: ignore[attr-defined]
            await read_for_ever(stream)

        attacker.set_stream_handler(PROTOCOL, chatter)
        await reach(attacker, node)
        peer = attacker.get_id().to_base58()
        await until(lambda: any(link.peer == peer for link in node.network.connections()))
        node.network.admit(peer)
        node.network.send(STREAM, peer, b"x")
        assert "where nothing belongs" in await blamed(node, "frames_malformed")


async def test_a_peer_that_reads_nothing_costs_a_bounded_queue() -> None:
    """Its window fills, then the queue; the node sheds and goes on."""
    async with stranger(9) as mute:
        node = Node(1, settings(message_queue_bytes_max=1 << 20, write_timeout_s=0.3))
        async with running(node):
            node.network.set_swarm(SWARM)

            async def ignore(stream: object) -> None:
                await trio.sleep_forever()

            mute.set_stream_handler(PROTOCOL, ignore)
            await reach(mute, node)
            peer = mute.get_id().to_base58()
            await until(lambda: any(link.peer == peer for link in node.network.connections()))
            node.network.admit(peer)

            def flood() -> bool:
                for _ in range(4):
                    said(node, peer, bytes(60_000))
                return node.count("messages_shed") > 0 and node.count("messages_lost") > 0

            await until(flood)
            assert not node.listener.blames


def test_the_queue_forgets_and_counts() -> None:
    queue = SendQueue(100)
    queue.put(bytes(60))
    queue.put(bytes(60))
    assert queue.full
    assert len(queue) == 2
    assert queue.clear() == 2
    assert (queue.full, len(queue)) == (False, 0)
