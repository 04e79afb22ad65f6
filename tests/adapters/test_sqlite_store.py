"""The SQLite store against its promise: acknowledged means durable, refused means untouched, broken means stop."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgenet_node.adapters.sqlite_file import SCHEMA_VERSION
from edgenet_node.adapters.sqlite_store import CommitFailed, SqliteStore, StoreLimits
from edgenet_node.effects import Delete, Put, Row, Save
from edgenet_node.errors import CorruptData, InvariantError, StoreError, StoreFull

NAMES = st.sampled_from(["a", "b", "ä", "z\x00z", "\U0001f600", "\uffff"])
SAVES = st.one_of(st.builds(Put, NAMES, NAMES, st.binary(max_size=64)), st.builds(Delete, NAMES, NAMES))


def apply(rows: dict[tuple[str, str], bytes], saves: Sequence[Save]) -> None:
    for save in saves:
        if isinstance(save, Put):
            rows[save.table, save.key] = save.value
        else:
            rows.pop((save.table, save.key), None)


def as_rows(rows: dict[tuple[str, str], bytes]) -> list[Row]:
    return [Row(table, key, value) for (table, key), value in sorted(rows.items())]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), st.lists(SAVES, max_size=6)), max_size=12))
def test_reopened_store_equals_a_dict(
    tmp_path_factory: pytest.TempPathFactory, commits: list[tuple[str, list[Save]]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    model: dict[str, dict[tuple[str, str], bytes]] = {"p": {}, "q": {}}

    async def write_and_reread() -> None:
        store = await SqliteStore.open(path)
        async with trio.open_nursery() as nursery:
            for part, saves in commits:
                apply(model[part], saves)
                nursery.start_soon(store.commit, part, saves)
                await trio.testing.wait_all_tasks_blocked()  # enters the queue in this order; many share a transaction
        await store.close()
        again = await SqliteStore.open(path)
        try:
            for part, rows in model.items():
                assert await again.load(part) == as_rows(rows)
            await again.check()
        finally:
            await again.close()

    trio.run(write_and_reread)


async def test_concurrent_commits_share_transactions_and_keep_their_order(tmp_path: Path) -> None:
    gate = Gate()
    store = await SqliteStore.open(tmp_path / "s", connect=gate.connect)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.commit, "first", [Put("t", "k", b"")])
        await trio.to_thread.run_sync(gate.entered.wait)
        for i in range(100):
            nursery.start_soon(store.commit, f"p{i % 3}", [Put("t", "last", b"%d" % i)])
            await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert store.stats().commits == 101
    assert store.stats().transactions == 2
    assert [(await store.load(f"p{i}"))[0].value for i in range(3)] == [b"99", b"97", b"98"]
    await store.close()


async def test_waiting_commits_are_bounded(tmp_path: Path) -> None:
    gate = Gate()
    store = await SqliteStore.open(tmp_path / "s", connect=gate.connect, limits=StoreLimits(pending_max=4, group_max=2))
    async with trio.open_nursery() as nursery:
        for i in range(20):
            nursery.start_soon(store.commit, "p", [Put("t", str(i), b"v")])
        await trio.testing.wait_all_tasks_blocked()
        assert store.stats().waiting == 4
        gate.open.set()
    assert len(await store.load("p")) == 20
    await store.close()


async def test_a_full_store_refuses_the_large_commit_and_keeps_the_small_ones_of_its_group(tmp_path: Path) -> None:
    gate = Gate()
    limits = StoreLimits(file_bytes_max=256 << 10)
    store = await SqliteStore.open(tmp_path / "s", limits=limits, connect=gate.connect)
    outcomes: dict[str, Exception | None] = {}

    async def attempt(name: str, part: str, size: int) -> None:
        try:
            await store.commit(part, [Put("t", name, bytes(size))])
            outcomes[name] = None
        except StoreFull as error:
            outcomes[name] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, "first", "a", 10)
        await trio.to_thread.run_sync(gate.entered.wait)
        for name, part, size in [("s1", "a", 10), ("huge", "b", 1 << 20), ("s2", "a", 10), ("behind", "b", 10)]:
            nursery.start_soon(attempt, name, part, size)
            await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert {name for name, error in outcomes.items() if error} == {"huge", "behind"}
    assert "no space" in str(outcomes["huge"])
    assert [row.key for row in await store.load("a")] == ["first", "s1", "s2"]
    await store.commit("b", [Put("t", "later", b"fits")])
    assert [row.key for row in await store.load("b")] == ["later"]
    assert store.stats().refused == 2
    await store.close()


async def test_space_freed_by_deletes_is_usable_in_the_same_commit(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s", limits=StoreLimits(file_bytes_max=256 << 10))
    await store.commit("p", [Put("t", "old", bytes(150_000))])
    with pytest.raises(StoreFull):
        await store.commit("p", [Put("t", "new", bytes(150_000))])
    await store.commit("p", [Put("t", "new", bytes(150_000)), Delete("t", "old")])
    assert [row.key for row in await store.load("p")] == ["new"]
    await store.close()


async def test_a_failed_fsync_stops_the_store_for_good(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    store = await SqliteStore.open(tmp_path / "s", connect=gate.connect)
    await store.commit("p", [Put("t", "before", b"v")])
    gate.fail_with = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(CommitFailed, match="check the disk") as caught:
        await store.commit("p", [Put("t", "lost", b"v")])
    assert caught.value.fatal
    gate.fail_with = 0
    with pytest.raises(CommitFailed):
        await store.commit("p", [Put("t", "after", b"v")])
    await store.close()
    again = await SqliteStore.open(tmp_path / "s")
    assert [row.key for row in await again.load("p")] == ["before"]
    await again.close()


async def test_cancelling_does_not_lose_a_commit_on_its_way(tmp_path: Path) -> None:
    gate = Gate()
    store = await SqliteStore.open(tmp_path / "s", connect=gate.connect)
    returned = []

    async def commit() -> None:
        await store.commit("p", [Put("t", "k", b"v")])
        returned.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        await trio.to_thread.run_sync(gate.entered.wait)
        nursery.cancel_scope.cancel()
        gate.open.set()
    assert returned == [True]
    await store.close()


@pytest.mark.parametrize(
    "saves",
    [
        [Put("t", "k", bytes(33))],
        [Put("t", "k" * 17, b"")],
        [Put("t", "\ud800", b"")],
        [Put("t", "ok", b""), Delete("t" * 17, "")],
    ],
)
async def test_rows_beyond_the_limits_are_a_bug_and_nothing_is_written(tmp_path: Path, saves: list[Save]) -> None:
    store = await SqliteStore.open(tmp_path / "s", limits=StoreLimits(value_bytes_max=32, key_bytes_max=16))
    with pytest.raises(InvariantError):
        await store.commit("p", saves)
    assert await store.load("p") == []
    await store.close()


async def test_the_log_is_folded_beyond_its_bound(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s", limits=StoreLimits(wal_bytes_max=64 << 10))
    for i in range(40):
        await store.commit("p", [Put("t", str(i), bytes(8192))])
    assert (tmp_path / "s-wal").stat().st_size < 256 << 10
    await store.close()
    assert not (tmp_path / "s-wal").exists()


async def test_files_are_private_and_a_closed_store_refuses(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s")
    await store.commit("p", [Put("t", "k", b"v")])
    assert {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "s", tmp_path / "s-wal"]} == {
        "s": 0o600,
        "s-wal": 0o600,
    }
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.commit("p", [Put("t", "k", b"v")])


def spoil_header(path: Path) -> None:
    path.write_bytes(b"not a database" + path.read_bytes()[14:])


def spoil_pages(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * 8192 + data[12288:])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8192])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [spoil_header, spoil_pages, cut, empty])
@pytest.mark.parametrize("check_bytes_max", [0, 64 << 20])
async def test_a_damaged_file_is_named_with_its_remedy(
    tmp_path: Path, spoil: Callable[[Path], None], check_bytes_max: int
) -> None:
    path = tmp_path / "store.sqlite"
    store = await SqliteStore.open(path)
    await store.commit("p", [Put("t", f"{i:04}", bytes(300)) for i in range(200)])
    await store.close()
    spoil(path)
    with pytest.raises(CorruptData, match=r"store\.sqlite is damaged .* move it away .* backup"):
        await SqliteStore.open(path, limits=StoreLimits(check_bytes_max=check_bytes_max))


async def test_other_files_and_newer_versions_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s"
    await (await SqliteStore.open(path)).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer edgenet-node") as newer:
        await SqliteStore.open(path)
    assert "\n" not in str(newer.value)
    foreign = tmp_path / "f"
    db = sqlite3.connect(foreign)
    db.execute("CREATE TABLE t(x)")
    db.close()
    with pytest.raises(CorruptData, match="another program"):
        await SqliteStore.open(foreign)
    with pytest.raises(StoreError, match="No such file"):
        await SqliteStore.open(tmp_path / "missing" / "s")


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s")
    with pytest.raises(StoreError, match="open in another process"):
        await SqliteStore.open(tmp_path / "s")
    await store.close()


CHILD = """
import sys, trio
from pathlib import Path
from typing import Any
from edgenet_node.adapters.sqlite_store import SqliteStore, StoreLimits
from edgenet_node.effects import Put

