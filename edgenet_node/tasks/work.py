"""The state of one unfinished task: what waits, what is in flight, what is being checked, what is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from ..messages.tasks import TaskState, TaskView, Verified
from .chunks import Lateness, Range, Ranges
from .escrow import Account
from .events import EventLog
from .handlers import Handler
from .verification import Sampled, assess

Purpose = Literal["run", "check"]
"""`run`: the first computation of a chunk. `check`: another opinion on items of it."""


@dataclass(slots=True, eq=False)
class Attempt:
    """Items in flight at one executor. `number` names it on the wire and in tags; `started` is when a worker there was
    free for it, infinite while it queues behind another; `chunk` is the first item of the chunk it belongs to."""

    number: int
    task: str
    kind: str
    peer: str
    purpose: Purpose
    items: Sequence[int]
    units: int
    lease: bytes
    price: int
    sent: float
    started: float
    chunk: int
    check: int = 0


@dataclass(slots=True, eq=False)
class Chunk:
    """A range in flight, at one executor or (a straggler) at two."""

    range: Range
    attempts: list[int] = field(default_factory=list)
    duplicated: bool = False


@dataclass(slots=True, eq=False)
class Segment:
    """The result of a chunk. `by` is who checked it: a peer, this node, or empty for nobody."""

    start: int
    stop: int
    peer: str
    output: bytes
    checked: int
    rate: float
    by: str = ""

    @property
    def items(self) -> int:
        return self.stop - self.start

    def sampled(self) -> Sampled:
        return Sampled(self.peer, self.items, self.checked, self.rate)


@dataclass(slots=True, eq=False)
class Check:
    """A result on its way to be accepted. `items` were drawn; `opinions` are results for them by peer, that of the
    executor first; `attempt` is 0 while it waits for somebody to compute another one."""

    number: int
    segment: Segment
    items: tuple[int, ...]
    seconds: float
    tries: int
    searches: int
    opinions: dict[str, bytes]
    attempt: int = 0


class Request(Struct, frozen=True):
    """What was asked for: all that does not change while a task runs. `only` and `local` restrict executors; `reserve`
    is micro-rUv per unit, 0 for the configured one; `key` and `digest` make submitting idempotent."""

    task: str
    kind: str
    spec: bytes
    only: tuple[str, ...]
    local: bool
    durable: bool
    key: str
    digest: bytes
    reserve: int
    source: str
    items: int
    units: int
    created_wall: float
    deadline_wall: float


class Job:
    """An unfinished task."""

    def __init__(self, request: Request, items: Sequence[bytes], handler: Handler, deadline: float) -> None:
        self.request = request
        self.items = items
        self.handler = handler
        self.deadline = deadline
        self.input_bytes = sum(map(len, items))
        self.input_rows = 0
        self.queue = Ranges(len(items))
        self.chunks: dict[int, Chunk] = {}
        self.attempts: dict[int, Attempt] = {}
        self.checks: dict[int, Check] = {}
        self.segments: dict[int, Segment] = {}
        self.done = 0
        self.mismatches = 0
        self.excluded: dict[str, str] = {}
        self.pauses: dict[str, tuple[float, float]] = {}
        self.last_size: dict[str, int] = {}
        self.contributors: set[str] = set()
        self.lateness = Lateness()
        self.account = Account()
        self.log = EventLog()
        self.waiters: list[int] = []
        self.leased: frozenset[str] = frozenset()
        self.reason = ""
        self.said = ""
        self.searches = 0
        self.seek_pause = 0.0
        self.local_broken = ""

    @property
    def task(self) -> str:
        return self.request.task

    @property
    def remote(self) -> bool:
        return not self.request.local

    @property
    def hungry(self) -> bool:
        """There is something that an executor with a free slot could do."""
        return bool(self.queue) or any(check.attempt == 0 for check in self.checks.values())

    @property
    def complete(self) -> bool:
        return self.done == len(self.items)

    def paused(self, peer: str, now: float) -> bool:
        pause = self.pauses.get(peer)
        return pause is not None and pause[0] > now

    def outputs(self) -> list[bytes]:
        return [self.segments[start].output for start in sorted(self.segments)]

    def executors(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for segment in self.segments.values():
            counts[segment.peer] = counts.get(segment.peer, 0) + segment.items
        return counts

    def verified(self) -> Verified:
        samples = [segment.sampled() for segment in self.segments.values()]
        return assess(samples, len(self.contributors), self.mismatches, len(self.items))

    def view(self, state: TaskState | None = None, finished_wall: float = 0.0) -> TaskView:
        request = self.request
        state = state or ("running" if self.attempts or self.segments or self.checks else "queued")
        return TaskView(
            request.task,
            request.kind,
            state,
            request.created_wall,
            finished_wall,
            request.deadline_wall,
            request.items,
            self.done,
            request.units,
            self.account.total,
            self.executors(),
            self.verified(),
            self.reason,
            self.log.seq,
        )
