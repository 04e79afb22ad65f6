"""The owner's own copy of every segment: pinned, found again after a start, fetched back from a holder when lost."""

from __future__ import annotations

import math
from collections import deque

from msgspec import Struct

from ..effects import Ask, Done, Effect, Now, Transfer
from ..errors import CorruptData, NotFound
from ..messages.artifacts import PinArtifact, ReleaseArtifact
from .catalog import Catalog, Index, OwnSegment
from .peers import Peers
from .placement import Placement
from .sealing import PIN, ReleasedTag
from .settings import IndexSettings

PINS_MAX = 32
"""Asked for at once after a start."""

ASK_TIMEOUT_S = 30.0


class PinnedTag(Struct, frozen=True):
    name: str
    number: int


class FetchedTag(Struct, frozen=True):
    name: str
    number: int


class Lost:
    """A segment whose own copy is gone."""

    __slots__ = ("attempts", "busy", "retry_mono")

    def __init__(self) -> None:
        self.attempts = 0
        self.busy = False
        self.retry_mono = 0.0


class Copies:
    def __init__(self, settings: IndexSettings, catalog: Catalog, peers: Peers, placement: Placement) -> None:
        self._settings = settings
        self._catalog = catalog
        self._peers = peers
        self._placement = placement
        self._unpinned: deque[PinnedTag] = deque()
        self._unseen: set[PinnedTag] = set()
        self._pinning = 0
        self._pin_mono = 0.0
        self._released = 0
        self._lost: dict[tuple[str, int], Lost] = {}
        self._releases: deque[tuple[float, str]] = deque()

    def restore(self, now: Now) -> list[Effect]:
        for index in self._catalog.indexes.values():
            self._unpinned.extend(PinnedTag(index.name, number) for number in index.segments)
        self._unseen.update(self._unpinned)
        return self._pin(now)

    @property
    def pending(self) -> bool:
        """Whether, after a start, some copies have not been looked for yet."""
        return bool(self._unseen)

    def wake_at(self) -> float:
        due = self._releases[0][0] if self._releases else math.inf
        if self._unpinned and self._pinning < PINS_MAX:
            due = min(due, self._pin_mono)
        for (name, number), lost in self._lost.items():
            if not lost.busy and self._sources(name, number):
                due = min(due, lost.retry_mono)
        return due

    def retire(self, segment: OwnSegment, now: Now) -> None:
        """Keep it a little longer for searches under way, then let the store have the room."""
        self._releases.append((now.mono + self._settings.release_after_s, segment.digest))

    def advance(self, now: Now) -> list[Effect]:
        effects = self._pin(now)
        while self._releases and self._releases[0][0] <= now.mono:
            digest = self._releases.popleft()[1]
            self._released += 1
            effects.append(Ask(ReleasedTag("copies", self._released), ReleaseArtifact(digest, PIN), ASK_TIMEOUT_S))
        for (name, number), lost in list(self._lost.items()):
            found = self._find(name, number)
            if found is None:
                del self._lost[name, number]
                continue
            sources = self._sources(name, number)
            if sources and not lost.busy and lost.retry_mono <= now.mono:
                lost.busy = True
                source = sources[lost.attempts % len(sources)]
                lost.attempts += 1
                tag, size = FetchedTag(name, number), found[1].size
                effects.append(Transfer(tag, source, found[1].digest, size, self._settings.hold_timeout_s))
        return effects

    def on_pinned(self, done: Done, tag: PinnedTag, now: Now) -> list[Effect]:
        self._pinning -= 1
        self._unseen.discard(tag)
        found = self._find(tag.name, tag.number)
        if found is not None:
            if done.error is None:
                found[1].path = done.value.path
                self._lost.pop((tag.name, tag.number), None)
            elif isinstance(done.error, NotFound | CorruptData):
                self._lost.setdefault((tag.name, tag.number), Lost())
            else:
                self._unpinned.append(tag)
                self._pin_mono = now.mono + self._settings.retry_s
        return self._pin(now)

    def on_fetched(self, done: Done, tag: FetchedTag, now: Now) -> list[Effect]:
        lost = self._lost.get((tag.name, tag.number))
        if lost is None:
            return []
        lost.busy = False
        pause = min(self._settings.retry_s * 2 ** min(lost.attempts, 16), self._settings.retry_max_s)
        lost.retry_mono = now.mono + pause
        if done.error is not None:
            return []
        self._unpinned.append(PinnedTag(tag.name, tag.number))
        return self._pin(now)

    def _pin(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        while self._unpinned and self._pinning < PINS_MAX and self._pin_mono <= now.mono:
            tag = self._unpinned.popleft()
            found = self._find(tag.name, tag.number)
            if found is None:
                self._unseen.discard(tag)
            else:
                self._pinning += 1
                effects.append(Ask(tag, PinArtifact(found[1].digest, PIN), ASK_TIMEOUT_S))
        return effects

    def _find(self, name: str, number: int) -> tuple[Index, OwnSegment] | None:
        index = self._catalog.indexes.get(name)
        segment = index.segments.get(number) if index else None
        return (index, segment) if index is not None and segment is not None else None

    def _sources(self, name: str, number: int) -> list[str]:
        return [peer for peer in self._placement.holders(name, number) if peer in self._peers.up]
