from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import MIB, ExecutorSettings
from edgenet_node.effects import Place
from edgenet_node.errors import (
    Cancelled,
    ComputeFailed,
    ConfigError,
    Overloaded,
    TimedOut,
    UsageError,
)

from . import functions
from .support import REGISTERED, MonotonicClock, running, until

ONE = ExecutorSettings(workers=1, stop_grace_s=0.05)
TWO = ExecutorSettings(workers=2, stop_grace_s=0.05)
LONG_S = 60.0


async def call(executor: ProcessExecutor, fn: str, *args: Any, timeout_s: float = LONG_S, affinity: str = "") -> Any:
    return await executor.run("worker", fn, args, timeout_s=timeout_s, affinity=affinity)


async def test_results_equal_a_serial_run() -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.random(n, np.float32) for n in (0, 1, 100, 20_000, 300_000)] * 3
    outputs: dict[int, Any] = {}

    async def one(n: int) -> None:
        outputs[n] = await call(executor, "scale", inputs[n], n / 3)

    async with running(TWO) as executor:
        async with trio.open_nursery() as nursery:
            for n in range(len(inputs)):
                nursery.start_soon(one, n)
        assert executor.stats().completed == len(inputs)
        assert executor.stats().busy == executor.stats().queued == 0
    for n, values in enumerate(inputs):
        assert np.array_equal(outputs[n], values * np.float32(n / 3))


async def test_large_arrays_come_back_equal_and_memory_is_given_back() -> None:
    rng = np.random.default_rng(2)
    large = rng.random((4, 512, 1024))
    settings = ExecutorSettings(workers=1, slab_keep_bytes=MIB)
    async with running(settings) as executor:
        for _ in range(3):
            (back, text, number) = await call(executor, "echo", large, b"z" * 300_000, 7)
            assert back.dtype == large.dtype
            assert np.array_equal(back, large)
            assert (text, number) == (b"z" * 300_000, 7)
            back += 1  # it is ours


async def test_nothing_starts_before_there_is_work() -> None:
    async with running(TWO) as executor:
        await trio.testing.wait_all_tasks_blocked()
        assert executor.pids() == []
        assert await call(executor, "add", 1, 2) == 3
        assert len(executor.pids()) == 1


async def test_surroundings_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGENET_TEST_SECRET", "do not pass on")
    async with running(ONE) as executor:
        seen = await call(executor, "surroundings")
        assert await call(executor, "chatter", 20_000) == 20_000
    assert seen == {"nice": min(os.nice(0) + 10, 19), "threads": "1", "secret": None, "trio": False, "stdin": ""}


FAILURES: list[tuple[str, list[Any], str]] = [
    ("fail", ["two and two"], "fail: ArithmeticError: two and two"),
    ("leave", [], "SystemExit: 3"),
    ("add", [1], "TypeError"),
    ("unsendable", ["object"], "object cannot travel"),
    ("unsendable", ["object array"], "plain numeric"),
    ("unsendable", ["strided"], "C-contiguous"),
    ("unsendable", ["deep"], "deeper"),
    ("zeros", [MIB + 1], "more than 1048576 bytes"),
]


async def test_failing_tasks_cost_no_worker() -> None:
    async with running(ExecutorSettings(workers=1, result_bytes_max=MIB)) as executor:
        for fn, args, words in FAILURES:
            with pytest.raises(ComputeFailed, match=words):
                await call(executor, fn, *args)
            assert (await call(executor, "zeros", MIB)).size == MIB
        assert executor.stats().restarts == 0
        assert executor.stats().completed == 2 * len(FAILURES)


async def test_calls_that_make_no_sense() -> None:
    async with running(ExecutorSettings(workers=1, args_bytes_max=MIB)) as executor:
        senseless: list[tuple[str, list[Any], float]] = [
            ("no such", [], 1.0),
            ("echo", [object()], 1.0),
            ("echo", [np.zeros(MIB + 1, np.uint8)], 1.0),
            ("echo", [], float("nan")),
            ("echo", [], -1.0),
        ]
        for fn, args, timeout_s in senseless:
            with pytest.raises(UsageError):
                await call(executor, fn, *args, timeout_s=timeout_s)
        with pytest.raises(UsageError):
            await call(executor, "echo", affinity="x" * 201)
        assert executor.pids() == []


