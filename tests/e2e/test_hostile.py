"""A peer that speaks libp2p well and everything above it badly. The node counts it, lives, and serves its friends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from .support import LOOPBACK, WAIT_S, Land, Node, until

pytestmark = pytest.mark.e2e

HELLO = "/edgenet/hello/1"
MESHSUB = "/meshsub/1.1.0"
STREAMS = 80
"""More than the 64 that one peer may have open."""


@pytest.fixture(scope="module")
def friends(land: Land) -> tuple[Node, Node]:
    a, b = land.swarm("ab", EDGENET_NETWORK__ADMISSION_WAIT_S="1")
    return a, b


@pytest.fixture(autouse=True)
def unharmed(friends: tuple[Node, Node]) -> Iterator[None]:
    """After each attack: the same process, the same host, no fault, and it still works for its friend."""
    node, friend = friends
    pid = node.pid
    yield
    assert node.pid == pid
    assert node.alive
    counters = node.counters()
    assert not counters.get("host_restarts")
    assert not counters.get("faults")
    until(lambda: friend.offers(node), "still a member")
    seen = friend.submit("gate", {"items": ["still there?"]}, only=[node.id])
    assert (seen["state"], seen["executors"]) == ("done", {node.id: 1})
    assert "Traceback" not in node.log()


class Attacker:
    """A bare py-libp2p host, connected to the node."""

    def __init__(self, host: Any, key: Any, node: Node) -> None:
        self.host = host
        self.key = key
        self.node = node
        self.target = ID.from_base58(node.id)
        self.id = host.get_id().to_base58()

    async def open(self, protocol: str) -> Any:
        return await self.host.new_stream(self.target, [TProtocol(protocol)])

    def topic(self, name: str) -> str:
        return f"/edgenet/{self.node.get('status')['swarm']}/{name}/1"

    def message(self, topic: str, data: bytes, number: int) -> Any:
        """A pubsub message with a valid signature."""
        message = rpc_pb2.Message(
            from_id=ID.from_base58(self.id).to_bytes(), data=data, topicIDs=[topic], seqno=number.to_bytes(8, "big")
        )
        message.signature = self.key.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
        message.key = self.key.public_key.serialize()
        return message


@asynccontextmanager
async def attacker(number: int, node: Node) -> AsyncIterator[Attacker]:
    key = create_new_key_pair(bytes([number]) * 32)
    host = new_host(key_pair=key)
    try:
        async with host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
            await host.connect(info_from_p2p_addr(Multiaddr(node.address)))
            yield Attacker(host, key, node)
            await host.close()
    except* (RuntimeError, SwarmException, IOException):
        pass  # a bare host complains when it is shut down under traffic


async def seen(condition: Callable[[], Any], what: str) -> Any:
    return await trio.to_thread.run_sync(partial(until, condition, what))


async def counted(node: Node, *names: str) -> None:
    def missing() -> bool:
        counters = node.counters()
        return all(counters.get(name, 0) > 0 for name in names)

    await seen(missing, f"counted: {', '.join(names)}")


async def test_a_peer_that_never_says_hello_is_no_member(friends: tuple[Node, Node]) -> None:
    node = friends[0]
    async with attacker(11, node) as mallory:
        peer = await seen(lambda: node.peers().get(mallory.id), "it is known")
        assert (peer["connected"], peer["state"]) == (False, "undecided")
        stream = await mallory.open(mallory.topic("rpc"))
        await stream.write(b"\x00\x00\x00\x0a" + bytes(7) + b"\x01\x00" + b"x")
        with trio.fail_after(WAIT_S):
            answer = b"".join([chunk async for chunk in chunks(stream)])
        assert b"refused" in answer or answer == b""
        assert not node.peers().get(mallory.id, {"connected": False})["connected"]


async def chunks(stream: Any) -> AsyncIterator[bytes]:
    """What comes until the stream ends or is reset."""
    try:
        while data := await stream.read(65536):
            yield data
    except IOException:
        return


async def test_many_streams_are_cut_off(friends: tuple[Node, Node]) -> None:
    node = friends[0]
    async with attacker(12, node) as mallory:
        opened = 0
        async with trio.open_nursery() as nursery:

            async def hold_open() -> None:
                nonlocal opened
                try:
                    await mallory.open(HELLO)
                    opened += 1
                except Exception:  # noqa: BLE001 - being refused has many faces
                    return

            for _ in range(STREAMS):
                nursery.start_soon(hold_open)
        await counted(node, "streams_flooded")
        assert opened < STREAMS


@pytest.mark.parametrize(
    ("garbage", "counter"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frames_malformed"),
        (b"\xff" * 64, "frames_malformed"),
        ((9 + (1 << 20) + 1).to_bytes(4, "big") + bytes(7) + b"\x01\x00", "frames_oversized"),
        (os.urandom(4096), "blames"),
    ],
)
async def test_garbage_to_hello(friends: tuple[Node, Node], garbage: bytes, counter: str) -> None:
    node = friends[0]
    before = node.counters().get(counter, 0)
    async with attacker(13, node) as mallory:
        stream = await mallory.open(HELLO)
        await stream.write(garbage)
        await seen(lambda: node.counters().get(counter, 0) > before, f"one more of {counter}")


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x92\xa7hello/1\x81\xa5swarm\x07", b"\x92\xaaauction.x/1\x80", b"\x90" * 2000]
)
async def test_calls_that_mean_nothing_are_answered_with_an_error(friends: tuple[Node, Node], body: bytes) -> None:
    node = friends[0]
    async with attacker(14, node) as mallory:
        stream = await mallory.open(HELLO)
        await stream.write((9 + len(body)).to_bytes(4, "big") + bytes(7) + b"\x01\x00" + body)
        with trio.fail_after(WAIT_S):
            answer = await stream.read(65536)
        assert answer[12] == 1 or answer[12] == 2
        assert b"malformed" in answer or b"too_large" in answer


async def test_malformed_gossip(friends: tuple[Node, Node]) -> None:
    node, friend = friends
    async with attacker(15, node) as mallory:
        topics = [mallory.topic("presence"), mallory.topic("auction")]
        stream = await mallory.open(MESHSUB)
        subscribe = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in topics])
        await stream.write(encode_varint_prefixed(subscribe.SerializeToString()))
        payloads = [b"", b"\xc1", b"\x80", b"\x91" * 500, os.urandom(1000), b"\x00" * 20_000]
        messages = [
            mallory.message(topic, data, 7 * n + 1 + k)
            for k, topic in enumerate(topics)
            for n, data in enumerate(payloads)
        ]
        for message in messages:
            await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString()))
        await counted(node, "gossip_rejected", "blames")
        forged = mallory.message(topics[0], b"x", 999)
        forged.data = b"y"
        await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[forged]).SerializeToString()))
        await counted(node, "gossip_unsigned")
        await stream.write(encode_varint_prefixed(b"\xff" * 40))
        await counted(node, "gossip_undecodable")
        assert mallory.id not in {peer for peer, one in friend.peers().items() if one["connected"]}
