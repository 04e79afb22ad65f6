"""Gossip: delivery, verdicts, pacing, and every message that would end a bare host."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed

from edgenet_node.errors import Overloaded, TooLarge

from .fakes import Node, join, pair, raw_stream, running, settings, stranger, until

TOPIC = "/edgenet/ab/auction/1"


async def subscribe(*nodes: Node) -> None:
    """Join the topic, and wait until every connected pair has the other in its mesh."""
    for node in nodes:
        node.network.subscribe(TOPIC)
    await until(lambda: all(meshed(a, b) for a in nodes for b in nodes if a is not b and a.sees(b)))


def meshed(a: Node, b: Node) -> bool:
    live = a.network._live
    return live is not None and ID.from_base58(b.id) in live.router.mesh.get(TOPIC, set())


async def line(a: Node, b: Node, c: Node) -> None:
    await join(a, b)
    await join(b, c)
    await subscribe(a, b, c)


async def test_a_message_arrives_once_with_its_author() -> None:
    async with pair() as (a, b):
        await subscribe(a, b)
        a.network.publish(TOPIC, b"offer")
        await until(lambda: b.listener.gossip == [(TOPIC, a.id, b"offer")])
        assert not a.listener.gossip
        assert (a.count("gossip_published"), b.count("gossip_accepted")) == (1, 1)


async def test_accepted_messages_travel_on() -> None:
    a, b, c = Node(1, settings()), Node(2, settings()), Node(3, settings())
    async with running(a, b, c):
        await line(a, b, c)
        a.network.publish(TOPIC, b"x")
        await until(lambda: c.listener.gossip == [(TOPIC, a.id, b"x")])
        assert not a.sees(c)


@pytest.mark.parametrize(("verdict", "blamed"), [("ignore", False), ("reject", True)])
async def test_ignored_and_rejected_messages_stop_here(verdict: Any, blamed: bool) -> None:
    a, b, c = Node(1, settings()), Node(2, settings()), Node(3, settings())
    async with running(a, b, c):
        await line(a, b, c)
        b.listener.verdict = verdict
        a.network.publish(TOPIC, b"stale")
        await until(lambda: len(b.listener.gossip) == 1)
        b.listener.verdict = "accept"
        a.network.publish(TOPIC, b"fresh")
        await until(lambda: (TOPIC, a.id, b"fresh") in c.listener.gossip)
        assert c.listener.gossip == [(TOPIC, a.id, b"fresh")]
        assert (b.count("gossip_rejected"), b.count("blames")) == ((1, 1) if blamed else (0, 0))
        assert not b.listener.blames, "who rejects has the reason, and blames"
        live = b.network._live
        assert live is not None
        assert not live.router.ignored


async def test_messages_of_refused_authors_are_dropped_whoever_forwards_them() -> None:
    a, b, c = Node(1, settings()), Node(2, settings()), Node(3, settings())
    async with running(a, b, c):
        await line(a, b, c)
        c.network.refuse(a.id, "liar")
        a.network.publish(TOPIC, b"x")
        await until(lambda: c.count("gossip_from_refused") == 1)
        assert not c.listener.gossip


async def test_a_listener_that_raises_is_survived() -> None:
    async with pair() as (a, b):
        await subscribe(a, b)

        def broken(topic: str, author: str, data: bytes) -> Any:
            raise KeyError("bug")

        kept = b.listener.on_gossip
        b.listener.on_gossip = broken  # type: ignore[method-assign]
        a.network.publish(TOPIC, b"1")
        await until(lambda: b.count("faults") == 1)
        b.listener.on_gossip = kept  # type: ignore[method-assign]
        a.network.publish(TOPIC, b"2")
        await until(lambda: b.listener.gossip == [(TOPIC, a.id, b"2")])


async def test_a_burst_is_paced_and_nothing_is_lost() -> None:
    fast = settings(publish_rate_per_s=100.0, publish_burst=1, gossip_in_rate_per_s=1000.0)
    async with pair(fast, fast) as (a, b):
        await subscribe(a, b)
        for i in range(150):
            a.network.publish(TOPIC, b"%d" % i)
        await until(lambda: len(b.listener.gossip) == 150)
        assert [data for _, _, data in b.listener.gossip] == [b"%d" % i for i in range(150)]


def test_the_queue_and_the_message_are_bounded() -> None:
    node = Node(1, settings(publish_queue_max=2))
    with pytest.raises(TooLarge):
        node.network.publish(TOPIC, bytes(65537))
    node.network.publish(TOPIC, bytes(65536))
    node.network.publish(TOPIC, b"")
    with pytest.raises(Overloaded) as caught:
        node.network.publish(TOPIC, b"")
    assert caught.value.retry_after_s > 0
    assert node.network.counters()["gossip_dropped_queue_full"] == 1


async def test_what_waits_in_the_queue_is_sent_when_the_host_runs() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(b):
        a.network.publish(TOPIC, b"early")
        async with running(a):
            await until(lambda: a.count("gossip_published") == 1)


def signed(number: int, data: bytes, topics: list[str], seqno: bytes = b"\0\0\0\0\0\0\0\1") -> Any:
    keys = create_new_key_pair(bytes([number]) * 32)
    message = rpc_pb2.Message(
        data=data, topicIDs=topics, from_id=ID.from_pubkey(keys.public_key).to_bytes(), seqno=seqno
    )
    message.signature = keys.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.key = keys.public_key.serialize()
    return message


def rpc(message: Any) -> bytes:
    return bytes(encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString()))


def forged_key() -> Any:
    message = signed(9, b"x", [TOPIC])
    # An author id from which no key can be derived, so that the library reads the attached one, and dies of it.
    message.from_id = bytes.fromhex("1220") + bytes(32)
    message.key = b"\xff\xff\xff"
    return message


def bad_signature() -> Any:
    message = signed(9, b"x", [TOPIC])
    message.signature = bytes(64)
    return message


def nobody() -> Any:
    message = signed(9, b"x", [TOPIC])
    message.from_id = b""
    return message


async def attack(payloads: list[bytes], blame: str) -> None:
    """Send raw gossip bytes; the node must blame the sender, live, and still serve others."""
    node, friend = Node(1, settings()), Node(2, settings())
    async with running(node, friend):
        await join(node, friend)
        await subscribe(node, friend)
        async with stranger(9) as host:
            stream = await raw_stream(host, node, "/meshsub/1.1.0")
            for payload in payloads:
                await stream.write(payload)
            await until(lambda: node.listener.blames != [])
            attacker = host.get_id().to_base58()
            assert {peer for peer, _ in node.listener.blames} == {attacker}
            assert re.search(blame, node.listener.blames[0][1])
        friend.network.publish(TOPIC, b"still here")
        await until(lambda: (TOPIC, friend.id, b"still here") in node.listener.gossip)
        assert node.count("host_restarts") == 0


@pytest.mark.parametrize(
    ("payload", "blame"),
    [
        (encode_varint_prefixed(b"\xff" * 40), "undecodable"),
        (b"\xff" * 11, "undecodable|negotiat"),
        (rpc(forged_key()), "bad key"),
        (rpc(bad_signature()), "without a valid signature"),
        (rpc(nobody()), "author"),
        (rpc(signed(9, b"x", [TOPIC], seqno=b"1")), "number"),
        (rpc(signed(9, bytes(65537), [TOPIC])), "65537 bytes"),
        (rpc(signed(9, b"x", [TOPIC, "other"])), "one topic"),
    ],
)
async def test_hostile_gossip_is_blamed_and_survived(payload: bytes, blame: str) -> None:
    await attack([payload], blame)


async def test_replayed_gossip_is_delivered_once() -> None:
    node = Node(1, settings())
    async with running(node), stranger(9) as host:
        node.network.subscribe(TOPIC)
        stream = await raw_stream(host, node, "/meshsub/1.1.0")
        await until(lambda: node.network._live is not None and TOPIC in node.network._live.board.topic_ids)
        message = rpc(signed(9, b"once", [TOPIC]))
        for _ in range(5):
            await stream.write(message)
        await stream.write(rpc(signed(9, b"last", [TOPIC], seqno=b"\0\0\0\0\0\0\0\2")))
        await until(lambda: len(node.listener.gossip) >= 2)
        assert [data for _, _, data in node.listener.gossip] == [b"once", b"last"]


async def test_a_flood_of_gossip_is_cut_off_and_blamed() -> None:
    node = Node(1, settings(gossip_in_rate_per_s=1.0, gossip_in_burst=10))
    async with running(node), stranger(9) as host:
        node.network.subscribe(TOPIC)
        await until(lambda: node.network._live is not None and TOPIC in node.network._live.board.topic_ids)
        stream = await raw_stream(host, node, "/meshsub/1.1.0")
        for i in range(40):
            await stream.write(rpc(signed(9, b"x", [TOPIC], seqno=i.to_bytes(8, "big"))))
        await until(lambda: node.count("gossip_received") == 40)
        assert node.count("gossip_flooded") >= 28
        assert len(node.listener.gossip) <= 12
        assert len(node.listener.blames) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes_on_the_gossip_stream(seed: int) -> None:
    rng = random.Random(seed)
    node = Node(1, settings())
    async with running(node), stranger(9) as host:
        node.network.subscribe(TOPIC)
        for _ in range(10):
            stream = await raw_stream(host, node, "/meshsub/1.1.0")
            await stream.write(rng.randbytes(rng.randint(1, 300)))
            await stream.reset()
        friend = Node(2, settings())
        async with running(friend):
            await join(friend, node)
            assert await friend.network.call("hello", node.id, b"x", timeout_s=5) == b"hello:x"
        assert node.count("host_restarts") == 0


async def control(build: Callable[[Any], None]) -> Awaitable[None] | None:
    node = Node(1, settings())
    async with running(node), stranger(9) as host:
        node.network.subscribe(TOPIC)
        await until(lambda: node.network._live is not None and TOPIC in node.network._live.board.topic_ids)
        stream = await raw_stream(host, node, "/meshsub/1.1.0")
        packet = rpc_pb2.RPC()
        build(packet)
        await stream.write(encode_varint_prefixed(packet.SerializeToString()))
        await stream.write(rpc(signed(9, b"after", [TOPIC])))
        await until(lambda: len(node.listener.gossip) == 1)
        assert node.count("host_restarts") == 0
    return None


async def test_hostile_control_messages_are_survived() -> None:
    def build(packet: Any) -> None:
        packet.subscriptions.add(subscribe=True, topicid="x" * 1000)
        packet.control.graft.add(topicID="none")
        packet.control.graft.add(topicID=TOPIC)
        packet.control.prune.add(topicID=TOPIC, backoff=2**62, peers=[rpc_pb2.PeerInfo(peerID=b"\xff")])
        packet.control.ihave.add(topicID=TOPIC, messageIDs=[b"\xff" * 40, b"zz"])
        packet.control.iwant.add(messageIDs=[b"abc", b"\xff"])

    await control(build)
