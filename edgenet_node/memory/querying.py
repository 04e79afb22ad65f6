"""A search before it is scattered (the query's vector, which segments), and what peers ask of an owner."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from ..effects import Ask, Call, Done, Effect, Now, Reply
from ..errors import (
    Conflict,
    EdgenetError,
    LocalError,
    NotFound,
    Overloaded,
    Refused,
    TimedOut,
    Unreachable,
    UsageError,
)
from ..messages.memory import SearchIndex
from ..messages.tasks import Submit, TaskOutcome
from ..wire.index import HITS_MAX, HOLDERS_MAX, GetManifest, Manifest, SegmentInfo
from .answers import Target, check_where
from .catalog import Catalog, Index
from .copies import Copies
from .grants import Authority, check_name, check_reader
from .ingest import Embedder
from .inner import SearchOwn
from .manifests import Known, Manifests, targets
from .placement import Placement
from .searching import Search, Searches
from .serving import Serving, check_query, finite
from .settings import IndexSettings

MANIFEST_TIMEOUT_S: Final = 10.0
OWNER_CHARS_MAX: Final = 128


class VectorTag(Struct, frozen=True):
    search: int


class ManifestTag(Struct, frozen=True):
    search: int


class Request(Struct, frozen=True):
    """What a search that is being prepared is for. `owner` is empty for an own index."""

    query: SearchIndex
    owner: str


class Querying:
    def __init__(
        self,
        settings: IndexSettings,
        catalog: Catalog,
        authority: Authority,
        embedder: Embedder,
        placement: Placement,
        copies: Copies,
        searches: Searches,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._authority = authority
        self._embedder = embedder
        self._placement = placement
        self._copies = copies
        self._searches = searches
        self._manifests = Manifests(settings)
        self._serving = Serving(settings)
        self._requests: dict[int, Request] = {}
        self._known: dict[int, Known] = {}

    # One's own searches.

    def search(self, query: SearchIndex, reply_to: int, now: Now) -> list[Effect]:
        self._check(query)
        owner = "" if query.owner == self._authority.peer else query.owner
        if not owner:
            self._check_model(query, self._catalog.get(query.name).model)
        if len(self._searches.open) >= self._settings.searches_max:
            raise Overloaded(f"{self._settings.searches_max} searches are running", retry_after_s=0.5)
        search = self._searches.new(reply_to, query.k, dict(query.where), now)
        search.name = query.name
        self._requests = {key: one for key, one in self._requests.items() if key in self._searches.open}
        self._requests[search.id] = Request(query, owner)
        effects: list[Effect] = []
        if query.text:
            effects.append(self._embed(search, query.text))
        else:
            search.vector = query.vector
        if owner:
            known = self._manifests.get(owner, query.name, now.mono)
            if known is None:
                effects.append(self._fetch(search, owner))
            else:
                self._known[search.id] = known
        return effects + self._begin(search, now)

    def on_vector(self, done: Done, tag: VectorTag, now: Now) -> list[Effect]:
        search = self._searches.open.get(tag.search)
        if search is None:
            return []
        if done.error is not None:
            return self._fail(search, done.error)
        outcome: TaskOutcome = done.value
        if outcome.view.state != "done":
            reason = f"the query could not be embedded: task {outcome.view.state}: {outcome.view.reason}"
            return self._fail(search, TimedOut(reason) if outcome.view.state == "timed_out" else LocalError(reason))
        try:
            search.vector = self._embedder.vectors(outcome.output, 1)
        except EdgenetError as error:
            return self._fail(search, error)
        return self._begin(search, now)

    def on_manifest(self, done: Done, tag: ManifestTag, now: Now) -> list[Effect]:
        search = self._searches.open.get(tag.search)
        if search is None:
            return []
        request = self._requests[search.id]
        known: Known | None = None
        error = done.error
        if error is None:
            try:
                swarm = self._authority.swarm
                known = self._manifests.learn(request.owner, request.query.name, done.value, swarm, now.mono)
            except EdgenetError as refused:
                error = refused
        elif isinstance(error, Unreachable | TimedOut):
            # The holders may still be there: that is what a manifest is for.
            known = self._manifests.last(request.owner, request.query.name)
        if known is None:
            return self._fail(search, error or NotFound("no manifest"))
        self._known[search.id] = known
        return self._begin(search, now)

    def restart(self, search: Search) -> list[Effect]:
        """Nobody has some segments of a manifest any more: ask for a new one."""
        request = self._requests[search.id]
        self._known.pop(search.id, None)
        self._manifests.expire(request.owner, request.query.name)
        search.restart()
        return [self._fetch(search, request.owner)]

    def resume(self, now: Now) -> list[Effect]:
        """The own copies were found: searches that waited for them begin."""
        waiting = [search for search in self._searches.open.values() if not search.begun]
        return [effect for search in waiting for effect in self._begin(search, now)]

    def _begin(self, search: Search, now: Now) -> list[Effect]:
        """Scatter, when vector and segments are known."""
        request = self._requests[search.id]
        known = self._known.get(search.id)
        ready = known is not None if request.owner else not self._copies.pending
        if not search.vector or not ready:
            return []
        if known is not None:
            dimension, model = known.manifest.dimension, known.manifest.model
            search.owner = known.owner
            search.targets = targets(known, request.owner, self._authority.peer)
        else:
            index = self._catalog.indexes.get(request.query.name)
            if index is None:
                return self._fail(search, NotFound(f"index {request.query.name} was deleted"))
            dimension, model = index.dimension, index.model
            search.owner = self._authority.signer.public
            search.targets = self._own_targets(index, now)
        try:
            self._check_model(request.query, model)
        except EdgenetError as error:
            return self._fail(search, error)
        if len(search.vector) != 4 * dimension:
            text = f"a vector of {len(search.vector) // 4} dimensions for an index of {dimension}"
            return self._fail(search, UsageError(text))
        self._known.pop(search.id, None)
        return self._searches.begin(search, now)

    def _own_targets(self, index: Index, now: Now) -> dict[str, Target]:
        return {
            segment.digest: Target(
                digest=segment.digest,
                version=segment.version,
                rows=segment.living,
                nodes=tuple(self._placement.searchable(index, segment, now.mono)),
                own=segment,
                path=segment.path,
                bitmap=segment.bitmap,
            )
            for segment in index.segments.values()
        }

    def _embed(self, search: Search, text: str) -> Ask:
        embedder, timeout_s = self._embedder, self._settings.embed_query_timeout_s
        query = Submit(
            kind=embedder.kind,
            items=(embedder.item(text),),
            spec=embedder.spec,
            durable=False,
            timeout_s=timeout_s,
            source=f"search:{search.name}",
        )
        return Ask(VectorTag(search.id), query, timeout_s)

    def _fetch(self, search: Search, owner: str) -> Call:
        return Call(ManifestTag(search.id), owner, GetManifest(search.name), MANIFEST_TIMEOUT_S)

    def _fail(self, search: Search, error: Exception) -> list[Effect]:
        self._requests.pop(search.id, None)
        self._known.pop(search.id, None)
        return self._searches.fail(search, error)

    def _check(self, query: SearchIndex) -> None:
        check_name(query.name)
        if not 1 <= query.k <= HITS_MAX:
            raise UsageError(f"k is {query.k}, must be between 1 and {HITS_MAX}")
        if bool(query.text) == bool(query.vector):
            raise UsageError("give a text or a vector to search for, one of them")
        if len(query.text) > self._settings.text_chars_max:
            raise UsageError(f"the text is longer than {self._settings.text_chars_max} characters")
        if query.vector and not finite(query.vector):
            raise UsageError("the vector is not made of finite float32 values")
        wrong = check_where(query.where)
        if wrong:
            raise UsageError(f"the filter has {wrong}")
        if len(query.owner) > OWNER_CHARS_MAX:
            raise UsageError("the owner is not a peer id")

    def _check_model(self, query: SearchIndex, model: str) -> None:
        if query.text and model != self._embedder.model:
            raise Conflict(f"index {query.name} was made with model {model}, which this node does not embed with")

    # What peers ask.

    def manifest(self, query: GetManifest, sender: str, reply_to: int, now: Now) -> list[Effect]:
        index = self._readable(query.name, sender)
        grant = self._authority.grant(index.name, index.grant_version, index.readers)
        segments = [
            SegmentInfo(
                digest=segment.digest,
                size=segment.size,
                rows=segment.living,
                version=segment.version,
                holders=self._placement.searchable(index, segment, now.mono)[:HOLDERS_MAX],
            )
            for segment in index.segments.values()
        ]
        value = Manifest(grant, int(now.wall), index.model, index.dimension, segments)
        return [Reply(reply_to, value)]

    def search_own(self, body: SearchOwn, reply_to: int) -> list[Effect]:
        query = body.query
        index = self._readable(query.name, body.reader)
        check_query(query, index.dimension)
        own = {segment.digest: segment for segment in index.segments.values()}
        segments, missing = [], []
        for at in query.segments:
            segment = own.get(at.digest)
            if segment is not None and segment.path and segment.version >= at.version:
                segments.append([segment.path, segment.digest, segment.bitmap])
            else:
                missing.append(at.digest)
        return self._serving.begin(reply_to, query, segments, missing)

    def on_served(self, done: Done, tag: Any) -> list[Effect]:
        return self._serving.on_served(done, tag)

    def _readable(self, name: str, peer: str) -> Index:
        """The index, for one of its readers. Others cannot tell whether it exists."""
        index = self._catalog.indexes.get(name)
        if index is None:
            raise Refused("not among the readers of this index: ask its owner to share it")
        check_reader(peer, self._authority.peer, index.readers)
        return index
