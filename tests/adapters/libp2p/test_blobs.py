"""Artifacts between two real hosts: whole, resumed, refused, interrupted, and lied about."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol

from edgenet_node.adapters.libp2p_network.frames import RESPONSE, encode
from edgenet_node.errors import (
    Malformed,
    NotFound,
    Overloaded,
    RemoteError,
    TimedOut,
    TooLarge,
    Unreachable,
    UsageError,
)

from .fakes import SWARM, MemoryStore, Node, join, pair, raw_stream, reach, running, settings, stranger, until

BLOB = TProtocol(f"/edgenet/{SWARM}/blob/1")
DATA = random.Random(5).randbytes(3_000_001)
DIGEST = hashlib.sha256(DATA).hexdigest()
ANY = 1 << 30


@pytest.mark.parametrize("size", [0, 1, 256 << 10, (256 << 10) + 1, 3_000_001])
async def test_an_artifact_is_copied_whole(size: int) -> None:
    async with pair() as (a, b):
        digest = await b.store.put(DATA[:size])
        assert await a.network.fetch(b.id, digest, size_max=ANY, timeout_s=10) == size
        assert a.store.blobs[digest] == DATA[:size]
        assert (a.count("blobs_fetched"), a.count("blob_bytes_fetched")) == (1, size)


@pytest.mark.parametrize("there", [1, 256 << 10, 1_000_000, 3_000_001])
async def test_a_fetch_resumes_where_an_earlier_one_ended(there: int) -> None:
    async with pair() as (a, b):
        await b.store.put(DATA)
        a.store.partial[DIGEST] = bytearray(DATA[:there])
        assert await a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=10) == len(DATA)
        assert a.store.blobs[DIGEST] == DATA
        assert a.count("blob_bytes_fetched") == len(DATA) - there


async def test_what_is_here_is_not_fetched() -> None:
    async with pair() as (a, b):
        await a.store.put(DATA)
        assert await a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=10) == len(DATA)
        assert a.count("blobs_fetched") == 0


async def test_two_fetches_of_one_artifact_become_one() -> None:
    async with pair() as (a, b):
        await b.store.put(DATA)
        sizes: list[int] = []

        async def one() -> None:
            sizes.append(await a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=10))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
        assert sizes == [len(DATA)] * 4
        assert a.count("blob_bytes_fetched") == len(DATA)


async def test_calls_go_on_beside_a_transfer() -> None:
    async with pair() as (a, b):
        await b.store.put(DATA)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=10))
            for _ in range(50):
                assert await a.network.call("rpc", b.id, b"x", timeout_s=5) == b"rpc:x"


async def test_refusals_of_a_fetch() -> None:
    async with pair() as (a, b):
        await b.store.put(DATA)
        with pytest.raises(TooLarge, match="limit is 1000"):
            await a.network.fetch(b.id, DIGEST, size_max=1000, timeout_s=10)
        assert not a.store.partial
        with pytest.raises(NotFound):
            await a.network.fetch(b.id, "0" * 64, size_max=ANY, timeout_s=10)
        with pytest.raises(UsageError):
            await a.network.fetch(b.id, "../../etc/passwd", size_max=ANY, timeout_s=10)
        with pytest.raises(Unreachable):
            await a.network.fetch(Node(7, settings()).id, DIGEST, size_max=ANY, timeout_s=10)
        assert not a.listener.blames
        assert not b.listener.blames


async def test_transfers_of_one_peer_at_once_are_bounded() -> None:
    async with pair(None, settings(blobs_served_per_peer_max=1)) as (a, b):
        digests = [await b.store.put(DATA + bytes([i])) for i in range(3)]
        refused: list[Overloaded] = []

        async def one(digest: str) -> None:
            try:
                await a.network.fetch(b.id, digest, size_max=ANY, timeout_s=10)
            except Overloaded as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for digest in digests:
                nursery.start_soon(one, digest)
        assert a.count("blobs_fetched") + len(refused) == 3
        assert refused


async def test_an_interrupted_fetch_keeps_what_came() -> None:
    a, b = Node(1, settings()), Node(2, settings())
    async with running(a):
        async with running(b):
            await join(a, b)
            await b.store.put(DATA)
            blocked = trio.Event()
            real = b.store.read_chunk

            async def read_chunk(digest: str, index: int) -> bytes:
                if index >= 6:
                    blocked.set()
                    await trio.sleep_forever()
                return await real(digest, index)

            b.store.read_chunk = read_chunk  # type: ignore[method-assign]
            errors: list[Unreachable] = []

            async def one() -> None:
                try:
                    await a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=60)
                except Unreachable as error:
                    errors.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                await blocked.wait()
                await until(lambda: len(a.store.partial.get(DIGEST, b"")) == 6 * (256 << 10))
                await b.network.close()
        assert len(errors) == 1
        assert bytes(a.store.partial[DIGEST]) == DATA[: 6 * (256 << 10)]
        assert not a.listener.blames


async def test_a_disk_that_fails_over_there_resets_the_transfer() -> None:
    async with pair() as (a, b):
        await b.store.put(DATA)

        async def read_chunk(digest: str, index: int) -> bytes:
            raise NotFound("gone meanwhile")

        b.store.read_chunk = read_chunk  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="broke off"):
            await a.network.fetch(b.id, DIGEST, size_max=ANY, timeout_s=10)
        assert b.count("faults") == 1
        assert await a.network.call("rpc", b.id, b"x", timeout_s=5) == b"rpc:x"


class Liar:
    """A bare host that serves artifacts its own way."""

    def __init__(self, host: Any, size: int, body: bytes, *, stall: bool = False) -> None:
        self.size, self.body, self.stall = size, body, stall
        host.set_stream_handler(BLOB, self.serve)

    async def serve(self, stream: Any) -> None:
        await stream.read(45)
        await stream.write(encode(RESPONSE, 1, struct.pack(">Q", self.size)))
        await stream.read(21)
        await stream.write(self.body)
        if self.stall:
            await trio.sleep_forever()
        await stream.close()


async def lied_to(
    size: int, body: bytes, *, stall: bool = False, partial: bytes = b""
) -> tuple[Node, BaseException, str]:
    node = Node(1, settings(trickle_timeout_s=0.3))
    node.network.set_swarm(SWARM)
    if partial:
        node.store.partial[DIGEST] = bytearray(partial)
    async with running(node), stranger(9) as host:
        Liar(host, size, body, stall=stall)
        await reach(host, node)
        liar = host.get_id().to_base58()
        await until(lambda: len(node.network.connections()) == 1)
        with pytest.raises((RemoteError, Unreachable, TimedOut)) as caught:
            await node.network.fetch(liar, DIGEST, size_max=4_000_000, timeout_s=10)
    assert DIGEST not in node.store.blobs
    return node, caught.value, liar


async def test_other_bytes_than_promised_are_blamed() -> None:
    node, error, liar = await lied_to(len(DATA), bytes(len(DATA)))
    assert isinstance(error, Malformed)
    assert error.peer == liar
    assert [peer for peer, _ in node.listener.blames] == [liar]
    assert DIGEST not in node.store.partial


async def test_a_lie_inherited_from_another_peer_is_not_blamed_on_this_one() -> None:
    node, error, _ = await lied_to(len(DATA), DATA[1000:], partial=bytes(1000))
    assert isinstance(error, Unreachable)
    assert not node.listener.blames
    assert DIGEST not in node.store.partial


async def test_less_than_promised_is_kept_for_later() -> None:
    node, error, _ = await lied_to(len(DATA), DATA[:500_000])
    assert isinstance(error, Unreachable)
    assert bytes(node.store.partial[DIGEST]) == DATA[:500_000]


async def test_more_than_promised_is_not_read() -> None:
    node, error, liar = await lied_to(1000, bytes(2_000_000))
    assert isinstance(error, Malformed)
    assert [peer for peer, _ in node.listener.blames] == [liar]


async def test_a_stalled_transfer_times_out() -> None:
    node, error, _ = await lied_to(len(DATA), DATA[:300_000], stall=True)
    assert isinstance(error, TimedOut)
    assert bytes(node.store.partial[DIGEST]) == DATA[:300_000]


async def test_a_size_above_the_limit_is_refused_before_a_byte() -> None:
    node, error, _ = await lied_to(2**63, b"")
    assert isinstance(error, TooLarge)
    assert not node.store.partial


@pytest.mark.parametrize(
    "payload",
    [
        encode(0, 1, b"short"),
        encode(0, 2, bytes(32)),
        encode(1, 1, bytes(32)),
        b"\xff" * 40,
        encode(0, 1, hashlib.sha256(b"here").digest()) + encode(0, 2, struct.pack(">Q", 2**60)),
    ],
)
async def test_hostile_requests_are_blamed(payload: bytes) -> None:
    node = Node(1, settings())
    node.network.set_swarm(SWARM)
    store: MemoryStore = node.store
    await store.put(b"here")
    async with running(node), stranger(9) as host:
        node.network.admit(host.get_id().to_base58())
        stream = await raw_stream(host, node, str(BLOB))
        await stream.write(payload)
        await until(lambda: node.listener.blames != [])
        assert "artifact request" in node.listener.blames[0][1]
        assert node.count("host_restarts") == 0
