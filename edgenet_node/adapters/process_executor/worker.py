"""The main of a worker process, started with the descriptors of its socket and two slabs, its parent's pid, niceness.

It reads a task, runs it, answers, and ends when its parent closes the socket. Nothing here or above imports numpy
before `kernels.bootstrap` has set what OpenBLAS reads at import.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from ...kernels import bootstrap
from ...kernels.backends import Backends
from .context import Function, Residents, WorkerContext, load_function
from .ring import Slab

if TYPE_CHECKING:
    from .frames import FrameReader, Packer, Run, Start, Unpacker

_PR_SET_PDEATHSIG: Final = 1
_RECEIVE_BYTES: Final = 256 * 1024
_START_BYTES_MAX: Final = 1024 * 1024
"""Holds 1024 functions with names and targets of 200 characters."""
_OOM_SCORE: Final = "500"


def tie_to_parent(parent_pid: int) -> None:
    """Die with the parent, even by kill -9 and in the middle of a computation. Without prctl: at the next read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the line above took effect
            os._exit(1)


def limit(memory_bytes_max: int) -> None:
    """Data segment, no core dumps, and first in line for the out-of-memory killer."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes_max:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write(_OOM_SCORE)


class Worker:
    """Runs tasks one after the other. `serve` returns when the parent has hung up."""

    def __init__(self, link: socket.socket, inbound: Slab, outbound: Slab, start: Start, reader: FrameReader) -> None:
        from .frames import Packer, Unpacker

        self._link = link
        self._reader = reader
        self._outbound = outbound
        self._functions = start.functions
        self._loaded: dict[str, Function] = {}
        self._residents = Residents(start.resident_count_max, start.resident_bytes_max)
        self._reported: list[str] = []
        self._context = WorkerContext(self._residents, inbound.stop_asked, Backends(start.backend, start.kernel_cache))
        self._packer: Packer = Packer(
            inline_bytes_max=start.inline_bytes_max,
            frame_bytes_max=start.frame_bytes_max,
            bulk_bytes_max=start.result_bytes_max,
        )
        self._unpacker: Unpacker = Unpacker(inbound.view, bulk_bytes_max=len(inbound.view), copy=False)

    def serve(self) -> None:
        from .frames import Ready, Run, decode_to_worker, frame

        self._link.sendall(frame(Ready()))
        while (body := receive(self._link, self._reader)) is not None:
            message = decode_to_worker(body)
            if not isinstance(message, Run):
                raise SystemExit("a second start")
            answer, last = self._answer(message)
            self._link.sendall(answer)
            if last:
                raise SystemExit("out of memory")

    def _answer(self, run: Run) -> tuple[bytes, bool]:
        """The frame that answers `run`, and whether this process is to end after it."""
        from .frames import MESSAGE_CHARS_MAX, Failure, Value, frame

        try:
            payload = self._packer.pack(self._call(run))
            self._outbound.reserve(payload.end, touch=True)
            for offset, data in payload.bulk:
                self._outbound.view[offset : offset + data.nbytes] = data
            return frame(Value(run.id, Raw(payload.raw), self._changed_residents())), False
        except MemoryError:
            return frame(Failure(run.id, "memory limit", True, None)), True
        except BaseException as e:  # noqa: BLE001 - whatever a task raises, SystemExit included, is its result
            message = f"{type(e).__name__}: {e}".encode("utf-8", "replace").decode()[:MESSAGE_CHARS_MAX]
            return frame(Failure(run.id, message, False, self._changed_residents())), False

    def _call(self, run: Run) -> Any:
        function = self._loaded.get(run.fn)
        if function is None:
            function = self._loaded[run.fn] = load_function(self._functions[run.fn])
        args, _, _ = self._unpacker.unpack(run.payload)
        return function(self._context, *args)

    def _changed_residents(self) -> list[str] | None:
        names = self._residents.names()
        if names == self._reported:
            return None
        self._reported = names
        return names


def receive(link: socket.socket, reader: FrameReader) -> bytes | None:
    """The next frame body, None when the parent has closed its end."""
    while (body := reader.next()) is None:
        data = link.recv(_RECEIVE_BYTES)
        if not data:
            return None
        reader.feed(data)
    return body


def main(argv: list[str]) -> int:
    link_fd, in_fd, out_fd, parent_pid, nice = map(int, argv)
    tie_to_parent(parent_pid)
    os.nice(nice)
    bootstrap.apply()
    from .frames import FrameReader, Start, decode_to_worker

    link = socket.socket(fileno=link_fd)
    link.set_inheritable(False)
    inbound, outbound = Slab(in_fd, writable=False), Slab(out_fd, writable=True)
    os.close(in_fd)
    os.close(out_fd)
    reader = FrameReader(_START_BYTES_MAX)
    body = receive(link, reader)
    if body is None:
        return 0
    start = decode_to_worker(body)
    if not isinstance(start, Start):
        return 2
    reader.frame_bytes_max = start.frame_bytes_max
    limit(start.memory_bytes_max)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone, and so is the reason to run
        Worker(link, inbound, outbound, start, reader).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
