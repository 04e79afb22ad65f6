"""The fake network keeps its own promises: delay, loss, duplication, partition, admission, transfer, dialling."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.errors import InvariantError, NotFound, Overloaded, Refused, TimedOut, TooLarge, Unreachable
from edgenet_node.ports.network import Channel, Network, NetworkListener, Verdict
from edgenet_node.testing.artifacts import MemoryArtifacts
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.lanes import QUEUE_FRAMES_MAX
from edgenet_node.testing.network import (
    ADMISSION_WAIT_S,
    CHUNK_BYTES,
    FRAME_BYTES_MAX,
    GOSSIP_BYTES_MAX,
    PUBLISHING_MAX,
    FakeNetwork,
    FakeNode,
    Link,
)
from edgenet_node.testing.world import until


class Ear:
    """Echoes calls and writes down what happens."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.gossip: list[tuple[str, bytes]] = []
        self.messages: list[tuple[str, str, bytes]] = []
        self.calls = 0
        self.hold: trio.Event | None = None

    def on_connected(self, peer: str, outbound: bool) -> None:
        self.heard.append(("connected", peer, outbound))

    def on_disconnected(self, peer: str) -> None:
        self.heard.append(("disconnected", peer))

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        self.gossip.append((author, data))
        return "accept"

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        self.calls += 1
        if self.hold is not None:
            await self.hold.wait()
        return f"{channel} {peer} ".encode() + request

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        self.messages.append((stream, peer, data))

    def on_blame(self, peer: str, reason: str) -> None:
        self.heard.append(("blame", peer, reason))


class Fabric:
    def __init__(self, network: FakeNetwork) -> None:
        self.network = network
        self.nodes: dict[str, FakeNode] = {}
        self.ears: dict[str, Ear] = {}

    def add(self, peer: str, *, swarm: str = "aa") -> FakeNode:
        node = self.nodes[peer] = self.network.node(peer, MemoryArtifacts())
        self.ears[peer] = Ear()
        listener: NetworkListener = self.ears[peer]
        node.attach(listener)
        node.set_swarm(swarm)
        return node

    def admit_all(self) -> None:
        for node in self.nodes.values():
            for peer in self.nodes:
                if peer != node.peer_id:
                    node.admit(peer)


@asynccontextmanager
async def fabric(*peers: str, link: Link | None = None, seed: int = 0) -> AsyncIterator[Fabric]:
    """Connected in a mesh, all admitted."""
    seed_scheduler(seed)
    async with trio.open_nursery() as nursery:
        built = Fabric(FakeNetwork(seed, link))
        await nursery.start(built.network.run)
        for peer in peers:
            built.add(peer)
        built.network.mesh()
        built.admit_all()
        yield built
        nursery.cancel_scope.cancel()


async def test_a_call_takes_its_time_and_comes_back(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=0.1, delay_max_s=0.2)) as net:
        port: Network = net.nodes["a"]
        assert await port.call("rpc", "b", b"hi", timeout_s=1.0) == b"rpc a hi"
        assert 0.2 <= trio.current_time() <= 0.41
        assert net.ears["a"].heard == [("connected", "b", True)]
        assert net.ears["b"].heard == [("connected", "a", False)]
        connection = port.connections()[0]
        assert (connection.peer, connection.admitted, connection.address) == ("b", True, net.nodes["b"].addresses()[0])
        assert connection.address.endswith("/p2p/b")


async def test_many_calls_run_at_once(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=0.1, delay_max_s=0.1)) as net:
        answers: list[bytes] = []

        async def call(number: int) -> None:
            answers.append(await net.nodes["a"].call("hello", "b", str(number).encode(), timeout_s=1.0))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(call, number)
        assert sorted(answers) == sorted(f"hello a {number}".encode() for number in range(100))
        assert trio.current_time() < 0.3


