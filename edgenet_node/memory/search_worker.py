"""Functions over segments that run off the loop: search, score, build, merge, inspect.

Segments are mapped read-only from their content-addressed files and kept mapped in one bounded resident per worker, so
that a query costs no parsing and all workers share the pages. A segment is `[path, digest, deleted]`; `deleted` is a
bitmap of rows, least significant bit first, shorter than the segment where the rest is alive.

Exactness: deleted rows and rows that fail the filter are left out before the top k is taken, never after. Scores are
cosines in float32; equal scores are ordered by id. Float sums depend on CPU and BLAS in the last bits, so two nodes
may order scores differently that agree to about 1e-6.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import Malformed, UsageError
from ..kernels.search import normalise, top_k
from ..wire.codec import decode, encode
from ..wire.index import Hit
from . import segment as files
from .rows import Document
from .segment import Segment

T = TypeVar("T")

Found = tuple[Segment, NDArray[np.int64], NDArray[np.float32]]
"""Rows of a segment and their scores, best first, equal ones by row."""

TIES_MAX: Final = 256
"""Rows that share the k-th score: identical passages. More of them cost more than a selection in each segment."""

SEGMENTS_KEPT_MAX: Final = 1024
"""Mapped segments per worker; a mapping costs address space and a few kilobytes. Above the 256 of a full index."""

_DOCUMENTS_BYTES_MAX: Final = 256 * 1024 * 1024


class Context(Protocol):
    """What the executor hands to each call."""

    def resident(self, name: str, load: Callable[[], T], *, size_bytes: int = 0) -> T: ...


class Alive(NamedTuple):
    """The living rows for one deletion bitmap; `flags` is None when all rows live."""

    deleted: bytes
    flags: NDArray[np.bool_] | None
    rows: int


class Mapped:
    """A segment in a file, with the living rows of the last deletion bitmap that was asked for, which is replaced as a
    whole: several threads may search."""

    __slots__ = ("_alive", "segment")

    def __init__(self, path: str) -> None:
        self.segment = files.parse(_map(path), inspect=False)
        self._alive = Alive(b"", None, self.segment.header.rows)

    def alive(self, deleted: bytes) -> Alive:
        alive = self._alive
        if deleted != alive.deleted:
            flags = ~files.bitmap_rows(deleted, self.segment.header.rows)
            rows = int(np.count_nonzero(flags))
            alive = self._alive = Alive(deleted, None if rows == len(flags) else flags, rows)
        return alive


class Shelf:
    """The mapped segments of one worker, least recently used first out."""

    def __init__(self) -> None:
        self._mapped: OrderedDict[str, Mapped] = OrderedDict()

    def get(self, path: str, digest: str) -> Mapped:
        found = self._mapped.get(digest)
        if found is None:
            found = self._mapped[digest] = Mapped(path)
            while len(self._mapped) > SEGMENTS_KEPT_MAX:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(digest)
        return found


def search(
    context: Context, segments: Sequence[Sequence[Any]], vector: bytes, k: int, where: dict[str, str]
) -> dict[str, Any]:
    """Exact top `k` by cosine over `segments`. `vector` is float32 LE, any length; zero gives zero scores.

    Returns `hits`, the encoding of a list of `Hit`, best first, and `rows`, the number of living rows looked at.
    `Malformed` for a vector of another dimension than a segment's, or one that is not finite.
    """
    shelf = context.resident("memory.shelf", Shelf)
    query = normalise(_query(vector))
    living: list[tuple[Segment, Alive]] = []
    for path, digest, deleted in segments:
        mapped = shelf.get(path, digest)
        if mapped.segment.header.dimension != query.shape[1]:
            raise Malformed(f"a query of {query.shape[1]} dimensions for {mapped.segment.header.dimension}")
        living.append((mapped.segment, mapped.alive(bytes(deleted))))
    rows = sum(alive.rows for _, alive in living)
    found = None if where else _at_once(living, query[0], min(k, rows))
    if found is None:
        found = [_one(segment, alive, query, k, where) for segment, alive in living]
    return {"hits": encode(_merge(found, k)), "rows": rows}


def _one(segment: Segment, alive: Alive, query: NDArray[np.float32], k: int, where: dict[str, str]) -> Found:
    mask = segment.matching(where)
    if alive.flags is not None:
        mask = alive.flags if mask is None else mask & alive.flags
    scores, best = top_k(segment.vectors, query, k, metric="dot", mask=mask)
    return segment, best[0], scores[0]


def _at_once(living: Sequence[tuple[Segment, Alive]], query: NDArray[np.float32], k: int) -> list[Found] | None:
    """One selection over all segments: cheaper than one in each. None where ties at the k-th place are many, which the
    selection in each segment settles by id without naming them all."""
    if k == 0:
        return []
    ends = list(accumulate(len(segment.vectors) for segment, _ in living))
    scores = np.empty(ends[-1], np.float32)
    for (segment, alive), end in zip(living, ends, strict=True):
        part = scores[end - len(segment.vectors) : end]
        np.dot(segment.vectors, query, out=part)
        if alive.flags is not None:
            part[~alive.flags] = -np.inf
    np.fmax(scores, -np.inf, out=scores)  # what is not a number ranks last
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    places = np.flatnonzero(scores >= threshold)
    if threshold == -np.inf or places.size > k + TIES_MAX:
        return None
    found: list[Found] = []
    for (segment, _), end, chosen in zip(
        living, ends, np.split(places, np.searchsorted(places, ends[:-1])), strict=True
    ):
        ordered = chosen[np.argsort(-scores[chosen], kind="stable")]
        found.append((segment, ordered - (end - len(segment.vectors)), scores[ordered]))
    return found


def score(context: Context, segments: Sequence[Sequence[Any]], vector: bytes) -> list[list[float]]:
    """Cosines of named rows: `segments` are `[path, digest, rows]` with `rows` as u32 LE; one list for each."""
    shelf = context.resident("memory.shelf", Shelf)
    query = normalise(_query(vector))[0]
    scores = []
    for path, digest, rows in segments:
        vectors = shelf.get(path, digest).segment.vectors
        scores.append((vectors[np.frombuffer(rows, "<u4")] @ query).tolist())
    return scores


def build_segment(context: Context, vectors: bytes, documents: bytes, dimension: int, model: str, salt: bytes) -> bytes:
    """The file of a new segment. `vectors` are float32 LE, `documents` the encoding of a list of `Document` in
    ascending order of id. `UsageError` when they do not fit together."""
    rows = decode(bytes(documents), list[Document], bytes_max=_DOCUMENTS_BYTES_MAX)
    if len(vectors) != 4 * dimension * len(rows):
        raise UsageError(f"{len(vectors)} bytes of vectors for {len(rows)} documents of {dimension} dimensions")
    matrix = np.frombuffer(vectors, "<f4").reshape(len(rows), dimension)
    return files.build(matrix, rows, model=model, salt=bytes(salt))


def merge_segments(context: Context, segments: Sequence[Sequence[Any]], salt: bytes) -> bytes:
    """The file of a new segment made of some rows of others: `segments` are `[path, digest, rows]`, `rows` as u32 LE.
    Ids must be distinct across them."""
    shelf = context.resident("memory.shelf", Shelf)
    documents: list[Document] = []
    parts: list[NDArray[np.float32]] = []
    model = ""
    for path, digest, rows in segments:
        one = shelf.get(path, digest).segment
        picked = np.frombuffer(rows, "<u4")
        model = one.header.model
        parts.append(one.vectors[picked])
        documents += [one.document(row) for row in picked.tolist()]
    order = sorted(range(len(documents)), key=lambda at: documents[at].id)
    matrix = np.concatenate(parts)[order]
    return files.build(matrix, [documents[at] for at in order], model=model, salt=bytes(salt))


def inspect(context: Context, path: str) -> dict[str, Any]:
    """Check every byte of a segment from a stranger. `wrong` is empty, or says what is wrong with it."""
    try:
        header = files.parse(_map(path)).header
    except Malformed as error:
        return {"wrong": str(error), "rows": 0, "dimension": 0, "model": ""}
    return {"wrong": "", "rows": header.rows, "dimension": header.dimension, "model": header.model}


def _map(path: str) -> mmap.mmap:
    with Path(path).open("rb") as file:
        if not file.seek(0, 2):
            raise Malformed("segment: an empty file")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _query(vector: bytes) -> NDArray[np.float32]:
    """(1, dimension)"""
    if len(vector) % 4 or not vector:
        raise Malformed("a query vector that is not made of float32 values")
    query = np.frombuffer(vector, "<f4")
    if not np.isfinite(query).all():
        raise Malformed("a query vector that is not finite")
    return query[None, :]


def _merge(found: Sequence[Found], k: int) -> list[Hit]:
    """Parts are best first, and have their own ties right because rows stand in order of id."""
    ranked = [
        (-score, at, place) for at, (_, _, scores) in enumerate(found) for place, score in enumerate(scores.tolist())
    ]
    ranked.sort()
    # Only what reaches the k-th score is decoded.
    reach = [one for one in ranked if one[0] <= ranked[k - 1][0]] if len(ranked) > k else ranked
    named = []
    for negative, at, place in reach:
        segment, rows, _ = found[at]
        row = int(rows[place])
        named.append((negative, segment.id(row), at, row))
    named.sort()
    return [
        Hit(name, -negative, found[at][0].text(row), found[at][0].metadata(row))
        for negative, name, at, row in named[:k]
    ]
