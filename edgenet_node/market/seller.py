"""The selling side: offers made, leases granted."""

from __future__ import annotations

import math

from msgspec import Struct

from ..effects import Call, Effect, Now, Tell
from ..messages.market import LeaseEnded, LeaseGranted
from ..wire.auction import Announce, Offer
from ..wire.peers import Capability
from .settings import Entropy, MarketSettings

_OFFER_TIMEOUT_S = 5.0


class Grant(Struct):
    buyer: str
    kind: str
    expires_mono: float


class Seller:
    """Answers announcements for what this node executes, within its capacity."""

    def __init__(
        self, settings: MarketSettings, capabilities: tuple[Capability, ...], workers: int, entropy: Entropy
    ) -> None:
        self._settings = settings
        self._capabilities = {(one.kind, one.model): one for one in capabilities}
        self._workers = workers
        self._entropy = entropy
        self.load = 0
        self._grants: dict[bytes, Grant] = {}

    def wake_at(self) -> float:
        return min((grant.expires_mono for grant in self._grants.values()), default=math.inf)

    def announce(self, announce: Announce, buyer: str, now: Now) -> list[Effect]:
        """An offer, or nothing: silence is how a seller declines."""
        own = self._capabilities.get((announce.kind, announce.model))
        settings = self._settings
        if own is None or self._workers == 0 or own.price > announce.reserve:
            return []
        if self.load > settings.load_per_worker_max * self._workers or len(self._grants) >= settings.granted_max:
            return []
        mine = [lease for lease, grant in self._grants.items() if grant.buyer == buyer]
        out: list[Effect] = []
        if len(mine) >= settings.granted_per_buyer_max:
            out += self._end(min(mine, key=lambda lease: self._grants[lease].expires_mono))
        lease = self._entropy(16)
        units = min(max(announce.units, 1) * 2, settings.lease_units_max)  # room for work that is redone here
        expires = now.mono + settings.lease_s
        self._grants[lease] = Grant(buyer, announce.kind, expires)
        offer = Offer(announce.auction, lease, own.price, units, settings.lease_s, self._workers, self.load)
        return [
            *out,
            Tell(LeaseGranted(lease, buyer, announce.kind, own.price, units, expires)),
            Call(("offer", lease), buyer, offer, _OFFER_TIMEOUT_S),
        ]

    def answered(self, lease: bytes, *, wanted: bool) -> list[Effect]:
        grant = self._grants.get(lease)
        if grant is None:
            return []
        return [] if wanted else self._end(lease)

    def release(self, lease: bytes, buyer: str) -> list[Effect]:
        grant = self._grants.get(lease)
        return self._end(lease) if grant is not None and grant.buyer == buyer else []

    def gone(self, buyer: str) -> list[Effect]:
        out: list[Effect] = []
        for lease in [one for one, grant in self._grants.items() if grant.buyer == buyer]:
            out += self._end(lease)
        return out

    def tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        for lease in [one for one, grant in self._grants.items() if grant.expires_mono <= now.mono]:
            out += self._end(lease)
        return out

    def _end(self, lease: bytes) -> list[Effect]:
        del self._grants[lease]
        return [Tell(LeaseEnded(lease))]
