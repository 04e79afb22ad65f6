"""What an owner knows of its own indexes: documents, segments, pending batches. State and saves, no effects.

A document lives in at most one row of one segment, or waits in at most one batch. The newest accepted content of an id
wins: accepting or removing an id makes it unwanted in every batch that still waits, so that batches may finish in any
order and a restart cannot bring back what was replaced. Per document the memory holds its id, one integer and a 16
byte hash.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from ..effects import Delete, Now, Put, Row, Save
from ..errors import CorruptData, NotFound
from ..messages.artifacts import Stored
from ..wire.codec import encode
from .rows import AttemptRow, BatchRow, DeletedRow, Document, IndexRow, SegmentRow, read

HASH_BYTES = 16
"""Of SHA-256: who can make two contents collide here only fools its own index."""

_ROW_BITS = 20


def content_hash(text: str, metadata: dict[str, str]) -> bytes:
    """The first 16 bytes of SHA-256 over the canonical encoding of text and metadata."""
    return hashlib.sha256(encode([text, metadata])).digest()[:HASH_BYTES]


class OwnSegment:
    """One sealed segment. `version` counts changes of `bitmap` (deleted rows, least significant bit first); `path` is
    empty while the own copy is not at hand."""

    __slots__ = ("bitmap", "deleted", "digest", "hashes", "ids", "number", "path", "size", "version")

    def __init__(self, number: int, row: SegmentRow, path: str = "") -> None:
        self.number = number
        self.digest = row.digest
        self.size = row.size
        self.ids = row.ids
        self.hashes = row.hashes
        self.bitmap = b""
        self.deleted = 0
        self.version = 0
        self.path = path

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def living(self) -> int:
        return len(self.ids) - self.deleted

    def hash(self, row: int) -> bytes:
        return self.hashes[row * HASH_BYTES : (row + 1) * HASH_BYTES]

    def set_bitmap(self, bitmap: bytes, version: int) -> None:
        self.bitmap, self.version = bitmap, version
        self.deleted = int.from_bytes(bitmap, "little").bit_count()

    def delete(self, rows: Iterable[int]) -> None:
        bits = int.from_bytes(self.bitmap, "little")
        for row in rows:
            bits |= 1 << row
        self.set_bitmap(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), self.version + 1)

    def deleted_rows(self) -> list[int]:
        bits = int.from_bytes(self.bitmap, "little")
        return [row for row in range(len(self.ids)) if bits >> row & 1]


class Batch:
    """Accepted documents on their way into segments, ordered by id. `unwanted` are positions that were removed or
    replaced since."""

    __slots__ = ("attempt", "documents", "hashes", "id", "local", "only", "sequence", "size", "unwanted")

    def __init__(self, id: str, row: BatchRow) -> None:  # noqa: A002
        self.id = id
        self.sequence = row.sequence
        self.documents = row.documents
        self.hashes = [content_hash(document.text, document.metadata) for document in row.documents]
        self.only = tuple(row.only)
        self.local = row.local
        self.unwanted: set[int] = set()
        self.attempt = 0
        self.size = sum(len(document.text) for document in row.documents)

    def wanted(self) -> list[int]:
        return [at for at in range(len(self.documents)) if at not in self.unwanted]

    def position(self, id: str) -> int:  # noqa: A002
        return bisect_left(self.documents, id, key=lambda document: document.id)


class Piece(Struct, frozen=True):
    """A new segment before it has a number: its file and what its rows are, in order. `origins` says where each row
    must still live for it to count: a slot of `documents`, or `PENDING`."""

    stored: Stored
    ids: list[str]
    hashes: bytes
    origins: list[int]


PENDING = -1


class Index:
    """One named index. `documents` maps an id to `number << 20 | row`, `pending` to the batch that carries it."""

    def __init__(self, name: str, row: IndexRow) -> None:
        self.name = name
        self.readers = tuple(row.readers)
        self.grant_version = row.grant_version
        self.model = row.model
        self.dimension = row.dimension
        self.keys = set(row.keys)
        self.segments: dict[int, OwnSegment] = {}
        self.documents: dict[str, int] = {}
        self.pending: dict[str, str] = {}
        self.batches: dict[str, Batch] = {}
        self._number = 0
        self._sequence = 0

    def put(self) -> Put:
        row = IndexRow(list(self.readers), self.grant_version, self.model, self.dimension, sorted(self.keys))
        return Put("index", self.name, encode(row))

    def locate(self, id: str) -> tuple[OwnSegment, int] | None:  # noqa: A002
        """The segment and row where a document lives."""
        slot = self.documents.get(id)
        return None if slot is None else (self.segments[slot >> _ROW_BITS], slot & (1 << _ROW_BITS) - 1)

    def hash_of(self, id: str) -> bytes:  # noqa: A002
        """Of the newest accepted content; empty when there is none."""
        batch = self.batches.get(self.pending.get(id, ""))
        if batch is not None:
            return batch.hashes[batch.position(id)]
        found = self.locate(id)
        return found[0].hash(found[1]) if found else b""

    def accept(self, batch_id: str, documents: Sequence[Document], only: tuple[str, ...], local: bool) -> list[Save]:
        """Take documents (distinct ids, ascending, all new or changed) as a batch."""
        self._sequence += 1
        row = BatchRow(self._sequence, list(documents), list(only), local)
        saves = self._unwant({document.id for document in documents})
        new_keys = {key for document in documents for key in document.metadata} - self.keys
        if new_keys:
            self.keys |= new_keys
            saves.append(self.put())
        self.batches[batch_id] = Batch(batch_id, row)
        self.pending.update((document.id, batch_id) for document in documents)
        return [*saves, Put("batch", f"{self.name}/{batch_id}", encode(row))]

    def save_attempt(self, batch: Batch) -> Put:
        return Put("attempt", f"{self.name}/{batch.id}", encode(AttemptRow(batch.attempt, sorted(batch.unwanted))))

    def finish(self, batch: Batch) -> list[Save]:
        """The batch is sealed or withdrawn."""
        del self.batches[batch.id]
        for document in batch.documents:
            if self.pending.get(document.id) == batch.id:
                del self.pending[document.id]
        return [Delete("batch", f"{self.name}/{batch.id}"), Delete("attempt", f"{self.name}/{batch.id}")]

    def remove(self, ids: Iterable[str]) -> tuple[int, list[Save]]:
        """Delete documents, sealed or pending. Returns how many there were."""
        known = {one for one in ids if one in self.documents or one in self.pending}
        saves = self._unwant(known)
        return len(known), saves + self._tombstone(known)

    def seal(self, pieces: Sequence[Piece], batch: Batch | None) -> list[Save]:
        """Make segments of `pieces`, all at once. Rows that were removed or replaced while they were built are deleted
        from the start; what they replace is deleted where it was."""
        saves: list[Save] = []
        for piece in pieces:
            counted = [at for at in range(len(piece.ids)) if self._counts(piece, at, batch)]
            saves += self._tombstone({piece.ids[at] for at in counted})
            self._number += 1
            row = SegmentRow(piece.stored.digest, piece.stored.size, piece.ids, piece.hashes)
            segment = self.segments[self._number] = OwnSegment(self._number, row, piece.stored.path)
            saves.append(Put("segment", self.key(segment), encode(row)))
            self.documents.update((piece.ids[at], self._number << _ROW_BITS | at) for at in counted)
            missing = set(range(len(piece.ids))).difference(counted)
            if missing:
                segment.delete(missing)
                saves.append(self._put_deleted(segment))
        return saves + (self.finish(batch) if batch else [])

    def retire(self, segment: OwnSegment) -> list[Save]:
        """Forget a segment without living rows."""
        del self.segments[segment.number]
        key = self.key(segment)
        return [Delete("segment", key), Delete("deleted", key), Delete("holders", key)]

    def key(self, segment: OwnSegment) -> str:
        return f"{self.name}/{segment.number:010d}"

    def slot(self, segment: OwnSegment, row: int) -> int:
        return segment.number << _ROW_BITS | row

    def _counts(self, piece: Piece, at: int, batch: Batch | None) -> bool:
        one, origin = piece.ids[at], piece.origins[at]
        if origin == PENDING:
            return batch is not None and self.pending.get(one) == batch.id
        return self.documents.get(one) == origin

    def _unwant(self, ids: set[str]) -> list[Save]:
        touched: dict[str, Batch] = {}
        for one in ids:
            batch = self.batches.get(self.pending.pop(one, ""))
            if batch is not None:
                batch.unwanted.add(batch.position(one))
                touched[batch.id] = batch
        return [self.save_attempt(touched[batch_id]) for batch_id in sorted(touched)]

    def _tombstone(self, ids: Iterable[str]) -> list[Save]:
        rows: dict[int, list[int]] = {}
        for one in ids:
            slot = self.documents.pop(one, None)
            if slot is not None:
                rows.setdefault(slot >> _ROW_BITS, []).append(slot & (1 << _ROW_BITS) - 1)
        for number, deleted in rows.items():
            self.segments[number].delete(deleted)
        return [self._put_deleted(self.segments[number]) for number in sorted(rows)]

    def _put_deleted(self, segment: OwnSegment) -> Put:
        return Put("deleted", self.key(segment), encode(DeletedRow(segment.version, segment.bitmap)))

    def restore_segment(self, number: int, row: SegmentRow) -> None:
        self._number = max(self._number, number)
        self.segments[number] = OwnSegment(number, row)

    def restore_batch(self, batch_id: str, row: BatchRow) -> None:
        self._sequence = max(self._sequence, row.sequence)
        self.batches[batch_id] = Batch(batch_id, row)

    def finish_restore(self) -> None:
        for segment in self.segments.values():
            bits = int.from_bytes(segment.bitmap, "little")
            self.documents.update(
                (one, self.slot(segment, at)) for at, one in enumerate(segment.ids) if not bits >> at & 1
            )
        for batch in sorted(self.batches.values(), key=lambda one: one.sequence):
            self.pending.update((batch.documents[at].id, batch.id) for at in batch.wanted())


class Catalog:
    """All indexes of this node, by name."""

    def __init__(self) -> None:
        self.indexes: dict[str, Index] = {}
        self._grants = 0

    def get(self, name: str) -> Index:
        found = self.indexes.get(name)
        if found is None:
            raise NotFound(f"there is no index {name[:64]!r} here")
        return found

    def grant_version(self, now: Now) -> int:
        """Above any version that a deleted index of any name had: holders keep the highest. Unix seconds."""
        return max(self._grants + 1, int(now.wall))

    def delete(self, index: Index) -> list[Save]:
        saves: list[Save] = [Delete("index", index.name)]
        for batch in list(index.batches.values()):
            saves += index.finish(batch)
        for segment in list(index.segments.values()):
            saves += index.retire(segment)
        del self.indexes[index.name]
        self._grants = max(self._grants, index.grant_version)
        return saves

    def restore(self, rows: Sequence[Row]) -> None:
        """Rows come ordered by (table, key). `CorruptData` when one cannot be read or belongs to nothing."""
        tables: dict[str, list[Row]] = {}
        for row in rows:
            tables.setdefault(row.table, []).append(row)
        for row in tables.get("index", ()):
            self.indexes[row.key] = Index(row.key, read(row, IndexRow))
        readers: dict[str, Callable[[Index, str, Row], None]] = {
            "segment": lambda index, key, row: index.restore_segment(int(key), read(row, SegmentRow)),
            "deleted": _restore_deleted,
            "batch": lambda index, key, row: index.restore_batch(key, read(row, BatchRow)),
            "attempt": _restore_attempt,
        }
        for table, restore in readers.items():
            for row in tables.get(table, ()):
                name, _, key = row.key.partition("/")
                try:
                    restore(self.indexes[name], key, row)
                except (KeyError, ValueError) as error:
                    raise CorruptData(f"saved row {table}/{row.key} belongs to nothing: restore a backup") from error
        for index in self.indexes.values():
            index.finish_restore()


def _restore_deleted(index: Index, key: str, row: Row) -> None:
    saved = read(row, DeletedRow)
    index.segments[int(key)].set_bitmap(saved.bitmap, saved.version)


def _restore_attempt(index: Index, key: str, row: Row) -> None:
    saved = read(row, AttemptRow)
    batch = index.batches[key]
    batch.attempt, batch.unwanted = saved.attempt, set(saved.unwanted)
