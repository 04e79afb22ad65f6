"""Nodes on loopback, a listener that remembers, an artifact store in memory."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from edgenet_node.adapters.libp2p_network import Libp2pNetwork, NetworkSettings
from edgenet_node.effects import Now
from edgenet_node.errors import Malformed, NotFound
from edgenet_node.ports.network import Channel, Verdict

CHUNK = 256 << 10
SWARM = "ab" * 32
WAIT_S = 20.0


class SystemClock:
    def now(self) -> Now:
        return Now(time.monotonic(), time.time())


class MemoryWriter:
    def __init__(self, store: MemoryStore, digest: str, size: int) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self.data = store.partial.setdefault(digest, bytearray())
        self.received = len(self.data)

    async def write(self, chunk: bytes) -> None:
        self.data += chunk
        self.received = len(self.data)
        await trio.lowlevel.checkpoint()

    async def finish(self) -> None:
        data = bytes(self._store.partial.pop(self._digest))
        if hashlib.sha256(data).hexdigest() != self._digest or len(data) != self._size:
            raise Malformed("digest mismatch")
        self._store.blobs[self._digest] = data

    async def abandon(self) -> None:
        self._store.partial.pop(self._digest, None)


class MemoryStore:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.partial: dict[str, bytearray] = {}

    async def put(self, data: bytes, *, pin: bool = False) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    async def get(self, digest: str) -> bytes:
        return self.blobs[digest]

    async def read_chunk(self, digest: str, index: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if digest not in self.blobs:
            raise NotFound(digest)
        return self.blobs[digest][index * CHUNK : (index + 1) * CHUNK]

    def size(self, digest: str) -> int:
        return len(self.blobs[digest]) if digest in self.blobs else -1

    def path(self, digest: str) -> Path:
        raise NotFound(digest)

    def pin(self, digest: str, pinned: bool) -> None:
        return None

    async def begin(self, digest: str, size: int) -> MemoryWriter:
        return MemoryWriter(self, digest, size)


Answer = Callable[[Channel, str, bytes], Awaitable[bytes]]


class Listener:
    """Remembers everything; answers calls with `answer`, by default an echo; gossip with `verdict`."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, bool]] = []
        self.disconnected: list[str] = []
        self.gossip: list[tuple[str, str, bytes]] = []
        self.messages: list[tuple[str, str, bytes]] = []
        self.blames: list[tuple[str, str]] = []
        self.verdict: Verdict = "accept"
        self.answer: Answer = echo

    def on_connected(self, peer: str, outbound: bool) -> None:
        self.connected.append((peer, outbound))

    def on_disconnected(self, peer: str) -> None:
        self.disconnected.append(peer)

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        self.gossip.append((topic, author, data))
        return self.verdict

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        return await self.answer(channel, peer, request)

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        self.messages.append((stream, peer, data))

    def on_blame(self, peer: str, reason: str) -> None:
        self.blames.append((peer, reason))


async def echo(channel: Channel, peer: str, request: bytes) -> bytes:
    return channel.encode() + b":" + request


class Node:
    def __init__(self, number: int, settings: NetworkSettings) -> None:
        self.listener = Listener()
        self.store = MemoryStore()
        self.seed = bytes([number]) * 32
        self.network = Libp2pNetwork(
            self.seed, settings, self.listener, self.store, SystemClock(), random.Random(number)
        )

    @property
    def id(self) -> str:
        return self.network.peer_id

    def count(self, name: str) -> int:
        return self.network.counters().get(name, 0)

    def knows(self, other: Node, *, keep: bool = True) -> None:
        self.network.learn(other.id, other.network.addresses(), keep=keep)

    def sees(self, other: Node) -> bool:
        return any(c.peer == other.id for c in self.network.connections())


LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def settings(**changes: object) -> NetworkSettings:
    """Short times, so that a test that waits for one of them is quick."""
    base: dict[str, object] = {
        "listen": (LOOPBACK,),
        "redial_first_s": 0.05,
        "redial_max_s": 0.2,
        "restart_first_s": 0.05,
    }
    return NetworkSettings(**{**base, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.network.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Look again at every turn of the loop; real sockets, so there is nothing to wait for but the fact itself."""
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.lowlevel.checkpoint()


async def join(a: Node, b: Node) -> None:
    """Connect a to b and admit both ways, in one swarm."""
    a.knows(b)
    await until(lambda: a.sees(b) and b.sees(a))
    for node, other in ((a, b), (b, a)):
        node.network.set_swarm(SWARM)
        node.network.admit(other.id)


@asynccontextmanager
async def pair(
    a_settings: NetworkSettings | None = None, b_settings: NetworkSettings | None = None
) -> AsyncIterator[tuple[Node, Node]]:
    a, b = Node(1, a_settings or settings()), Node(2, b_settings or settings())
    async with running(a, b):
        await join(a, b)
        yield a, b


@asynccontextmanager
async def stranger(number: int, **options: Any) -> AsyncIterator[Any]:
    """A bare py-libp2p host: another implementation, or an attacker that speaks the lower layers correctly."""
    host = new_host(key_pair=create_new_key_pair(bytes([number]) * 32), **options)
    async with quiet(), host.run(listen_addrs=[Multiaddr(LOOPBACK)]):
        yield host
        await host.close()


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    """A bare host complains when it is shut down under traffic; that is not what a test here is about."""
    try:
        yield
    except* (RuntimeError, SwarmException, IOException):
        pass


async def reach(host: Any, node: Node) -> Any:
    """Connect a bare host to the node; the node's libp2p id."""
    info = info_from_p2p_addr(Multiaddr(node.network.addresses()[0]))
    await host.connect(info)
    return info.peer_id


async def raw_stream(host: Any, node: Node, protocol: str) -> Any:
    return await host.new_stream(await reach(host, node), [TProtocol(protocol)])
