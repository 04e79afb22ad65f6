"""A disk that commits in groups, and what is left of it after a crash.

It promises what a write-ahead log with checksums promises: transactions are whole, and a crash leaves a prefix of those
that were asked for. What the last group had not synced is lost from some point on; a transaction that was torn there is
found by the log's own checksum and dropped. Bits that flip later, in what was durable, are for the owner of a row to
notice: `flip`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from msgspec import Struct

from ...effects import Put, Row, Save
from ...errors import StoreError, StoreFull
from .loop import Loop

Rows = dict[tuple[str, str], bytes]
"""(table, key) -> value"""

Written = Callable[[StoreError | None], None]


class DiskPlan(Struct, frozen=True):
    """One commit takes `sync_min_s` to `sync_max_s`; with `stall` probability `stall_s` more."""

    sync_min_s: float = 0.0005
    sync_max_s: float = 0.005
    stall: float = 0.0
    stall_s: float = 0.5


class _Transaction:
    __slots__ = ("part", "saves", "written")

    def __init__(self, part: str, saves: Sequence[Save], written: Written) -> None:
        self.part = part
        self.saves = saves
        self.written = written


class Disk:
    """The store of one host, or of some of its parts: parts that share it share its groups.

    Faults: `full`: commits are refused. `sync_fails_after`: so many more groups succeed, then one fails, and with it
    everything until the host starts again (-1: never).
    """

    def __init__(
        self, loop: Loop, rng: random.Random, plan: DiskPlan, durable: Callable[[str, Sequence[Save]], None]
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._plan = plan
        self._durable = durable
        self._parts: dict[str, Rows] = {}
        self._under_way: list[_Transaction] = []
        self._waiting: list[_Transaction] = []
        self._life = 0
        self._failed = False
        self.full = False
        self.sync_fails_after = -1
        self.groups = 0

    def rows(self, part: str) -> list[Row]:
        """Durable rows, sorted by table and key."""
        found = self._parts.get(part, {})
        return [Row(table, key, found[table, key]) for table, key in sorted(found)]

    def image(self, part: str) -> Rows:
        """Of the durable rows; not a copy."""
        return self._parts.setdefault(part, {})

    def commit(self, part: str, saves: Sequence[Save], written: Written) -> None:
        """Calls `written(error)` when they are durable, or refused; never after a crash."""
        self._waiting.append(_Transaction(part, saves, written))
        if not self._under_way:
            self._begin()

    def _begin(self) -> None:
        plan, rng = self._plan, self._rng
        self._under_way, self._waiting = self._waiting, []
        takes_s = rng.uniform(plan.sync_min_s, plan.sync_max_s)
        if plan.stall and rng.random() < plan.stall:
            takes_s += plan.stall_s
        self._loop.after(takes_s, self._end, self._life)

    def _end(self, life: int) -> None:
        if life != self._life or self._failed:
            return
        group = self._under_way
        if self.sync_fails_after == 0:
            # Whether the rows reached the disk is unknown; the next crash decides.
            self._failed = True
            for transaction in group:
                transaction.written(StoreError("fsync failed: disk I/O error"))
            return
        self.sync_fails_after -= self.sync_fails_after > 0
        self._under_way = []
        self.groups += 1
        for transaction in group:
            if self.full:
                transaction.written(StoreFull("no space left: free some and try again"))
            else:
                self._apply(transaction)
                transaction.written(None)
        if self._waiting and life == self._life and not self._under_way:
            self._begin()

    def _apply(self, transaction: _Transaction) -> None:
        rows = self._parts.setdefault(transaction.part, {})
        for save in transaction.saves:
            if type(save) is Put:
                rows[save.table, save.key] = save.value
            else:
                rows.pop((save.table, save.key), None)
        self._durable(transaction.part, transaction.saves)

    # ---- faults

    def crash(self) -> tuple[int, bool]:
        """Power loss: how many transactions on their way were lost, and whether the first of those was torn. What was
        asked for later than one that is lost is lost, too."""
        on_the_way = [*self._under_way, *self._waiting]
        kept = self._rng.randint(0, len(on_the_way)) if on_the_way else 0
        for transaction in on_the_way[:kept]:
            self._apply(transaction)
        lost = len(on_the_way) - kept
        self._life += 1
        self._failed = False
        self.sync_fails_after = -1
        self._under_way, self._waiting = [], []
        return lost, lost > 0 and self._rng.random() < 0.5

    def flip(self, part: str, rng: random.Random) -> str:
        """One bit of one durable row turns over; which row. Empty when there is none."""
        rows = self._parts.get(part, {})
        if not rows:
            return ""
        place = rng.choice(sorted(rows))
        value = bytearray(rows[place])
        bit = rng.randrange(8 * len(value))
        value[bit // 8] ^= 1 << bit % 8
        rows[place] = bytes(value)
        return "/".join(place)

    def wipe(self) -> None:
        """Nothing is left, not even what was on its way."""
        self._life += 1
        self._under_way, self._waiting = [], []
        self._parts.clear()
