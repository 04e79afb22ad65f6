from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import MIB, ExecutorSettings
from edgenet_node.errors import (
    Cancelled,
    EdgenetError,
    TimedOut,
    WorkerDied,
)

from . import parent
from .support import REGISTERED, MonotonicClock, alive, running, until

ONE = ExecutorSettings(workers=1, stop_grace_s=0.05)
TWO = ExecutorSettings(workers=2, stop_grace_s=0.05)
LONG_S = 60.0


async def call(executor: ProcessExecutor, fn: str, *args: Any, timeout_s: float = LONG_S, affinity: str = "") -> Any:
    return await executor.run("worker", fn, args, timeout_s=timeout_s, affinity=affinity)


async def test_a_killed_worker_fails_its_task_only() -> None:
    async with running(TWO) as executor:
        first = await call(executor, "pid")
        with pytest.raises(WorkerDied, match="die"):
            await call(executor, "die")
        assert await call(executor, "pid") != first
        await until(lambda: executor.stats().restarts == 1)
        assert not alive(first)


async def test_a_worker_that_dies_idle_is_replaced() -> None:
    async with running(ONE) as executor:
        first = await call(executor, "pid")
        os.kill(first, signal.SIGKILL)
        await until(lambda: executor.pids() not in ([], [first]))
        assert [await call(executor, "pid")] == executor.pids()


@pytest.mark.parametrize(("fn", "args"), [("hoard", [512 * MIB]), ("hoard_slowly", [])])
async def test_a_memory_bomb_takes_only_its_worker(fn: str, args: list[Any]) -> None:
    async with running(ExecutorSettings(workers=1, memory_bytes_max=256 * MIB)) as executor:
        with pytest.raises(WorkerDied, match="memory limit"):
            await call(executor, fn, *args)
        assert await call(executor, "hoard", 16 * MIB) == 16 * MIB


async def test_files_mapped_read_only_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "index.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2048 * MIB,)})
        file.truncate(file.tell() + 2048 * MIB)  # sparse
    async with running(ExecutorSettings(workers=1, memory_bytes_max=256 * MIB)) as executor:
        assert await call(executor, "map_file", str(path)) == 2048 * MIB


GARBAGE = {
    "a frame of 4 GiB": b"\xff\xff\xff\xff",
    "not MessagePack": b"\x00\x00\x00\x01\xc1",
    "an unknown tag": b"\x00\x00\x00\x05\x91\xa3own",
    "a pickle": b"\x00\x00\x00\x04\x80\x04N.",
    "nested for ever": (50_000).to_bytes(4, "big") + b"\x91" * 50_000,
}


async def test_garbage_from_a_worker_ends_that_worker() -> None:
    async with running(ONE) as executor:
        for data in GARBAGE.values():
            first = await call(executor, "pid")
            with pytest.raises(WorkerDied, match="garbage"):
                await call(executor, "write_garbage", data)
            assert await call(executor, "add", 1, 2) == 3
            assert not alive(first)


async def test_so_does_speaking_out_of_turn() -> None:
    async with running(ONE) as executor:
        for fn in ("answer_for_another", "ready_again"):
            with pytest.raises(WorkerDied, match="out of turn"):
                await call(executor, fn)
        assert await call(executor, "add", 1, 2) == 3


async def test_a_worker_cannot_cut_the_shared_memory() -> None:
    async with running(ONE) as executor:
        outcomes = await call(executor, "shrink_slabs")
        assert set(outcomes) == {"sealed"}


async def test_an_endless_loop_times_out_and_is_replaced(tmp_path: Path, mock_clock: MockClock) -> None:
    started = tmp_path / "started"
    async with running(ONE) as executor:
        first = await call(executor, "pid")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(TimedOut, match="did not finish in 5 s"):
                    await call(executor, "spin", str(started), timeout_s=5)

            await until(started.exists)
            mock_clock.jump(5.01)
        assert executor.stats().busy == 1
        assert alive(first)
        mock_clock.jump(ONE.stop_grace_s)
        assert await call(executor, "pid") != first
        assert not alive(first)


