"""The row store in memory, with a disk that can be slow, full, broken and torn.

The disk writes one group of commits after another, each taking `delay_s()` of the loop's clock (with a `MockClock` no
real time); commits that arrive meanwhile share the next group, as in the real store. What a crash leaves is the durable
rows and, as `crash` draws, some of the transactions that were on their way: always whole ones, and a prefix in the
order in which they were asked for, which is what a write-ahead log guarantees.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Sequence

import trio

from ..adapters.sqlite_file import CommitFailed
from ..effects import Put, Row, Save
from ..errors import StoreError, StoreFull

Rows = dict[str, dict[tuple[str, str], bytes]]
"""part -> (table, key) -> value"""


class _Transaction:
    __slots__ = ("done", "error", "part", "saves", "written_at")

    def __init__(self, part: str, saves: tuple[Save, ...], written_at: float) -> None:
        self.part = part
        self.saves = saves
        self.written_at = written_at
        self.done = False
        self.error: StoreError | None = None


class MemoryStore:
    """See `RowStore`. Faults, to be set at any time:

    `disk_full`: commits are refused with `StoreFull`. `capacity_bytes`: so are those that would exceed it (0: none).
    `fsync_fails_after`: that many more groups succeed, then one fails and the store is dead (-1: never).
    """

    def __init__(self, *, delay_s: Callable[[], float] = lambda: 0.0, rows: Rows | None = None) -> None:
        self._delay_s = delay_s
        self._durable: Rows = rows if rows is not None else {}
        self._queue: deque[_Transaction] = deque()
        self._written_at = 0.0  # of the group on its way to the disk
        self._waiting_at = 0.0  # of the group that collects meanwhile
        self._failure = ""
        self.disk_full = False
        self.capacity_bytes = 0
        self.fsync_fails_after = -1
        self.commits = 0
        self.groups = 0
        self.refused = 0
        self.durable_saves: dict[str, int] = {}
        """How many saves of each part have reached the disk since this store was made."""

    async def load(self, part: str) -> list[Row]:
        await trio.lowlevel.checkpoint()
        self._refuse_if_stopped()
        rows = self._durable.get(part, {})
        return [Row(table, key, value) for (table, key), value in sorted(rows.items())]

    async def commit(self, part: str, saves: Sequence[Save]) -> None:
        """See `RowStore.commit`. Like the real one it cannot be cancelled once it waits for the disk."""
        await trio.lowlevel.checkpoint()
        self._refuse_if_stopped()
        if not saves:
            return
        transaction = _Transaction(part, tuple(saves), self._place_on_disk())
        self._queue.append(transaction)
        with trio.CancelScope(shield=True):
            await trio.sleep_until(transaction.written_at)
        self._write_until(transaction.written_at)
        if transaction.error is not None:
            raise transaction.error
        if not transaction.done:
            raise CommitFailed("the machine went down")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._write_until(float("inf"))
        self._failure = self._failure or "the store is closed"

    def rows(self) -> Rows:
        """A copy of what is durable."""
        return copy.deepcopy(self._durable)

    def clone(self) -> MemoryStore:
        """Another store with the same durable rows and no faults."""
        return MemoryStore(delay_s=self._delay_s, rows=self.rows())

    def crash(self, rng: random.Random) -> MemoryStore:
        """Power loss. This store answers nobody any more; the returned one is what the restarted machine finds."""
        torn = self.clone()
        for transaction in list(self._queue)[: rng.randint(0, len(self._queue))]:
            _apply(torn._durable, transaction)
        self._failure = "the machine went down"
        self._queue.clear()
        return torn

    def _refuse_if_stopped(self) -> None:
        if self._failure:
            raise CommitFailed(self._failure)

    def _place_on_disk(self) -> float:
        """When the group that this commit joins will be durable."""
        now = trio.current_time()
        if now >= self._written_at and now >= self._waiting_at:  # the disk is idle
            self._written_at = self._waiting_at = now + self._delay_s()
        elif now >= self._written_at:  # the group that waited is being written: wait for it
            self._written_at, self._waiting_at = self._waiting_at, self._waiting_at + self._delay_s()
        elif self._waiting_at == self._written_at:  # the first to wait
            self._waiting_at += self._delay_s()
        return self._waiting_at

    def _write_until(self, time: float) -> None:
        group: list[_Transaction] = []
        while self._queue and self._queue[0].written_at <= time:
            group.append(self._queue.popleft())
        if not group:
            return
        if self.fsync_fails_after == 0:
            # Unknown to the node, the rows may or may not have reached the disk: `crash` decides.
            self._queue.extendleft(reversed(group))
            self._failure = "commit failed: disk I/O error: check the disk, then start the node again"
            for transaction in self._queue:
                transaction.error = CommitFailed(self._failure)
            return
        self.fsync_fails_after -= self.fsync_fails_after > 0
        self.groups += 1
        refused_parts: set[str] = set()
        for transaction in group:
            if transaction.part in refused_parts or not self._fits(transaction):
                refused_parts.add(transaction.part)
                transaction.error = StoreFull("no space left: free some and try again")
                self.refused += 1
            else:
                _apply(self._durable, transaction)
                transaction.done = True
                self.commits += 1
                part = transaction.part
                self.durable_saves[part] = self.durable_saves.get(part, 0) + len(transaction.saves)
        for waiting in [t for t in self._queue if t.part in refused_parts]:
            self._queue.remove(waiting)
            waiting.error = StoreFull("no space left: free some and try again")
            self.refused += 1

    def _fits(self, transaction: _Transaction) -> bool:
        if self.disk_full:
            return False
        if not self.capacity_bytes:
            return True
        after = {transaction.part: dict(self._durable.get(transaction.part, {}))}
        _apply(after, transaction)
        others = (rows for part, rows in self._durable.items() if part != transaction.part)
        return sum(len(value) for rows in (*others, *after.values()) for value in rows.values()) <= self.capacity_bytes


def _apply(rows: Rows, transaction: _Transaction) -> None:
    part = rows.setdefault(transaction.part, {})
    for save in transaction.saves:
        if isinstance(save, Put):
            part[save.table, save.key] = save.value
        else:
            part.pop((save.table, save.key), None)
