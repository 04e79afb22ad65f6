"""Who can work: leases held, standings, measured speeds, what is in flight where."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..effects import Effect, Tell
from ..messages.market import DropLease, LeaseView, UseLease
from ..messages.trust import Standing
from .work import Attempt

PEERS_MAX = 4096
"""(kind, peer) pairs whose speed or standing is remembered; the oldest go first."""

SPEED_WEIGHT = 0.4
"""Of the newest measurement in the moving average of seconds per item, when it is slower than the average."""

FASTER_WEIGHT = 0.8
"""When it is faster: a first chunk includes starting a worker and loading a model, and must not keep chunks small."""

SECONDS_MIN = 1e-6
"""Of one item, as clocks are coarse: zero means unknown."""


@dataclass(slots=True, eq=False)
class Held:
    """A lease and what is left of it."""

    view: LeaseView
    left: int


Key = tuple[str, str]
"""(kind, peer)."""


class Executors:
    def __init__(self, node: str, workers: int) -> None:
        self.node = node
        self._workers = workers
        self.held: dict[Key, Held] = {}
        self._standings: dict[Key, tuple[Standing, float]] = {}
        self._speeds: dict[Key, float] = {}
        self._flying: dict[str, dict[int, Attempt]] = {}

    # -- leases

    def grant(self, leases: Iterable[LeaseView]) -> None:
        for lease in leases:
            key = lease.kind, lease.peer
            held = self.held.get(key)
            if held is not None and held.view.lease == lease.lease:
                held.view = lease  # what we spent since `market` answered is in `left` only
            else:
                self.held[key] = Held(lease, lease.units)

    def lease(self, kind: str, peer: str, reserve: int, now: float) -> Held | None:
        """A lease that may be spent on at least one more unit now."""
        held = self.held.get((kind, peer))
        if held is None or held.left <= 0 or held.view.expires_mono <= now + 1.0:
            return None
        return None if reserve and held.view.price > reserve else held

    def spend(self, held: Held, units: int) -> Effect:
        held.left -= units
        return Tell(UseLease(held.view.lease, units))

    def refund(self, kind: str, peer: str, lease: bytes, units: int) -> list[Effect]:
        held = self.held.get((kind, peer))
        if held is None or held.view.lease != lease:
            return []
        held.left += units
        return [Tell(UseLease(lease, -units))]

    def forget(self, kind: str, peer: str, reason: str) -> list[Effect]:
        held = self.held.pop((kind, peer), None)
        return [Tell(DropLease(held.view.lease, reason))] if held is not None else []

    def expire(self, now: float) -> None:
        for key in [key for key, held in self.held.items() if held.view.expires_mono <= now]:
            del self.held[key]

    def kinds(self, peer: str) -> list[str]:
        return [kind for kind, other in self.held if other == peer]

    # -- standings

    def judge(self, standing: Standing, now: float) -> None:
        key = standing.kind, standing.peer
        self._standings.pop(key, None)
        _bound(self._standings)
        self._standings[key] = standing, now

    def standing(self, kind: str, peer: str) -> Standing | None:
        known = self._standings.get((kind, peer))
        return known[0] if known is not None else None

    def standing_age(self, kind: str, peer: str, now: float) -> float:
        known = self._standings.get((kind, peer))
        return now - known[1] if known is not None else math.inf

    # -- speed and load

    def speed(self, kind: str, peer: str) -> float:
        """Seconds per item of one worker, 0 if unknown."""
        own = self._speeds.get((kind, peer), 0.0)
        if own:
            return own
        standing = self.standing(kind, peer)
        return max(SECONDS_MIN, standing.seconds_per_item) if standing and standing.seconds_per_item > 0.0 else 0.0

    def workers(self, kind: str, peer: str) -> int:
        if peer == self.node:
            return self._workers
        held = self.held.get((kind, peer))
        return max(1, held.view.workers) if held is not None else 1

    def flying(self, peer: str) -> dict[int, Attempt]:
        return self._flying.get(peer) or {}

    def depart(self, attempt: Attempt, now: float) -> None:
        aloft = self._flying.setdefault(attempt.peer, {})
        busy = sum(1 for one in aloft.values() if one.started < math.inf)
        attempt.started = now if busy < self.workers(attempt.kind, attempt.peer) else math.inf
        aloft[attempt.number] = attempt

    def land(self, attempt: Attempt, now: float, *, measured: bool) -> float:
        """It came back or was given up: its worker takes the next one. Returns the seconds that it took there;
        `measured` ones teach the speed."""
        aloft = self._flying.get(attempt.peer, {})
        aloft.pop(attempt.number, None)
        seconds = now - (attempt.started if attempt.started < math.inf else attempt.sent)
        if attempt.started < math.inf:
            waiting = next((one for one in aloft.values() if one.started == math.inf), None)
            if waiting is not None:
                waiting.started = now
        if not aloft:
            self._flying.pop(attempt.peer, None)
        if measured:
            self._learn((attempt.kind, attempt.peer), seconds / len(attempt.items))
        return seconds

    def _learn(self, key: Key, seconds: float) -> None:
        old = self._speeds.pop(key, 0.0)
        _bound(self._speeds)
        weight = 1.0 if not old else FASTER_WEIGHT if seconds < old else SPEED_WEIGHT
        self._speeds[key] = max(SECONDS_MIN, old + weight * (seconds - old))


def _bound(table: dict[Key, tuple[Standing, float]] | dict[Key, float]) -> None:
    if len(table) >= PEERS_MAX:
        del table[next(iter(table))]
