"""Documents on their way in: accepted, embedded as a task, sealed; and the merging of segments that became small.

A batch is saved before anybody is told, and its embedding is submitted under the key `<batch>.<attempt>`, so that a
restart joins the task it had submitted. A failure is told to those who wait; the batch stays and is tried again with
growing pauses, until it succeeds or its task is cancelled by the owner, which withdraws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec import Struct

from ..effects import Ask, Done, Effect, Now, Reply
from ..errors import Cancelled, Conflict, EdgenetError, LocalError, TimedOut
from ..messages.memory import AddResult
from ..messages.tasks import Submit, TaskOutcome
from .catalog import Batch, Catalog, Index, OwnSegment
from .sealing import BuiltTag, Job, Sealing, StoredTag
from .settings import IndexSettings

ASK_MARGIN_S = 30.0
"""On top of the task's own deadline: its answer should come first."""

SUBMIT_TIMEOUT_S = 30.0
"""Until a task is saved."""


class Embedder(Struct, frozen=True):
    """What `app.py` knows of the embedding handler. `item` turns a text into a task item; `vectors` takes a merged
    output and the number of items and gives float32 LE, `dimension` a row, or raises an `EdgenetError`."""

    kind: str
    model: str
    dimension: int
    spec: bytes
    item: Callable[[str], bytes]
    vectors: Callable[[bytes, int], bytes]


class SubmittedTag(Struct, frozen=True):
    name: str
    batch: str
    attempt: int


class EmbeddedTag(Struct, frozen=True):
    name: str
    batch: str
    attempt: int


class Waiter(Struct, frozen=True):
    reply_to: int
    added: int
    skipped: int
    wait: bool


