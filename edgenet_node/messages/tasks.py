"""Tasks as their owner sees them: submit, follow, cancel. One event stream per task feeds every surface."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from ..effects import Query

TaskState = Literal["queued", "running", "done", "failed", "timed_out", "rejected", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"done", "failed", "timed_out", "rejected", "cancelled"})


class Verified(Struct, frozen=True):
    """What is known of a result. `checked` of `total` items were recomputed or compared, `mismatches` of them were
    wrong (and redone elsewhere); with 95 % confidence at most the fraction `error_bound` of the items is wrong."""

    checked: int = 0
    total: int = 0
    mismatches: int = 0
    error_bound: float = 0.0


class TaskEvent(Struct, frozen=True):
    """`name` is one of queued, waiting, leased, running, progress, verified, mismatch, redone, duplicated, lost,
    resumed, done, failed, timed_out, rejected, cancelled. `seq` starts at 1."""

    seq: int
    wall: float
    name: str
    data: dict[str, Any] = {}


class TaskView(Struct, frozen=True):
    """`executors` counts the accepted items per peer; `price` is micro-rUv, owed once a ledger exists."""

    task: str
    kind: str
    state: TaskState
    created_wall: float
    finished_wall: float
    deadline_wall: float
    items: int
    done: int
    units: int
    price: int
    executors: dict[str, int]
    verified: Verified
    reason: str = ""
    events: int = 0


class TaskOutcome(Struct, frozen=True):
    """A finished task. `output` is the handler's merged output, empty unless `view.state` is `done`."""

    view: TaskView
    output: bytes


class Submit(Query[TaskOutcome], frozen=True):
    """Run a task. Exactly one of `payload` (as the owner typed it, checked by the handler) and `items` (already split,
    from inside the node) is used. `wait` answers when it is finished, otherwise as soon as it is saved.

    `only` restricts executors to these peers; `local` runs it here; `durable` saves it, so that it resumes after a
    crash (small interactive work does without the fsync). `key` makes submitting idempotent. `price_max` is micro-rUv
    per unit, 0 for the configured reserve. `source` names what inside the node it is for."""

    kind: str
    payload: dict[str, Any] = {}
    items: tuple[bytes, ...] = ()
    spec: bytes = b""
    only: tuple[str, ...] = ()
    local: bool = False
    wait: bool = True
    durable: bool = True
    key: str = ""
    price_max: int = 0
    timeout_s: float = 600.0
    source: str = ""


class GetTask(Query[TaskOutcome], frozen=True):
    task: str


class ListTasks(Query[tuple[TaskView, ...]], frozen=True):
    """Newest first."""

    tasks_max: int = 50


class CancelTask(Query[TaskView], frozen=True):
    task: str


class GetTaskEvents(Query[tuple[TaskEvent, ...]], frozen=True):
    """Events after `after`. Waits up to `wait_s` for the next one when there is none yet; empty then means: nothing
    new, or the task is finished."""

    task: str
    after: int = 0
    wait_s: float = 0.0


class TaskStats(Struct, frozen=True):
    """Counts by state since start, chunks run for others, items done for others, what runs now."""

    states: dict[str, int]
    running: int
    waiting: int
    served_chunks: int
    served_items: int
    serving: int


class GetTaskStats(Query[TaskStats], frozen=True):
    pass


class GetServingStats(Query[TaskStats], frozen=True):
    pass
