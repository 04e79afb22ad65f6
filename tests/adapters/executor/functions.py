"""Functions that the tests run in workers. Nothing here is imported by the parent's adapter."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenet_node.adapters.process_executor.context import WorkerContext
from edgenet_node.adapters.process_executor.frames import Ready, Value, frame


def echo(context: WorkerContext, *args: Any) -> list[Any]:
    return list(args)


def add(context: WorkerContext, a: int, b: int) -> int:
    return a + b


def scale(context: WorkerContext, values: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    return values * np.float32(factor)


def checksum(context: WorkerContext, values: NDArray[np.float32]) -> float:
    return float(values[0] + values[-1])


def fail(context: WorkerContext, text: str) -> None:
    raise ArithmeticError(text)


def leave(context: WorkerContext) -> None:
    raise SystemExit(3)


def unsendable(context: WorkerContext, what: str) -> Any:
    choices: dict[str, Any] = {
        "object": object(),
        "object array": np.array([object()]),
        "strided": np.zeros((4, 4))[:, ::2],
        "deep": [[]],
    }
    for _ in range(64):
        choices["deep"] = [choices["deep"]]
    return choices[what]


def zeros(context: WorkerContext, size: int) -> NDArray[np.uint8]:
    return np.zeros(size, np.uint8)


def die(context: WorkerContext, journal: str = "", name: str = "") -> None:
    note(context, journal, name)
    os.kill(os.getpid(), signal.SIGKILL)


def note(context: WorkerContext, journal: str, name: str) -> str:
    """One line per start of a task; O_APPEND keeps lines of several workers apart."""
    if journal:
        fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{name}\n".encode())
        os.close(fd)
    return name


def note_and_spin(context: WorkerContext, journal: str, name: str, turns: int) -> str:
    note(context, journal, name)
    for _ in range(turns):
        if context.should_stop():
            break
        time.sleep(0.001)
    return name


def spin(context: WorkerContext, started: str = "") -> None:
    """Runs for ever, deaf to requests to stop."""
    if started:
        Path(started).touch()
    while True:
        time.sleep(0.001)


def spin_politely(context: WorkerContext, started: str, stopped: str) -> None:
    Path(started).touch()
    while not context.should_stop():
        time.sleep(0.001)
    Path(stopped).touch()


def wait_for(context: WorkerContext, path: str, journal: str = "", name: str = "") -> str:
    """Blocks its worker until the file exists."""
    note(context, journal, name)
    while not Path(path).exists() and not context.should_stop():
        time.sleep(0.001)
    return name


def hoard(context: WorkerContext, size: int) -> int:
    return int(np.ones(size, np.uint8).sum())


def hoard_slowly(context: WorkerContext) -> int:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def map_file(context: WorkerContext, path: str) -> int:
    """Maps a file read-only, as loaders do, and reads a few of its pages."""
    mapped = np.load(path, mmap_mode="r")
    return int(mapped[:: mapped.size // 64].sum()) + int(mapped.size)


def pid(context: WorkerContext) -> int:
    return os.getpid()


def fork_and_spin(context: WorkerContext, path: str) -> None:
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(0.01)
    Path(path + ".part").write_text(f"{os.getpid()} {child}")
    Path(path + ".part").rename(path)
    spin(context)


def surroundings(context: WorkerContext) -> dict[str, Any]:
    return {
        "nice": os.nice(0),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "secret": os.environ.get("EDGENET_TEST_SECRET"),
        "trio": "trio" in sys.modules,
        "stdin": sys.stdin.read(),
    }


def resident(context: WorkerContext, name: str) -> list[int]:
    """[pid, the age of the resident in calls]"""
    calls: list[int] = context.resident(name, list, size_bytes=10)
    calls.append(1)
    return [os.getpid(), len(calls)]


def chatter(context: WorkerContext, lines: int) -> int:
    for _ in range(lines):
        print("chatter " * 16)  # noqa: T201
    return lines


def _link() -> socket.socket:
    return next(o for o in gc.get_objects() if isinstance(o, socket.socket))


def write_garbage(context: WorkerContext, data: bytes) -> None:
    """A compromised worker speaks for itself."""
    _link().sendall(data)
    spin(context)


def answer_for_another(context: WorkerContext) -> None:
    import msgspec

    _link().sendall(frame(Value(10**9, msgspec.Raw(b"\xc0"), None)))
    spin(context)


def ready_again(context: WorkerContext) -> None:
    _link().sendall(frame(Ready()))
    spin(context)


def shrink_slabs(context: WorkerContext) -> list[str]:
    """Tries to cut the shared memory under the feet of the parent."""
    outcomes = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if "edgenet-slab" in str(entry.readlink()):
                os.ftruncate(int(entry.name), mmap.PAGESIZE)
                outcomes.append("cut")
        except PermissionError:
            outcomes.append("sealed")
        except OSError:
            continue
    return outcomes
