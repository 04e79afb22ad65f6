"""One worker process as its parent sees it: start, talk, stop, bury."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
import trio

from . import frames
from .ring import Slab, slab_file
from .settings import ExecutorSettings

_MODULE: Final = "edgenet_node.adapters.process_executor.worker"
_RECEIVE_BYTES: Final = 256 * 1024
_COPY_BYTES: Final = 1024 * 1024
"""Copied at once on the loop: 0.1 ms warm, 0.5 ms when all of its pages are new."""
_TRIM_BYTES: Final = 2 * 1024 * 1024
_LINE_CHARS_MAX: Final = 2000
_ENVIRONMENT: Final = ("PATH", "HOME", "USER", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
_ENVIRONMENT_PREFIXES: Final = (
    "LC_",
    "LANG",
    "PYTHON",
    "OPENBLAS_",
    "OMP_",
    "MKL_",
    "NUMBA_",
    "XDG_CACHE_",
    "COVERAGE_",
)
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_log: Final = structlog.get_logger(__name__)


class Gone(Exception):
    """The worker is of no use any more: it hung up, died, or broke the protocol. The text says which."""


def environment() -> dict[str, str]:
    """What a worker inherits: an allow-list, since the rest may hold the owner's secrets; this interpreter's import
    path, so that functions resolve as they do here; one thread for BLAS."""
    kept = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT or k.startswith(_ENVIRONMENT_PREFIXES)}
    kept.update(dict.fromkeys(_ONE_THREAD, "1"))
    kept["PYTHONPATH"] = os.pathsep.join(p or str(os.getcwd()) for p in sys.path)  # noqa: PTH109
    return kept


class Child:
    """A started worker. Its parent must `end` it."""

    def __init__(self, settings: ExecutorSettings, functions: Mapping[str, str]) -> None:
        """Start the process; it is usable after `ready`. `OSError` when the system refuses.

        Runs on the loop's own thread (3 ms) because PR_SET_PDEATHSIG means the death of the thread that forked."""
        self._settings = settings
        self._reader = frames.FrameReader(settings.frame_bytes_max)
        self._functions = dict(functions)
        self._why = ""
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as always:
            in_fd = slab_file(frames.slab_bytes(settings.args_bytes_max))
            always.callback(os.close, in_fd)
            out_fd = slab_file(frames.slab_bytes(settings.result_bytes_max))
            always.callback(os.close, out_fd)
            self._in = Slab(in_fd, writable=True)
            on_failure.callback(self._in.close)
            self._out = Slab(out_fd, writable=True)
            on_failure.callback(self._out.close)
            self._link, theirs = socket.socketpair()
            on_failure.callback(self._link.close)
            always.callback(theirs.close)
            self._link.setblocking(False)
            self._popen = self._spawn(theirs.fileno(), in_fd, out_fd)
            on_failure.pop_all()
        self._pidfd = os.pidfd_open(self._popen.pid) if hasattr(os, "pidfd_open") else -1
        self._unpacker = frames.Unpacker(self._out.view, bulk_bytes_max=settings.result_bytes_max, copy=True)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _spawn(self, link_fd: int, in_fd: int, out_fd: int) -> subprocess.Popen[bytes]:
        fds = (link_fd, in_fd, out_fd)
        command = [
            sys.executable,
            "-P",
            "-u",
            "-X",
            "faulthandler",
            "-m",
            _MODULE,
            *map(str, (*fds, os.getpid(), self._settings.nice)),
        ]
        return subprocess.Popen(  # noqa: S603 - a fixed command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self._settings.output == "log" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            env=environment(),
            start_new_session=True,  # no Ctrl-C from the terminal, and one kill reaches what a task may have forked
        )

    async def ready(self) -> None:
        """Tell it what it is to be, wait until it can take work. `Gone`."""
        s = self._settings
        await self.send(
            frames.frame(
                frames.Start(
                    functions=self._functions,
                    memory_bytes_max=s.memory_bytes_max,
                    inline_bytes_max=s.inline_bytes_max,
                    frame_bytes_max=s.frame_bytes_max,
                    result_bytes_max=s.result_bytes_max,
                    resident_count_max=s.resident_count_max,
                    resident_bytes_max=s.resident_bytes_max,
                    backend=s.backend,
                    kernel_cache=s.kernel_cache,
                )
            )
        )
        if not isinstance(await self.receive(), frames.Ready):
            raise Gone("the worker did not start as it should")

    def post(self, frame: bytes, payload: frames.Payload) -> bytes | None:
        """Start a task at once if that is quick: None when all is sent, else what `deliver` has to send."""
        self._in.ask_to_stop(False)
        self._in.reserve(payload.end)
        if sum(bulk.data.nbytes for bulk in payload.bulk) > _COPY_BYTES:
            return frame
        for offset, data in payload.bulk:
            self._in.view[offset : offset + data.nbytes] = data
        try:
            sent = self._link.send(frame)
        except BlockingIOError:
            return frame
        except OSError:
            return None  # it is dead: `receive` is about to say so
        return frame[sent:] if sent < len(frame) else None

    async def deliver(self, rest: bytes, payload: frames.Payload) -> None:
        """What `post` left over: large copies in pieces, then the frame."""
        try:
            if sum(bulk.data.nbytes for bulk in payload.bulk) > _COPY_BYTES:
                for offset, data in payload.bulk:
                    for start in range(0, data.nbytes, _COPY_BYTES):
                        piece = data[start : start + _COPY_BYTES]
                        self._in.view[offset + start : offset + start + piece.nbytes] = piece
                        await trio.lowlevel.checkpoint()
            await self.send(rest)
        except (Gone, ValueError, trio.ClosedResourceError):
            return  # ended meanwhile (a closed slab raises ValueError); its reader has told the task

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._link.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._link.fileno())
            except OSError as e:
                raise Gone(f"the worker hung up: {e}") from e

    async def receive(self) -> frames.Ready | frames.Value | frames.Failure:
        """The next message. `Gone`."""
        try:
            while (body := self._reader.next()) is None:
                await trio.lowlevel.wait_readable(self._link.fileno())
                data = self._link.recv(_RECEIVE_BYTES)
                if not data:
                    raise Gone(self._why or "the worker process died")
                self._reader.feed(data)
            message: frames.Ready | frames.Value | frames.Failure = frames.decode_from_worker(body)
            return message
        except (msgspec.DecodeError, frames.FrameError, RecursionError) as e:
            raise Gone(f"the worker sent garbage: {e}") from e
        except OSError as e:
            raise Gone(self._why or f"the worker process died: {e}") from e

    async def value(self, message: frames.Value) -> Any:
        """The result in a message, copied out of shared memory. `Gone` if it breaks the protocol."""
        try:
            value, bulk, end = self._unpacker.unpack(message.payload)
        except frames.FrameError as e:
            raise Gone(f"the worker sent garbage: {e}") from e
        self._out.reserve(min(end, self._out.size))
        copied = 0
        for offset, target in bulk:
            for start in range(0, target.nbytes, _COPY_BYTES):
                piece = target[start : start + _COPY_BYTES]
                piece[:] = self._out.view[offset + start : offset + start + piece.nbytes]
                copied += piece.nbytes
                if copied > _COPY_BYTES:
                    await trio.lowlevel.checkpoint()
        for slab in (self._in, self._out):
            while slab.trim(self._settings.slab_keep_bytes, _TRIM_BYTES):
                await trio.lowlevel.checkpoint()
        return value

    def ask_to_stop(self) -> None:
        self._in.ask_to_stop(True)

    def kill(self, why: str) -> None:
        """SIGKILL to it and to all that it forked; `receive` then raises `Gone(why)`."""
        self._why = self._why or why
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.kill()  # the group is not there yet in the first moment of its life

    async def log_output(self) -> None:
        """Pass what it prints to the log until it ends; reads on when there is too much, so that it never blocks."""
        if self._popen.stdout is None:
            return
        left = self._settings.output_bytes_max
        async with trio.lowlevel.FdStream(os.dup(self._popen.stdout.fileno())) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in stream:
                    if left <= 0:
                        continue
                    left -= len(data)
                    for line in data.decode("utf-8", "replace").splitlines():
                        _log.debug("worker output", pid=self._popen.pid, line=line[:_LINE_CHARS_MAX])

    async def end(self, grace_s: float) -> None:
        """Hang up, wait up to `grace_s` for it to exit, kill it, bury it. Nothing of it remains."""
        self._in.ask_to_stop(True)
        trio.lowlevel.notify_closing(self._link.fileno())
        self._link.close()
        if grace_s > 0:
            with trio.move_on_after(grace_s):
                await self._dead()
        self.kill("ended")
        await self._dead()
        self._popen.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._in.close()
        self._out.close()

    async def _dead(self) -> None:
        if self._pidfd >= 0:
            await trio.lowlevel.wait_readable(self._pidfd)
        else:
            await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True)