async def test_loss_and_partition_are_silence(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", "c") as net:
        net.network.partition(["a"], ["b"])
        with pytest.raises(TimedOut):
            await net.nodes["a"].call("rpc", "b", b"", timeout_s=1.0)
        assert await net.nodes["a"].call("rpc", "c", b"", timeout_s=1.0) == b"rpc a "
        assert net.ears["b"].calls == 0
        net.network.heal()
        net.network.set_link("b", "a", Link(loss=1.0))
        with pytest.raises(TimedOut):
            await net.nodes["a"].call("rpc", "b", b"", timeout_s=1.0)
        assert net.ears["b"].calls == 1, "only the way back was lossy"
        assert net.network.frames_lost == 2


async def test_a_partition_catches_what_is_under_way(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=1.0, delay_max_s=1.0)) as net:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(TimedOut):
                    await net.nodes["a"].call("rpc", "b", b"", timeout_s=5.0)

            nursery.start_soon(call)
            await until(lambda: trio.current_time() >= 0.5)
            net.network.partition(["a"], ["b"])
        assert net.ears["b"].calls == 0


async def test_a_broken_connection_ends_its_calls(autojump_clock: MockClock) -> None:
    async with fabric("a", "b") as net:
        net.ears["b"].hold = trio.Event()
        ends: list[Callable[[], None]] = [
            lambda: net.network.disconnect("a", "b"),
            lambda: net.network.crash("b"),
        ]
        for end in ends:
            net.network.connect("a", "b")
            calls = net.ears["b"].calls
            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    with pytest.raises(Unreachable):
                        await net.nodes["a"].call("rpc", "b", b"", timeout_s=1000.0)

                nursery.start_soon(call)
                await until(lambda before=calls: net.ears["b"].calls == before + 1)  # type: ignore[misc]
                end()
            with pytest.raises(Unreachable, match="not connected"):
                await net.nodes["a"].call("rpc", "b", b"", timeout_s=1.0)
        assert trio.current_time() < 10.0
        assert net.ears["a"].heard[-1] == ("disconnected", "b")


async def test_rpc_waits_for_admission_and_hello_does_not(autojump_clock: MockClock) -> None:
    async with fabric("a") as net:
        stranger = net.add("stranger")
        net.network.connect("stranger", "a")
        assert await stranger.call("hello", "a", b"", timeout_s=1.0) == b"hello stranger "
        with pytest.raises(Refused, match="not admitted"):
            await stranger.call("rpc", "a", b"", timeout_s=60.0)
        assert trio.current_time() >= ADMISSION_WAIT_S
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                assert await stranger.call("rpc", "a", b"", timeout_s=60.0) == b"rpc stranger "

            nursery.start_soon(call)
            at = trio.current_time() + 1.0
            await until(lambda: trio.current_time() >= at)
            net.nodes["a"].admit("stranger")
        net.nodes["a"].admitted.discard("stranger")
        with pytest.raises(TimedOut):
            await stranger.call("rpc", "a", b"", timeout_s=1.0)


async def test_a_refused_peer_hears_why_and_stays_away_for_a_while(autojump_clock: MockClock) -> None:
    async with fabric("a", "b") as net:
        net.ears["b"].hold = trio.Event()
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(Refused, match="another swarm"):
                    await net.nodes["a"].call("rpc", "b", b"", timeout_s=100.0)

            nursery.start_soon(call)
            await until(lambda: net.ears["b"].calls == 1)
            net.nodes["b"].refuse("a", "another swarm")
        net.network.connect("a", "b")
        assert net.nodes["a"].connections() == ()
        await until(lambda: trio.current_time() > 61.0, timeout_s=100.0)
        net.network.connect("a", "b")
        assert len(net.nodes["a"].connections()) == 1


