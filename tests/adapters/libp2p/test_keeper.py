"""Whom the keeper dials, when, and how often: without sockets, on a clock that jumps."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from multiaddr import Multiaddr

from edgenet_node.adapters.libp2p_network.keeper import FAILURES_MAX, Keeper, parse_address
from edgenet_node.adapters.libp2p_network.limits import Counters, TokenBucket, backoff_s
from edgenet_node.adapters.libp2p_network.report import Report

from .fakes import Listener, Node, settings

PEERS = [Node(number, settings()).id for number in range(40, 50)]


class FakeLinks:
    def __init__(self) -> None:
        self.up: set[str] = set()
        self.out: set[str] = set()

    def connected(self, peer: str) -> bool:
        return peer in self.up

    def count(self) -> int:
        return len(self.up)

    def banned(self, peer: str) -> bool:
        return peer in self.out


class Dialler:
    """Dials that fail until told otherwise; the times at which each peer was dialled."""

    def __init__(self, links: FakeLinks) -> None:
        self.links = links
        self.at: dict[str, list[float]] = {}
        self.works: set[str] = set()

    async def dial(self, peer: str, address: Multiaddr) -> None:
        self.at.setdefault(peer, []).append(trio.current_time())
        if peer not in self.works:
            raise OSError("refused")
        self.links.up.add(peer)


@asynccontextmanager
async def keeping(peers_target: int) -> AsyncIterator[tuple[Keeper, Dialler]]:
    links = FakeLinks()
    dialler = Dialler(links)
    wanted = settings(redial_first_s=0.5, redial_max_s=15.0, peers_target=peers_target)
    keeper = Keeper(wanted, "self", links, random.Random(7), Report(Listener(), Counters()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, dialler.dial)
        yield keeper, dialler
        nursery.cancel_scope.cancel()


async def test_a_kept_peer_is_dialled_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=0) as (keeper, dialler):
        keeper.learn(PEERS[0], ["/ip4/192.0.2.1/tcp/1"], keep=True)
        with trio.move_on_after(24 * 3600):
            await trio.sleep_forever()
        times = dialler.at[PEERS[0]]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert max(gaps) <= 15.0 * 1.5 + 0.5
        assert min(gaps[10:]) >= 15.0 * 0.5
        assert times[-1] > 24 * 3600 - 30


async def test_a_learned_peer_is_forgotten_after_enough_failures(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=4) as (keeper, dialler):
        keeper.learn(PEERS[0], ["/ip4/192.0.2.1/tcp/1"], keep=False)
        with trio.move_on_after(24 * 3600):
            await trio.sleep_forever()
        assert len(dialler.at[PEERS[0]]) == FAILURES_MAX + 1


async def test_learned_peers_are_dialled_only_up_to_the_target(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=3) as (keeper, dialler):
        dialler.works = set(PEERS)
        for peer in PEERS:
            keeper.learn(peer, ["/ip4/192.0.2.1/tcp/1"], keep=False)
        with trio.move_on_after(60):
            await trio.sleep_forever()
        assert len(dialler.links.up) == 3
        gone = dialler.links.up.pop()
        keeper.disconnected(gone)
        with trio.move_on_after(60):
            await trio.sleep_forever()
        assert len(dialler.links.up) == 3


async def test_refused_peers_are_not_dialled(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=3) as (keeper, dialler):
        dialler.links.out = {PEERS[0]}
        keeper.learn(PEERS[0], ["/ip4/192.0.2.1/tcp/1"], keep=True)
        with trio.move_on_after(60):
            await trio.sleep_forever()
        assert not dialler.at


async def test_every_address_of_a_peer_is_tried(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=1) as (keeper, dialler):
        keeper.learn(PEERS[0], ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"], keep=False)
        with trio.move_on_after(0.4):
            await trio.sleep_forever()
        assert len(dialler.at[PEERS[0]]) == 2


async def test_a_connection_that_held_resets_the_backoff(autojump_clock: trio.testing.MockClock) -> None:
    async with keeping(peers_target=0) as (keeper, dialler):
        keeper.learn(PEERS[0], ["/ip4/192.0.2.1/tcp/1"], keep=True)
        with trio.move_on_after(600):
            await trio.sleep_forever()
        dialler.works = {PEERS[0]}
        with trio.move_on_after(60):
            await trio.sleep_forever()
        keeper.connected(PEERS[0])
        with trio.move_on_after(60):
            await trio.sleep_forever()
        dialler.links.up.clear()
        left = trio.current_time()
        keeper.disconnected(PEERS[0])
        with trio.move_on_after(60):
            await trio.sleep_forever()
        assert dialler.at[PEERS[0]][-1] - left <= 0.5 * 1.5 + 0.5


async def test_the_address_book_is_bounded() -> None:
    links = FakeLinks()
    counters = Counters()
    keeper = Keeper(settings(peers_known_max=3), PEERS[9], links, random.Random(7), Report(Listener(), counters))
    for peer in PEERS[:3]:
        keeper.learn(peer, ["/ip4/192.0.2.1/tcp/1"], keep=peer == PEERS[0])
    links.up = set(PEERS[1:3])
    keeper.learn(PEERS[3], ["/ip4/192.0.2.1/tcp/1"], keep=False)
    assert counters.get("peers_not_learned") == 1
    links.up = set()
    keeper.learn(PEERS[3], ["/ip4/192.0.2.1/tcp/1"], keep=False)
    assert list(keeper.known()) == [PEERS[0], PEERS[2], PEERS[3]]
    keeper.learn(PEERS[9], ["/ip4/192.0.2.1/tcp/1"], keep=True)
    keeper.learn("not a peer id", ["/ip4/192.0.2.1/tcp/1"], keep=True)
    keeper.learn(PEERS[4], [], keep=True)
    assert len(keeper.known()) == 3
    assert counters.get("peers_malformed") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "/ip4/1.2.3.4",
        "/ip4/1.2.3.4/tcp/0",
        "/ip4/1.2.3.4/tcp/70000",
        "/ip4/1.2.3.4/udp/1/quic-v1",
        "/ip4/1.2.3.4/tcp/1/ws",
        "/ip4/1.2.3.4/tcp/1/p2p/" + PEERS[1],
        "/ip4/1.2.3.4/tcp/1/p2p/" + PEERS[1] + "/p2p-circuit",
        "/unix/etc/passwd",
        "/ip4/1.2.3.4/tcp/1" + "/" * 300,
        "\x00",
    ],
)
def test_hostile_addresses_are_not_dialled(text: str) -> None:
    assert parse_address(text, PEERS[0]) is None


def test_an_address_may_name_its_peer() -> None:
    assert str(parse_address(f"/ip4/1.2.3.4/tcp/1/p2p/{PEERS[0]}", PEERS[0])) == "/ip4/1.2.3.4/tcp/1"


def test_backoff_grows_to_its_limit_and_jitters() -> None:
    assert [backoff_s(n, 0.5, 15.0, 0.5) for n in (0, 1, 2, 5, 1000)] == [0.5, 1.0, 2.0, 15.0, 15.0]
    assert backoff_s(0, 1.0, 15.0, 0.0) == 0.5
    assert backoff_s(0, 1.0, 15.0, 0.999) < 1.5


def test_a_token_bucket_lets_through_its_rate() -> None:
    bucket = TokenBucket(10.0, 5.0, 0.0)
    assert sum(bucket.allow(0.0) for _ in range(20)) == 5
    assert sum(bucket.allow(i / 100) for i in range(1, 101)) in (9, 10)
    debt = TokenBucket(10.0, 5.0, 0.0)
    assert debt.take(5, 0.0) == 0
    assert debt.take(20, 0.0) == pytest.approx(2.0)
