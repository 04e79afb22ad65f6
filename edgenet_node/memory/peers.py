"""Which peers may hold and search segments now, from events and from this subsystem's own experience."""

from __future__ import annotations

import math

from ..messages.network import PeerOffers
from ..messages.trust import Standing

LATENCY_GAIN = 0.2
"""Of the exponentially weighted mean of answer times: about the last ten answers count."""

PEERS_MAX = 4096
"""Remembered of each kind; the swarm's admission keeps connected peers far below."""


class Peers:
    """`up` maps each admitted, connected peer to the mean seconds of its answers (0 until measured)."""

    def __init__(self) -> None:
        self.up: dict[str, float] = {}
        self.changed = False
        """Set by whatever may move segments; cleared by placement."""
        self._load: dict[str, int] = {}
        self._down: dict[str, float] = {}
        self._avoided: dict[str, set[str]] = {}
        self._suspect: dict[str, float] = {}
        self._declined: dict[str, float] = {}

    def came(self, peer: str) -> None:
        self.up.setdefault(peer, 0.0)
        self._down.pop(peer, None)
        self._declined.pop(peer, None)
        self.changed = True

    def left(self, peer: str, now_mono: float) -> None:
        if self.up.pop(peer, None) is not None:
            self._down[peer] = now_mono
            _trim(self._down)
            self.changed = True
        self._load.pop(peer, None)

    def offers(self, event: PeerOffers) -> None:
        if event.peer in self.up:
            self._load[event.peer] = event.load

    def standing(self, standing: Standing) -> None:
        """A peer that trust avoids for any kind of work is trusted with no segment either."""
        kinds = self._avoided.setdefault(standing.peer, set())
        before = bool(kinds)
        (kinds.add if standing.avoided else kinds.discard)(standing.kind)
        self.changed = self.changed or before != bool(kinds)
        if not kinds:
            del self._avoided[standing.peer]
        _trim(self._avoided)

    def suspect(self, peer: str, until_mono: float) -> None:
        self._suspect[peer] = until_mono
        _trim(self._suspect)
        self.changed = True

    def declined(self, peer: str, until_mono: float) -> None:
        self._declined[peer] = until_mono
        _trim(self._declined)
        self.changed = True

    def answered(self, peer: str, seconds: float) -> None:
        if peer in self.up:
            mean = self.up[peer]
            self.up[peer] = mean + LATENCY_GAIN * (seconds - mean) if mean else seconds

    def searchable(self, peer: str, now_mono: float) -> bool:
        return peer in self.up and peer not in self._avoided and self._suspect.get(peer, 0.0) <= now_mono

    def can_hold(self, peer: str, now_mono: float) -> bool:
        """Whether new segments may go to it."""
        return self.searchable(peer, now_mono) and self._declined.get(peer, 0.0) <= now_mono

    def may_keep(self, peer: str, now_mono: float, repair_after_s: float, started_mono: float) -> bool:
        """Whether what it holds still counts: it is fine, or was away for less than `repair_after_s`."""
        if peer in self.up:
            return self.searchable(peer, now_mono)
        fine = peer not in self._avoided and self._suspect.get(peer, 0.0) <= now_mono
        return fine and self._down.get(peer, started_mono) + repair_after_s > now_mono

    def cost(self, peer: str) -> tuple[float, int]:
        """For choosing among equals: mean answer time, announced load."""
        return self.up.get(peer, 0.0), self._load.get(peer, 0)

    def next_change(self, now_mono: float, repair_after_s: float, started_mono: float) -> float:
        """When time alone next changes what `can_hold` or `may_keep` says; `math.inf` when never."""
        times = [until for table in (self._suspect, self._declined) for until in table.values()]
        times += [since + repair_after_s for since in self._down.values()]
        times.append(started_mono + repair_after_s)
        return min((at for at in times if at > now_mono), default=math.inf)


def _trim(table: dict[str, float] | dict[str, set[str]]) -> None:
    while len(table) > PEERS_MAX:
        del table[next(iter(table))]
