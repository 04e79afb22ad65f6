"""The core of the part `market`: one buyer, one seller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..effects import Ask, Done, Effect, Envelope, Now, Reply, Row, Tick
from ..errors import InvariantError
from ..messages.market import Acquire, DropLease, UseLease
from ..messages.network import GetLatencies, GetPeers, LoadChanged, PeerDown, PeerOffers, PeerUp
from ..messages.trust import GetStandings, StandingChanged
from ..wire.auction import Announce, Offer, OfferReceipt, Release, Released
from ..wire.peers import Capability
from .buyer import Buyer
from .seller import Seller
from .settings import Entropy, MarketSettings

ASK_TIMEOUT_S = 10.0
ASK_AGAIN_S = 1.0
"""Pause after a question inside this node that was not answered."""


class MarketCore:
    def __init__(
        self,
        settings: MarketSettings,
        own_peer: str,
        capabilities: tuple[Capability, ...],
        workers: int,
        entropy: Entropy,
    ) -> None:
        self._settings = settings
        self._own_peer = own_peer
        self._buyer = Buyer(settings, own_peer, entropy)
        self._seller = Seller(settings, capabilities, workers, entropy)
        self._kinds = sorted({one.kind for one in capabilities})
        self._latency_at = math.inf
        self._ask_again: dict[tuple[str, ...], float] = {}

    def restore(self, rows: Sequence[Row], now: Now) -> list[Effect]:
        del rows  # leases do not outlive the process; peers and standings are learnt anew, also after a crash
        self._latency_at = now.mono + self._settings.latency_interval_s
        return [_ask(("peers",)), *(_ask(("standings", kind)) for kind in self._kinds)]

    def wake_at(self) -> float:
        again = min(self._ask_again.values(), default=math.inf)
        return min(self._buyer.wake_at(), self._seller.wake_at(), self._latency_at, again)

    def step(self, e: Envelope[Any], now: Now) -> list[Effect]:
        match e.body:
            case Acquire():
                return self._buyer.acquire(e.body, e.reply_to, now)
            case UseLease(lease, units):
                self._buyer.use(lease, units)
                return []
            case DropLease(lease):
                return self._buyer.drop(lease)
            case Announce():
                return self._seller.announce(e.body, e.sender, now) if e.sender != self._own_peer else []
            case Offer():
                wanted, effects = self._buyer.offer(e.body, e.sender, e.reply_to, now)
                return [Reply(e.reply_to, OfferReceipt(wanted)), *effects]
            case Release(lease):
                return [*self._seller.release(lease, e.sender), Reply(e.reply_to, Released())]
            case PeerUp() | PeerDown() | PeerOffers() | StandingChanged() | LoadChanged():
                return self._heard(e.body)
            case Done(tag, value, error):
                return self._done(tag, value, error, now)
            case Tick():
                return self._tick(now)
            case _:
                raise InvariantError(f"market does not take {type(e.body).__name__}")

    def _heard(self, event: PeerUp | PeerDown | PeerOffers | StandingChanged | LoadChanged) -> list[Effect]:
        match event:
            case PeerUp(peer):
                self._buyer.peer(peer).connected = True
            case PeerDown(peer):
                self._buyer.gone(peer)
                return self._seller.gone(peer)
            case PeerOffers(peer, capabilities, workers, load):
                known = self._buyer.peer(peer)
                known.capabilities, known.workers, known.load = capabilities, workers, load
            case StandingChanged(standing):
                self._buyer.judge(standing)
            case LoadChanged(load):
                self._seller.load = load
        return []

    def _done(self, tag: Any, value: Any, error: Exception | None, now: Now) -> list[Effect]:
        match tag:
            case ("standings", str()) | ("peers",) if error is not None:
                # Its owner was itself being rebuilt, or the disk was full; nobody tells these things unasked.
                self._ask_again[tag] = now.mono + ASK_AGAIN_S
            case ("offer", bytes() as lease):
                return self._seller.answered(lease, wanted=error is None and value.wanted)
            case ("latency",) if error is None:
                self._buyer.rtt_s = dict(value)
            case ("standings", str()):
                for standing in value:
                    self._buyer.judge(standing)
            case ("peers",):
                for view in value:
                    if view.state == "member":
                        self._heard(PeerUp(view.peer))
                        self._heard(PeerOffers(view.peer, view.capabilities, view.workers, view.load))
        return []

    def _tick(self, now: Now) -> list[Effect]:
        out = [*self._buyer.tick(now), *self._seller.tick(now)]
        if self._latency_at <= now.mono:
            self._latency_at = now.mono + self._settings.latency_interval_s
            out.append(Ask(("latency",), GetLatencies(), 2.0))
        for tag in [tag for tag, at in self._ask_again.items() if at <= now.mono]:
            del self._ask_again[tag]
            out.append(_ask(tag))
        return out


def _ask(tag: tuple[str, ...]) -> Ask:
    """What this core asks when it is made: it may be rebuilt in the middle of a life."""
    return Ask(tag, GetPeers() if tag == ("peers",) else GetStandings(tag[1]), ASK_TIMEOUT_S)