async def test_it_refuses_work_while_it_does_not_run() -> None:
    executor = ProcessExecutor(REGISTERED, ONE, MonotonicClock())
    with pytest.raises(Cancelled):
        await call(executor, "add", 1, 2)
    assert executor.stats().queued == 0


@pytest.mark.parametrize("target", ["os.system", "os:", "a b:c", "os:system()", "x" * 300 + ":f"])
def test_targets_are_checked(target: str) -> None:
    with pytest.raises(ConfigError):
        ProcessExecutor({"fn": target}, ONE, MonotonicClock())


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("workers", 0, "between 1 and 16"),
        ("workers", 17, "between 1 and 16"),
        ("nice", 20, "between 0 and 19"),
        ("memory_bytes_max", 1, "64 MiB"),
        ("queued_max", 0, "queued_max is 0"),
        ("frame_bytes_max", 1000, "at least twice"),
        ("stop_grace_s", 0.0, "above 0 s"),
    ],
)
def test_settings_are_checked(field: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ExecutorSettings(**{field: value})


async def test_waiting_counts_against_the_timeout(tmp_path: Path, mock_clock: MockClock) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    async with running(ONE) as executor:
        await call(executor, "pid")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, executor, "wait_for", str(gate))
            await until(lambda: executor.stats().busy == 1)

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(TimedOut, match="did not start"):
                    await call(executor, "note", str(journal), "late", timeout_s=5)

            await until(lambda: executor.stats().queued == 1)
            mock_clock.jump(5.01)
            await until(lambda: executor.stats().queued == 0)
            gate.touch()
        assert await call(executor, "pid") > 0
    assert not journal.exists()


async def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with running(ExecutorSettings(workers=1, queued_max=2)) as executor:
        await call(executor, "pid")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call, executor, "wait_for", str(gate))
            await until(lambda: executor.stats().queued == 2)
            with pytest.raises(Overloaded) as refused:
                await call(executor, "pid")
            assert 0.05 <= refused.value.retry_after_s <= 60
            gate.touch()
        assert executor.stats().completed == 4


async def test_a_free_worker_steals_the_oldest(tmp_path: Path) -> None:
    """Both workers are blocked and work is queued for one of them; the other one frees itself and takes over."""
    gates = [tmp_path / "gate 0", tmp_path / "gate 1"]
    journal = tmp_path / "journal"
    async with running(ExecutorSettings(workers=2, starve_after_s=1e6)) as executor, trio.open_nursery() as nursery:
        nursery.start_soon(partial(call, executor, "wait_for", str(gates[0]), affinity="index"))
        await until(lambda: executor.stats().busy == 1)
        nursery.start_soon(call, executor, "wait_for", str(gates[1]))
        await until(lambda: executor.stats().busy == 2)
        stolen = executor.stats().stolen
        for n in range(4):
            nursery.start_soon(partial(call, executor, "note", str(journal), str(n), affinity="index"))
            await until(lambda n=n: executor.stats().queued == n + 1)  # type: ignore[misc]
        gates[1].touch()
        await until(lambda: executor.stats().completed == 5)
        assert executor.stats().stolen == stolen + 4
        gates[0].touch()
    assert journal.read_text().split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("starve_after_s", "order"), [(1e6, "3 2 1 0"), (10.0, "0 1 3 2")])
