"""`task.run/1` and `task.stop/1`: chunks of a task on an executor's stream, under a lease. Spec: `protocols/task`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..effects import Query
from .codec import Wire
from .fields import Count, Kind, Nonce16, Seconds, TaskId, Units

INPUT_BYTES_MAX = 512 * 1024
"""Input of one chunk; fits a frame of 1 MiB with room to spare. The submitting side splits to stay below it."""

OUTPUT_BYTES_MAX = 900 * 1024
"""Output of one chunk: 600 embeddings of 384 floats."""

SPEC_BYTES_MAX = 16 * 1024
"""What is common to all chunks of a task, in the handler's encoding."""

ITEMS_MAX = 512
"""Items of one chunk: a lost chunk must not cost more than seconds of work."""


class RunResult(Wire, frozen=True):
    """`output` in the handler's own encoding; `units` as the seller counts them, at most those asked for."""

    output: Annotated[bytes, Meta(max_length=OUTPUT_BYTES_MAX)]
    units: Units


class Run(Wire, Query[RunResult], frozen=True):
    """Run `items` items of `kind`. `task` and `chunk` name the work for cancelling and for the seller's log."""

    lease: Nonce16
    task: TaskId
    chunk: Count
    kind: Kind
    spec: Annotated[bytes, Meta(max_length=SPEC_BYTES_MAX)]
    input: Annotated[bytes, Meta(max_length=INPUT_BYTES_MAX)]
    items: Annotated[int, Meta(ge=1, le=ITEMS_MAX)]
    units: Units
    timeout_s: Seconds


class Stopped(Wire, frozen=True):
    """`known` is False when the chunk had finished, or never came."""

    known: bool


class Stop(Wire, Query[Stopped], frozen=True):
    """The result is not wanted any more."""

    task: TaskId
    chunk: Count
