"""`HolderCore`: segments held and searched for others.

A `Hold` from an owner is fetched, inspected in a worker, pinned and saved before it is confirmed; the same `Hold` again
only updates deletions and readers. A file that does not validate is let go and its owner blamed: its digest is the
owner's word. Each owner has a budget, all of them together another. Searches are answered for the owner and the readers
of its newest grant; those in an index of this node's own go to `IndexesCore`. Segments of an owner that was silent for
`owner_silent_s` are dropped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from ..crypto.fingerprints import peer_id
from ..crypto.signing import Signer
from ..effects import Ask, Cancel, Compute, Done, Effect, Envelope, Event, Now, Reply, Row, Tick, Transfer
from ..errors import (
    Cancelled,
    CorruptData,
    EdgenetError,
    InvalidResult,
    InvariantError,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    StoreFull,
)
from ..messages.artifacts import PinArtifact, ReleaseArtifact
from ..messages.network import Blame, GetSwarm, PeerUp
from ..wire.index import Drop, Dropped, Held, Hits, Hold, IndexGrant, SearchSegments
from .grants import check_reader
from .holding import Holdings, grant_of, key_of
from .inner import INSPECT, SearchOwn
from .serving import ServedTag, Serving, check_query
from .settings import SEGMENT_ROWS_MAX, IndexSettings

PIN: Final = "held"
"""Segments of others, for `PinArtifact`."""

ASK_TIMEOUT_S: Final = 10.0
PIN_TIMEOUT_S: Final = 30.0
PINS_MAX: Final = 32
"""Asked for at once after a start."""

WAITERS_MAX: Final = 8
"""An owner that gives up on a slow `Hold` asks again while the first is still being fetched."""

SWEEP_S: Final = 3600.0
"""Between looks for owners that are gone."""

ACCEPTS: Final = (Hold, Drop, SearchSegments)
REMOTE: Final = ACCEPTS
HEARS: Final = (PeerUp,)


class SwarmTag(Struct, frozen=True):
    pass


class TransferTag(Struct, frozen=True):
    key: str
    serial: int


class PinTag(Struct, frozen=True):
    key: str
    serial: int


class InspectTag(Struct, frozen=True):
    key: str
    serial: int


class RepinTag(Struct, frozen=True):
    key: str


class ReleaseTag(Struct, frozen=True):
    """Its completion is of no interest."""

    serial: int


class OwnTag(Struct, frozen=True):
    reply_to: int


class Fetch:
    """A segment on its way in; `tag` is its operation under way, None while it waits for its turn."""

    __slots__ = ("grant", "hold", "key", "owner", "path", "serial", "tag", "waiters")

    def __init__(self, hold: Hold, grant: IndexGrant, owner: str, key: str, serial: int) -> None:
        self.hold = hold
        self.grant = grant
        self.owner = owner
        self.key = key
        self.serial = serial
        self.path = ""
        self.tag: TransferTag | PinTag | InspectTag | None = None
        self.waiters: list[int] = []


class HolderCore:
    def __init__(self, settings: IndexSettings, signer: Signer) -> None:
        self._settings = settings
        self._peer = peer_id(signer.public)
        self._swarm = ""
        self._asking_swarm = False
        self._swarm_mono = math.inf
        self._holdings = Holdings(settings)
        self._serving = Serving(settings)
        self._fetches: dict[str, Fetch] = {}
        self._serial = 0
        self._unpinned: deque[str] = deque()
        self._pinning = 0
        self._repin_mono = 0.0
        self._sweep_mono = math.inf

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        self._holdings.restore(rows)
        self._unpinned.extend(self._holdings.entries)
        self._sweep_mono = now.mono + SWEEP_S
        return [*self._ask_swarm(), *self._repin(now)]

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Tick():
                return self._tick(now)
            case Done():
                return self._done(e.body, now)
            case PeerUp():
                return self._peer_up(e.body.peer, now)
        try:
            match e.body:
                case Hold():
                    return self._hold(e.body, e.sender, e.reply_to, now)
                case Drop():
                    return self._drop(e.body, e.sender, e.reply_to)
                case SearchSegments():
                    return self._search(e.body, e.sender or self._peer, e.reply_to)
                case _:
                    raise InvariantError(f"holder: unknown message {type(e.body).__name__}")
        except InvariantError:
            raise
        except EdgenetError as error:
            return [Reply(e.reply_to, error=error)]

    def wake_at(self) -> float:
        waiting = self._unpinned and self._pinning < PINS_MAX
        return min(self._sweep_mono, self._swarm_mono, self._repin_mono if waiting else math.inf)

    def _tick(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        if self._sweep_mono <= now.mono:
            self._sweep_mono = now.mono + SWEEP_S
            for key in self._holdings.silent(now):
                effects += self._forget(key)
        if self._swarm_mono <= now.mono:
            self._swarm_mono = math.inf
            effects += self._ask_swarm()
        return effects + self._repin(now)

    def _peer_up(self, peer: str, now: Now) -> list[Effect]:
        effects = self._ask_swarm()
        if peer in self._holdings.owners():
            effects += self._holdings.heard(peer, now)
        return effects

    def _ask_swarm(self) -> list[Effect]:
        """Until it is known, with every peer that comes: a fresh node adopts its swarm from one of them."""
        if self._swarm or self._asking_swarm:
            return []
        self._asking_swarm = True
        return [Ask(SwarmTag(), GetSwarm(), ASK_TIMEOUT_S)]

    # What owners ask.

    def _hold(self, hold: Hold, sender: str, reply_to: int, now: Now) -> list[Effect]:
        if not self._swarm:
            raise Overloaded("this node is just starting", retry_after_s=1.0)
        grant = grant_of(hold.grant, self._swarm, sender)
        if not 0 < hold.rows <= SEGMENT_ROWS_MAX or any(row >= hold.rows for row in hold.deleted):
            raise Malformed("a segment without rows, with too many, or with deleted ones that it does not have")
        if not 0 < hold.size <= self._settings.segment_bytes_max:
            raise Refused(f"segments above {self._settings.segment_bytes_max} bytes are not held here")
        key = key_of(grant, hold.digest)
        entry = self._holdings.entries.get(key)
        if entry is not None:
            if not entry.path:
                raise Overloaded("this node is just starting", retry_after_s=1.0)
            self._holdings.learn(grant)
            saves = self._holdings.update(entry, hold, grant)
            return [*saves, *self._holdings.heard(sender, now), Reply(reply_to, Held(entry.row.version))]
        return self._await(hold, grant, sender, key, reply_to)

    def _await(self, hold: Hold, grant: IndexGrant, owner: str, key: str, reply_to: int) -> list[Effect]:
        fetch = self._fetches.get(key)
        if fetch is not None:
            if len(fetch.waiters) >= WAITERS_MAX or (fetch.hold.size, fetch.hold.rows) != (hold.size, hold.rows):
                raise Overloaded("this segment is being fetched", retry_after_s=self._settings.retry_s)
            if hold.version >= fetch.hold.version and grant.version >= fetch.grant.version:
                fetch.hold, fetch.grant = hold, grant
            fetch.waiters.append(reply_to)
            return []
        if len(self._fetches) >= self._settings.fetches_max + self._settings.fetches_waiting_max:
            raise Overloaded("too many segments are being fetched", retry_after_s=self._settings.retry_s)
        self._holdings.reserve(key, owner, hold.size)
        self._serial += 1
        fetch = self._fetches[key] = Fetch(hold, grant, owner, key, self._serial)
        fetch.waiters.append(reply_to)
        return self._fetch_next()

    def _drop(self, drop: Drop, sender: str, reply_to: int) -> list[Effect]:
        if not self._swarm:
            raise Overloaded("this node is just starting", retry_after_s=1.0)
        grant = grant_of(drop.grant, self._swarm, sender)
        effects: list[Effect] = []
        for digest in drop.digests:
            key = key_of(grant, digest)
            fetch = self._fetches.get(key)
            if fetch is not None:
                if fetch.tag is not None:
                    effects.append(Cancel(fetch.tag))
                effects += self._give_up(fetch, Cancelled("the owner took the segment back"))
            if key in self._holdings.entries:
                effects += self._forget(key)
        return [*effects, Reply(reply_to, Dropped())]

    def _forget(self, key: str) -> list[Effect]:
        digest = self._holdings.entries[key].digest
        return [*self._holdings.remove(key), *self._release(digest)]

    def _release(self, digest: str) -> list[Effect]:
        """Unless another index needs the same file, or is fetching it."""
        if self._holdings.needed(digest) or any(fetch.hold.digest == digest for fetch in self._fetches.values()):
            return []
        self._serial += 1
        return [Ask(ReleaseTag(self._serial), ReleaseArtifact(digest, PIN), PIN_TIMEOUT_S)]

    # Fetching.

    def _fetch_next(self) -> list[Effect]:
        effects: list[Effect] = []
        running = sum(fetch.tag is not None for fetch in self._fetches.values())
        for fetch in self._fetches.values():
            if running >= self._settings.fetches_max:
                break
            if fetch.tag is None:
                running += 1
                fetch.tag = TransferTag(fetch.key, fetch.serial)
                hold, timeout_s = fetch.hold, self._settings.fetch_timeout_s
                effects.append(Transfer(fetch.tag, hold.source, hold.digest, hold.size, timeout_s))
        return effects

    def _advance(self, done: Done, now: Now) -> list[Effect]:
        """Fetched, then pinned, then inspected, then saved and confirmed."""
        fetch = self._fetches.get(done.tag.key)
        if fetch is None or fetch.tag != done.tag:
            return []
        if done.error is not None:
            error = Refused("this node has no room") if isinstance(done.error, StoreFull) else done.error
            return self._give_up(fetch, error)
        match done.tag:
            case TransferTag():
                fetch.tag = PinTag(fetch.key, fetch.serial)
                return [Ask(fetch.tag, PinArtifact(fetch.hold.digest, PIN), PIN_TIMEOUT_S)]
            case PinTag():
                if done.value.size != fetch.hold.size:
                    return self._invalid(fetch, "it has another size than announced")
                fetch.path = done.value.path
                fetch.tag = InspectTag(fetch.key, fetch.serial)
                timeout_s = self._settings.fetch_timeout_s
                return [Compute(fetch.tag, "worker", INSPECT, (fetch.path,), timeout_s)]
            case _:
                return self._inspected(fetch, done.value, now)

    def _inspected(self, fetch: Fetch, found: dict[str, Any], now: Now) -> list[Effect]:
        if found["wrong"] or found["rows"] != fetch.hold.rows:
            return self._invalid(fetch, found["wrong"] or "it has another number of rows than announced")
        del self._fetches[fetch.key]
        saves = self._holdings.add(fetch.key, fetch.hold, found["dimension"], fetch.path)
        self._holdings.learn(fetch.grant)
        replies = [Reply(waiter, Held(fetch.hold.version)) for waiter in fetch.waiters]
        return [*saves, *self._holdings.heard(fetch.owner, now), *replies, *self._fetch_next()]

    def _invalid(self, fetch: Fetch, reason: str) -> list[Effect]:
        blame = Event(Blame(fetch.owner, f"index segment {fetch.hold.digest[:16]}: {reason}"))
        return [blame, *self._give_up(fetch, InvalidResult(f"not held: {reason}", peer=fetch.owner))]

    def _give_up(self, fetch: Fetch, error: Exception) -> list[Effect]:
        del self._fetches[fetch.key]
        self._holdings.cancel(fetch.key)
        replies = [Reply(waiter, error=error) for waiter in fetch.waiters]
        return [*replies, *self._release(fetch.hold.digest), *self._fetch_next()]

    # Searching.

    def _search(self, query: SearchSegments, sender: str, reply_to: int) -> list[Effect]:
        owner = peer_id(query.owner)
        if owner == self._peer:
            own = SearchOwn(sender, query)
            return [Ask(OwnTag(reply_to), own, self._settings.serve_timeout_s)]
        grant = self._holdings.grants.get((owner, query.name))
        if grant is None:
            return [Reply(reply_to, Hits([], 0, [at.digest for at in query.segments]))]
        check_reader(sender, owner, grant.readers)
        segments, missing = [], []
        for at in query.segments:
            entry = self._holdings.entries.get(key_of(grant, at.digest))
            if entry is None or not entry.path or entry.row.version < at.version:
                missing.append(at.digest)
                continue
            check_query(query, entry.row.dimension)
            segments.append([entry.path, entry.digest, entry.row.bitmap])
        return self._serving.begin(reply_to, query, segments, missing)

    # Completions.

    def _done(self, done: Done, now: Now) -> list[Effect]:
        match done.tag:
            case ServedTag():
                return self._serving.on_served(done, done.tag)
            case OwnTag():
                return [Reply(done.tag.reply_to, done.value, done.error)]
            case TransferTag() | PinTag() | InspectTag():
                return self._advance(done, now)
            case RepinTag():
                return self._repinned(done, done.tag, now)
            case SwarmTag():
                self._asking_swarm = False
                if done.error is not None:  # membership was itself being rebuilt, or the disk was full
                    self._swarm_mono = now.mono + self._settings.retry_s
                    return []
                if not done.value.swarm:
                    return []
                self._swarm = done.value.swarm
                return [effect for key in self._holdings.join(self._swarm) for effect in self._forget(key)]
            case ReleaseTag():
                return []
            case _:
                raise InvariantError(f"holder: completion of an unknown operation {done.tag!r}")

    def _repin(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        while self._unpinned and self._pinning < PINS_MAX and self._repin_mono <= now.mono:
            key = self._unpinned.popleft()
            entry = self._holdings.entries.get(key)
            if entry is not None:
                self._pinning += 1
                effects.append(Ask(RepinTag(key), PinArtifact(entry.digest, PIN), PIN_TIMEOUT_S))
        return effects

    def _repinned(self, done: Done, tag: RepinTag, now: Now) -> list[Effect]:
        self._pinning -= 1
        entry = self._holdings.entries.get(tag.key)
        effects: list[Effect] = []
        if entry is not None:
            if done.error is None:
                entry.path = done.value.path
            elif isinstance(done.error, NotFound | CorruptData):
                effects += self._holdings.remove(tag.key)
            else:
                self._unpinned.append(tag.key)
                self._repin_mono = now.mono + self._settings.retry_s
        return effects + self._repin(now)