async def lane(store, part):
    i = 0
    while True:
        await store.commit(part, [Put("t", f"{i:08}", bytes(900)), Put("last", "i", b"%d" % i)])
        sys.stdout.write(f"{part} {i}\\n")
        sys.stdout.flush()
        i += 1

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), limits=StoreLimits(wal_bytes_max=256 << 10))
    async with trio.open_nursery() as nursery:
        for part in "abc":
            nursery.start_soon(lane, store, part)

trio.run(main)
"""


def acknowledged(lines: list[str]) -> dict[str, int]:
    """Highest index printed by part; a line cut off by the kill was not acknowledged to anybody."""
    return {part: int(i) for part, i in (line.split() for line in lines if line.endswith("\n"))}


def rows_after(path: Path) -> dict[str, tuple[int, bytes]]:
    async def read() -> dict[str, tuple[int, bytes]]:
        store = await SqliteStore.open(path)
        found = {}
        for part in "abc":
            rows = await store.load(part)
            found[part] = (len([row for row in rows if row.table == "t"]), next(iter(rows)).value if rows else b"-1")
        await store.close()
        return found

    return trio.run(read)


@pytest.mark.parametrize("lines_before_kill", [1, 100, 700])
def test_every_acknowledged_commit_survives_kill_9(tmp_path: Path, lines_before_kill: int) -> None:
    path = tmp_path / "store.sqlite"
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(lines_before_kill)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    last = acknowledged(lines)
    assert last
    for part, (count, value) in rows_after(path).items():
        assert count >= last.get(part, -1) + 1
        assert int(value) == count - 1  # both rows of a commit, or neither


def test_a_write_that_breaks_ends_the_process_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHILD, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 1
    assert "CommitFailed" in done.stderr
    last = acknowledged(done.stdout.splitlines(keepends=True))
    assert last
    for part, (count, value) in rows_after(path).items():
        assert count >= last[part] + 1
        assert int(value) == count - 1


class Gate:
    """Connects like SQLite does, but holds the first COMMIT until `open` is set, and fails them at will."""

    def __init__(self) -> None:

        self.open = threading.Event()
        self.entered = threading.Event()
        self.fail_with = 0

    def connect(self, path: str) -> sqlite3.Connection:
        gate = self

        class Gated(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                if sql == "COMMIT":
                    gate.entered.set()
                    gate.open.wait(30)
                    if gate.fail_with:
                        error = sqlite3.OperationalError("disk I/O error")
                        error.sqlite_errorcode = gate.fail_with
                        super().execute("ROLLBACK")
                        raise error
                return super().execute(sql, *args)

        return sqlite3.connect(path, factory=Gated)
