"""What the two cores save, one struct per table.

Owner side (`indexes`): `index` by name; `segment`, `deleted`, `holders` by name/number; `batch` and `attempt` by
name/batch; `drop` by peer/name/digest. Ids and hashes are written once with their segment, deletions as a bitmap of at
most rows/8 bytes, so that no write grows with the index. Holder side (`holder`): `held` by owner/name/digest,
`owner` by peer.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta

from ..effects import Row
from ..errors import CorruptData, RemoteError
from ..wire.codec import Wire, decode
from ..wire.fields import DocumentId
from ..wire.index import TEXT_CHARS_MAX, Metadata, SignedGrant

W = TypeVar("W", bound=Wire)

ROW_BYTES_MAX = 256 * 1024 * 1024
"""Our own writing; the bound only keeps a damaged length from being believed."""


class Document(Wire):
    """One row as it enters a segment."""

    id: DocumentId
    text: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
    metadata: Metadata


class IndexRow(Wire):
    """`keys` are all metadata keys that were ever used; `grant_version` is the number of the newest reader list."""

    readers: list[str]
    grant_version: int
    model: str
    dimension: int
    keys: list[str]


class SegmentRow(Wire):
    """`hashes` are 16 bytes a row, of the content (`catalog.content_hash`)."""

    digest: str
    size: int
    ids: list[str]
    hashes: bytes


class DeletedRow(Wire):
    version: int
    bitmap: bytes


class HoldersRow(Wire):
    """Peers that were asked to hold the segment and not yet to drop it."""

    peers: list[str]


class BatchRow(Wire):
    sequence: int
    documents: list[Document]
    only: list[str]
    local: bool


class AttemptRow(Wire):
    """What changes while a batch waits: the number of failed embeddings, and documents that were removed or replaced
    since (positions in the batch)."""

    attempt: int
    unwanted: list[int]


class DropRow(Wire):
    since_wall: float


class HeldRow(Wire):
    grant: SignedGrant
    size: int
    rows: int
    dimension: int
    version: int
    bitmap: bytes


class OwnerRow(Wire):
    """When an owner whose segments are held was last heard of."""

    heard_wall: float


def read(row: Row, kind: type[W]) -> W:
    """`CorruptData` naming the row when it does not decode."""
    try:
        return decode(row.value, kind, bytes_max=ROW_BYTES_MAX)
    except RemoteError as error:
        raise CorruptData(f"saved row {row.table}/{row.key} cannot be read ({error}): restore a backup") from error
