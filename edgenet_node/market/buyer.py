"""The buying side: auctions that are open, leases that are held."""

from __future__ import annotations

import math

from msgspec import Struct, structs

from ..effects import Call, Effect, Now, Publish, Reply
from ..messages.market import Acquire, Declined, Leases, LeaseView
from ..messages.trust import Standing
from ..wire.auction import Announce, Offer, Release
from ..wire.peers import Capability
from .settings import Entropy, MarketSettings

_RELEASE_TIMEOUT_S = 5.0


class PeerOffer(Struct):
    """What is known of a peer that may sell. `avoided` maps a kind to the reason."""

    connected: bool = False
    capabilities: tuple[Capability, ...] = ()
    workers: int = 0
    load: int = 0
    avoided: dict[str, str] = {}


class Auction(Struct):
    acquire: Acquire
    reply_to: int
    closes_mono: float
    eligible: frozenset[str]
    answered: set[str]


class Held(Struct):
    """A lease that this node may spend."""

    view: LeaseView
    model: str
    load: int


class Buyer:
    """Keeps `peers`, `held` leases and open auctions. Methods return effects; time and randomness are passed in."""

    def __init__(self, settings: MarketSettings, own_peer: str, entropy: Entropy) -> None:
        self._settings = settings
        self._own_peer = own_peer
        self._entropy = entropy
        self.peers: dict[str, PeerOffer] = {}
        self.rtt_s: dict[str, float] = {}
        self._held: dict[bytes, Held] = {}
        self._auctions: dict[bytes, Auction] = {}
        self._late: dict[bytes, tuple[float, Acquire]] = {}

    def wake_at(self) -> float:
        closing = (auction.closes_mono for auction in self._auctions.values())
        expiring = (held.view.expires_mono for held in self._held.values())
        late = (until for until, _ in self._late.values())
        return min(*closing, *expiring, *late, math.inf, math.inf)

    def peer(self, peer: str) -> PeerOffer:
        known = self.peers.get(peer)
        if known is None:
            if len(self.peers) >= self._settings.peers_max:
                idle = next((one for one, of in self.peers.items() if not of.connected and not of.avoided), None)
                if idle is not None:
                    del self.peers[idle]
            known = self.peers[peer] = PeerOffer()
        return known

    # -- acquiring

    def acquire(self, wanted: Acquire, reply_to: int, now: Now) -> list[Effect]:
        eligible = frozenset(peer for peer in self.peers if not self._objection(peer, wanted))
        have = {held.view.peer for held in self._usable(wanted, now)}
        if len(have & eligible) >= min(wanted.executors_max, len(eligible)):
            return [Reply(reply_to, self._answer(wanted, now))]
        if len(self._auctions) >= self._settings.auctions_max:
            return [Reply(reply_to, self._answer(wanted, now))]
        auction = self._entropy(16)
        closes = now.mono + self._settings.bid_window_s
        self._auctions[auction] = Auction(wanted, reply_to, closes, eligible, set(have & eligible))
        units = min(max(wanted.units, 1), self._settings.lease_units_max)
        return [Publish(Announce(auction, wanted.kind, wanted.model, units, self._reserve(wanted)))]

    def offer(self, offer: Offer, sender: str, reply_to: int, now: Now) -> tuple[bool, list[Effect]]:
        """Whether the offer is wanted, and what follows."""
        open_auction = self._auctions.get(offer.auction)
        late = self._late.get(offer.auction)
        wanted = open_auction.acquire if open_auction else late[1] if late else None
        if wanted is None or self._objection(sender, wanted) or not self._acceptable(offer, sender, wanted):
            return False, []
        expires = now.mono + min(offer.expires_s, self._settings.lease_s_max)
        self.peer(sender).load = offer.load
        for lease in [held.view.lease for held in self._held.values() if self._same(held, sender, wanted)]:
            del self._held[lease]  # a renewal replaces the older lease of this peer and kind
        view = LeaseView(
            offer.lease,
            sender,
            wanted.kind,
            offer.price,
            offer.units,
            offer.workers,
            expires,
            self.rtt_s.get(sender, 0.0),
        )
        self._held[offer.lease] = Held(view, wanted.model, offer.load)
        if open_auction is None:
            return True, []
        open_auction.answered.add(sender)
        if open_auction.eligible <= open_auction.answered:
            return True, self._close(offer.auction, now)
        return True, []

    def _acceptable(self, offer: Offer, sender: str, wanted: Acquire) -> bool:
        known = self._held.get(offer.lease)
        return (
            offer.price <= self._reserve(wanted)
            and offer.units >= 1
            and offer.expires_s > self._settings.lease_margin_s
            and (known is None or known.view.peer == sender)
            and (known is not None or len(self._held) < self._settings.held_max)
        )

    def _close(self, auction: bytes, now: Now) -> list[Effect]:
        closed = self._auctions.pop(auction)
        if len(self._late) < self._settings.auctions_max:
            self._late[auction] = (now.mono + self._settings.late_s, closed.acquire)
        return [Reply(closed.reply_to, self._answer(closed.acquire, now))]

    # -- answering

    def _usable(self, wanted: Acquire, now: Now) -> list[Held]:
        margin = now.mono + self._settings.lease_margin_s
        return [
            held
            for held in self._held.values()
            if held.view.kind == wanted.kind
            and held.model == wanted.model
            and held.view.expires_mono > margin
            and held.view.units > 0
            and held.view.price <= self._reserve(wanted)
            and not self._objection(held.view.peer, wanted)
        ]

    def _answer(self, wanted: Acquire, now: Now) -> Leases:
        usable = sorted(self._usable(wanted, now), key=self._rank)
        chosen = usable[: wanted.executors_max]
        got = {held.view.peer for held in chosen}
        declined = []
        for peer in sorted(self.peers):
            if peer not in got:
                reason = self._objection(peer, wanted) or self._silence(peer, {one.view.peer for one in usable})
                declined.append(Declined(peer, reason))
        missing = [Declined(peer, "not known here") for peer in wanted.only if peer not in self.peers]
        views = tuple(structs.replace(held.view, rtt_s=self.rtt_s.get(held.view.peer, 0.0)) for held in chosen)
        return Leases(views, (*declined, *missing))

    def _silence(self, peer: str, usable: set[str]) -> str:
        if peer in usable:
            return "others were cheaper or less loaded"
        return f"made no offer within {self._settings.bid_window_s:g} s"

    def _rank(self, held: Held) -> tuple[int, float, float, str]:
        view = held.view
        return view.price, held.load / max(1, view.workers), self.rtt_s.get(view.peer, 0.0), view.peer

    def _objection(self, peer: str, wanted: Acquire) -> str:
        """Why a peer is not eligible; empty if it is."""
        known = self.peers[peer] if peer in self.peers else PeerOffer()
        if peer == self._own_peer:
            return "this node itself"
        if wanted.only and peer not in wanted.only:
            return "not among the chosen peers"
        if peer in wanted.exclude:
            return "excluded for this task"
        if not known.connected:
            return "not connected"
        if reason := known.avoided.get(wanted.kind):
            return f"avoided: {reason}"
        prices = [one.price for one in known.capabilities if one.kind == wanted.kind and one.model == wanted.model]
        if not prices:
            return f"does not offer {wanted.kind}" + (f" with {wanted.model}" if wanted.model else "")
        if min(prices) > self._reserve(wanted):
            return f"asks {min(prices)} micro-rUv a unit, above the limit of {self._reserve(wanted)}"
        return ""

    def _reserve(self, wanted: Acquire) -> int:
        return wanted.reserve or self._settings.reserve

    @staticmethod
    def _same(held: Held, peer: str, wanted: Acquire) -> bool:
        return held.view.peer == peer and held.view.kind == wanted.kind and held.model == wanted.model

    # -- spending and losing

    def use(self, lease: bytes, units: int) -> None:
        held = self._held.get(lease)
        if held is not None:
            held.view = structs.replace(held.view, units=max(0, held.view.units - units))

    def drop(self, lease: bytes) -> list[Effect]:
        held = self._held.pop(lease, None)
        if held is None or not self.peer(held.view.peer).connected:
            return []
        return [Call(("release", lease), held.view.peer, Release(lease), _RELEASE_TIMEOUT_S)]

    def gone(self, peer: str) -> None:
        """The peer is not connected any more: its leases are worth nothing."""
        self.peer(peer).connected = False
        self.rtt_s.pop(peer, None)
        for lease in [one for one, held in self._held.items() if held.view.peer == peer]:
            del self._held[lease]

    def judge(self, standing: Standing) -> None:
        avoided = self.peer(standing.peer).avoided
        if standing.avoided:
            avoided[standing.kind] = standing.reason or "bad results"
        else:
            avoided.pop(standing.kind, None)

    def tick(self, now: Now) -> list[Effect]:
        out: list[Effect] = []
        for auction in [one for one, of in self._auctions.items() if of.closes_mono <= now.mono]:
            out += self._close(auction, now)
        for auction in [one for one, (until, _) in self._late.items() if until <= now.mono]:
            del self._late[auction]
        for lease in [one for one, held in self._held.items() if held.view.expires_mono <= now.mono]:
            del self._held[lease]
        return out
