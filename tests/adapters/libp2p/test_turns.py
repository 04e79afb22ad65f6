"""The cheap lock and the read-ahead under the muxer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.adapters.libp2p_network.turns import READ_AHEAD_BYTES, SLICE_S, EagerLock, ReadAhead


async def test_one_holder_at_a_time_first_come_first_served() -> None:
    lock = EagerLock()
    order: list[int] = []
    inside = 0

    async def visit(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery, lock:
        for number in range(5):
            nursery.start_soon(visit, number)
            await trio.testing.wait_all_tasks_blocked()
        assert order == []
    assert order == list(range(5))


async def test_a_cancelled_wait_leaves_the_lock_whole() -> None:
    lock = EagerLock()

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with lock:
            task_status.started()
            await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        await nursery.start(hold)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with lock:
                raise AssertionError("it is held")
        assert scope.cancelled_caught
    async with lock:
        pass


class Source:
    """A connection that gives a text in random pieces, never more than was asked for, then nothing."""

    def __init__(self, text: bytes, rng: random.Random, sizes: Sequence[int] = (1, 2, 100, 70_000, 200_000)) -> None:
        self._left = text
        self._rng = rng
        self._sizes = sizes
        self.reads = 0

    async def read(self, n: int | None = None) -> bytes:
        assert n is not None
        await trio.lowlevel.checkpoint()
        self.reads += 1
        size = min(n, self._rng.choice(self._sizes))
        data, self._left = self._left[:size], self._left[size:]
        return data


@pytest.mark.parametrize("seed", range(20))
async def test_read_ahead_changes_no_byte(seed: int) -> None:
    rng = random.Random(seed)
    text = rng.randbytes(rng.choice([0, 1, 1000, 300_000]))
    source = Source(text, rng)
    conn: Any = source
    ahead = ReadAhead(conn)
    found = b""
    reads = 0
    while data := await ahead.read(size := rng.choice([None, 1, 2, 18, 65_535, 100_000])):
        assert size is None or len(data) <= size
        found += data
        reads += 1
    assert found == text
    assert await ahead.read(2) == b""
    assert source.reads <= reads + 2


async def test_small_pieces_cost_one_read(mock_clock: MockClock) -> None:
    """A turn for the others comes when a slice is over, not before."""
    source = Source(bytes(10_000), random.Random(0), [READ_AHEAD_BYTES])
    conn: Any = source
    ahead = ReadAhead(conn)
    await ahead.read(2)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        for _ in range(1000):
            await ahead.read(2)
        assert turns == before
        for _ in range(3):  # who is first in a turn is chance
            mock_clock.jump(2 * SLICE_S)
            await ahead.read(2)
        assert turns > before
        nursery.cancel_scope.cancel()
    assert source.reads == 1
