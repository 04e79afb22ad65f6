"""The fake store keeps the real one's promises, and breaks them only where a disk may."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.adapters.sqlite_store import CommitFailed, SqliteStore
from edgenet_node.effects import Delete, Put, Row, Save
from edgenet_node.errors import CorruptData, NotFound, StoreFull, UsageError
from edgenet_node.ports.store import ArtifactStore, RowStore
from edgenet_node.testing.artifacts import MemoryArtifacts
from edgenet_node.testing.store import MemoryStore

KEYS = st.sampled_from(["a", "b", "\u00e4", "\U0001f600", "\uffff"])
SAVES = st.lists(
    st.one_of(st.builds(Put, KEYS, KEYS, st.binary(max_size=8)), st.builds(Delete, KEYS, KEYS)), max_size=5
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), SAVES), max_size=10))
def test_it_answers_as_the_real_store_does(
    tmp_path_factory: pytest.TempPathFactory, commits: list[tuple[str, list[Save]]]
) -> None:
    async def compare() -> None:
        real = await SqliteStore.open(tmp_path_factory.mktemp("store") / "s")
        fake = MemoryStore()
        stores: list[RowStore] = [real, fake]
        for part, saves in commits:
            for store in stores:
                await store.commit(part, saves)
        for part in ("p", "q"):
            assert await real.load(part) == await fake.load(part)
        await real.close()

    trio.run(compare)


def put(i: int) -> list[Save]:
    return [Put("t", f"{i:03}", b"v"), Put("also", f"{i:03}", b"v")]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 12))
def test_a_crash_keeps_what_was_acknowledged_and_whole_transactions_in_order(seed: int, crash_at: float) -> None:
    rng = random.Random(seed)
    acknowledged: list[int] = []
    dead: list[int] = []
    survivors: list[MemoryStore] = []

    async def run() -> None:
        store = MemoryStore(delay_s=rng.random)

        async def lane(first: int) -> None:
            for i in range(first, first + 10):
                try:
                    await store.commit(f"lane{first}", put(i))
                except CommitFailed:
                    dead.append(i)
                    return
                acknowledged.append(i)
                await trio.sleep(rng.random())

        async with trio.open_nursery() as nursery:
            for first in (0, 10, 20):
                nursery.start_soon(lane, first)
            await trio.sleep(crash_at)
            survivors.append(store.crash(rng))

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(acknowledged) + len(dead) >= 3
    for first in (0, 10, 20):
        rows = survivors[0].rows().get(f"lane{first}", {})
        kept = sorted(int(key) for table, key in rows if table == "t")
        assert kept == sorted(int(key) for table, key in rows if table == "also")
        assert kept == list(range(first, first + len(kept)))
        assert {i for i in acknowledged if first <= i < first + 10} <= set(kept)


async def test_commits_that_wait_share_the_next_group(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(delay_s=lambda: 1.0)
    done: list[tuple[str, float]] = []

    async def commit(name: str, at: float) -> None:
        await trio.sleep_until(start + at)
        await store.commit(name, put(0))
        done.append((name, trio.current_time() - start))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name, at in [("first", 0.0), ("second", 0.2), ("third", 0.7), ("fourth", 1.5), ("late", 9.0)]:
            nursery.start_soon(commit, name, at)
    assert sorted(done) == [("first", 1), ("fourth", 3), ("late", 10), ("second", 2), ("third", 2)]
    assert store.groups == 4
    assert store.commits == 5


async def test_a_full_disk_refuses_and_recovers() -> None:
    store = MemoryStore()
    store.capacity_bytes = 10
    await store.commit("p", [Put("t", "k", bytes(10))])
    with pytest.raises(StoreFull):
        await store.commit("q", [Put("t", "k", b"x")])
    await store.commit("p", [Put("t", "k", bytes(5))])
    await store.commit("q", [Put("t", "k", b"x")])
    store.disk_full = True
    with pytest.raises(StoreFull):
        await store.commit("q", [Put("t", "k", b"y")])
    assert await store.load("q") == [Row("t", "k", b"x")]
    assert (store.commits, store.refused) == (3, 2)


async def test_what_waits_behind_a_refused_commit_of_its_part_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore(delay_s=lambda: 1.0)
    outcomes: list[str] = []

    async def commit(part: str, saves: Sequence[Save]) -> None:
        try:
            await store.commit(part, saves)
            outcomes.append("ok")
        except StoreFull:
            outcomes.append("full")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit, "p", [Put("t", "big", bytes(100))])
        await trio.sleep(0.5)
        nursery.start_soon(commit, "p", [Put("t", "follows", b"")])
        await trio.sleep(0.1)
        store.capacity_bytes = 50
    assert outcomes == ["full", "full"]
    assert await store.load("p") == []


async def test_a_failing_fsync_kills_the_store_and_only_the_crash_tells_what_was_written() -> None:
    outcomes = set()
    for seed in range(20):
        store = MemoryStore()
        store.fsync_fails_after = 1
        await store.commit("p", put(1))
        with pytest.raises(CommitFailed) as caught:
            await store.commit("p", put(2))
        assert caught.value.fatal
        with pytest.raises(CommitFailed):
            await store.commit("p", put(3))
        after = store.crash(random.Random(seed))
        outcomes.add(len(await after.load("p")))
    assert outcomes == {2, 4}


async def test_a_clone_is_independent() -> None:
    store = MemoryStore()
    await store.commit("p", [Put("t", "k", b"1")])
    clone = store.clone()
    await clone.commit("p", [Put("t", "k", b"2")])
    assert await store.load("p") == [Row("t", "k", b"1")]
    await store.close()
    with pytest.raises(CommitFailed, match="closed"):
        await store.commit("p", [Put("t", "k", b"3")])


async def test_artifacts_spoil_fill_up_and_survive_a_restart(tmp_path: Path) -> None:
    fake = MemoryArtifacts(folder=tmp_path)
    store: ArtifactStore = fake
    digest = await store.put(b"content", pin=True)
    assert store.path(digest).read_bytes() == b"content"
    fake.disk_full = True
    with pytest.raises(StoreFull):
        await store.put(b"other")
    fake.disk_full = False
    after = fake.restarted()
    assert await after.get(digest) == b"content"
    assert after.stats().pinned == 0
    fake.spoil(digest)
    with pytest.raises(CorruptData):
        await fake.read_chunk(digest, 0)
    with pytest.raises(NotFound):
        await fake.get(digest)
    nowhere = MemoryArtifacts()
    with pytest.raises(UsageError):
        nowhere.path(await nowhere.put(b""))


async def test_writers_in_memory_resume_and_blame() -> None:
    fake = MemoryArtifacts()
    digest = await fake.put(b"0123456789")
    other = MemoryArtifacts()
    await (await other.begin(digest, 10)).write(b"01234")
    resumed = await other.restarted().begin(digest, 10)
    assert resumed.received == 5
    await resumed.write(b"wrong")
    with pytest.raises(CorruptData):
        await resumed.finish()
