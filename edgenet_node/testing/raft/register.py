"""A replicated map: the consumer of the log in the simulation, and what its clients say to it.

It reads the log by cursor, saves the keys that changed together with the cursor, and answers reads behind a barrier.
A `chain` hash over everything it has executed, with its place, makes states comparable in one look.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from ...effects import Ask, Delete, Done, Effect, Envelope, Now, Put, Query, Reply, Row, Tell, Tick
from ...errors import Overloaded
from ...messages.raft import GiveState, LogAdvanced, LogPage, ReadBarrier, ReadLog, TakeState
from ...wire.codec import Wire, decode, encode

CONSUMER = "map"
PAGE_BYTES = 64 * 1024
ASK_TIMEOUT_S = 5.0
RETRY_S = 0.2
WAIT_S = 5.0
"""A read waits so long for the log to reach its barrier."""

BYTES_MAX = 16 * 1024 * 1024


class MapCommand(Wire, frozen=True):
    """`write`: value. `swap`: to value if it is `expected`. `name` is the operation's own, unique in a run."""

    name: str
    act: str
    key: str
    value: int
    expected: int = 0


class MapRead(Wire, Query[int], frozen=True):
    """0 for a key that was never written."""

    key: str


class MapOutcome(Wire, Query[bool], frozen=True):
    """What came of the swap `name`, which lies in the log at `index`."""

    name: str
    index: int


class MapState(Wire, frozen=True):
    index: int
    chain: bytes
    count: int
    values: dict[str, int]
    outcomes: dict[str, bool]


class Cursor(Wire, frozen=True):
    index: int
    chain: bytes


class Observer(Protocol):
    """Of one host's consumer."""

    def executed(self, index: int, command: MapCommand, chain: bytes, count: int) -> None: ...

    def installed(self, index: int) -> None: ...


class _Waiting(Struct):
    """A question that waits for the cursor to reach `index`."""

    reply_to: int
    query: MapRead | MapOutcome
    index: int
    deadline: float


def chained(chain: bytes, index: int, command: bytes) -> bytes:
    return hashlib.blake2b(chain + index.to_bytes(8, "big") + command, digest_size=16).digest()


