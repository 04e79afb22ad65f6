"""What is saved of a durable task, and how it is read again.

Tables, all keys starting with the task id: `job` (one row: the request, then how it ended), `input` (the items, in rows
of at most 1 MiB, deleted when the task ends), `done` (one row for each accepted chunk, written in the step that
accepts it), `event` (milestones). A task is whole if its `job` row is there: all rows of a submission are one
transaction. Rows that cannot be read are `CorruptData` naming table and key: they were ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from ..effects import Delete, Put, Row
from ..errors import CorruptData, Malformed, TooLarge
from ..messages.tasks import TaskEvent, TaskState, Verified
from ..wire.codec import Wire, decode, encode
from .events import RESTART_GAP, EventLog
from .handlers import PACK_ITEM_BYTES
from .work import Job, Request, Segment

ROW_BYTES_MAX = 1024 * 1024
"""Input is split at it; outputs are below it by `wire.task.OUTPUT_BYTES_MAX`."""

_READ_BYTES_MAX = 2 * ROW_BYTES_MAX

T = TypeVar("T")


class JobRow(Wire):
    """`state` is queued for every unfinished task. `excluded`: peers that this task does not use any more."""

    kind: str
    spec: bytes
    only: list[str]
    local: bool
    key: str
    digest: bytes
    reserve: int
    source: str
    items: int
    units: int
    created_wall: float
    deadline_wall: float
    state: TaskState = "queued"
    finished_wall: float = 0.0
    reason: str = ""
    price: int = 0
    mismatches: int = 0
    contributors: list[str] = []
    excluded: dict[str, str] = {}
    error_bound: float = 0.0
    seq: int = 0


class DoneRow(Wire):
    stop: int
    peer: str
    output: bytes
    checked: int
    rate: float
    by: str
    seq: int


class EventRow(Wire):
    wall: float
    name: str
    data: Any


class Saved(Struct):
    """One task as it was read."""

    request: Request
    row: JobRow
    items: list[bytes]
    input_rows: int
    segments: list[Segment]
    log: EventLog

    def outputs(self) -> dict[int, bytes]:
        return {one.start: one.output for one in self.segments} if self.row.state == "done" else {}


def submission(job: Job) -> list[Put]:
    """All rows of a new task."""
    blobs = _split(job.items)
    job.input_rows = len(blobs)
    puts = [Put("input", f"{job.task}/{number:05d}", blob) for number, blob in enumerate(blobs)]
    return [*puts, job_row(job)]


def _split(items: Sequence[bytes]) -> list[bytes]:
    blobs: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for item in items:
        if part and size + len(item) + PACK_ITEM_BYTES > ROW_BYTES_MAX:
            blobs.append(encode(part))
            part, size = [], 0
        part.append(item)
        size += len(item) + PACK_ITEM_BYTES
    return [*blobs, encode(part)]


def job_row(job: Job, state: TaskState = "queued", finished_wall: float = 0.0, verified: Verified | None = None) -> Put:
    request = job.request
    row = JobRow(
        request.kind,
        request.spec,
        list(request.only),
        request.local,
        request.key,
        request.digest,
        request.reserve,
        request.source,
        request.items,
        request.units,
        request.created_wall,
        request.deadline_wall,
        state,
        finished_wall,
        job.reason,
        job.account.total,
        job.mismatches,
        sorted(job.contributors),
        job.excluded,
        verified.error_bound if verified is not None else 0.0,
        job.log.seq,
    )
    return Put("job", request.task, encode(row))


def ended_row(task: str, row: JobRow) -> Put:
    return Put("job", task, encode(row))


def done_row(job: Job, segment: Segment) -> Put:
    row = DoneRow(segment.stop, segment.peer, segment.output, segment.checked, segment.rate, segment.by, job.log.seq)
    return Put("done", _at(job.task, segment.start), encode(row))


def undone(task: str, start: int) -> Delete:
    return Delete("done", _at(task, start))


def event_row(task: str, event: TaskEvent) -> Put:
    return Put("event", _at(task, event.seq), encode(EventRow(event.wall, event.name, event.data)))


def inputs_gone(job: Job) -> list[Delete]:
    return [Delete("input", f"{job.task}/{number:05d}") for number in range(job.input_rows)]


def erased(task: str, starts: Iterable[int], seqs: Iterable[int]) -> list[Delete]:
    """A finished task is forgotten."""
    done = [Delete("done", _at(task, start)) for start in starts]
    return [Delete("job", task), *done, *(Delete("event", _at(task, seq)) for seq in seqs)]


def _at(task: str, number: int) -> str:
    return f"{task}/{number:010d}"


def read(rows: Sequence[Row]) -> list[Saved]:
    """All tasks, oldest first. Rows of a task without its `job` row are ignored (there are none unless a delete was
    cut short by a restore of an old backup)."""
    tables: dict[str, dict[str, list[tuple[int, Row]]]] = {"input": {}, "done": {}, "event": {}}
    jobs: list[Row] = []
    for row in rows:
        if row.table == "job":
            jobs.append(row)
        else:
            task, _, number = row.key.partition("/")
            if row.table not in tables or not number.isdigit():
                raise CorruptData(f"tasks: unknown row {row.table}/{row.key}")
            tables[row.table].setdefault(task, []).append((int(number), row))
    saved = [_job(row, {name: of.get(row.key, []) for name, of in tables.items()}) for row in jobs]
    return sorted(saved, key=lambda one: (one.request.created_wall, one.request.task))


def _job(row: Row, parts: dict[str, list[tuple[int, Row]]]) -> Saved:
    saved = _read(row, JobRow)
    request = Request(
        row.key,
        saved.kind,
        saved.spec,
        tuple(saved.only),
        saved.local,
        durable=True,
        key=saved.key,
        digest=saved.digest,
        reserve=saved.reserve,
        source=saved.source,
        items=saved.items,
        units=saved.units,
        created_wall=saved.created_wall,
        deadline_wall=saved.deadline_wall,
    )
    inputs = sorted(parts["input"], key=lambda one: one[0])
    items = [item for _, one in inputs for item in _read(one, list[bytes])]
    if saved.state == "queued" and len(items) != saved.items:
        raise CorruptData(f"tasks: {row.key} has {len(items)} saved items in place of {saved.items}")
    done = [(start, _read(one, DoneRow)) for start, one in sorted(parts["done"], key=lambda one: one[0])]
    segments = [Segment(start, one.stop, one.peer, one.output, one.checked, one.rate, one.by) for start, one in done]
    events = [(seq, _read(one, EventRow)) for seq, one in sorted(parts["event"], key=lambda one: one[0])]
    last = max([saved.seq, *(one.seq for _, one in done), *(seq for seq, _ in events)])
    log = EventLog(
        [TaskEvent(seq, one.wall, one.name, one.data) for seq, one in events],
        last + (RESTART_GAP if saved.state == "queued" else 0),
    )
    return Saved(request, saved, items, len(inputs), segments, log)


def _read(row: Row, kind: type[T]) -> T:
    try:
        return decode(row.value, kind, bytes_max=_READ_BYTES_MAX)
    except (Malformed, TooLarge) as error:
        raise CorruptData(f"tasks: the row {row.table}/{row.key} cannot be read ({error.message})") from error
