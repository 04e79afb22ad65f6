"""The keeper that does not give up, the host that is rebuilt, the frozen peer that is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from edgenet_node.errors import Unreachable

from .fakes import SWARM, Node, join, pair, running, settings, until


async def test_a_kept_peer_that_restarts_is_found_again() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a):
        async with running(b):
            await join(a, b)
            address = b.network.addresses()[0].partition("/p2p/")[0]
        await until(lambda: a.listener.disconnected == [b.id])
        await until(lambda: a.count("dials_failed") >= 2)
        again = Node(2, settings(listen=(address,)))
        async with running(again):
            await until(lambda: a.sees(again))
            again.network.set_swarm(SWARM)
            again.network.admit(a.id)
            assert await a.network.call("rpc", b.id, b"x", timeout_s=5) == b"rpc:x"
            assert a.listener.connected == [(b.id, True), (b.id, True)]


async def test_a_bootstrap_peer_is_dialled_at_the_start() -> None:
    b = Node(2, settings())
    async with running(b):
        a = Node(1, settings(bootstrap=tuple(b.network.addresses())))
        async with running(a):
            await until(lambda: a.sees(b))


async def test_nodes_that_dial_each_other_at_once_see_one_peer() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        a.knows(b)
        b.knows(a)
        await until(lambda: a.sees(b) and b.sees(a))
        assert await a.network.call("hello", b.id, b"x", timeout_s=5) == b"hello:x"
        assert [peer for peer, _ in a.listener.connected] == [b.id]
        assert [peer for peer, _ in b.listener.connected] == [a.id]


async def test_a_crashed_host_is_rebuilt_on_its_port_without_losing_the_node() -> None:
    async with pair() as (a, b):
        before = b.network.addresses()
        live = b.network._live
        assert live is not None

        async def bug() -> None:
            raise ZeroDivisionError("a bug of the library")

        live.swarm.manager.run_task(bug)
        await until(lambda: b.listener.disconnected == [a.id])
        with pytest.raises(Unreachable):
            await b.network.call("rpc", a.id, b"x", timeout_s=5)
        b.network.publish("topic", b"waits")
        await until(lambda: b.network.addresses() == before)
        await until(lambda: a.sees(b) and b.sees(a))
        assert await a.network.call("rpc", b.id, b"x", timeout_s=5) == b"rpc:x"
        assert await b.network.call("rpc", a.id, b"x", timeout_s=5) == b"rpc:x"
        assert b.count("host_restarts") == 1
        await until(lambda: b.count("gossip_published") == 1)


@pytest.mark.parametrize("service", ["board", "router"])
async def test_a_crashed_gossip_service_rebuilds_the_host_too(service: str) -> None:
    async with pair() as (a, b):
        live = b.network._live
        assert live is not None

        async def bug() -> None:
            raise ZeroDivisionError("a bug of the library")

        (live.board if service == "board" else live.router)._manager.run_task(bug)
        await until(lambda: b.count("host_restarts") == 1)
        await until(lambda: a.sees(b) and b.sees(a))
        assert await a.network.call("hello", b.id, b"x", timeout_s=5) == b"hello:x"


async def test_shutdown_under_traffic_is_clean() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    calls = 0

    async def caller() -> None:
        nonlocal calls
        while True:
            try:
                await a.network.call("rpc", b.id, bytes(50_000), timeout_s=5)
                calls += 1
            except Unreachable:
                return

    async with running(b):
        async with running(a):
            await join(a, b)
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(caller)
                await until(lambda: calls > 20)
                await a.network.close()
        await until(lambda: b.listener.disconnected == [a.id])


@asynccontextmanager
async def cable(node: Node) -> AsyncIterator[tuple[str, trio.Event]]:
    """A TCP relay to the node, and the event that pulls the plug: no more bytes, no end either."""
    pulled = trio.Event()
    parts = node.network.addresses()[0].split("/")

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            if not pulled.is_set():
                await sink.send_all(data)

    async def relay(near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(parts[2], int(parts[4])) as far, trio.open_nursery() as both:
            both.start_soon(copy, near, far)
            both.start_soon(copy, far, near)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, relay, listeners)
        port = listeners[0].socket.getsockname()[1]
        yield f"/ip4/127.0.0.1/tcp/{port}", pulled
        nursery.cancel_scope.cancel()


async def test_a_frozen_peer_is_noticed() -> None:
    quick = settings(health_interval_s=0.1, health_timeout_s=0.2)
    a, b = Node(1, quick), Node(2, quick)
    async with running(a, b), cable(b) as (address, pulled):
        a.network.learn(b.id, [address], keep=False)
        await until(lambda: a.sees(b) and b.sees(a))
        await until(lambda: a.network.connections()[0].rtt_s > 0)
        pulled.set()
        await until(lambda: a.listener.disconnected == [b.id] and b.listener.disconnected == [a.id])
        assert (a.count("peers_frozen"), b.count("peers_frozen")) == (1, 1)
        with pytest.raises(Unreachable):
            await a.network.call("hello", b.id, b"x", timeout_s=5)