class RegisterCore:
    """`accepts`: MapRead, MapOutcome (also of peers); hears LogAdvanced and TakeState."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._values: dict[str, int] = {}
        self._outcomes: dict[str, bool] = {}
        self.index = 0
        self.chain = b""
        self.count = 0  # of commands executed: unlike the rest of the state, it shows when one was executed twice
        self._known = 0
        self._asking = False
        self._again_at = math.inf
        self._barriers: dict[int, _Waiting] = {}
        self._waiting: list[_Waiting] = []
        self._run = 0
        self._wanted = 0

    def digest(self) -> bytes:
        """Of the whole state but the cursor."""
        state = (self.chain, self.count, sorted(self._values.items()), sorted(self._outcomes.items()))
        return hashlib.blake2b(repr(state).encode(), digest_size=16).digest()

    # ---- life

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        del now
        for row in rows:
            if row.table == "value":
                self._values[row.key] = decode(row.value, int, bytes_max=64)
            elif row.table == "count":
                self.count = decode(row.value, int, bytes_max=64)
            elif row.table == "outcome":
                self._outcomes[row.key] = decode(row.value, bool, bytes_max=64)
            else:
                cursor = decode(row.value, Cursor, bytes_max=256)
                self.index, self.chain = cursor.index, cursor.chain
        self._observer.installed(self.index)
        return self._pull()

    def wake_at(self) -> float:
        deadlines = [self._again_at, *(one.deadline for one in self._waiting)]
        return min(deadlines) if self._waiting else self._again_at

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case LogAdvanced(commit):
                self._known = max(self._known, commit)
                return self._pull() if self._known > self.index else []
            case Done("page", LogPage() as page, None):
                return self._page(page)
            case Done("page"):
                self._asking = False
                self._again_at = now.mono + RETRY_S
                return []
            case Done(("barrier", int() as run), value, error):
                return self._confirmed(run, value, error)
            case TakeState(upto):
                self._wanted = upto
                return self._give()
            case MapRead():
                return self._read(e.body, e.reply_to, now)
            case MapOutcome(_, index):
                return self._wait(_Waiting(e.reply_to, e.body, index, now.mono + WAIT_S))
            case Tick():
                return self._tick(now)
        return []

    def _tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if now.mono >= self._again_at:
            self._again_at = math.inf
            out += self._pull()
        late = [one for one in self._waiting if one.deadline <= now.mono]
        self._waiting = [one for one in self._waiting if one.deadline > now.mono]
        out += [Reply(one.reply_to, error=Overloaded("the log does not come", retry_after_s=0.5)) for one in late]
        return out

    # ---- the log

    def _pull(self) -> list[Effect]:
        if self._asking:
            return []
        self._asking = True
        return [Ask("page", ReadLog(CONSUMER, self.index, PAGE_BYTES), ASK_TIMEOUT_S)]

    def _page(self, page: LogPage) -> list[Effect]:
        self._asking = False
        out: list[Effect] = []
        if page.snapshot is not None:
            out += self._install(page.snapshot)
        for entry in page.entries:
            if entry.command:
                out += self._execute(entry.index, entry.command)
        if page.upto > self.index:
            self.index = page.upto
        if out or page.entries:
            out.append(Put("cursor", "cursor", encode(Cursor(self.index, self.chain))))
        out += self._give()
        ready = [one for one in self._waiting if one.index <= self.index]
        if ready:
            self._waiting = [one for one in self._waiting if one.index > self.index]
            out += [self._answer(one) for one in ready]
        if page.commit > self.index:  # of what this answer knew: a member that starts again knows of fewer at first
            out += self._pull()
        return out

    def _install(self, data: bytes) -> list[Effect]:
        state = decode(data, MapState, bytes_max=BYTES_MAX)
        out: list[Effect] = [Delete("value", key) for key in self._values if key not in state.values]
        out += [Delete("outcome", name) for name in self._outcomes if name not in state.outcomes]
        out += [Put("value", key, encode(value)) for key, value in state.values.items()]
        out += [Put("outcome", name, encode(value)) for name, value in state.outcomes.items()]
        self._values, self._outcomes = dict(state.values), dict(state.outcomes)
        self.index, self.chain, self.count = state.index, state.chain, state.count
        out.append(Put("count", "count", encode(self.count)))
        self._observer.installed(self.index)
        return out

    def _execute(self, index: int, data: bytes) -> list[Effect]:
        command = decode(data, MapCommand, bytes_max=64 * 1024)
        self.chain = chained(self.chain, index, data)
        self.count += 1
        self._observer.executed(index, command, self.chain, self.count)
        self.index = index
        out: list[Effect] = [Put("count", "count", encode(self.count))]
        if command.act == "write":
            self._values[command.key] = command.value
            return [*out, Put("value", command.key, encode(command.value))]
        swapped = self._values.get(command.key, 0) == command.expected
        self._outcomes[command.name] = swapped
        out.append(Put("outcome", command.name, encode(swapped)))
        if swapped:
            self._values[command.key] = command.value
            out.append(Put("value", command.key, encode(command.value)))
        return out

    def _give(self) -> list[Effect]:
        if not self._wanted or self.index < self._wanted:
            return []
        self._wanted = 0
        state = MapState(self.index, self.chain, self.count, self._values, self._outcomes)
        return [Tell(GiveState(CONSUMER, self.index, encode(state)))]

    # ---- questions

    def _read(self, query: MapRead, reply_to: int, now: Now) -> list[Effect]:
        self._run += 1
        self._barriers[self._run] = _Waiting(reply_to, query, 0, now.mono + WAIT_S)
        return [Ask(("barrier", self._run), ReadBarrier(), ASK_TIMEOUT_S)]

    def _confirmed(self, run: int, index: Any, error: Exception | None) -> list[Effect]:
        waiting = self._barriers.pop(run, None)
        if waiting is None:
            return []
        if error is not None:
            return [Reply(waiting.reply_to, error=error)]
        waiting.index = index
        return self._wait(waiting)

    def _wait(self, waiting: _Waiting) -> list[Effect]:
        if waiting.index <= self.index:
            return [self._answer(waiting)]
        self._waiting.append(waiting)
        return []

    def _answer(self, waiting: _Waiting) -> Effect:
        match waiting.query:
            case MapRead(key):
                return Reply(waiting.reply_to, self._values.get(key, 0))
            case MapOutcome(name):
                if name not in self._outcomes:
                    return Reply(waiting.reply_to, error=Overloaded(f"{name} was not executed", retry_after_s=0.5))
                return Reply(waiting.reply_to, self._outcomes[name])
