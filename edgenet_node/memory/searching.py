"""Searches under way: scatter over holders, hedge, gather, check.

Each segment is searched by one node that has it (`spread.assign`); this node is one of them. A node that fails, lacks
a segment or is slow is raced by another: by this node, if it has a copy and was not the slow one. A search ends when
every segment is covered and what came from others is checked, or at its deadline with `complete` False. For one's own
index every returned hit is recomputed from the own copy, and a small share of searches repeats a whole part here; a
holder that is caught is reported to trust, not used for a while, and its segments are searched again. A reader of
somebody else's index can check only form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..effects import Call, Cancel, Compute, Done, Effect, Now, Reply, Tell
from ..errors import TimedOut
from ..messages.memory import SearchResult
from ..messages.trust import Outcome
from ..wire.codec import decode
from ..wire.index import Hit, SearchSegments, SegmentAt
from .answers import Target, implausible, locate, merged, withheld
from .inner import SCORE, SEARCH, Rng
from .peers import Peers
from .settings import IndexSettings
from .spread import assign

SELF: Final = ""
"""This node among the nodes of a search."""

KIND: Final = "index.search"
"""For trust."""

AFFINITY: Final = "memory"
HITS_BYTES_MAX: Final = 64 * 1024 * 1024


class PartTag(Struct, frozen=True):
    search: int
    part: int


class ScoredTag(Struct, frozen=True):
    search: int


class RepeatedTag(Struct, frozen=True):
    search: int
    part: int


class Part:
    """One question to one node. `open` until its completion is in."""

    __slots__ = ("digests", "hedged", "hits", "node", "open", "started")

    def __init__(self, node: str, digests: list[str], started: float) -> None:
        self.node = node
        self.digests = digests
        self.started = started
        self.open = True
        self.hedged = False
        self.hits: list[Hit] = []


class Claim(Struct, frozen=True):
    """Hit number `hit` of part `part`, to be recomputed."""

    part: int
    hit: int


class Search:
    """`covered` names for each segment the part that searched it; `tried` the nodes that were asked for it."""

    def __init__(self, id: int, reply_to: int, k: int, where: dict[str, str], now: Now, timeout_s: float) -> None:  # noqa: A002
        self.id = id
        self.reply_to = reply_to
        self.k = k
        self.where = where
        self.started = now.mono
        self.deadline = now.mono + timeout_s
        self.owner = b""
        self.name = ""
        self.vector = b""
        self.targets: dict[str, Target] = {}
        self.parts: dict[int, Part] = {}
        self.covered: dict[str, int] = {}
        self.tried: dict[str, set[str]] = {}
        self.begun = False
        self.repeat = False
        self.restarted = False
        self.retried = False
        self.verifying = False
        self.checked: set[int] = set()
        self.claims: list[list[Claim]] = []

    @property
    def own(self) -> bool:
        """An index of this node."""
        return any(target.own is not None for target in self.targets.values())

    def todo(self) -> list[str]:
        """Segments that are neither covered nor with a node that may still be in time."""
        waited = {digest for part in self.parts.values() if part.open and not part.hedged for digest in part.digests}
        return [digest for digest in self.targets if digest not in self.covered and digest not in waited]

    def restart(self) -> None:
        """The targets are about to be replaced; what was found stays out."""
        self.begun = False
        self.parts, self.covered, self.tried, self.targets = {}, {}, {}, {}


class Searches:
    """`lacking` collects (index, holder, digest) for repair, `stale` the searches of a reader whose manifest is out of
    date; whoever owns this drains them."""

    def __init__(self, settings: IndexSettings, peers: Peers, peer: str, rng: Rng) -> None:
        self._settings = settings
        self._peers = peers
        self._peer = peer
        self._rng = rng
        self.open: dict[int, Search] = {}
        self.lacking: list[tuple[str, str, str]] = []
        self.stale: list[Search] = []
        self._next = 0

    def new(self, reply_to: int, k: int, where: dict[str, str], now: Now) -> Search:
        self._next += 1
        search = Search(self._next, reply_to, k, where, now, self._settings.embed_query_timeout_s)
        self.open[search.id] = search
        return search

    def wake_at(self) -> float:
        wake = math.inf
        for search in self.open.values():
            wake = min(wake, search.deadline)
            for part in search.parts.values():
                if part.open and not part.hedged:
                    wake = min(wake, part.started + self._settings.hedge_s)
        return wake

    def begin(self, search: Search, now: Now) -> list[Effect]:
        """The vector and the targets are known: from here the search has `search_timeout_s`."""
        search.begun = True
        search.deadline = now.mono + self._settings.search_timeout_s
        search.repeat = self._rng.random() < self._settings.duplicate_rate
        return self._scatter(search, now)

    def on_tick(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for search in list(self.open.values()):
            if search.deadline <= now.mono:
                effects += self._finish(search, now)
                continue
            late = False
            for part in search.parts.values():
                if part.open and not part.hedged and part.started + self._settings.hedge_s <= now.mono:
                    part.hedged = late = True
            if late:
                effects += self._scatter(search, now)
        return effects

    def fail(self, search: Search, error: Exception) -> list[Effect]:
        del self.open[search.id]
        return [Reply(search.reply_to, error=error)]

    # Scatter.

    def _scatter(self, search: Search, now: Now) -> list[Effect]:
        """Ask for every segment that is not covered nor waited for; finish when there is nothing left to do."""
        todo = search.todo()
        rows = {digest: search.targets[digest].rows for digest in todo}
        able = {digest: self._able(search, digest, now) for digest in todo}
        effects: list[Effect] = []
        for node, digests in assign(rows, able, self._peers.cost).items():
            at = len(search.parts)
            search.parts[at] = Part(node, digests, now.mono)
            for digest in digests:
                search.tried.setdefault(digest, set()).add(node)
            effects.append(self._ask(search, PartTag(search.id, at), node, digests, now))
        if search.verifying:
            return effects
        if any(part.open for part in search.parts.values()) and len(search.covered) < len(search.targets):
            return effects
        return effects + self._verify(search, now)

    def _able(self, search: Search, digest: str, now: Now) -> list[str]:
        target, tried = search.targets[digest], search.tried.get(digest, set())
        spread = sum(one.rows for one in search.targets.values()) >= self._settings.spread_rows_min
        nodes = [p for p in target.nodes if p not in tried and self._peers.searchable(p, now.mono)] if spread else []
        # After a failure this node does it at once, if it can: asking a third one would cost another wait.
        here = [SELF] if target.path and SELF not in tried else []
        return here if here and tried else nodes + here

    def _ask(self, search: Search, tag: Any, node: str, digests: Sequence[str], now: Now) -> Effect:
        left_s = max(search.deadline - now.mono, 0.001)
        targets = [search.targets[digest] for digest in digests]
        if node == SELF:
            segments = [[target.path, target.digest, target.bitmap] for target in targets]
            args = (segments, search.vector, search.k, search.where)
            return Compute(tag, self._settings.search_place, SEARCH, args, left_s, AFFINITY)
        at = [SegmentAt(target.digest, target.version) for target in targets]
        query = SearchSegments(search.owner, search.name, at, search.vector, search.k, search.where)
        return Call(tag, node, query, min(left_s, self._settings.part_timeout_s))

    # Gather.

    def on_part(self, done: Done, tag: PartTag, now: Now) -> list[Effect]:
        search = self.open.get(tag.search)
        part = search.parts.get(tag.part) if search else None
        if search is None or part is None or not part.open:
            return []
        part.open = False
        if all(digest in search.covered for digest in part.digests):
            return []  # it lost the race; what it says would go unchecked
        effects: list[Effect] = []
        if done.error is None:
            effects = self._take(search, tag.part, part, done.value, now)
        elif part.node == SELF and not search.retried:
            search.retried = True  # the worker died under it, which says nothing about the next one
            for digest in part.digests:
                search.tried[digest].discard(SELF)
        elif isinstance(done.error, TimedOut):
            self._peers.answered(part.node, now.mono - part.started)
        return effects + self._scatter(search, now)

    def _take(self, search: Search, at: int, part: Part, value: Any, now: Now) -> list[Effect]:
        missing: list[str] = []
        if part.node == SELF:
            part.hits = decode_hits(value)
        else:
            missing = value.missing
            asked = [search.targets[digest] for digest in part.digests if digest not in missing]
            wrong = implausible(value.hits, search.k, search.where)
            if not wrong and search.own and not all(locate(hit, asked) for hit in value.hits):
                wrong = "a document that is not there"
            if wrong:
                return self._caught(search, at, 1, now)
            self._peers.answered(part.node, now.mono - part.started)
            part.hits = list(value.hits)
        for digest in part.digests:
            if digest in missing:
                self.lacking.append((search.name, part.node, digest))
            else:
                search.covered.setdefault(digest, at)
        return []

    def _caught(self, search: Search, at: int, wrong: int, now: Now) -> list[Effect]:
        """A holder lied: forget what it said, use it no more for a while, tell trust."""
        part = search.parts[at]
        items = max(len(part.hits), wrong)
        part.hits = []
        for digest in [digest for digest, by in search.covered.items() if by == at]:
            del search.covered[digest]
        self._peers.suspect(part.node, now.mono + self._settings.suspect_s)
        return [Tell(Outcome(part.node, KIND, items, items, wrong, False, now.mono - part.started))]

    # Check and finish.

    def _verify(self, search: Search, now: Now) -> list[Effect]:
        if len(search.covered) < len(search.targets):
            if not search.own and not search.restarted:
                search.restarted = True
                self.stale.append(search)
                return []
            return self._finish(search, now)
        others = [at for at in sorted(set(search.covered.values())) if search.parts[at].node != SELF]
        if not search.own or not others:
            return self._finish(search, now)
        if search.repeat:
            search.repeat = False
            at = others[int(self._rng.random() * len(others))]
            digests = [digest for digest in search.parts[at].digests if search.targets[digest].path]
            if len(digests) == len(search.parts[at].digests):
                search.verifying = True
                return [self._ask(search, RepeatedTag(search.id, at), SELF, digests, now)]
        if self._settings.check_hits:
            unchecked = [at for at in others if at not in search.checked]
            search.checked.update(unchecked)
            effect = self._score(search, unchecked, now)
            if effect is not None:
                search.verifying = True
                return [effect]
        return self._finish(search, now)

    def _score(self, search: Search, parts: Sequence[int], now: Now) -> Effect | None:
        """Recompute what these parts claim, where there is an own copy."""
        rows: dict[str, bytearray] = {}
        claims: dict[str, list[Claim]] = {}
        for at in parts:
            targets = [search.targets[digest] for digest in search.parts[at].digests]
            for number, hit in enumerate(search.parts[at].hits):
                found = locate(hit, targets)
                if found is not None and found[0].path:
                    digest = found[0].digest
                    rows.setdefault(digest, bytearray()).extend(found[1].to_bytes(4, "little"))
                    claims.setdefault(digest, []).append(Claim(at, number))
        if not rows:
            return None
        search.claims = list(claims.values())
        segments = [[search.targets[digest].path, digest, bytes(picked)] for digest, picked in rows.items()]
        left_s = max(search.deadline - now.mono, 0.001)
        args = (segments, search.vector)
        return Compute(ScoredTag(search.id), self._settings.search_place, SCORE, args, left_s, AFFINITY)

    def on_scored(self, done: Done, tag: ScoredTag, now: Now) -> list[Effect]:
        search = self.open.get(tag.search)
        if search is None:
            return []
        search.verifying = False
        effects: list[Effect] = []
        wrong: dict[int, int] = {}
        if done.error is None:
            for claims, scores in zip(search.claims, done.value, strict=True):
                for claim, score in zip(claims, scores, strict=True):
                    hits = search.parts[claim.part].hits
                    if abs(hits[claim.hit].score - score) > self._settings.score_tolerance:
                        wrong[claim.part] = wrong.get(claim.part, 0) + 1
                    else:
                        hits[claim.hit] = msgspec.structs.replace(hits[claim.hit], score=score)
        for at, count in sorted(wrong.items()):
            effects += self._caught(search, at, count, now)
        return effects + self._scatter(search, now)

    def on_repeated(self, done: Done, tag: RepeatedTag, now: Now) -> list[Effect]:
        search = self.open.get(tag.search)
        if search is None:
            return []
        search.verifying = False
        part = search.parts[tag.part]
        if done.error is not None:
            return self._scatter(search, now)
        truth = decode_hits(done.value)
        held_back = withheld(part.hits, truth, search.k, self._settings.score_tolerance)
        if held_back:
            return self._caught(search, tag.part, held_back, now) + self._scatter(search, now)
        items = max(len(truth), 1)
        outcome = Outcome(part.node, KIND, items, items, 0, False, now.mono - part.started)
        return [Tell(outcome), *self._scatter(search, now)]

    def _finish(self, search: Search, now: Now) -> list[Effect]:
        del self.open[search.id]
        effects: list[Effect] = [Cancel(PartTag(search.id, at)) for at, part in search.parts.items() if part.open]
        if not search.begun:
            missing = "its index was not ready" if search.vector else "the query was not embedded"
            return [*effects, Reply(search.reply_to, error=TimedOut(f"no search: {missing} in time"))]
        holders: dict[str, int] = {}
        for digest, at in search.covered.items():
            node = search.parts[at].node or self._peer
            holders[node] = holders.get(node, 0) + search.targets[digest].rows
        result = SearchResult(
            hits=tuple(merged((search.parts[at].hits for at in set(search.covered.values())), search.k)),
            rows=sum(holders.values()),
            holders=holders,
            complete=len(search.covered) == len(search.targets),
            seconds=now.mono - search.started,
        )
        return [*effects, Reply(search.reply_to, result)]


def decode_hits(value: Any) -> list[Hit]:
    """The hits of a worker's answer."""
    return decode(bytes(value["hits"]), list[Hit], bytes_max=HITS_BYTES_MAX)
