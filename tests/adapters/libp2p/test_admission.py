"""Undecided peers wait, admitted ones are let in, refused ones stay out for a while."""

from __future__ import annotations

import pytest
import trio

from edgenet_node.adapters.libp2p_network.admission import PEERS_MAX, Admission
from edgenet_node.errors import Refused

from .fakes import SWARM, Node, running, settings, until


async def connect(a: Node, b: Node) -> None:
    a.knows(b)
    await until(lambda: a.sees(b) and b.sees(a))
    a.network.set_swarm(SWARM)
    b.network.set_swarm(SWARM)


async def test_a_call_of_an_undecided_peer_waits_for_the_decision() -> None:
    a, b = Node(1, settings()), Node(2, settings(admission_wait_s=30.0))
    async with running(a, b):
        await connect(a, b)
        answers: list[bytes] = []

        async def one() -> None:
            answers.append(await a.network.call("rpc", b.id, b"x", timeout_s=10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
            await until(lambda: b.network._admission.waiting == 1)
            assert not answers
            b.network.admit(a.id)
        assert answers == [b"rpc:x", b"rpc:x"]


async def test_the_wait_is_bounded() -> None:
    a, b = Node(1, settings()), Node(2, settings(admission_wait_s=0.1))
    async with running(a, b):
        await connect(a, b)
        with pytest.raises(Refused, match="not admitted yet") as caught:
            await a.network.call("rpc", b.id, b"x", timeout_s=10)
        assert caught.value.retry_after_s == pytest.approx(0.1)
        assert b.sees(a)
        b.network.admit(a.id)
        assert await a.network.call("rpc", b.id, b"x", timeout_s=10) == b"rpc:x"


async def test_a_waiting_peer_that_is_refused_hears_why() -> None:
    a, b = Node(1, settings()), Node(2, settings(admission_wait_s=30.0))
    async with running(a, b):
        await connect(a, b)
        reasons: list[str] = []

        async def one() -> None:
            with pytest.raises(Refused) as caught:
                await a.network.call("rpc", b.id, b"x", timeout_s=10)
            reasons.append(caught.value.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await until(lambda: b.network._admission.waiting == 1)
            b.network.refuse(a.id, "genesis differs")
        assert reasons == ["genesis differs"]


async def test_an_admission_survives_a_reconnect_and_shows() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(b):
        async with running(a):
            await connect(a, b)
            b.network.admit(a.id)
            assert [c.admitted for c in b.network.connections()] == [True]
        await until(lambda: not b.sees(a))
        again = Node(1, settings())
        async with running(again):
            await connect(again, b)
            assert await again.network.call("rpc", b.id, b"x", timeout_s=5) == b"rpc:x"


async def test_a_refusal_ends() -> None:
    a, b = Node(1, settings()), Node(2, settings(refuse_for_s=0.3))
    async with running(a, b):
        await connect(a, b)
        b.network.refuse(a.id, "come back later")
        await until(lambda: len(b.listener.disconnected) == 1)
        await until(lambda: len(b.listener.connected) == 2)


async def test_a_refusal_is_taken_back() -> None:
    a, b = Node(1, settings()), Node(2, settings(refuse_for_s=300.0))
    async with running(a, b):
        await connect(a, b)
        b.network.refuse(a.id, "banned")
        await until(lambda: len(b.listener.disconnected) == 1)
        b.network.pardon(a.id)
        await until(lambda: len(b.listener.connected) == 2)


async def test_a_pardon_admits_nobody(autojump_clock: object) -> None:
    table = Admission(settings(refuse_for_s=300.0))
    table.refuse("x", "because", now_s=0.0)
    table.pardon("x")
    assert table.of("x", 0.0).state == "undecided"
    table.admit("x")
    table.pardon("x")
    assert table.of("x", 0.0).state == "admitted"


async def test_the_table_is_bounded_and_forgets_the_oldest(autojump_clock: object) -> None:
    table = Admission(settings(refuse_for_s=10.0))
    for number in range(PEERS_MAX + 10):
        table.admit(str(number))
    assert table.of("0", 0.0).state == "undecided"
    assert table.of(str(PEERS_MAX + 9), 0.0).state == "admitted"
    table.refuse("x", "because", now_s=5.0)
    assert (table.of("x", 14.9).state, table.of("x", 14.9).reason) == ("refused", "because")
    assert table.of("x", 15.0).state == "undecided"


async def test_waiting_leaves_nothing_behind(autojump_clock: object) -> None:
    table = Admission(settings(admission_wait_s=3.0))
    decision = await table.wait("x", 0.0)
    assert (decision.state, trio.current_time(), table.waiting) == ("undecided", 3.0, 0)
