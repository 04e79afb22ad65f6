"""What a search came back with: which of it to believe, and how parts become one result. Pure functions.

The owner has every vector and every content hash, so it can tell for each hit that a holder returns whether the
document exists, says what is claimed, passes the filter, and has the claimed score. What it cannot tell from the hits
is whether better ones were held back; only searching the same segments again shows that (`withheld`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ..wire.index import FILTER_MAX, Hit
from .catalog import OwnSegment, content_hash

SCORE_SLACK = 1e-3
"""By which a float32 cosine may exceed 1."""

CONDITION_CHARS_MAX = 256


class Target(Struct, frozen=True):
    """A segment as it was when the search began. `own` is None when the index belongs to somebody else; `path` is
    empty when there is no copy here; `nodes` are the peers that can search it."""

    digest: str
    version: int
    rows: int
    nodes: tuple[str, ...]
    own: OwnSegment | None = None
    path: str = ""
    bitmap: bytes = b""


def check_where(where: dict[str, str]) -> str:
    """Why this filter cannot be used; empty when it can."""
    if len(where) > FILTER_MAX:
        return f"{len(where)} conditions, a filter takes at most {FILTER_MAX}"
    if any(len(key) > CONDITION_CHARS_MAX or len(value) > CONDITION_CHARS_MAX for key, value in where.items()):
        return f"a condition above {CONDITION_CHARS_MAX} characters"
    return ""


def implausible(hits: Sequence[Hit], k: int, where: dict[str, str]) -> str:
    """What is wrong with an answer by its form alone; empty when nothing is."""
    if len(hits) > k:
        return f"{len(hits)} hits where {k} were asked for"
    if len({hit.id for hit in hits}) != len(hits):
        return "the same document twice"
    for hit in hits:
        if not (math.isfinite(hit.score) and abs(hit.score) <= 1 + SCORE_SLACK):
            return "a score that is no cosine"
        if any(hit.metadata.get(key) != value for key, value in where.items()):
            return "a hit that does not pass the filter"
    return ""


def locate(hit: Hit, targets: Iterable[Target]) -> tuple[Target, int] | None:
    """The segment and row that a hit claims to be, if its content is what the owner put there and it was not deleted
    when the search began."""
    hashed = b""
    for target in targets:
        own = target.own
        if own is None:
            continue
        row = bisect_left(own.ids, hit.id)
        if row == len(own.ids) or own.ids[row] != hit.id:
            continue
        if row >> 3 < len(target.bitmap) and target.bitmap[row >> 3] >> (row & 7) & 1:
            continue
        hashed = hashed or content_hash(hit.text, hit.metadata)
        if hashed == own.hash(row):
            return target, row
    return None


def withheld(answer: Sequence[Hit], truth: Sequence[Hit], k: int, tolerance: float) -> int:
    """How many of the true hits (of the same segments) the answer should have had and has not. Near ties with its last
    hit are forgiven."""
    ids = {hit.id for hit in answer}
    bar = min((hit.score for hit in answer), default=-math.inf) + tolerance if len(answer) >= k else -math.inf
    return sum(1 for hit in truth if hit.id not in ids and hit.score > bar)


def merged(parts: Iterable[Sequence[Hit]], k: int) -> list[Hit]:
    """The best `k` over parts that may overlap: by score, then id; a document counts once."""
    best: dict[str, Hit] = {}
    for hits in parts:
        for hit in hits:
            known = best.get(hit.id)
            if known is None or hit.score > known.score:
                best[hit.id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.id))[:k]