async def test_gossip_goes_over_hops_but_not_to_strangers(autojump_clock: MockClock) -> None:
    async with fabric() as net:
        for peer in ("a", "b", "c"):
            net.add(peer)
        net.add("other", swarm="bb")
        net.add("undecided")
        net.network.connect("a", "b")
        net.network.connect("b", "c")
        for peer in ("other", "undecided"):
            net.network.connect("a", peer)
        net.admit_all()
        net.nodes["a"].admitted.discard("undecided")
        net.nodes["a"].publish("/edgenet/aa/note/1", b"x")
        await until(lambda: net.nodes["a"].publishing == 0)
        reached = {peer for peer, ear in net.ears.items() if ear.gossip}
        assert reached == {"b", "c"}
        assert net.ears["c"].gossip == [("a", b"x")]
        net.network.partition(["a"], ["b"])
        net.nodes["a"].publish("/edgenet/aa/note/1", b"y")
        assert net.nodes["a"].publishing == 0, "nobody can be reached"


async def test_gossip_is_lost_and_duplicated_as_often_as_told(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(loss=0.3, duplicate=0.5), seed=7) as net:
        for number in range(500):
            net.nodes["a"].publish("/edgenet/aa/note/1", str(number).encode())
        await until(lambda: net.nodes["a"].publishing == 0)
        got = [data for _, data in net.ears["b"].gossip]
        assert 0.85 < len(got) / (500 * 1.5 * 0.7) < 1.15
        assert len(set(got)) < len(got)
        assert got != sorted(got, key=int), "delays differ, so order does"


async def test_limits_are_refused_at_the_sender(autojump_clock: MockClock) -> None:
    async with fabric("a", "b") as net:
        node = net.nodes["a"]
        with pytest.raises(TooLarge):
            node.publish("/edgenet/aa/note/1", b"x" * (GOSSIP_BYTES_MAX + 1))
        with pytest.raises(TooLarge):
            await node.call("rpc", "b", b"x" * (FRAME_BYTES_MAX + 1), timeout_s=1.0)
        for _ in range(PUBLISHING_MAX):
            node.publish("/edgenet/aa/note/1", b"x")
        with pytest.raises(Overloaded):
            node.publish("/edgenet/aa/note/1", b"x")
        with pytest.raises(InvariantError, match="one swarm"):
            node.set_swarm("bb")


async def test_artifacts_travel_in_chunks_and_resume(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=0.01, delay_max_s=0.01)) as net:
        source, target = net.nodes["b"].artifacts, net.nodes["a"].artifacts
        assert source is not None
        assert target is not None
        data = random.Random(1).randbytes(3 * CHUNK_BYTES + 17)
        digest = await source.put(data)
        assert digest == hashlib.sha256(data).hexdigest()
        with pytest.raises(TooLarge):
            await net.nodes["a"].fetch("b", digest, size_max=len(data) - 1, timeout_s=9.0)
        with pytest.raises(NotFound):
            await net.nodes["a"].fetch("b", "00" * 32, size_max=10, timeout_s=9.0)
        with pytest.raises(TimedOut):
            await net.nodes["a"].fetch("b", digest, size_max=len(data), timeout_s=0.05)
        partial = await target.begin(digest, len(data))
        assert 0 < partial.received < len(data)
        assert await net.nodes["a"].fetch("b", digest, size_max=len(data), timeout_s=9.0) == len(data)
        assert await target.get(digest) == data


async def test_a_kept_peer_is_dialled_for_ever_and_others_once(autojump_clock: MockClock) -> None:
    async with fabric("a") as net:
        node = net.nodes["a"]
        node.learn("boot", ("/ip4/10.0.0.9/tcp/4001",), keep=True)
        node.learn("casual", ("/ip4/10.0.0.8/tcp/4001",), keep=False)
        await until(lambda: trio.current_time() > 30.0)
        net.add("boot")
        net.add("casual")
        await until(lambda: bool(node.connections()))
        assert [connection.peer for connection in node.connections()] == ["boot"]
        net.network.disconnect("a", "boot")
        await until(lambda: bool(node.connections()))
        net.network.crash("boot")
        await until(lambda: not node.connections())
        net.add("boot")
        await until(lambda: bool(node.connections()))
        with pytest.raises(InvariantError, match="there already"):
            net.add("boot")


# ---- one-way messages


