"""Limits and pauses of the memory subsystem, with their units."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..errors import ConfigError
from ..wire.index import METADATA_MAX, TEXT_CHARS_MAX

MIB = 1024 * 1024
SEGMENT_ROWS_MAX = 16_384
"""What the segment format carries: column codes are 16 bits wide."""


class IndexSettings(Struct, frozen=True):
    """Both sides of named vector indexes. Sizes in bytes, times in seconds. `ConfigError` for what cannot work."""

    indexes_max: int = 64
    documents_max: int = 400_000
    """Of one index, pending ones included: keeps a fully packed one below the 256 segments of one manifest."""
    segment_rows_max: int = 4096
    """6 MiB of vectors: fetched in a second, searched in half a millisecond."""
    segment_rows_min: int = 64
    """Documents are cut into a segment for each node, so that all share the searching, but not below this."""
    segment_bytes_max: int = 96 * MIB
    small_segments_max: int = 16
    """More of them than this are merged."""
    merge_rows_max: int = 16_384
    """Rows rewritten by one merge, which is the longest that it delays other work of a worker: about 0.2 s."""

    add_documents_max: int = 4096
    add_bytes_max: int = 16 * MIB
    pending_batches_max: int = 256
    pending_bytes_max: int = 128 * MIB
    """Accepted documents wait for their vectors in memory too."""
    id_chars_max: int = 256
    text_chars_max: int = TEXT_CHARS_MAX
    metadata_keys_max: int = 16
    key_chars_max: int = 64
    value_chars_max: int = 256
    """These six may be lowered; what segments and messages can carry bounds them above."""
    embeddings_max: int = 4
    """Batches that are embedded at once."""
    embed_timeout_s: float = 600.0
    build_timeout_s: float = 60.0
    retry_s: float = 2.0
    """First pause after a failure; doubles up to `retry_max_s`."""
    retry_max_s: float = 300.0

    replicas: int = 2
    """Other nodes that hold each segment."""
    repair_after_s: float = 30.0
    """A silent holder may be restarting: copying at once would move more than it saves."""
    balance_slack: float = 1.25
    """A holder gets at most this times the average rows (consistent hashing with bounded loads, arXiv:1608.01350)."""
    candidates_max: int = 32
    """Peers considered as holders of one index."""
    holds_max: int = 8
    holds_per_peer_max: int = 2
    hold_timeout_s: float = 120.0
    declined_s: float = 60.0
    """A peer that refuses to hold is not asked again for this long."""
    drops_max: int = 4096
    """Segments to be taken back from peers that are away; beyond it the oldest are left to the holder's own expiry."""
    release_after_s: float = 30.0
    """Segments that were replaced stay this long for searches under way."""

    search_place: Literal["worker", "thread"] = "thread"
    """Where segments are searched. A thread does not wait behind a long task when every worker is busy, and costs the
    daemon the memory of numpy; the product releases the interpreter, the rest holds it for about 0.2 ms."""
    searches_max: int = 64
    embed_query_timeout_s: float = 60.0
    """The first query of a node loads the model."""
    search_timeout_s: float = 10.0
    part_timeout_s: float = 3.0
    hedge_s: float = 0.25
    """A holder that has not answered by then is raced by another: about twice a slow answer of a busy machine."""
    spread_rows_min: int = 0
    """Indexes below this are searched here even when others hold them. 0 spreads always."""
    suspect_s: float = 600.0
    """A holder whose hits were wrong is not used for this long, whatever trust makes of it."""
    check_hits: bool = True
    """Recompute the score of every hit that a holder returns, from one's own copy."""
    duplicate_rate: float = 0.02
    """Share of searches in which one holder's part is repeated here: only this shows hits that were held back."""
    score_tolerance: float = 1e-4
    """Between float32 cosines of different CPUs; observed differences are near 1e-6."""
    manifest_ttl_s: float = 10.0
    manifests_max: int = 64
    """Manifests of others' indexes that are remembered."""

    held_bytes_max: int = 2048 * MIB
    held_owner_bytes_max: int = 1024 * MIB
    held_segments_max: int = 2048
    held_owner_segments_max: int = 1024
    fetches_max: int = 4
    """Segments fetched at once for others."""
    fetches_waiting_max: int = 64
    fetch_timeout_s: float = 90.0
    serving_max: int = 64
    """Searches for others at once."""
    serve_timeout_s: float = 3.0
    answer_bytes_max: int = 900 * 1024
    """Of hits in one answer: fits a frame of 1 MiB."""
    owner_silent_s: float = 14 * 86_400.0
    """Segments of an owner that was not heard of for this long are dropped."""

    def __post_init__(self) -> None:
        counts = (
            self.indexes_max, self.documents_max, self.segment_rows_max, self.segment_rows_min, self.small_segments_max,
            self.add_documents_max, self.pending_batches_max, self.embeddings_max, self.replicas, self.candidates_max,
            self.holds_max, self.holds_per_peer_max, self.searches_max, self.manifests_max, self.fetches_max,
            self.serving_max,
        )  # fmt: skip
        if min(counts) < 1:
            raise ConfigError("index: every limit must be at least 1")
        if self.segment_rows_min > self.segment_rows_max or self.segment_rows_max > self.merge_rows_max:
            raise ConfigError("index: segment_rows_min <= segment_rows_max <= merge_rows_max must hold")
        wide = (
            self.id_chars_max > 512 or self.text_chars_max > TEXT_CHARS_MAX or self.metadata_keys_max > METADATA_MAX
            or self.key_chars_max > 64 or self.value_chars_max > 512 or self.segment_rows_max > SEGMENT_ROWS_MAX
        )  # fmt: skip
        if wide:
            raise ConfigError("index: a document or segment limit is above what the format carries")
        if self.balance_slack < 1 or not 0 <= self.duplicate_rate <= 1:
            raise ConfigError("index: balance_slack is at least 1 and duplicate_rate between 0 and 1")
        pauses = (self.retry_s, self.repair_after_s, self.hedge_s, self.part_timeout_s, self.search_timeout_s)
        if min(pauses) <= 0:
            raise ConfigError("index: times must be above 0 s")
