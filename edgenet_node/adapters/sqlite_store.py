"""The row store: one writer thread over one SQLite file (`sqlite_file`).

Commits that wait while another one is being written share the next transaction and its fsync (group commit); they are
applied in the order in which they were asked for.

Failure:
* no space: the transaction is rolled back and refused with `StoreFull`; a group is then retried one by one, so that
  small members survive. Commits of the same part that were already queued behind a refused one are refused too: what a
  part has on disk is always a prefix of what it asked for.
* anything else while writing: `CommitFailed`. Whether the rows survive is unknown, and after a failed fsync the kernel
  may have dropped them silently, so every later commit refuses and the process has to stop.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import trio
from msgspec import Struct

from ..effects import Put, Row, Save
from ..errors import InvariantError, StoreError, StoreFull
from .sqlite_file import CommitFailed, Connect, PendingCommit, SqliteFile, StoreLimits

__all__ = ["CommitFailed", "SqliteStore", "StoreLimits", "StoreStats"]


class StoreStats(Struct, frozen=True):
    """`commits` were acknowledged in `transactions`; `refused` found no space; `waiting` are under way."""

    commits: int
    transactions: int
    refused: int
    waiting: int


class _Commit(PendingCommit):
    __slots__ = ("done",)

    def __init__(self, part: str, saves: tuple[Save, ...], size: int) -> None:
        super().__init__(part, saves, size)
        self.done = trio.Event()


class _Load:
    __slots__ = ("check", "done", "error", "part", "rows")

    def __init__(self, part: str, *, check: bool = False) -> None:
        self.part = part
        self.check = check
        self.rows: list[Row] = []
        self.error: Exception | None = None
        self.done = trio.Event()


class SqliteStore:
    """See `RowStore`. Made by `open`, inside the `trio.run` that uses it."""

    def __init__(self, path: Path, limits: StoreLimits, connect: Connect) -> None:
        self._path = path
        self._limits = limits
        self._connect = connect
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: queue.SimpleQueue[_Commit | _Load | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="edgenet-store", daemon=True)
        self._opened = trio.Event()
        self._stopped = trio.Event()
        self._entrance = trio.Lock()
        self._room = trio.Event()
        self._closing = False
        self._failure: str = ""
        self._open_error: Exception | None = None
        self._waiting = 0
        self._waiting_bytes = 0
        self._refusals_told: dict[str, int] = {}
        self._commits = 0
        self._refused = 0
        self._transactions = 0

    @classmethod
    async def open(
        cls, path: Path, *, limits: StoreLimits | None = None, connect: Connect = sqlite3.connect
    ) -> SqliteStore:
        """Open or create. `CorruptData` names the file and the remedy; `StoreError`: in use, or of a newer version."""
        store = cls(path, limits or StoreLimits(), connect)
        store._thread.start()
        with trio.CancelScope(shield=True):
            await store._opened.wait()
        if store._open_error is not None:
            raise store._open_error
        return store

    def stats(self) -> StoreStats:
        return StoreStats(self._commits, self._transactions, self._refused, self._waiting)

    async def commit(self, part: str, saves: Sequence[Save]) -> None:
        """See `RowStore.commit`. Once queued it is not cancellable: the disk decides, in bounded time.

        `InvariantError` for a row that cannot be stored (too large, or a name that is not Unicode text).
        """
        commit = _Commit(part, tuple(saves), self._measure(part, saves))
        if not commit.saves:
            await trio.lowlevel.checkpoint()
            return
        if self._entrance.locked() or not self._has_room(commit.size):
            async with self._entrance:  # first come, first served
                while not self._has_room(commit.size):
                    self._room = trio.Event()
                    await self._room.wait()
                self._queue(commit)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._queue(commit)
        with trio.CancelScope(shield=True):
            await commit.done.wait()
        if commit.error is not None:
            raise commit.error

    async def load(self, part: str) -> list[Row]:
        """See `RowStore.load`."""
        return (await self._read(_Load(part))).rows

    async def check(self) -> None:
        """The full structural check, for `doctor`; `CorruptData` with the first finding. Holds up commits meanwhile."""
        await self._read(_Load("", check=True))

    async def close(self) -> None:
        """Finish what is queued, fold the log into the file, close it. Safe to repeat."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        with trio.CancelScope(shield=True):
            await self._stopped.wait()

    async def _read(self, job: _Load) -> _Load:
        self._refuse_if_stopped()
        self._jobs.put(job)
        with trio.CancelScope(shield=True):
            await job.done.wait()
        if job.error is not None:
            raise job.error
        return job

    def _measure(self, part: str, saves: Sequence[Save]) -> int:
        limits = self._limits
        size = 0
        for save in saves:
            try:
                names = [len(name.encode()) for name in (part, save.table, save.key)]
            except UnicodeEncodeError:
                raise InvariantError(f"part {part!r} saves under a name that is not Unicode text") from None
            value = len(save.value) if isinstance(save, Put) else 0
            if max(names) > limits.key_bytes_max or value > limits.value_bytes_max:
                raise InvariantError(
                    f"part {part!r} saves {value} bytes under {save.table!r} with names of {max(names)} bytes: "
                    f"limits are {limits.value_bytes_max} and {limits.key_bytes_max} bytes"
                )
            size += value + sum(names)
        return size

    def _has_room(self, size: int) -> bool:
        limits = self._limits
        room = self._waiting < limits.pending_max and self._waiting_bytes + size <= limits.pending_bytes_max
        return room or not self._waiting

    def _queue(self, commit: _Commit) -> None:
        self._refuse_if_stopped()
        self._waiting += 1
        self._waiting_bytes += commit.size
        commit.epoch = self._refusals_told.get(commit.part, 0)
        self._jobs.put(commit)

    def _refuse_if_stopped(self) -> None:
        if self._failure:
            raise CommitFailed(self._failure)
        if self._closing:
            raise CommitFailed(f"{self._path}: the store is closed")

    def _tell(self, jobs: Sequence[_Commit | _Load]) -> None:
        """On the loop: wake the askers."""
        for job in jobs:
            if isinstance(job, _Commit):
                self._waiting -= 1
                self._waiting_bytes -= job.size
                if job.error is None:
                    self._commits += 1
                elif isinstance(job.error, StoreFull):
                    self._refused += 1
                    # The count, not a flag: it must match the writer's, which may have refused again since.
                    if job.epoch == self._refusals_told.get(job.part, 0):
                        self._refusals_told[job.part] = job.epoch + 1
            job.done.set()
        self._room.set()

    # Below: the writer thread. It shares with the loop only the queue, `_failure` and `_transactions`.

    def _soon(self, fn: Callable[..., object], *args: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn, *args)

    def _run(self) -> None:
        try:
            file = SqliteFile(self._path, self._limits, self._connect)
        except Exception as error:  # noqa: BLE001 - handed to `open`, which raises it
            self._open_error = error
            self._soon(self._opened.set)
            return
        self._soon(self._opened.set)
        pending: deque[_Commit | _Load | None] = deque()
        while True:
            pending.append(self._jobs.get())
            with suppress(queue.Empty):
                while True:
                    pending.append(self._jobs.get_nowait())
            while pending:
                job = pending[0]
                if job is None:
                    file.close(fold=not self._failure)
                    self._soon(self._stopped.set)
                    return
                if isinstance(job, _Load):
                    pending.popleft()
                    self._load(file, job)
                else:
                    self._write(file, self._take_group(pending))

    def _load(self, file: SqliteFile, job: _Load) -> None:
        try:
            if job.check:
                file.check_all()
            else:
                job.rows = file.load(job.part)
        except Exception as error:  # noqa: BLE001 - handed to `load`, which raises it
            job.error = error
        self._soon(self._tell, [job])

    def _take_group(self, pending: deque[_Commit | _Load | None]) -> list[_Commit]:
        group: list[_Commit] = []
        size = 0
        while pending and isinstance(job := pending[0], _Commit) and len(group) < self._limits.group_max:
            if group and size + job.size > self._limits.group_bytes_max:
                break
            size += job.size
            group.append(job)
            pending.popleft()
        return group

    def _write(self, file: SqliteFile, group: list[_Commit]) -> None:
        try:
            if self._failure:
                raise CommitFailed(self._failure)
            file.write(group)
        except Exception as error:  # noqa: BLE001 - told to every asker; nothing is acknowledged from here on
            self._failure = error.message if isinstance(error, StoreError) else f"{self._path}: {error!r}"
            for commit in group:
                commit.error = CommitFailed(self._failure)
        self._transactions = file.transactions
        self._soon(self._tell, group)
        if not self._failure:
            try:
                file.fold_log()
            except Exception as error:  # noqa: BLE001 - told to the next asker
                self._failure = error.message if isinstance(error, StoreError) else f"{self._path}: {error!r}"
