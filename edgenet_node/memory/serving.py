"""Searching segments for others: the same for a holder and for an owner."""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ..effects import Compute, Done, Effect, Reply
from ..errors import EdgenetError, Malformed, Overloaded, TooLarge
from ..wire.index import DIMENSION_MAX, Hits, SearchSegments
from .inner import SEARCH
from .searching import AFFINITY, decode_hits
from .settings import IndexSettings


class ServedTag(Struct, frozen=True):
    serial: int


class Serving:
    """Searches for others under way, at most `serving_max`."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._open: dict[int, tuple[int, list[str]]] = {}
        self._next = 0

    def begin(self, reply_to: int, query: SearchSegments, segments: Sequence[Any], missing: list[str]) -> list[Effect]:
        """Search `segments` (`[path, digest, deleted]`) and report `missing`. `Overloaded` when too many run."""
        if not segments:
            return [Reply(reply_to, Hits([], 0, missing))]
        if len(self._open) >= self._settings.serving_max:
            raise Overloaded("too many searches for others", retry_after_s=0.1)
        self._next += 1
        self._open[self._next] = reply_to, missing
        args = (segments, query.vector, query.k, query.where)
        tag, timeout_s = ServedTag(self._next), self._settings.serve_timeout_s
        return [Compute(tag, self._settings.search_place, SEARCH, args, timeout_s, AFFINITY)]

    def on_served(self, done: Done, tag: ServedTag) -> list[Effect]:
        entry = self._open.pop(tag.serial, None)
        if entry is None:
            return []
        reply_to, missing = entry
        if done.error is not None:
            return [Reply(reply_to, error=done.error)]
        try:
            hits = decode_hits(done.value)
        except EdgenetError as error:
            return [Reply(reply_to, error=error)]
        if len(done.value["hits"]) > self._settings.answer_bytes_max:
            return [Reply(reply_to, error=TooLarge("the texts of these hits do not fit one answer: ask for fewer"))]
        return [Reply(reply_to, Hits(hits, done.value["rows"], missing))]


def check_query(query: SearchSegments, dimension: int) -> None:
    """`Malformed` for what no honest searcher of an index of that dimension sends."""
    if len({segment.digest for segment in query.segments}) != len(query.segments):
        raise Malformed("a search that names a segment twice")
    if not finite(query.vector) or len(query.vector) != 4 * dimension:
        raise Malformed("a query vector that is not finite, or of another dimension")


def finite(vector: bytes) -> bool:
    """Whether these are float32 LE values, all finite."""
    if len(vector) % 4 or len(vector) > 4 * DIMENSION_MAX:
        return False
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    # An infinity or a NaN survives every addition, and doubles hold any sum of so few floats: one call for all of them.
    return math.isfinite(sum(values))
