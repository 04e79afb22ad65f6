"""Replicas of one's segments on other nodes: who should hold what, and the obligations that make it so.

Each segment has `Replica`s: peers that were asked to hold it, saved before they are asked. A replica is current when
the peer confirmed the newest deletions and reader list. The plan (`spread.place`) says which are wanted; others are
dropped once all wanted ones are current. A `Drop` is an obligation of its own, saved by (peer, name, digest) until the
peer confirms it, so that peers which were away give back what they no longer need. After a restart nothing counts as
current until its holder has confirmed it again: that is how both sides are reconciled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from ..effects import Call, Delete, Done, Effect, Now, Put, Row
from ..errors import EdgenetError, RemoteError
from ..wire.codec import encode
from ..wire.index import SEGMENTS_MAX, Drop, Hold
from .catalog import Catalog, Index, OwnSegment
from .grants import Authority
from .peers import Peers
from .rows import DropRow, HoldersRow, read
from .settings import IndexSettings
from .spread import Placing, pick, place

FAILURES_MAX = 4
"""Holds in a row that fail before a peer that never confirmed is passed over for a while."""


class HoldTag(Struct, frozen=True):
    name: str
    digest: str
    number: int
    peer: str
    version: int
    grant_version: int


class DropTag(Struct, frozen=True):
    peer: str
    name: str
    digests: tuple[str, ...]


class Replica:
    """`held`: the peer has (or may have) the file. `version` and `grant_version` are what it confirmed, -1 for none."""

    __slots__ = ("busy", "failures", "grant_version", "held", "retry_mono", "version", "wanted")

    def __init__(self, held: bool) -> None:
        self.held = held
        self.wanted = True
        self.version = -1
        self.grant_version = -1
        self.failures = 0
        self.retry_mono = 0.0
        self.busy = False

    def current(self, index: Index, segment: OwnSegment) -> bool:
        return self.version >= segment.version and self.grant_version >= index.grant_version


class Placement:
    def __init__(self, settings: IndexSettings, catalog: Catalog, peers: Peers, authority: Authority) -> None:
        self._settings = settings
        self._catalog = catalog
        self._peers = peers
        self._authority = authority
        self._replicas: dict[tuple[str, int], dict[str, Replica]] = {}
        self._dirty: set[str] = set()
        self._unplanned: set[str] = set()
        self._replan_mono = math.inf
        self._drops: dict[tuple[str, str, str], float] = {}
        self._drop_pause: dict[str, tuple[int, float]] = {}
        self._dropping: set[str] = set()
        self._holding: dict[str, int] = {}
        self._started_mono = 0.0
        self._wake = math.inf

    def restore(self, rows: Sequence[Row], now: Now) -> None:
        self._started_mono = now.mono
        for row in rows:
            if row.table == "holders":
                name, _, number = row.key.partition("/")
                held = {peer: Replica(held=True) for peer in read(row, HoldersRow).peers}
                self._replicas[name, int(number)] = held
            elif row.table == "drop":
                peer, name, digest = row.key.split("/")
                self._drops[peer, name, digest] = now.mono
        self._unplanned.update(self._catalog.indexes)

    def wake_at(self) -> float:
        return self._wake

    # What others ask or tell.

    def touch(self, index: Index, *, plan: bool = False) -> None:
        """Deletions or readers changed; with `plan`, also the set of segments."""
        self._dirty.add(index.name)
        if plan:
            self._unplanned.add(index.name)

    def retire(self, index: Index, segment: OwnSegment, now: Now) -> list[Effect]:
        """A segment is gone: its holders give it back, a little later for the sake of searches under way."""
        effects: list[Effect] = []
        for peer in self._replicas.pop((index.name, segment.number), {}):
            effects += self._owe_drop(peer, index.name, segment.digest, now.mono + self._settings.release_after_s, now)
        self._dirty.add(index.name)
        return effects

    def searchable(self, index: Index, segment: OwnSegment, now_mono: float) -> list[str]:
        """Peers whose copy has the newest deletions, connected and in good standing."""
        replicas = self._replicas.get((index.name, segment.number), {})
        return [
            peer
            for peer, replica in replicas.items()
            if replica.version >= segment.version and self._peers.searchable(peer, now_mono)
        ]

    def holders(self, name: str, number: int) -> list[str]:
        """Peers that have the file, or had it once."""
        return [peer for peer, replica in self._replicas.get((name, number), {}).items() if replica.held]

    def missing(self, index: Index, digest: str, peer: str) -> None:
        """A holder said that it lacks the segment: it is given it again."""
        for segment in index.segments.values():
            replica = self._replicas.get((index.name, segment.number), {}).get(peer)
            if segment.digest == digest and replica is not None and not replica.busy:
                replica.version = -1
                self._dirty.add(index.name)

    # The plan.

    def advance(self, now: Now) -> list[Effect]:
        """Everything that is due: plan, holds, drops. Cheap when nothing is."""
        if not self._authority.swarm:
            return []
        if self._peers.changed or now.mono >= self._replan_mono:
            self._peers.changed = False
            self._unplanned.update(self._catalog.indexes)
        elif not self._dirty and not self._unplanned and now.mono < self._wake:
            return []
        effects: list[Effect] = []
        for name in sorted(self._unplanned):
            if name in self._catalog.indexes:
                effects += self._plan(self._catalog.indexes[name], now)
        self._unplanned.clear()
        self._replan_mono = self._peers.next_change(now.mono, self._settings.repair_after_s, self._started_mono)
        wakes = [self._replan_mono]
        for name in sorted(self._dirty):
            index = self._catalog.indexes.get(name)
            if index is None:
                self._dirty.discard(name)
                continue
            wake, some = self._pursue(index, now)
            effects += some
            wakes.append(wake)
        wake, some = self._pursue_drops(now)
        self._wake = min(*wakes, wake)
        return effects + some

    def _plan(self, index: Index, now: Now) -> list[Effect]:
        settings, peers = self._settings, self._peers
        able = [peer for peer in peers.up if peers.can_hold(peer, now.mono)]
        able = pick(index.name, sorted(able), settings.candidates_max)
        segments = list(index.segments.values())
        placing = []
        for segment in segments:
            replicas = self._replicas.get((index.name, segment.number), {})
            kept = tuple(peer for peer, replica in replicas.items() if self._keeps(peer, replica, now.mono))
            placing.append(Placing(segment.digest, segment.rows, kept))
        effects: list[Effect] = []
        for segment, wanted in zip(
            segments, place(placing, able, settings.replicas, settings.balance_slack), strict=True
        ):
            effects += self._want(index, segment, wanted)
        self._dirty.add(index.name)
        return effects

    def _keeps(self, peer: str, replica: Replica, now_mono: float) -> bool:
        peers = self._peers
        kept = peers.may_keep(peer, now_mono, self._settings.repair_after_s, self._started_mono)
        return kept and (replica.held or peers.can_hold(peer, now_mono))

    def _want(self, index: Index, segment: OwnSegment, wanted: Sequence[str]) -> list[Effect]:
        replicas = self._replicas.setdefault((index.name, segment.number), {})
        effects: list[Effect] = []
        for peer, replica in replicas.items():
            replica.wanted = peer in wanted
        new = [peer for peer in wanted if peer not in replicas]
        for peer in new:
            replicas[peer] = Replica(held=False)
            if self._drops.pop((peer, index.name, segment.digest), None) is not None:
                effects.append(Delete("drop", f"{peer}/{index.name}/{segment.digest}"))
        return [*effects, self._save(index, segment)] if new else effects

    def _save(self, index: Index, segment: OwnSegment) -> Put:
        peers = sorted(self._replicas.get((index.name, segment.number), {}))
        return Put("holders", index.key(segment), encode(HoldersRow(peers)))

    # Holds.

    def _pursue(self, index: Index, now: Now) -> tuple[float, list[Effect]]:
        """Ask for what is wanted and not current; shed what is not wanted. Returns when to look again."""
        wake, settled = math.inf, True
        effects: list[Effect] = []
        for segment in index.segments.values():
            replicas = self._replicas.get((index.name, segment.number), {})
            lagging = [(p, r) for p, r in replicas.items() if r.wanted and not r.current(index, segment)]
            for peer, replica in lagging:
                if peer not in self._peers.up:
                    continue
                settled = False
                if replica.busy or not self._room(peer):
                    continue
                if replica.retry_mono > now.mono:
                    wake = min(wake, replica.retry_mono)
                    continue
                effects.append(self._hold(index, segment, peer, replica))
            if not lagging and any(replica.wanted for replica in replicas.values()):
                effects += self._shed(index, segment, replicas, now)
        if settled:
            self._dirty.discard(index.name)
        return wake, effects

    def _room(self, peer: str) -> bool:
        if sum(self._holding.values()) >= self._settings.holds_max:
            return False
        return self._holding.get(peer, 0) < self._settings.holds_per_peer_max

    def _hold(self, index: Index, segment: OwnSegment, peer: str, replica: Replica) -> Call:
        replica.busy = True
        self._holding[peer] = self._holding.get(peer, 0) + 1
        tag = HoldTag(index.name, segment.digest, segment.number, peer, segment.version, index.grant_version)
        query = Hold(
            grant=self._authority.grant(index.name, index.grant_version, index.readers),
            digest=segment.digest,
            size=segment.size,
            rows=segment.rows,
            version=segment.version,
            deleted=segment.deleted_rows(),
            source=self._authority.peer,
        )
        return Call(tag, peer, query, self._settings.hold_timeout_s)

    def _shed(self, index: Index, segment: OwnSegment, replicas: dict[str, Replica], now: Now) -> list[Effect]:
        surplus = [peer for peer, replica in replicas.items() if not replica.wanted and not replica.busy]
        effects: list[Effect] = []
        for peer in surplus:
            del replicas[peer]
            effects += self._owe_drop(peer, index.name, segment.digest, now.mono, now)
        if surplus:
            effects.append(self._save(index, segment))
        return effects

    def on_held(self, done: Done, tag: HoldTag, now: Now) -> list[Effect]:
        self._holding[tag.peer] -= 1
        if not self._holding[tag.peer]:
            del self._holding[tag.peer]
        self._dirty.add(tag.name)
        index = self._catalog.indexes.get(tag.name)
        replica = self._replicas.get((tag.name, tag.number), {}).get(tag.peer)
        segment = index.segments.get(tag.number) if index else None
        if index is None or replica is None or segment is None or segment.digest != tag.digest:
            return []  # retired meanwhile, its drop is owed
        replica.busy = False
        if done.error is None and done.value.version >= tag.version:
            replica.held, replica.failures = True, 0
            replica.version, replica.grant_version = tag.version, tag.grant_version
            return []
        return self._failed(index, segment, tag.peer, done.error, now)

    def _failed(self, index: Index, segment: OwnSegment, peer: str, error: Exception | None, now: Now) -> list[Effect]:
        settings = self._settings
        replicas = self._replicas[index.name, segment.number]
        replica = replicas[peer]
        replica.failures += 1
        hint = error.retry_after_s if isinstance(error, EdgenetError) else 0.0
        pause = min(settings.retry_s * 2 ** min(replica.failures - 1, 16), settings.retry_max_s)
        replica.retry_mono = now.mono + max(pause, min(hint, settings.retry_max_s))
        if isinstance(error, RemoteError):
            # It refuses, or says that the file is bad: either way it does not have it.
            del replicas[peer]
            self._peers.declined(peer, now.mono + settings.declined_s)
            return [self._save(index, segment)]
        if not replica.held and replica.failures >= FAILURES_MAX:
            self._peers.declined(peer, now.mono + settings.declined_s)
        return []

    # Drops.

    def _owe_drop(self, peer: str, name: str, digest: str, due_mono: float, now: Now) -> list[Effect]:
        effects: list[Effect] = [Put("drop", f"{peer}/{name}/{digest}", encode(DropRow(now.wall)))]
        self._drops[peer, name, digest] = due_mono
        while len(self._drops) > self._settings.drops_max:
            key = next(iter(self._drops))
            del self._drops[key]
            effects.append(Delete("drop", "/".join(key)))
        return effects

    def _pursue_drops(self, now: Now) -> tuple[float, list[Effect]]:
        wake = math.inf
        ready: dict[tuple[str, str], list[str]] = {}
        for (peer, name, digest), due in self._drops.items():
            if peer not in self._peers.up or peer in self._dropping:
                continue
            due = max(due, self._drop_pause.get(peer, (0, 0.0))[1])
            if due > now.mono:
                wake = min(wake, due)
            elif len(ready.setdefault((peer, name), [])) < SEGMENTS_MAX:
                ready[peer, name].append(digest)
        effects: list[Effect] = []
        for (peer, name), digests in ready.items():
            if peer in self._dropping:
                continue  # one at a time; its completion comes back here
            self._dropping.add(peer)
            index = self._catalog.indexes.get(name)
            version = index.grant_version if index else int(now.wall)
            grant = self._authority.grant(name, version, index.readers if index else ())
            tag = DropTag(peer, name, tuple(digests))
            effects.append(Call(tag, peer, Drop(grant, digests), self._settings.hold_timeout_s))
        return wake, effects

    def on_dropped(self, done: Done, tag: DropTag, now: Now) -> list[Effect]:
        self._dropping.discard(tag.peer)
        self._wake = now.mono
        if done.error is not None and not isinstance(done.error, RemoteError):
            failures = self._drop_pause.get(tag.peer, (0, 0.0))[0] + 1
            pause = min(self._settings.retry_s * 2 ** min(failures, 16), self._settings.retry_max_s)
            self._drop_pause[tag.peer] = failures, now.mono + pause
            return []
        self._drop_pause.pop(tag.peer, None)
        gone = [digest for digest in tag.digests if self._drops.pop((tag.peer, tag.name, digest), None) is not None]
        return [Delete("drop", f"{tag.peer}/{tag.name}/{digest}") for digest in gone]