async def test_messages_keep_their_order_over_a_link_that_varies(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=0.0, delay_max_s=1.0)) as net:
        for number in range(200):
            net.nodes["a"].send("raft/1", "b", str(number).encode())
        await trio.sleep(2)
        assert net.ears["b"].messages == [("raft/1", "a", str(number).encode()) for number in range(200)]


async def test_lost_messages_are_silence_and_the_others_arrive_once(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(loss=0.5, duplicate=0.5)) as net:
        for number in range(200):
            net.nodes["a"].send("raft/1", "b", bytes([number]))
        await trio.sleep(2)
        heard = [data[0] for _, _, data in net.ears["b"].messages]
        assert heard == sorted(set(heard))
        assert 50 < len(heard) < 150
        assert net.network.frames_lost == 200 - len(heard)
        net.network.set_default(Link())
        net.network.partition(["a"], ["b"])
        net.nodes["a"].send("raft/1", "b", b"cut")
        await trio.sleep(2)
        net.network.heal()
        net.nodes["a"].send("raft/1", "b", b"healed")
        await trio.sleep(2)
        assert [data for _, _, data in net.ears["b"].messages][len(heard) :] == [b"healed"]


async def test_messages_under_way_die_with_the_connection(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=1.0, delay_max_s=1.0)) as net:
        net.nodes["a"].send("raft/1", "b", b"lost")
        net.network.disconnect("a", "b")
        with pytest.raises(Unreachable):
            net.nodes["a"].send("raft/1", "b", b"nobody there")
        net.network.connect("a", "b")
        net.nodes["a"].send("raft/1", "b", b"kept")
        await trio.sleep(3)
        assert [data for _, _, data in net.ears["b"].messages] == [b"kept"]
        net.network.crash("b")
        with pytest.raises(Unreachable):
            net.nodes["a"].send("raft/1", "b", b"dead")


async def test_messages_are_bounded_and_the_newest_is_shed(autojump_clock: MockClock) -> None:
    async with fabric("a", "b", link=Link(delay_min_s=1.0, delay_max_s=1.0)) as net:
        for number in range(QUEUE_FRAMES_MAX):
            net.nodes["a"].send("raft/1", "b", str(number).encode())
        with pytest.raises(Overloaded):
            net.nodes["a"].send("raft/1", "b", b"one too many")
        with pytest.raises(TooLarge):
            net.nodes["a"].send("raft/1", "b", bytes((1 << 20) + 1))
        await trio.sleep(3)
        assert len(net.ears["b"].messages) == QUEUE_FRAMES_MAX
        for _ in range(8):
            net.nodes["a"].send("raft/1", "b", bytes(1 << 20))
        with pytest.raises(Overloaded):
            net.nodes["a"].send("raft/1", "b", b"x")


async def test_messages_wait_for_admission_on_both_sides(autojump_clock: MockClock) -> None:
    async with fabric() as net:
        for peer in ("a", "b"):
            net.add(peer)
        net.network.connect("a", "b")
        a, b = net.nodes["a"], net.nodes["b"]
        with pytest.raises(Unreachable):
            a.send("raft/1", "b", b"not admitted here")
        a.admit("b")
        a.send("raft/1", "b", b"waits")
        await trio.sleep(1)
        assert net.ears["b"].messages == []
        b.admit("a")
        await trio.sleep(1)
        assert net.ears["b"].messages == [("raft/1", "a", b"waits")]


async def test_messages_to_another_swarm_or_to_one_that_never_decides_are_lost(autojump_clock: MockClock) -> None:
    async with fabric("a") as net:
        net.add("other", swarm="bb")
        net.add("mute")
        for peer in ("other", "mute"):
            net.network.connect("a", peer)
            net.nodes["a"].admit(peer)
            net.nodes["a"].send("raft/1", peer, b"x")
        net.nodes["other"].admit("a")
        await trio.sleep(60)
        assert net.ears["other"].messages == net.ears["mute"].messages == []
        net.nodes["mute"].admit("a")
        net.nodes["a"].send("raft/1", "mute", b"now")
        await trio.sleep(1)
        assert net.ears["mute"].messages == [("raft/1", "a", b"now")]