async def test_own_work_is_taken_young_unless_it_starves(
    tmp_path: Path, mock_clock: MockClock, starve_after_s: float, order: str
) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    async with (
        running(ExecutorSettings(workers=1, starve_after_s=starve_after_s)) as executor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(call, executor, "wait_for", str(gate))
        await until(lambda: executor.stats().busy == 1)
        for n in range(4):
            nursery.start_soon(call, executor, "note", str(journal), str(n))
            await until(lambda n=n: executor.stats().queued == n + 1)  # type: ignore[misc]
            if n == 1:
                mock_clock.jump(11)
        gate.touch()
    assert journal.read_text().split() == order.split()


async def test_work_goes_where_its_resident_is() -> None:
    async with running(TWO) as executor:
        async with trio.open_nursery() as nursery:  # both workers up
            for _ in range(2):
                nursery.start_soon(call, executor, "hoard", 32 * MIB)
            await until(lambda: len(executor.pids()) == 2)
        home, age = await call(executor, "resident", "index@1")
        assert age == 1
        other = next(pid for pid in executor.pids() if pid != home)
        for n in range(2, 5):
            assert await call(executor, "resident", "index@1", affinity="index@1") == [home, n]
        os.kill(home, signal.SIGKILL)
        await until(lambda: home not in executor.pids())
        assert await call(executor, "resident", "index@1", affinity="index@1") in ([other, 1], [executor.pids()[0], 1])


async def test_a_busy_holder_does_not_keep_others_idle(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with running(TWO) as executor:
        home, _ = await call(executor, "resident", "index")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(call, executor, "wait_for", str(gate), affinity="index"))
            await until(lambda: executor.stats().busy == 1)
            moved, age = await call(executor, "resident", "index", affinity="index")
            gate.touch()
    assert (moved != home, age) == (True, 1)


async def test_inline_and_thread_need_no_service() -> None:
    executor = ProcessExecutor(REGISTERED, ExecutorSettings(threads=1, threads_queued_max=1), MonotonicClock())
    places: tuple[Place, ...] = ("inline", "thread")
    for place in places:
        assert await executor.run(place, "add", [1, 2], timeout_s=LONG_S) == 3
        assert await executor.run(place, "pid", [], timeout_s=LONG_S) == os.getpid()
        assert await executor.run(place, "resident", ["a"], timeout_s=LONG_S) == [os.getpid(), 1]
        assert await executor.run(place, "resident", ["a"], timeout_s=LONG_S) == [os.getpid(), 2]
        with pytest.raises(ComputeFailed, match="ArithmeticError: no"):
            await executor.run(place, "fail", ["no"], timeout_s=LONG_S)


async def test_threads_are_bounded_and_asked_to_stop(tmp_path: Path) -> None:
    executor = ProcessExecutor(REGISTERED, ExecutorSettings(threads=1, threads_queued_max=1), MonotonicClock())
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    async with trio.open_nursery() as nursery:

        async def spin() -> None:
            await executor.run("thread", "spin_politely", [str(started), str(stopped)], timeout_s=LONG_S)

        nursery.start_soon(spin)
        await until(started.exists)
        nursery.start_soon(spin)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await executor.run("thread", "add", [1, 2], timeout_s=LONG_S)
        nursery.cancel_scope.cancel()
    await until(stopped.exists)
    assert await executor.run("thread", "add", [1, 2], timeout_s=LONG_S) == 3


async def test_a_thread_times_out(tmp_path: Path) -> None:
    executor = ProcessExecutor(REGISTERED, ExecutorSettings(), MonotonicClock())
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    with pytest.raises(TimedOut):
        await executor.run("thread", "spin_politely", [str(started), str(stopped)], timeout_s=0.05)
    await until(stopped.exists)


async def test_the_adapter_does_not_import_what_it_runs() -> None:
    code = (
        "import sys\n"
        "from edgenet_node.adapters.process_executor.pool import ProcessExecutor\n"
        f"assert {functions.__name__!r} not in sys.modules\n"
        "import edgenet_node.adapters.process_executor.worker\n"
    )
    lean = (
        "import sys, edgenet_node.adapters.process_executor.worker\nassert not {'numpy', 'trio'} & set(sys.modules)\n"
    )
    for program in (code, lean):
        done = await trio.run_process([sys.executable, "-c", program], check=False)
        assert done.returncode == 0
