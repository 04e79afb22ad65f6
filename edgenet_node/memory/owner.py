"""`IndexesCore`: the owner's and reader's side of named vector indexes. See the package for the theory.

This module joins the rooms: `owning` and `catalog` (what there is), `ingest` and `sealing` (documents become segments),
`placement` and `copies` (where segments are), `querying` and `searching` (questions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from ..crypto.signing import Signer
from ..effects import Ask, Done, Effect, Envelope, Now, Reply, Row, Tick
from ..errors import EdgenetError, InvariantError
from ..messages.memory import (
    AddDocuments,
    CreateIndex,
    DeleteIndex,
    GetIndex,
    ListIndexes,
    RemoveDocuments,
    SearchIndex,
    ShareIndex,
)
from ..messages.network import GetPeers, GetSwarm, PeerDown, PeerOffers, PeerUp
from ..messages.trust import GetStandings, StandingChanged
from ..wire.index import GetManifest
from .catalog import Catalog, Index
from .copies import Copies, FetchedTag, PinnedTag
from .grants import Authority
from .ingest import EmbeddedTag, Embedder, Ingest, SubmittedTag
from .inner import Rng, SearchOwn
from .owning import Owning
from .peers import Peers
from .placement import DropTag, HoldTag, Placement
from .querying import ManifestTag, Querying, VectorTag
from .sealing import BuiltTag, ReleasedTag, StoredTag
from .searching import KIND, PartTag, RepeatedTag, ScoredTag, Searches
from .serving import ServedTag
from .settings import IndexSettings

ASK_TIMEOUT_S: Final = 10.0
"""For questions inside this node that are answered from memory."""

ASK_AGAIN_S: Final = 1.0
"""Pause after one that was not answered."""

ACCEPTS: Final = (
    CreateIndex,
    DeleteIndex,
    ShareIndex,
    ListIndexes,
    GetIndex,
    AddDocuments,
    RemoveDocuments,
    SearchIndex,
    SearchOwn,
    GetManifest,
)
REMOTE: Final = (GetManifest,)
HEARS: Final = (PeerUp, PeerDown, PeerOffers, StandingChanged)


class SwarmTag(Struct, frozen=True):
    pass


class StandingsTag(Struct, frozen=True):
    kind: str


class PeersTag(Struct, frozen=True):
    pass


Question = SwarmTag | StandingsTag | PeersTag
"""What this core asks when it is made, since nobody repeats it unasked: it may be rebuilt in the middle of a life."""


class IndexesCore:
    """Injected: limits, the node's key, the embedding handler's terms, entropy (for batch names) and a seeded `rng`."""

    def __init__(
        self,
        settings: IndexSettings,
        signer: Signer,
        embedder: Embedder,
        entropy: Callable[[int], bytes],
        rng: Rng,
    ) -> None:
        self._kinds = (embedder.kind, KIND)
        self._asking_swarm = False
        self._ask_again: dict[Question, float] = {}
        self._seeking = True
        self._catalog = catalog = Catalog()
        self._peers = peers = Peers()
        self._authority = authority = Authority(signer)
        self._ingest = ingest = Ingest(settings, catalog, embedder)
        self._placement = placement = Placement(settings, catalog, peers, authority)
        self._copies = copies = Copies(settings, catalog, peers, placement)
        self._searches = searches = Searches(settings, peers, authority.peer, rng)
        self._owning = Owning(settings, catalog, authority, embedder, ingest, placement, copies, entropy)
        self._querying = Querying(settings, catalog, authority, embedder, placement, copies, searches)

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self._catalog.restore(rows)
        self._placement.restore(rows, now)
        effects = self._ask_swarm()
        effects += [_ask(PeersTag()), *(_ask(StandingsTag(kind)) for kind in self._kinds)]
        effects += self._copies.restore(now)
        for index in self._catalog.indexes.values():
            for batch in sorted(index.batches.values(), key=lambda one: one.sequence):
                effects += self._ingest.add(index, batch, None)
        return effects

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Tick():
                effects = [*self._ingest.on_tick(now), *self._searches.on_tick(now), *self._asked_again(now)]
            case Done():
                effects = self._done(e.body, now)
            case PeerUp() | PeerDown() | PeerOffers() | StandingChanged():
                effects = self._heard(e.body, now)
            case _:
                try:
                    effects = self._asked(e.body, e, now)
                except InvariantError:
                    raise
                except EdgenetError as error:
                    effects = [Reply(e.reply_to, error=error)]
        return effects + self._settle(now)

    def wake_at(self) -> float:
        again = min(self._ask_again.values(), default=math.inf)
        rooms = (self._ingest, self._searches, self._placement, self._copies)
        return min(again, *(room.wake_at() for room in rooms))

    def _settle(self, now: Now) -> list[Effect]:
        """What any step may have made due."""
        effects: list[Effect] = []
        for name, peer, digest in self._searches.lacking:
            index = self._catalog.indexes.get(name)
            if index is not None:
                self._placement.missing(index, digest, peer)
        self._searches.lacking.clear()
        for search in self._searches.stale:
            effects += self._querying.restart(search)
        self._searches.stale.clear()
        effects += [*self._placement.advance(now), *self._copies.advance(now)]
        if self._seeking and not self._copies.pending:
            self._seeking = False
            effects += self._querying.resume(now)
        return effects

    def _asked(self, body: Any, e: Envelope[Any], now: Now) -> list[Effect]:
        owning, querying = self._owning, self._querying
        match body:
            case CreateIndex():
                return owning.create(body, e.reply_to, now)
            case DeleteIndex():
                return owning.delete(body, e.reply_to, now)
            case ShareIndex():
                return owning.share(body, e.reply_to, now)
            case ListIndexes():
                views = [owning.view(index, now) for _, index in sorted(self._catalog.indexes.items())]
                return [Reply(e.reply_to, tuple(views))]
            case GetIndex():
                return [Reply(e.reply_to, owning.view(self._catalog.get(body.name), now))]
            case AddDocuments():
                return owning.add(body, e.reply_to)
            case RemoveDocuments():
                return owning.remove(body, e.reply_to, now)
            case SearchIndex():
                return querying.search(body, e.reply_to, now)
            case SearchOwn():
                return querying.search_own(body, e.reply_to)
            case GetManifest():
                return querying.manifest(body, e.sender or self._authority.peer, e.reply_to, now)
            case _:
                raise InvariantError(f"indexes: unknown message {type(body).__name__}")

    def _heard(self, body: PeerUp | PeerDown | PeerOffers | StandingChanged, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        match body:
            case PeerUp():
                self._peers.came(body.peer)
                effects += self._ask_swarm()
            case PeerDown():
                self._peers.left(body.peer, now.mono)
            case PeerOffers():
                self._peers.offers(body)
            case StandingChanged():
                self._peers.standing(body.standing)
        self._count_nodes(now)
        return effects

    def _count_nodes(self, now: Now) -> None:
        self._ingest.nodes = 1 + sum(self._peers.can_hold(peer, now.mono) for peer in self._peers.up)

    def _done(self, done: Done, now: Now) -> list[Effect]:
        tag = done.tag
        match tag:
            case PartTag():
                return self._searches.on_part(done, tag, now)
            case ScoredTag():
                return self._searches.on_scored(done, tag, now)
            case RepeatedTag():
                return self._searches.on_repeated(done, tag, now)
            case VectorTag():
                return self._querying.on_vector(done, tag, now)
            case ManifestTag():
                return self._querying.on_manifest(done, tag, now)
            case ServedTag():
                return self._querying.on_served(done, tag)
            case SubmittedTag():
                return self._ingest.on_submitted(done, tag, now)
            case EmbeddedTag():
                return self._ingest.on_embedded(done, tag, now)
            case BuiltTag():
                return self._sealed(*self._ingest.on_built(done, tag, now), now)
            case StoredTag():
                return self._sealed(*self._ingest.on_stored(done, tag, now), now)
            case HoldTag():
                return self._placement.on_held(done, tag, now)
            case DropTag():
                return self._placement.on_dropped(done, tag, now)
            case PinnedTag():
                return self._pinned(done, tag, now)
            case FetchedTag():
                return self._copies.on_fetched(done, tag, now)
            case SwarmTag() | StandingsTag() | PeersTag():
                return self._learnt(done, now)
            case ReleasedTag():
                return []
            case _:
                raise InvariantError(f"indexes: completion of an unknown operation {tag!r}")

    def _ask_swarm(self) -> list[Effect]:
        """Until it is known, with every peer that comes: a fresh node adopts its swarm from one of them."""
        if self._authority.swarm or self._asking_swarm:
            return []
        self._asking_swarm = True
        return [_ask(SwarmTag())]

    def _asked_again(self, now: Now) -> list[Effect]:
        due = [question for question, at in self._ask_again.items() if at <= now.mono]
        for question in due:
            del self._ask_again[question]
        return [_ask(question) for question in due]

    def _learnt(self, done: Done, now: Now) -> list[Effect]:
        if done.error is not None:  # its owner was itself being rebuilt, or the disk was full
            self._ask_again[done.tag] = now.mono + ASK_AGAIN_S
            return []
        match done.tag:
            case SwarmTag():
                self._asking_swarm = False
                self._authority.swarm = done.value.swarm
            case StandingsTag():
                for standing in done.value:
                    self._peers.standing(standing)
            case _:
                for one in done.value:
                    if one.state == "member":
                        self._peers.came(one.peer)
                        self._peers.offers(PeerOffers(one.peer, one.capabilities, one.workers, one.load))
                self._count_nodes(now)
        return []

    def _pinned(self, done: Done, tag: PinnedTag, now: Now) -> list[Effect]:
        effects = self._copies.on_pinned(done, tag, now)
        index = self._catalog.indexes.get(tag.name)
        return effects + self._ingest.tidy(index) if index is not None and done.error is None else effects

    def _sealed(self, index: Index | None, effects: list[Effect], now: Now) -> list[Effect]:
        return effects if index is None else [*effects, *self._owning.changed(index, now)]


def _ask(question: Question) -> Ask:
    match question:
        case SwarmTag():
            return Ask(question, GetSwarm(), ASK_TIMEOUT_S)
        case StandingsTag(kind):
            return Ask(question, GetStandings(kind), ASK_TIMEOUT_S)
        case PeersTag():
            return Ask(question, GetPeers(), ASK_TIMEOUT_S)
