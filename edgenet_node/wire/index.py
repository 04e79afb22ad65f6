"""`index.*`: segments of named vector indexes, held and searched by other nodes. Spec: `protocols/index`.

A segment is an immutable artifact (see `edgenet_node.memory.segment`), fetched by digest over the blob protocol. Its
mutable part is small: the set of deleted rows with a version. Authority is the owner's signature over an `IndexGrant`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..effects import Query
from .codec import Wire
from .fields import (
    Bytes64,
    Count,
    Digest,
    DocumentId,
    Key32,
    MetadataKey,
    MetadataValue,
    Millis,
    Model,
    Name,
    PeerId,
    Signature,
    Swarm,
)

HITS_MAX = 256
"""Results of one search: more is paging, which vector search does not have."""

SEGMENTS_MAX = 256
"""Segments named in one call."""

READERS_MAX = 256
"""Readers of one index."""

FILTER_MAX = 16
"""Conditions of one metadata filter."""

METADATA_MAX = 32
"""Metadata entries of one document."""

TEXT_CHARS_MAX = 8192
"""Characters of one passage; the encoder reads about 1,500 of them."""

DIMENSION_MAX = 4096
"""Components of a vector: above every text embedding model in common use."""

HOLDERS_MAX = 16
"""Nodes that hold one segment."""

ROWS_MAX = 65_536
"""Rows of one segment; ours seal at 4,096."""

GRANT_BYTES_MAX = 32 * 1024
"""An encoded grant with the most readers has about 17 kB."""

Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=METADATA_MAX)]
Filter = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=FILTER_MAX)]
Rows = Annotated[list[Annotated[int, Meta(ge=0, lt=ROWS_MAX)]], Meta(max_length=ROWS_MAX)]
"""Row numbers within a segment."""


class IndexGrant(Wire, frozen=True):
    """Who may read an index. `owner` is a public key; `readers` are peer ids, `*` for every member; `version` grows."""

    owner: Key32
    name: Name
    swarm: Swarm
    version: Millis
    readers: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=READERS_MAX)]


class SignedGrant(Wire, frozen=True):
    """`body` is the canonical encoding of an `IndexGrant`; Ed25519 by the owner in the domain `index-grant`."""

    body: Annotated[bytes, Meta(max_length=GRANT_BYTES_MAX)]
    signature: Signature


class Held(Wire, frozen=True):
    """The holder has the segment, verified, at this deletion version."""

    version: Count


class Hold(Wire, Query[Held], frozen=True):
    """Hold a segment: fetch `digest` from the caller (or from `source`), search it for readers. Idempotent; also
    updates `deleted` (row numbers) when `version` is newer."""

    grant: SignedGrant
    digest: Digest
    size: Bytes64
    rows: Count
    version: Count
    deleted: Rows
    source: PeerId


class Dropped(Wire, frozen=True):
    """Acknowledged; dropping twice is no error."""


class Drop(Wire, Query[Dropped], frozen=True):
    """The owner takes the segments back."""

    grant: SignedGrant
    digests: Annotated[list[Digest], Meta(max_length=SEGMENTS_MAX)]


class SegmentAt(Wire, frozen=True):
    """A segment at one deletion version."""

    digest: Digest
    version: Count


class Hit(Wire, frozen=True):
    """One result; `score` is the cosine similarity."""

    id: DocumentId
    score: Annotated[float, Meta(ge=-1.001, le=1.001)]
    text: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
    metadata: Metadata


class Hits(Wire, frozen=True):
    """`missing` names the segments that this holder lacks, or has at an older deletion version: ask another one."""

    hits: Annotated[list[Hit], Meta(max_length=HITS_MAX)]
    rows: Count
    missing: Annotated[list[Digest], Meta(max_length=SEGMENTS_MAX)]


class SearchSegments(Wire, Query[Hits], frozen=True):
    """Exact top `k` by cosine over the named segments; `where` are equalities on metadata, all must hold."""

    owner: Key32
    name: Name
    segments: Annotated[list[SegmentAt], Meta(max_length=SEGMENTS_MAX)]
    vector: Annotated[bytes, Meta(min_length=4, max_length=4 * DIMENSION_MAX)]
    k: Annotated[int, Meta(ge=1, le=HITS_MAX)]
    where: Filter


class SegmentInfo(Wire, frozen=True):
    """One segment of a manifest and who holds it."""

    digest: Digest
    size: Bytes64
    rows: Count
    version: Count
    holders: Annotated[list[PeerId], Meta(max_length=HOLDERS_MAX)]


class Manifest(Wire, frozen=True):
    """What a reader needs to search without the owner, until `version` changes."""

    grant: SignedGrant
    version: Millis
    model: Model
    dimension: Annotated[int, Meta(ge=1, le=DIMENSION_MAX)]
    segments: Annotated[list[SegmentInfo], Meta(max_length=SEGMENTS_MAX)]


class GetManifest(Wire, Query[Manifest], frozen=True):
    """A reader asks the owner; everybody else is refused."""

    name: Name
