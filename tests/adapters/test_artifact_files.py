"""The artifact store: get(put(x)) == x, the budget holds on the disk, pinned ones stay, damage is not served."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.adapters.artifact_files import CHUNK_BYTES, ArtifactFiles, ArtifactLimits
from edgenet_node.errors import (
    Conflict,
    CorruptData,
    Malformed,
    NotFound,
    Overloaded,
    StoreFull,
    TooLarge,
    UsageError,
)
from edgenet_node.ports.store import ArtifactStore
from edgenet_node.testing.artifacts import MemoryArtifacts

BUDGET = 1000
LIMITS = ArtifactLimits(budget_bytes=BUDGET, artifact_bytes_max=600, grace_s=0, partial_idle_s=0)

BLOBS = st.integers(0, 9).map(lambda i: bytes([i]) * (i * 61))
OPS = st.one_of(
    st.tuples(st.just("put"), BLOBS, st.booleans()),
    st.tuples(st.just("receive"), BLOBS, st.integers(0, 600)),
    st.tuples(st.just("get"), BLOBS, st.none()),
    st.tuples(st.just("pin"), BLOBS, st.booleans()),
    st.tuples(st.just("reopen"), BLOBS, st.none()),
)


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def published(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if len(path.name) == 64}


async def drive(store: ArtifactFiles | MemoryArtifacts, op: tuple[str, bytes, Any]) -> str:
    """One operation; its outcome by name."""
    what, data, extra = op
    try:
        if what == "put":
            assert await store.put(data, pin=extra) == name(data)
        elif what == "receive":
            writer = await store.begin(name(data), len(data))
            await writer.write(data[writer.received : writer.received + extra])
            if writer.received == len(data):
                await writer.finish()
        elif what == "get":
            assert await store.get(name(data)) == data
        elif what == "pin":
            store.pin(name(data), extra)
    except (StoreFull, NotFound) as error:
        return type(error).__name__
    return "done"


@settings(max_examples=60, deadline=None)
@given(st.lists(OPS, max_size=25))
def test_any_history_keeps_content_budget_and_pins(
    tmp_path_factory: pytest.TempPathFactory, ops: list[tuple[str, bytes, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("artifacts")

    async def run() -> None:
        store = await ArtifactFiles.open(folder, limits=LIMITS)
        fake = MemoryArtifacts(limits=LIMITS)
        pinned: set[str] = set()
        for op in ops:
            if op[0] == "reopen":
                store, fake, pinned = await ArtifactFiles.open(folder, limits=LIMITS), fake.restarted(), set()
                continue
            outcome = await drive(store, op)
            assert outcome == await drive(fake, op)
            if op[0] in ("put", "pin") and outcome == "done":
                (pinned.add if op[2] else pinned.discard)(name(op[1])) if op[0] == "pin" or op[2] else None
            assert bytes_on_disk(folder) <= BUDGET
            assert store.stats().bytes + store.stats().reserved <= BUDGET
            assert all(store.size(digest) >= 0 for digest in pinned)
            assert {d for d in published(folder) if store.size(d) < 0} == set()

    trio.run(run)


async def test_chunks_make_the_whole(tmp_path: Path) -> None:
    store: ArtifactStore = await ArtifactFiles.open(tmp_path)
    data = os.urandom(CHUNK_BYTES * 2 + 5)
    digest = await store.put(data)
    chunks = [await store.read_chunk(digest, i) for i in range(3)]
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 5]
    assert b"".join(chunks) == data
    with pytest.raises(NotFound):
        await store.read_chunk(digest, 3)
    with pytest.raises(NotFound):
        await store.read_chunk(digest, -1)
    empty = await store.put(b"")
    assert await store.read_chunk(empty, 0) == b""
    assert store.path(digest).read_bytes() == data
    assert store.path(digest).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["get", "chunk"])
@pytest.mark.parametrize("damage", [b"x" * 300_000, b"short"])
async def test_damaged_content_is_set_aside_and_never_served(tmp_path: Path, how: str, damage: bytes) -> None:
    data = b"y" * 300_000
    digest = await (await ArtifactFiles.open(tmp_path)).put(data)
    (tmp_path / digest[:2] / digest).write_bytes(damage)
    store = await ArtifactFiles.open(tmp_path)
    with pytest.raises(CorruptData, match=r"quarantine/; fetch it again"):
        await (store.get(digest) if how == "get" else store.read_chunk(digest, 0))
    assert store.size(digest) == -1
    with pytest.raises(NotFound):
        await store.get(digest)
    assert (tmp_path / "quarantine" / digest).read_bytes() == damage
    assert await store.put(data) == digest
    assert await store.get(digest) == data


async def test_quarantine_is_bounded(tmp_path: Path) -> None:
    store = await ArtifactFiles.open(tmp_path, limits=ArtifactLimits(quarantine_max=2, quarantine_bytes_max=50))
    for size in (10, 11, 12, 60):
        digest = await store.put(b"a" * size)
        store.path(digest).write_bytes(b"b" * size)
        with pytest.raises(CorruptData):
            await store.get(digest)
    kept = sorted(path.stat().st_size for path in (tmp_path / "quarantine").iterdir())
    assert len(kept) <= 2
    assert sum(kept) <= 50
    assert store.stats().quarantined == 4


async def test_a_file_deleted_behind_our_back_is_not_found(tmp_path: Path) -> None:
    store = await ArtifactFiles.open(tmp_path)
    digest = await store.put(b"data")
    store.path(digest).unlink()
    with pytest.raises(NotFound):
        await store.get(digest)
    assert store.stats().bytes == 0


@pytest.mark.parametrize(
    "digest",
    ["", "../../etc/passwd", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" + "a" * 63, "é" * 64],
)
async def test_hostile_names_never_reach_the_disk(tmp_path: Path, digest: str) -> None:
    store = await ArtifactFiles.open(tmp_path / "store")
    with pytest.raises(UsageError):
        await store.begin(digest, 1)
    for read in (store.get(digest), store.read_chunk(digest, 0)):
        with pytest.raises(NotFound):
            await read
    with pytest.raises(NotFound):
        store.path(digest)
    assert store.size(digest) == -1
    assert not (tmp_path / "etc").exists()
    assert bytes_on_disk(tmp_path) == 0


async def test_an_interrupted_transfer_resumes_after_a_restart(tmp_path: Path) -> None:
    data = os.urandom(1000)
    first = await (await ArtifactFiles.open(tmp_path)).begin(name(data), 1000)
    await first.write(data[:600])
    store = await ArtifactFiles.open(tmp_path)
    assert store.size(name(data)) == -1
    writer = await store.begin(name(data), 1000)
    assert writer.received == 600
    await writer.write(data[600:])
    await writer.finish()
    assert await store.get(name(data)) == data
    again = await store.begin(name(data), 1000)
    assert again.received == 1000
    await again.finish()
    with pytest.raises(Malformed):
        await store.begin(name(data), 999)


async def test_wrong_bytes_blame_the_sender_unless_we_kept_them_ourselves(tmp_path: Path) -> None:
    store = await ArtifactFiles.open(tmp_path)
    digest = name(b"good")
    writer = await store.begin(digest, 4)
    await writer.write(b"ev")
    with pytest.raises(Malformed, match="continues beyond"):
        await writer.write(b"il!")
    with pytest.raises(Malformed, match="ended after 2 of 4"):
        await writer.finish()
    await writer.write(b"il")
    with pytest.raises(Malformed, match="another digest"):
        await writer.finish()
    assert list((tmp_path / "partial").iterdir()) == []
    await (await store.begin(digest, 4)).write(b"ev")
    resumed = await store.begin(digest, 4)
    await resumed.write(b"il")
    with pytest.raises(CorruptData):
        await resumed.finish()
    assert store.stats().reserved == 0


async def test_a_later_transfer_takes_over_and_abandoning_frees_the_room(tmp_path: Path) -> None:
    store = await ArtifactFiles.open(tmp_path, limits=LIMITS)
    data = bytes(500)
    first = await store.begin(name(data), 500)
    await first.write(data[:100])
    second = await store.begin(name(data), 500)
    with pytest.raises(Conflict):
        await first.write(data[100:200])
    await first.abandon()
    assert second.received == 100
    await second.abandon()
    assert store.stats().reserved == 0
    assert bytes_on_disk(tmp_path) == 0


async def test_transfers_are_bounded_in_size_and_number(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    limits = ArtifactLimits(budget_bytes=BUDGET, artifact_bytes_max=600, partials_max=2, partial_idle_s=60)
    store = await ArtifactFiles.open(tmp_path, limits=limits)
    with pytest.raises(TooLarge):
        await store.begin("a" * 64, 601)
    with pytest.raises(TooLarge):
        await store.begin("a" * 64, -1)
    with pytest.raises(TooLarge):
        await store.put(bytes(601))
    await store.begin("a" * 64, 600)
    with pytest.raises(StoreFull):
        await store.begin("b" * 64, 401)
    await store.begin("b" * 64, 400)
    with pytest.raises(Overloaded):
        await store.begin("c" * 64, 1)
    mock_clock.jump(61)
    await store.begin("c" * 64, 1)
    assert store.stats().reserved == 401
    await store.put(bytes(599), pin=True)
    with pytest.raises(StoreFull):
        await store.put(bytes(598))


async def test_what_was_found_at_start_is_spared_until_it_could_be_pinned_again(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    old = await (await ArtifactFiles.open(tmp_path, limits=LIMITS)).put(bytes(600))
    limits = ArtifactLimits(budget_bytes=BUDGET, artifact_bytes_max=600, grace_s=60)
    store = await ArtifactFiles.open(tmp_path, limits=limits)
    with pytest.raises(StoreFull) as caught:
        await store.put(b"n" * 500)
    assert caught.value.retry_after_s == 60
    mock_clock.jump(60)
    await store.put(b"n" * 500)
    assert store.size(old) == -1


async def test_a_full_disk_refuses_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await ArtifactFiles.open(tmp_path)
    kept = await store.put(b"kept")
    writer = await store.begin(name(b"12345678"), 8)
    await writer.write(b"1234")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull):
        await store.put(b"new")
    assert list((tmp_path / "tmp").iterdir()) == []
    await writer.write(b"5678")
    with pytest.raises(StoreFull):
        await writer.finish()
    monkeypatch.undo()
    await writer.finish()
    assert await store.get(name(b"12345678")) == b"12345678"
    assert await store.get(kept) == b"kept"


async def test_concurrent_puts_and_evictions_agree_with_the_disk(tmp_path: Path) -> None:
    store = await ArtifactFiles.open(tmp_path, limits=LIMITS)
    blobs = [bytes([i]) * 300 for i in range(5)]

    async def churn(offset: int) -> None:
        for i in range(30):
            try:
                await store.put(blobs[(i * (offset + 1) + offset) % 5])
            except StoreFull:
                continue

    async with trio.open_nursery() as nursery:
        for offset in range(4):
            nursery.start_soon(churn, offset)
    assert published(tmp_path) == {name(blob) for blob in blobs if store.size(name(blob)) >= 0}
    assert bytes_on_disk(tmp_path) == store.stats().bytes
    assert store.stats().reserved == 0


async def test_leftovers_strangers_and_links_are_not_taken_for_artifacts(tmp_path: Path) -> None:
    first = await ArtifactFiles.open(tmp_path, limits=LIMITS)
    digest = await first.put(b"mine")
    (tmp_path / "tmp" / "leftover").write_bytes(b"half")
    (tmp_path / "README").write_text("a stranger")
    (tmp_path / digest[:2] / ("f" * 64)).symlink_to("/etc/passwd")
    old = tmp_path / "partial" / ("a" * 64 + ".part")
    old.write_bytes(b"old")
    os.utime(old, (0, 0))
    store = await ArtifactFiles.open(tmp_path, limits=LIMITS)
    assert store.stats().count == 1
    assert (tmp_path / "README").exists()
    assert not (tmp_path / "tmp" / "leftover").exists()
    assert not old.exists()
