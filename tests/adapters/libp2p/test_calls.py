"""Calls between two real hosts on loopback."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from edgenet_node.errors import Overloaded, Refused, RemoteError, TimedOut, TooLarge, Unreachable
from edgenet_node.ports.network import Channel, Network

from .fakes import SWARM, Node, join, pair, raw_stream, running, settings, stranger, until


async def test_hello_is_open_to_every_connected_peer() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        a.knows(b)
        await until(lambda: a.sees(b))
        network: Network = a.network
        assert await network.call("hello", b.id, b"who?", timeout_s=5) == b"hello:who?"


async def test_many_calls_share_one_stream() -> None:
    async with pair() as (a, b):
        answers: list[bytes] = []

        async def one(i: int) -> None:
            answers.append(await a.network.call("rpc", b.id, b"%d" % i, timeout_s=10))

        async with trio.open_nursery() as nursery:
            for i in range(400):
                nursery.start_soon(one, i)
        assert sorted(answers) == sorted(b"rpc:%d" % i for i in range(400))
        assert b.count("calls_served") == 400
        assert not b.listener.blames


async def test_both_sides_call_each_other_at_once() -> None:
    async with pair() as (a, b):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(call_ok, a, b)
                nursery.start_soon(call_ok, b, a)
        assert (a.count("calls_served"), b.count("calls_served")) == (20, 20)


async def call_ok(a: Node, b: Node) -> None:
    assert await a.network.call("rpc", b.id, b"x", timeout_s=10) == b"rpc:x"


async def test_a_slow_answer_holds_up_no_other() -> None:
    async with pair() as (a, b):
        release = trio.Event()

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            if request == b"slow":
                await release.wait()
            return request

        b.listener.answer = answer
        got: list[bytes] = []

        async def slow() -> None:
            got.append(await a.network.call("rpc", b.id, b"slow", timeout_s=10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await until(lambda: b.count("calls_served") == 1)
            assert await a.network.call("rpc", b.id, b"quick", timeout_s=10) == b"quick"
            assert not got
            release.set()
        assert got == [b"slow"]


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
async def test_frames_of_every_size(size: int) -> None:
    async with pair() as (a, b):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            return request

        b.listener.answer = answer
        request = bytes(size)
        assert await a.network.call("rpc", b.id, request, timeout_s=10) == request


async def test_errors_of_the_other_side_arrive_as_themselves() -> None:
    async with pair() as (a, b):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            if request == b"bug":
                raise ZeroDivisionError("my secret")
            raise Overloaded("later", retry_after_s=3)

        b.listener.answer = answer
        with pytest.raises(Overloaded, match="later") as caught:
            await a.network.call("rpc", b.id, b"x", timeout_s=5)
        assert caught.value.retry_after_s == 3
        with pytest.raises(RemoteError, match="internal error"):
            await a.network.call("rpc", b.id, b"bug", timeout_s=5)
        assert b.count("faults") == 1


async def test_oversized_requests_and_responses_are_refused() -> None:
    small = settings(frame_bytes_max=2000)
    async with pair(small, small) as (a, b):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            return bytes(2001)

        b.listener.answer = answer
        with pytest.raises(TooLarge, match="request of 2001"):
            await a.network.call("rpc", b.id, bytes(2001), timeout_s=5)
        with pytest.raises(TooLarge, match="response has 2001"):
            await a.network.call("rpc", b.id, b"", timeout_s=5)


async def test_a_call_that_times_out_is_cancelled_over_there() -> None:
    async with pair() as (a, b):
        ended = trio.Event()

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        b.listener.answer = answer
        with pytest.raises(TimedOut):
            await a.network.call("rpc", b.id, b"x", timeout_s=0.2)
        with trio.fail_after(5):
            await ended.wait()


async def test_a_withdrawn_call_is_cancelled_over_there() -> None:
    async with pair() as (a, b):
        begun, ended = trio.Event(), trio.Event()

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        b.listener.answer = answer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: a.network.call("rpc", b.id, b"x", timeout_s=60))
            await begun.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await ended.wait()


async def test_calls_in_flight_are_bounded_on_both_sides() -> None:
    async with pair(settings(calls_in_flight_per_peer_max=8), settings(calls_in_flight_per_peer_max=2)) as (a, b):
        release = trio.Event()

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            await release.wait()
            return request

        b.listener.answer = answer
        refused: list[Overloaded] = []
        answered: list[bytes] = []

        async def one() -> None:
            try:
                answered.append(await a.network.call("rpc", b.id, b"x", timeout_s=10))
            except Overloaded as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
            await until(lambda: len(refused) == 3)
            assert all(error.retry_after_s > 0 for error in refused)
            release.set()
        assert len(answered) == 2


async def test_waiting_calls_are_bounded() -> None:
    async with pair(settings(calls_in_flight_per_peer_max=1, calls_waiting_per_peer_max=1)) as (a, b):

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            await trio.sleep_forever()

        b.listener.answer = answer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: a.network.call("rpc", b.id, b"1", timeout_s=60))
            await until(lambda: b.count("calls_served") == 1)
            nursery.start_soon(lambda: a.network.call("rpc", b.id, b"2", timeout_s=60))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Overloaded, match="too many calls wait"):
                await a.network.call("rpc", b.id, b"3", timeout_s=60)
            nursery.cancel_scope.cancel()


async def test_calls_to_a_stranger_and_without_a_swarm_fail_at_once() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        with pytest.raises(Unreachable, match="not connected"):
            await a.network.call("hello", b.id, b"", timeout_s=5)
        with pytest.raises(Unreachable, match="not joined a swarm"):
            await a.network.call("rpc", b.id, b"", timeout_s=5)
    with pytest.raises(Unreachable, match="restarted"):
        await a.network.call("hello", b.id, b"", timeout_s=5)


async def test_a_peer_of_another_swarm_has_no_such_stream() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        a.knows(b)
        await until(lambda: a.sees(b) and b.sees(a))
        a.network.set_swarm(SWARM)
        b.network.set_swarm("cd" * 32)
        a.network.admit(b.id)
        b.network.admit(a.id)
        with pytest.raises(Unreachable, match="does not serve"):
            await a.network.call("rpc", b.id, b"", timeout_s=5)


async def test_calls_break_when_the_peer_goes() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a):
        async with running(b):
            await join(a, b)

            async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
                await trio.sleep_forever()

            b.listener.answer = answer
            errors: list[Unreachable] = []

            async def one() -> None:
                try:
                    await a.network.call("rpc", b.id, b"x", timeout_s=60)
                except Unreachable as error:
                    errors.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                await until(lambda: b.count("calls_served") == 1)
                await b.network.close()
                await until(lambda: len(errors) == 1)
        await until(lambda: a.listener.disconnected == [b.id])


async def test_the_stream_is_opened_again_after_it_broke() -> None:
    async with pair(None, settings(idle_timeout_s=0.1)) as (a, b):
        assert await a.network.call("rpc", b.id, b"1", timeout_s=5) == b"rpc:1"
        await until(lambda: b.count("streams_idle_closed") == 1)
        assert await a.network.call("rpc", b.id, b"2", timeout_s=5) == b"rpc:2"
        assert not b.listener.blames


async def test_other_implementations_may_end_their_half_before_the_answer() -> None:
    node = Node(1, settings())
    async with running(node), stranger(2) as host:
        stream = await raw_stream(host, node, "/edgenet/hello/1")
        await stream.write(bytes.fromhex("0000000c 0000000000000005 00".replace(" ", "")) + b"abc")
        await stream.close_write()
        answer = b""
        with trio.fail_after(5):
            while len(answer) < 13 + len("hello:abc"):
                answer += await stream.read(100)
        assert answer == bytes.fromhex("00000012 0000000000000005 01".replace(" ", "")) + b"hello:abc"
        assert not node.listener.blames


async def test_refused_peers_are_told_why_dropped_and_kept_out() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a, b):
        await join(a, b)
        assert await a.network.call("rpc", b.id, b"1", timeout_s=5)
        waiting = trio.Event()

        async def answer(channel: Channel, peer: str, request: bytes) -> bytes:
            waiting.set()
            await trio.sleep_forever()

        b.listener.answer = answer
        reasons: list[str] = []

        async def one() -> None:
            try:
                await a.network.call("rpc", b.id, b"2", timeout_s=60)
            except Refused as error:
                reasons.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await waiting.wait()
            b.network.refuse(a.id, "wrong swarm")
        assert reasons == ["wrong swarm"]
        await until(lambda: b.listener.disconnected == [a.id] and a.listener.disconnected != [])
        refused = b.count("connections_refused")
        await until(lambda: b.count("connections_refused") > refused + 1)
        assert len(b.listener.connected) == 1
        assert not b.sees(a)