class Ingest:
    """`nodes` is how many nodes a search can be shared by, this one included."""

    def __init__(self, settings: IndexSettings, catalog: Catalog, embedder: Embedder) -> None:
        self._settings = settings
        self._catalog = catalog
        self._embedder = embedder
        self.sealing = Sealing(settings)
        self.nodes = 1
        self._queue: dict[tuple[str, str], None] = {}
        self._running: set[tuple[str, str]] = set()
        self._waiters: dict[str, list[Waiter]] = {}
        self._tasks: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._retry: dict[tuple[str, str], float] = {}
        self._merging: set[str] = set()
        self._merge_retry: dict[str, float] = {}

    @property
    def batches(self) -> int:
        return len(self._queue) + len(self._running) + len(self._retry)

    def wake_at(self) -> float:
        return min([*self._retry.values(), *self._merge_retry.values()], default=math.inf)

    # Batches.

    def add(self, index: Index, batch: Batch, waiter: Waiter | None) -> list[Effect]:
        """A batch that is saved: embed it when its turn comes."""
        if waiter is not None:
            self._waiters.setdefault(batch.id, []).append(waiter)
        self._queue[index.name, batch.id] = None
        return self._start()

    def join(self, batch: Batch, waiter: Waiter) -> None:
        """Answer one more when the batch is searchable."""
        self._waiters.setdefault(batch.id, []).append(waiter)

    def on_tick(self, now: Now) -> list[Effect]:
        for key in [key for key, at in self._retry.items() if at <= now.mono]:
            del self._retry[key]
            self._queue[key] = None
        effects = self._start()
        for name in [name for name, at in self._merge_retry.items() if at <= now.mono]:
            del self._merge_retry[name]
            if name in self._catalog.indexes:
                effects += self.tidy(self._catalog.indexes[name])
        return effects

    def forget(self, index: Index) -> list[Effect]:
        """The index is being deleted."""
        effects: list[Effect] = self.sealing.abandon(index)
        for batch_id in index.batches:
            effects += self._answer(batch_id, Conflict(f"index {index.name} was deleted"))
            for table in (self._queue, self._retry):
                table.pop((index.name, batch_id), None)
            self._running.discard((index.name, batch_id))
            self._failures.pop(batch_id, None)
            self._tasks.pop(batch_id, None)
        self._merging.discard(index.name)
        self._merge_retry.pop(index.name, None)
        return effects + self._start()

    def _start(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._queue and len(self._running) < self._settings.embeddings_max:
            key = next(iter(self._queue))
            del self._queue[key]
            index = self._catalog.indexes.get(key[0])
            batch = index.batches.get(key[1]) if index else None
            if index is not None and batch is not None:
                self._running.add(key)
                # Whoever does not wait is told the task's name, which only a submission that does not wait gives early.
                early = any(not waiter.wait for waiter in self._waiters.get(batch.id, ()))
                effects.append(self._submit(index, batch, wait=not early))
        return effects

    def _submit(self, index: Index, batch: Batch, *, wait: bool) -> Ask:
        embedder, timeout_s = self._embedder, self._settings.embed_timeout_s
        query = Submit(
            kind=embedder.kind,
            items=tuple(embedder.item(document.text) for document in batch.documents),
            spec=embedder.spec,
            only=batch.only,
            local=batch.local,
            wait=wait,
            durable=True,
            key=f"{batch.id}.{batch.attempt}",
            timeout_s=timeout_s,
            source=f"index:{index.name}",
        )
        if wait:
            return Ask(EmbeddedTag(index.name, batch.id, batch.attempt), query, timeout_s + ASK_MARGIN_S)
        return Ask(SubmittedTag(index.name, batch.id, batch.attempt), query, SUBMIT_TIMEOUT_S)

    def _current(self, tag: SubmittedTag | EmbeddedTag) -> tuple[Index, Batch] | None:
        index = self._catalog.indexes.get(tag.name)
        batch = index.batches.get(tag.batch) if index else None
        if index is None or batch is None or batch.attempt != tag.attempt or (tag.name, tag.batch) not in self._running:
            return None
        return index, batch

    def on_submitted(self, done: Done, tag: SubmittedTag, now: Now) -> list[Effect]:
        found = self._current(tag)
        if found is None:
            return []
        if done.error is not None:
            return self._failed(*found, done.error, now)
        self._tasks[tag.batch] = done.value.view.task
        told = [waiter for waiter in self._waiters.get(tag.batch, ()) if not waiter.wait]
        self._waiters[tag.batch] = [waiter for waiter in self._waiters.get(tag.batch, ()) if waiter.wait]
        effects: list[Effect] = [self._result(tag.batch, waiter) for waiter in told]
        return [*effects, self._submit(*found, wait=True)]

    def on_embedded(self, done: Done, tag: EmbeddedTag, now: Now) -> list[Effect]:
        found = self._current(tag)
        if found is None:
            return []
        index, batch = found
        if done.error is not None:
            return self._failed(index, batch, done.error, now)
        outcome: TaskOutcome = done.value
        self._tasks[batch.id] = outcome.view.task
        if outcome.view.state == "cancelled":
            effects = self._answer(batch.id, Cancelled(f"task {outcome.view.task} was cancelled: nothing was added"))
            return [*index.finish(batch), *effects, *self._end(index, batch)]
        if outcome.view.state != "done":
            reason = f"task {outcome.view.task} {outcome.view.state}: {outcome.view.reason}"
            error = TimedOut(reason) if outcome.view.state == "timed_out" else LocalError(reason)
            batch.attempt += 1
            return [index.save_attempt(batch), *self._failed(index, batch, error, now)]
        try:
            vectors = self._embedder.vectors(outcome.output, len(batch.documents))
        except EdgenetError as error:
            batch.attempt += 1
            return [index.save_attempt(batch), *self._failed(index, batch, error, now)]
        if not batch.wanted():
            return [*index.finish(batch), *self._answer(batch.id, None), *self._end(index, batch)]
        return self.sealing.build(index, batch, vectors, self.nodes)

    def _failed(self, index: Index, batch: Batch, error: Exception, now: Now) -> list[Effect]:
        """Tell those who wait, keep the batch, try again later."""
        key = index.name, batch.id
        self._running.discard(key)
        failures = self._failures[batch.id] = self._failures.get(batch.id, 0) + 1
        pause = min(self._settings.retry_s * 2 ** min(failures - 1, 16), self._settings.retry_max_s)
        if isinstance(error, EdgenetError):
            pause = max(pause, min(error.retry_after_s, self._settings.retry_max_s))
        self._retry[key] = now.mono + pause
        kind = type(error) if isinstance(error, TimedOut | Cancelled) else LocalError
        text = f"the documents are saved but not searchable yet; trying again in {pause:g} s: {error}"
        return [*self._answer(batch.id, kind(text)), *self._start()]

    def _end(self, index: Index, batch: Batch) -> list[Effect]:
        self._running.discard((index.name, batch.id))
        self._failures.pop(batch.id, None)
        self._tasks.pop(batch.id, None)
        return self._start()

    def _answer(self, batch_id: str, error: Exception | None) -> list[Effect]:
        waiters = self._waiters.pop(batch_id, [])
        if error is not None:
            return [Reply(waiter.reply_to, error=error) for waiter in waiters]
        return [self._result(batch_id, waiter) for waiter in waiters]

    def _result(self, batch_id: str, waiter: Waiter) -> Reply:
        value = AddResult(waiter.added, waiter.skipped, batch_id, self._tasks.get(batch_id, ""))
        return Reply(waiter.reply_to, value)

    # Segments.

    def on_built(self, done: Done, tag: BuiltTag, now: Now) -> tuple[Index | None, list[Effect]]:
        return self._sealed(*self.sealing.on_built(done, tag), now)

    def on_stored(self, done: Done, tag: StoredTag, now: Now) -> tuple[Index | None, list[Effect]]:
        return self._sealed(*self.sealing.on_stored(done, tag), now)

    def _sealed(self, job: Job | None, effects: list[Effect], now: Now) -> tuple[Index | None, list[Effect]]:
        """The index that has new segments, if any, and effects."""
        if job is None:
            return None, effects
        index, batch = job.index, job.batch
        if batch is None:
            self._merging.discard(index.name)
        if job.error is not None:
            if batch is not None:
                return None, effects + self._failed(index, batch, job.error, now)
            self._merge_retry[index.name] = now.mono + self._settings.retry_max_s
            return None, effects
        effects += index.seal(job.pieces(), batch)
        if batch is not None:
            effects += [*self._answer(batch.id, None), *self._end(index, batch)]
        return index, effects

    def tidy(self, index: Index) -> list[Effect]:
        """Start a merge where too many segments are small, or one is mostly deleted. One at a time for each index.

        Small is below half of what each node's part would be, so every merge at least halves what it takes.
        """
        if index.name in self._merging or index.name in self._merge_retry:
            return []
        half = self.sealing.target_rows(index, 0, self.nodes) / 2
        alive = [segment for segment in index.segments.values() if segment.path and segment.living]
        small = [segment for segment in alive if segment.living < half]
        sources = [segment for segment in alive if segment.deleted > segment.rows / 2]
        if len(small) > self._settings.small_segments_max:
            sources = list({segment.number: segment for segment in [*sources, *small]}.values())
        sources.sort(key=lambda segment: (segment.living, segment.number))
        taken: list[OwnSegment] = []
        rows = 0
        for segment in sources:
            rows += segment.living
            if rows > self._settings.merge_rows_max and taken:
                break
            taken.append(segment)
        if not taken:
            return []
        self._merging.add(index.name)
        return self.sealing.merge(index, taken, self.nodes)
