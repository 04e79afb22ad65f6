"""Calls and gossip between nodes over the fake network, and hostile bytes."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.effects import Call, Done, Effect, Envelope, Now, Part, Publish, Put, Reply, Transfer
from edgenet_node.errors import (
    EdgenetError,
    InvariantError,
    LocalError,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    TimedOut,
    Unreachable,
)
from edgenet_node.messages.network import Blame, PeerConnected, PeerDisconnected
from edgenet_node.runtime import Runtime
from edgenet_node.testing.determinism import seed_scheduler
from edgenet_node.testing.inline_executor import InlineExecutor
from edgenet_node.testing.network import Link
from edgenet_node.testing.world import Ports, World, until

from .toys import Add, Get, Happened, Memo, Note, ToyWire

SWARM = "aa"


class Command(Note, frozen=True):
    """`text` is `call PEER N`, `publish TEXT` or `fetch PEER DIGEST`."""


class Peer:
    """Adds when called; does what it is told; remembers all it sees."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.done: list[Done] = []
        self.heard: list[Any] = []
        self.gossip: list[tuple[str, str]] = []
        self.callers: list[str] = []
        self.tag = 0

    def restore(self, rows: Any, now: Now) -> list[Effect]:
        return []

    def wake_at(self) -> float:
        return float("inf")

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Command(text=text):
                self.tag += 1
                verb, *words = text.split()
                if verb == "call":
                    return [Call(self.tag, words[0], Add(int(words[1])), 2.0)]
                if verb == "get":
                    return [Call(self.tag, words[0], Get(), 2.0)]
                if verb == "fetch":
                    return [Transfer(self.tag, words[0], words[1], 10_000_000, 2.0)]
                return [Publish(Note(words[0]))]
            case Add(amount=13):
                return [Reply(e.reply_to, error=InvariantError("a path of mine: /secret"))]
            case Add(amount=14):
                return []
            case Add(amount=amount):
                self.callers.append(e.sender)
                self.total += amount
                return [Put("t", "total", str(self.total).encode()), Reply(e.reply_to, self.total)]
            case Get():
                return [Reply(e.reply_to, self.total)]
            case Done():
                self.done.append(e.body)
            case Note(text=text):
                self.gossip.append((e.sender, text))
            case _:
                self.heard.append(e.body)
        return []


class Swarm:
    """A world of `Peer`s, each of which admits every other."""

    def __init__(self, seed: int = 0, link: Link | None = None) -> None:
        seed_scheduler(seed)
        self.peers: dict[str, Peer] = {}
        self.world = World(seed, self._build, link=link)

    async def start(self, nursery: trio.Nursery, *names: str) -> None:
        await nursery.start(self.world.run)
        await self.world.start(*names)
        self.world.network.mesh()
        for name in names:
            self.admit_all(name)
        await until(lambda: all(len(peer.heard) == len(names) - 1 for peer in self.peers.values()))

    def admit_all(self, name: str) -> None:
        self.world.runtime(name).set_swarm(SWARM)
        for other in self.world.nodes:
            if other != name:
                self.world.nodes[name].ports.network.admit(other)

    def tell(self, name: str, command: str) -> None:
        assert self.world.runtime(name).bus.tell(Command(command))

    def _build(self, ports: Ports) -> Runtime:
        peer = self.peers[ports.peer] = Peer(ports.peer)
        part = Part(
            "peer",
            lambda: peer,
            accepts=(Add, Get, Note, Command),
            remote=(Add, Note),
            hears=(PeerConnected, PeerDisconnected, Blame),
        )
        return Runtime(
            [part],
            store=ports.store,
            network=ports.network,
            executor=InlineExecutor({}),
            clock=ports.clock,
            rng=ports.rng,
            wire=ToyWire(),
        )


