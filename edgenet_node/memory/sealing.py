"""From vectors to sealed segments: cut, build in a worker, store, and hand back all pieces at once.

A `Job` is either a batch of new documents or a merge of existing segments. Its pieces become visible together or not
at all; after a crash the batch is still there and is sealed again. What was stored for a job that failed is released.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeVar

from msgspec import Struct

from ..effects import Ask, Compute, Done, Effect
from ..messages.artifacts import PutArtifact, ReleaseArtifact, Stored
from ..wire.codec import encode
from .catalog import PENDING, Batch, Index, OwnSegment, Piece
from .inner import BUILD, MERGE
from .settings import IndexSettings

T = TypeVar("T")

PIN: Final = "index"
"""This node's own segments, for `PinArtifact`."""

SEGMENTS_WANTED_MAX: Final = 16
"""Pieces that one batch or merge is cut into at most, however large the swarm."""


class BuiltTag(Struct, frozen=True):
    job: int
    piece: int


class StoredTag(Struct, frozen=True):
    job: int
    piece: int


class ReleasedTag(Struct, frozen=True):
    """Its completion is of no interest. `source` tells the counters of two rooms apart."""

    source: str
    serial: int


class Draft(Struct, frozen=True):
    """A piece before it is built; see `catalog.Piece`."""

    ids: list[str]
    hashes: bytes
    origins: list[int]


class Job:
    """`batch` is None for a merge. `error` is the first failure; the job ends when `open` operations are done."""

    __slots__ = ("batch", "drafts", "error", "id", "index", "open", "stored")

    def __init__(self, id: int, index: Index, batch: Batch | None, drafts: list[Draft]) -> None:  # noqa: A002
        self.id = id
        self.index = index
        self.batch = batch
        self.drafts = drafts
        self.stored: dict[int, Stored] = {}
        self.open = 0
        self.error: Exception | None = None

    def pieces(self) -> list[Piece]:
        return [Piece(self.stored[at], draft.ids, draft.hashes, draft.origins) for at, draft in enumerate(self.drafts)]


class Sealing:
    """Jobs under way."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self.jobs: dict[int, Job] = {}
        self._next = 0

    def target_rows(self, index: Index, more: int, nodes: int) -> int:
        """Rows of a segment so that `nodes` nodes have an equal part of all documents each."""
        share = -(-(len(index.documents) + more) // max(1, min(nodes, SEGMENTS_WANTED_MAX)))
        return min(max(share, self._settings.segment_rows_min), self._settings.segment_rows_max)

    def build(self, index: Index, batch: Batch, vectors: bytes, nodes: int) -> list[Effect]:
        """Segments for the documents of `batch` that are still wanted, at least one; `vectors` for all of them."""
        wanted = batch.wanted()
        width, rows_max = 4 * index.dimension, self._settings.segment_rows_max
        drafts: list[Draft] = []
        effects: list[Effect] = []
        job = self._open(index, batch, drafts)
        for at, part in enumerate(_cut(wanted, self.target_rows(index, len(wanted), nodes), rows_max)):
            documents = [batch.documents[row] for row in part]
            hashes = b"".join(batch.hashes[row] for row in part)
            drafts.append(Draft([one.id for one in documents], hashes, [PENDING] * len(part)))
            picked = b"".join(vectors[row * width : (row + 1) * width] for row in part)
            args = (picked, encode(documents), index.dimension, index.model, _salt(batch.id, at))
            effects.append(self._compute(BuiltTag(job.id, at), BUILD, args))
        job.open = len(drafts)
        return effects

    def merge(self, index: Index, sources: Sequence[OwnSegment], nodes: int) -> list[Effect]:
        """Fewer segments from the living rows of `sources`, at least one of which lives."""
        living = sorted(
            (source.ids[row], source.number, row)
            for source in sources
            for row in range(source.rows)
            if index.documents.get(source.ids[row]) == index.slot(source, row)
        )
        seed = "/".join(f"{source.digest}:{source.version}" for source in sources)
        numbered, rows_max = {source.number: source for source in sources}, self._settings.segment_rows_max
        drafts: list[Draft] = []
        effects: list[Effect] = []
        job = self._open(index, None, drafts)
        for at, part in enumerate(_cut(living, self.target_rows(index, 0, nodes), rows_max)):
            hashes = b"".join(numbered[number].hash(row) for _, number, row in part)
            origins = [index.slot(numbered[number], row) for _, number, row in part]
            drafts.append(Draft([one for one, _, _ in part], hashes, origins))
            rows = {source.number: bytearray() for source in sources}
            for _, number, row in part:
                rows[number] += row.to_bytes(4, "little")
            args = [[numbered[n].path, numbered[n].digest, bytes(picked)] for n, picked in rows.items() if picked]
            effects.append(self._compute(BuiltTag(job.id, at), MERGE, (args, _salt(seed, at))))
        job.open = len(drafts)
        return effects

    def on_built(self, done: Done, tag: BuiltTag) -> tuple[Job | None, list[Effect]]:
        """The finished job when this was its last operation, and effects."""
        job = self.jobs.get(tag.job)
        if job is None:
            return None, []
        if done.error is None:
            put = PutArtifact(bytes(done.value), PIN)
            return None, [Ask(StoredTag(tag.job, tag.piece), put, self._settings.build_timeout_s)]
        return self._closed(job, done.error)

    def on_stored(self, done: Done, tag: StoredTag) -> tuple[Job | None, list[Effect]]:
        job = self.jobs.get(tag.job)
        if job is None:
            return None, self.release([done.value.digest]) if done.error is None else []
        if done.error is None:
            job.stored[tag.piece] = done.value
        return self._closed(job, done.error)

    def abandon(self, index: Index) -> list[Effect]:
        """The index is being deleted."""
        jobs = [job for job in self.jobs.values() if job.index is index]
        for job in jobs:
            del self.jobs[job.id]
        return self.release([stored.digest for job in jobs for stored in job.stored.values()])

    def release(self, digests: Sequence[str]) -> list[Effect]:
        first, self._next = self._next, self._next + len(digests)
        return [
            Ask(ReleasedTag("sealing", serial), ReleaseArtifact(digest, PIN), self._settings.build_timeout_s)
            for serial, digest in enumerate(digests, first)
        ]

    def _open(self, index: Index, batch: Batch | None, drafts: list[Draft]) -> Job:
        self._next += 1
        job = self.jobs[self._next] = Job(self._next, index, batch, drafts)
        return job

    def _compute(self, tag: BuiltTag, fn: str, args: tuple[object, ...]) -> Effect:
        return Compute(tag, "worker", fn, args, self._settings.build_timeout_s)

    def _closed(self, job: Job, error: Exception | None) -> tuple[Job | None, list[Effect]]:
        job.open -= 1
        job.error = job.error or error
        if job.open:
            return None, []
        del self.jobs[job.id]
        return job, self.release([stored.digest for stored in job.stored.values()]) if job.error else []


def _cut(rows: Sequence[T], target: int, rows_max: int) -> list[Sequence[T]]:
    """Parts of equal length, near `target` rows and at most `rows_max` each."""
    count = max(1, round(len(rows) / target), -(-len(rows) // rows_max))
    ends = [len(rows) * part // count for part in range(count + 1)]
    return [rows[a:b] for a, b in pairwise(ends)]


def _salt(seed: str, piece: int) -> bytes:
    return hashlib.sha256(f"{seed}#{piece}".encode()).digest()[:16]
