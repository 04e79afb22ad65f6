"""Named vector indexes as their owner and readers see them."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query
from ..wire.index import Hit


class Document(Struct, frozen=True):
    """One passage. The same `id` replaces an earlier one; the same id with the same content is skipped."""

    id: str
    text: str
    metadata: dict[str, str] = {}


class SegmentView(Struct, frozen=True):
    digest: str
    rows: int
    deleted: int
    holders: tuple[str, ...]


class IndexView(Struct, frozen=True):
    """`pending` documents are accepted and durable but not embedded yet; `replicas` is the lowest number of other
    nodes that hold a segment (0 when there is nobody)."""

    name: str
    owner: str
    model: str
    dimension: int
    documents: int
    pending: int
    readers: tuple[str, ...]
    segments: tuple[SegmentView, ...]
    replicas: int


class CreateIndex(Query[IndexView], frozen=True):
    name: str
    readers: tuple[str, ...] = ()


class DeleteIndex(Query[None], frozen=True):
    name: str


class ShareIndex(Query[IndexView], frozen=True):
    """Replace the reader list (peer ids, or `*` for every member)."""

    name: str
    readers: tuple[str, ...]


class ListIndexes(Query[tuple[IndexView, ...]], frozen=True):
    pass


class GetIndex(Query[IndexView], frozen=True):
    name: str


class AddResult(Struct, frozen=True):
    """`added` are new or changed, `skipped` were there already; `task` embeds them."""

    added: int
    skipped: int
    batch: str
    task: str


class AddDocuments(Query[AddResult], frozen=True):
    """Accept documents durably. `wait` answers when they are searchable, otherwise when they are saved."""

    name: str
    documents: tuple[Document, ...]
    wait: bool = True
    only: tuple[str, ...] = ()
    local: bool = False


class RemoveDocuments(Query[int], frozen=True):
    """Delete by id; answers how many there were."""

    name: str
    ids: tuple[str, ...]


class SearchResult(Struct, frozen=True):
    """`holders` counts the rows that each node searched; `complete` is False when some segment could not be reached."""

    hits: tuple[Hit, ...]
    rows: int
    holders: dict[str, int]
    complete: bool
    seconds: float


class SearchIndex(Query[SearchResult], frozen=True):
    """Exact top `k` for a text (embedded here or by the swarm) or a given vector (little-endian float32). `owner` is a
    peer id, empty for one's own index."""

    name: str
    text: str = ""
    vector: bytes = b""
    k: int = 10
    where: dict[str, str] = {}
    owner: str = ""
