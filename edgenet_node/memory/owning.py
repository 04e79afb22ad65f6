"""What an owner may do with its indexes: create, share, delete, look, add and remove documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..effects import Effect, Now, Reply
from ..errors import Conflict, Overloaded, UsageError
from ..messages.memory import (
    AddDocuments,
    AddResult,
    CreateIndex,
    DeleteIndex,
    IndexView,
    RemoveDocuments,
    SegmentView,
    ShareIndex,
)
from ..messages.memory import Document as Given
from ..wire.codec import encode
from ..wire.index import SEGMENTS_MAX
from .catalog import Catalog, Index, content_hash
from .copies import Copies
from .grants import Authority, check_name, check_readers
from .ingest import Embedder, Ingest, Waiter
from .placement import Placement
from .rows import Document, IndexRow
from .sealing import SEGMENTS_WANTED_MAX
from .settings import IndexSettings

KEYS_MAX = 64
"""Metadata keys of one index, as many as a segment has columns."""


class Owning:
    def __init__(
        self,
        settings: IndexSettings,
        catalog: Catalog,
        authority: Authority,
        embedder: Embedder,
        ingest: Ingest,
        placement: Placement,
        copies: Copies,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._authority = authority
        self._embedder = embedder
        self._ingest = ingest
        self._placement = placement
        self._copies = copies
        self._entropy = entropy

    def create(self, query: CreateIndex, reply_to: int, now: Now) -> list[Effect]:
        check_name(query.name)
        readers = check_readers(query.readers)
        if query.name in self._catalog.indexes:
            raise Conflict(f"index {query.name} exists already")
        if len(self._catalog.indexes) >= self._settings.indexes_max:
            raise Conflict(f"this node has {self._settings.indexes_max} indexes, its limit: delete one first")
        version = self._catalog.grant_version(now)
        row = IndexRow(list(readers), version, self._embedder.model, self._embedder.dimension, [])
        index = self._catalog.indexes[query.name] = Index(query.name, row)
        return [index.put(), Reply(reply_to, self.view(index, now))]

    def delete(self, query: DeleteIndex, reply_to: int, now: Now) -> list[Effect]:
        index = self._catalog.get(query.name)
        effects = self._ingest.forget(index)
        for segment in list(index.segments.values()):
            effects += self._placement.retire(index, segment, now)
            self._copies.retire(segment, now)
        self._authority.forget(index.name)
        return [*effects, *self._catalog.delete(index), Reply(reply_to)]

    def share(self, query: ShareIndex, reply_to: int, now: Now) -> list[Effect]:
        index = self._catalog.get(query.name)
        index.readers = check_readers(query.readers)
        index.grant_version = max(index.grant_version + 1, int(now.wall))
        self._placement.touch(index)
        return [index.put(), Reply(reply_to, self.view(index, now))]

    def view(self, index: Index, now: Now) -> IndexView:
        segments = [
            SegmentView(
                digest=segment.digest,
                rows=segment.rows,
                deleted=segment.deleted,
                holders=tuple(sorted(self._placement.searchable(index, segment, now.mono))),
            )
            for segment in index.segments.values()
        ]
        return IndexView(
            name=index.name,
            owner=self._authority.peer,
            model=index.model,
            dimension=index.dimension,
            documents=len(index.documents),
            pending=len(index.pending),
            readers=index.readers,
            segments=tuple(segments),
            replicas=min((len(segment.holders) for segment in segments), default=0),
        )

    def add(self, query: AddDocuments, reply_to: int) -> list[Effect]:
        index = self._catalog.get(query.name)
        if (index.model, index.dimension) != (self._embedder.model, self._embedder.dimension):
            raise Conflict(f"index {index.name} was made with model {index.model}: create a new one to change models")
        documents = self._checked(query.documents)
        new = [
            document
            for document in documents
            if index.hash_of(document.id) != content_hash(document.text, document.metadata)
        ]
        skipped = len(documents) - len(new)
        if not new:
            return self._nothing_new(index, documents, query, reply_to)
        self._check_room(index, new)
        batch_id = self._entropy(16).hex()
        saves = index.accept(batch_id, new, query.only, query.local)
        waiter = Waiter(reply_to, len(new), skipped, query.wait)
        return [*saves, *self._ingest.add(index, index.batches[batch_id], waiter if reply_to else None)]

    def remove(self, query: RemoveDocuments, reply_to: int, now: Now) -> list[Effect]:
        index = self._catalog.get(query.name)
        count, saves = index.remove(query.ids)
        return [*saves, *self.changed(index, now), Reply(reply_to, count)]

    def changed(self, index: Index, now: Now) -> list[Effect]:
        """After segments came or rows went: forget what is empty, place what is new, merge what is small."""
        effects: list[Effect] = []
        for segment in [one for one in index.segments.values() if not one.living]:
            effects += self._placement.retire(index, segment, now)
            self._copies.retire(segment, now)
            effects += index.retire(segment)
        self._placement.touch(index, plan=True)
        return effects + self._ingest.tidy(index)

    def _nothing_new(
        self, index: Index, documents: Sequence[Document], query: AddDocuments, reply_to: int
    ) -> list[Effect]:
        """All are known. Some may still be pending (an upload that is being repeated): wait with them."""
        pending = {index.pending[document.id] for document in documents if document.id in index.pending}
        if query.wait and pending and reply_to:
            last = max((index.batches[batch_id] for batch_id in pending), key=lambda batch: batch.sequence)
            self._ingest.join(last, Waiter(reply_to, 0, len(documents), wait=True))
            return []
        return [Reply(reply_to, AddResult(0, len(documents), "", ""))]

    def _checked(self, documents: Sequence[Given]) -> list[Document]:
        """Distinct documents in order of id, the last of each id. `UsageError` naming one that cannot be taken."""
        settings = self._settings
        if len(documents) > settings.add_documents_max:
            raise UsageError(
                f"{len(documents)} documents at once, at most {settings.add_documents_max}: send them in parts"
            )
        size = 0
        for document in documents:
            size += self._check(document)
        if size > settings.add_bytes_max:
            raise UsageError(f"{size} bytes at once, at most {settings.add_bytes_max}: send them in parts")
        last = {document.id: document for document in documents}
        return [Document(one.id, one.text, dict(one.metadata)) for _, one in sorted(last.items())]

    def _check(self, document: Given) -> int:
        settings = self._settings
        if not 0 < len(document.id) <= settings.id_chars_max:
            raise UsageError(f"a document id has 1 to {settings.id_chars_max} characters, not {len(document.id)}")
        size = len(encode([document.id, document.text, document.metadata]))
        name = document.id[:64]
        if not document.text.strip():
            raise UsageError(f"document {name!r} has no text")
        if len(document.text) > settings.text_chars_max:
            raise UsageError(f"document {name!r} has above {settings.text_chars_max} characters: cut it up")
        if len(document.metadata) > settings.metadata_keys_max:
            raise UsageError(f"document {name!r} has more than {settings.metadata_keys_max} metadata keys")
        if any(not 0 < len(key) <= settings.key_chars_max for key in document.metadata):
            raise UsageError(
                f"document {name!r} has a metadata key that is empty or above {settings.key_chars_max} characters"
            )
        if any(len(value) > settings.value_chars_max for value in document.metadata.values()):
            raise UsageError(f"document {name!r} has a metadata value above {settings.value_chars_max} characters")
        return size

    def _check_room(self, index: Index, new: Sequence[Document]) -> None:
        settings = self._settings
        if len(index.documents) + len(index.pending) + len(new) > settings.documents_max:
            raise Conflict(f"index {index.name} would exceed {settings.documents_max} documents: use a second index")
        keys = index.keys.union(*(document.metadata for document in new))
        if len(keys) > KEYS_MAX:
            raise UsageError(f"index {index.name} would have {len(keys)} different metadata keys, at most {KEYS_MAX}")
        if len(index.segments) + len(index.batches) > SEGMENTS_MAX - 2 * SEGMENTS_WANTED_MAX:
            raise Overloaded(f"index {index.name} is merging its segments", retry_after_s=settings.retry_s)
        size = sum(batch.size for one in self._catalog.indexes.values() for batch in one.batches.values())
        if self._ingest.batches >= settings.pending_batches_max or size > settings.pending_bytes_max:
            raise Overloaded("too many documents wait to be embedded", retry_after_s=settings.retry_s)
