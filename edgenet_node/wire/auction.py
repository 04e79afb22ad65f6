"""The `auction` topic and `auction.offer/1`: how a buyer finds executors. Spec: `protocols/auction`.

A buyer announces what it wants by gossip; every able peer answers with an `Offer` on a direct stream. An offer is a
lease that the seller holds until it expires: under it many small tasks run with no further negotiation.
"""

from __future__ import annotations

from ..effects import Query
from .codec import Wire
from .fields import Count, Kind, Model, Nonce16, Price, Seconds, Units


class Announce(Wire, frozen=True):
    """`auction` is 16 random bytes. `reserve` is the highest price in micro-rUv per unit that the buyer accepts."""

    auction: Nonce16
    kind: Kind
    model: Model
    units: Units
    reserve: Price


class OfferReceipt(Wire, frozen=True):
    """`wanted` is False when the auction has closed or the offer lost: the seller frees the lease at once."""

    wanted: bool


class Offer(Wire, Query[OfferReceipt], frozen=True):
    """A held lease: `lease` is 16 random bytes chosen by the seller, valid for `expires_s` from now and `units`."""

    auction: Nonce16
    lease: Nonce16
    price: Price
    units: Units
    expires_s: Seconds
    workers: Count
    load: Count


class Released(Wire, frozen=True):
    """Acknowledged; releasing twice is no error."""


class Release(Wire, Query[Released], frozen=True):
    """The buyer needs the lease no longer."""

    lease: Nonce16