async def test_a_call_between_two_nodes(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        swarm.tell("a", "call b 5")
        swarm.tell("a", "call b 6")
        a, b = swarm.peers["a"], swarm.peers["b"]
        await until(lambda: len(a.done) == 2)
        assert sorted(done.value for done in a.done) in ([5, 11], [6, 11])
        assert b.callers == ["a", "a"]
        assert swarm.world.store("b").rows()["peer"] == {("t", "total"): b"11"}
        counters = swarm.world.runtime("b").bus.counters().wiring
        assert (counters.calls_in, counters.calls_refused) == (2, 0)
        nursery.cancel_scope.cancel()


async def test_a_call_to_oneself_takes_the_same_door(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a")
        swarm.tell("a", "call a 5")
        swarm.tell("a", "get a")
        a = swarm.peers["a"]
        await until(lambda: len(a.done) == 2)
        outcome = {done.tag: done.value or type(done.error) for done in a.done}
        assert outcome == {1: 5, 2: Refused}
        assert a.callers == ["a"]
        nursery.cancel_scope.cancel()


async def test_errors_cross_the_wire_without_our_secrets(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        for command in ("call b 13", "get b", "call b 14", "call nobody 1", "fetch b 00"):
            swarm.tell("a", command)
        a = swarm.peers["a"]
        await until(lambda: len(a.done) == 5)
        errors = {done.tag: done.error for done in a.done}
        assert isinstance(errors[1], LocalError)
        assert "secret" not in str(errors[1])
        assert isinstance(errors[2], Refused)
        assert "Get is not open to peers" in str(errors[2])
        assert isinstance(errors[3], TimedOut)
        assert isinstance(errors[4], Unreachable)
        assert isinstance(errors[5], NotFound)
        nursery.cancel_scope.cancel()


async def test_a_partition_is_silence_until_the_deadline(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        swarm.world.partition(["a"], ["b"])
        start = trio.current_time()
        swarm.tell("a", "call b 1")
        a = swarm.peers["a"]
        await until(lambda: len(a.done) == 1)
        assert isinstance(a.done[0].error, TimedOut)
        assert trio.current_time() - start == pytest.approx(2.0, abs=0.05)
        swarm.world.heal()
        swarm.tell("a", "call b 2")
        await until(lambda: len(a.done) == 2)
        assert a.done[1].value == 2
        nursery.cancel_scope.cancel()


async def test_a_crashed_peer_is_noticed_and_comes_back(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        swarm.tell("a", "call b 14")
        a = swarm.peers["a"]
        await until(lambda: swarm.world.runtime("b").bus.counters().wiring.calls_in == 1)
        await swarm.world.crash("b")
        await until(lambda: len(a.done) == 1)
        assert isinstance(a.done[0].error, Unreachable)
        await until(lambda: PeerDisconnected("b") in a.heard)
        await swarm.world.restart("b")
        swarm.world.network.mesh()
        swarm.admit_all("b")
        swarm.tell("a", "call b 3")
        await until(lambda: len(a.done) == 2)
        assert a.done[1].value == 3
        nursery.cancel_scope.cancel()


async def test_gossip_reaches_all_and_may_come_twice(autojump_clock: MockClock) -> None:
    swarm = Swarm(link=Link(duplicate=1.0))
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b", "c")
        swarm.tell("a", "publish hello")
        b, c = swarm.peers["b"], swarm.peers["c"]
        await until(lambda: len(b.gossip) == len(c.gossip) == 2)
        assert b.gossip == c.gossip == [("a", "hello")] * 2
        assert swarm.peers["a"].gossip == []
        counters = swarm.world.runtime("a").bus.counters().wiring
        assert (counters.published, counters.publish_dropped) == (1, 0)
        nursery.cancel_scope.cancel()


async def test_without_a_swarm_nothing_is_published(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await nursery.start(swarm.world.run)
        await swarm.world.start("a")
        swarm.tell("a", "publish early")
        bus = swarm.world.runtime("a").bus
        await until(lambda: bus.counters().wiring.publish_dropped == 1)
        swarm.world.runtime("a").set_swarm(SWARM)
        with pytest.raises(InvariantError, match="one swarm"):
            swarm.world.runtime("a").set_swarm("bb")
        nursery.cancel_scope.cancel()


async def test_bad_bytes_are_refused_blamed_and_survived(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        listener = swarm.world.runtime("b").listener
        wire = ToyWire()
        assert listener.on_gossip(f"/edgenet/{SWARM}/Note/1", "a", b"\xc1") == "reject"
        assert listener.on_gossip(f"/edgenet/{SWARM}/Nothing/1", "a", b"\x80") == "reject"
        memo = wire.encode_gossip(Memo("well formed, unwanted"), SWARM)
        assert listener.on_gossip(memo[0], "a", memo[1]) == "ignore"
        with pytest.raises(Malformed):
            wire.decode_reply(Get(), await listener.on_call("rpc", "a", b"\xc1"))
        listener.on_blame("a", "flooding")
        b = swarm.peers["b"]
        await until(lambda: sum(isinstance(event, Blame) for event in b.heard) == 4)
        counters = swarm.world.runtime("b").bus.counters().wiring
        assert (counters.gossip_rejected, counters.gossip_ignored, counters.blamed) == (2, 1, 4)
        assert await swarm.world.runtime("b").bus.ask(Add(1), 1.0) == 1
        nursery.cancel_scope.cancel()


async def test_an_answer_that_does_not_decode_is_blamed(autojump_clock: MockClock) -> None:
    class Babbler:
        def on_connected(self, peer: str, outbound: bool) -> None: ...
        def on_disconnected(self, peer: str) -> None: ...
        def on_gossip(self, topic: str, author: str, data: bytes) -> Any: ...
        def on_blame(self, peer: str, reason: str) -> None: ...
        def on_message(self, stream: str, peer: str, data: bytes) -> None: ...
        async def on_call(self, channel: Any, peer: str, request: bytes) -> bytes:
            return b"\xc1"

    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a")
        babbler = swarm.world.network.node("babbler")
        babbler.attach(Babbler())
        babbler.admit("a")
        swarm.world.network.connect("a", "babbler")
        swarm.tell("a", "call babbler 1")
        a = swarm.peers["a"]
        await until(lambda: len(a.done) == 1)
        error = a.done[0].error
        assert isinstance(error, Malformed)
        assert error.peer == "babbler"
        await until(lambda: Blame("babbler", "answer to Add: not an answer") in a.heard)
        nursery.cancel_scope.cancel()


async def test_one_peer_cannot_hold_all_calls(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a")
        listener = swarm.world.runtime("a").listener
        wire = ToyWire()
        overloaded: list[EdgenetError] = []

        async def call(amount: int) -> None:
            try:
                wire.decode_reply(Add(amount), await listener.on_call("rpc", "greedy", wire.encode_call(Add(amount))))
            except Overloaded as error:
                overloaded.append(error)

        for _ in range(130):
            nursery.start_soon(call, 14)
        await until(lambda: len(overloaded) == 2)
        answer = await listener.on_call("rpc", "modest", wire.encode_call(Add(1)))
        assert wire.decode_reply(Add(1), answer) == 1
        nursery.cancel_scope.cancel()


async def test_connections_are_events(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    async with trio.open_nursery() as nursery:
        await swarm.start(nursery, "a", "b")
        assert swarm.peers["a"].heard == [PeerConnected("b", True)]
        assert swarm.peers["b"].heard == [PeerConnected("a", False)]
        swarm.world.network.disconnect("a", "b")
        await until(lambda: swarm.peers["a"].heard[-1] == PeerDisconnected("b"))
        assert Happened(0) not in swarm.peers["a"].heard
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
def test_a_run_is_a_function_of_its_seed(seed: int) -> None:
    async def history() -> list[Any]:
        swarm = Swarm(seed, Link(loss=0.2, duplicate=0.2))
        async with trio.open_nursery() as nursery:
            await swarm.start(nursery, "a", "b", "c")
            for number in range(20):
                swarm.tell("a", f"call {'bc'[number % 2]} {number + 20}")
                swarm.tell("b", f"publish {number}")
            await until(lambda: len(swarm.peers["a"].done) == 20)
            nursery.cancel_scope.cancel()
        peers = swarm.peers.values()
        return [trio.current_time(), [(peer.gossip, peer.callers, [str(done) for done in peer.done]) for peer in peers]]

    first, second = (trio.run(history, clock=MockClock(autojump_threshold=0)) for _ in range(2))
    assert first == second