async def test_a_timeout_asks_first_and_a_task_that_stops_keeps_its_worker(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    async with running(ONE) as executor:
        first = await call(executor, "pid")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(TimedOut):
                    await call(executor, "spin_politely", str(started), str(stopped), timeout_s=5)

            await until(started.exists)
            mock_clock.jump(5.01)
        await until(stopped.exists)
        assert await call(executor, "pid") == first
        mock_clock.jump(LONG_S)
        assert await call(executor, "pid") == first
        assert executor.stats().restarts == 0


async def test_cancelling_the_caller_stops_what_runs_and_drops_what_waits(tmp_path: Path) -> None:
    started, stopped, journal = tmp_path / "started", tmp_path / "stopped", tmp_path / "journal"
    async with running(ExecutorSettings(workers=1)) as executor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, executor, "spin_politely", str(started), str(stopped))
            await until(started.exists)
            nursery.start_soon(call, executor, "note", str(journal), "waiting")
            await until(lambda: executor.stats().queued == 1)
            nursery.cancel_scope.cancel()
        assert executor.stats().queued == 0
        await until(stopped.exists)
        assert await call(executor, "note", str(journal), "next") == "next"
        assert executor.stats().restarts == 0
    assert journal.read_text() == "next\n"


@pytest.mark.parametrize("seed", range(4))
async def test_each_task_starts_at_most_once_whatever_dies_or_is_withdrawn(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    journal = tmp_path / "journal"
    kinds = ["note"] * 20 + ["note_and_spin"] * 12 + ["die"] * 3
    rng.shuffle(kinds)
    outcomes: dict[str, str] = {}
    scopes: dict[str, trio.CancelScope] = {}

    async def one(name: str, kind: str) -> None:
        args = [str(journal), name] + ([rng.randrange(1, 8)] if kind == "note_and_spin" else [])
        with trio.CancelScope() as scopes[name]:
            try:
                assert await call(executor, kind, *args) == name
                outcomes[name] = "value"
            except WorkerDied:
                outcomes[name] = "died"
        outcomes.setdefault(name, "cancelled")

    async with running(TWO) as executor:
        async with trio.open_nursery() as nursery:
            for n, kind in enumerate(kinds):
                nursery.start_soon(one, str(n), kind)
                if rng.random() < 0.3:
                    await trio.lowlevel.checkpoint()
                if scopes and rng.random() < 0.25:
                    rng.choice(list(scopes.values())).cancel()
        assert executor.stats().queued == 0
        await until(lambda: executor.stats().busy == 0)
    starts = Counter(journal.read_text().split())
    assert len(outcomes) == len(kinds)
    for n, kind in enumerate(kinds):
        name = str(n)
        assert starts[name] <= 1
        if outcomes[name] == "value":
            assert starts[name] == 1
            assert kind != "die"
        if outcomes[name] == "died":
            assert kind == "die"


async def test_shutdown_leaves_nobody_behind_and_answers_everybody(tmp_path: Path) -> None:
    started = tmp_path / "started"
    workers: list[int] = []
    errors: list[EdgenetError] = []

    async def one(*args: Any) -> None:
        try:
            await call(executor, *args)
        except EdgenetError as e:
            errors.append(e)

    async with trio.open_nursery() as callers, running(TWO) as executor:
        callers.start_soon(one, "spin", str(started))
        callers.start_soon(one, "fork_and_spin", str(tmp_path / "pids"))
        await until(lambda: started.exists() and (tmp_path / "pids").exists())
        workers = executor.pids()
        callers.start_soon(one, "pid")
        await until(lambda: executor.stats().queued == 1)
    pids = {*workers, *map(int, (tmp_path / "pids").read_text().split())}
    assert len(pids) == 3
    await until(lambda: not any(map(alive, pids)))
    assert [type(e) for e in errors] == [Cancelled] * 3


def test_killing_the_parent_leaves_no_orphans_and_no_shared_memory(tmp_path: Path) -> None:
    async def gone() -> None:
        with trio.fail_after(LONG_S):
            await until(lambda: not any(map(alive, pids)))

    root = Path(parent.__file__).parents[3]
    command = [sys.executable, "-m", parent.__name__, str(tmp_path / "started")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as program:  # noqa: S603
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        program.kill()
    trio.run(gone)
    assert list(Path("/dev/shm").glob("*edgenet*")) == []  # noqa: S108


async def test_workers_that_cannot_start_are_tried_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    executor = ProcessExecutor(
        REGISTERED, ExecutorSettings(workers=1, backoff_s=1, backoff_max_s=8), MonotonicClock(), rng=random.Random(3)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve)
        with pytest.raises(TimedOut, match="did not start"):
            await call(executor, "pid", timeout_s=60)
        nursery.cancel_scope.cancel()
    # Pauses of 1, 2, 4, 8, 8, ... s, each times 0.5 to 1: between 9 and 18 tries fit into a minute.
    assert 9 <= executor.stats().restarts <= 18
