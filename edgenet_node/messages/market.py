"""Leases: how work finds executors."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query


class LeaseView(Struct, frozen=True):
    """A lease that this node holds as buyer. `price` is micro-rUv per unit; `rtt_s` is measured, 0 if not yet."""

    lease: bytes
    peer: str
    kind: str
    price: int
    units: int
    workers: int
    expires_mono: float
    rtt_s: float = 0.0


class Declined(Struct, frozen=True):
    """Why a known peer is not among the executors."""

    peer: str
    reason: str


class Leases(Struct, frozen=True):
    """Best first. Empty `leases` come with the reasons, so that waiting work can say why it waits."""

    leases: tuple[LeaseView, ...]
    declined: tuple[Declined, ...]


class Acquire(Query[Leases], frozen=True):
    """Find executors for `units` of `kind`. Open leases are reused; otherwise an auction runs. `only` restricts to
    these peers, `exclude` leaves peers out, `reserve` is the highest price in micro-rUv per unit."""

    kind: str
    model: str
    units: int
    reserve: int
    executors_max: int
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class UseLease(Struct, frozen=True):
    """Command to `market` from the buyer's side: `units` were spent under a lease (negative gives back)."""

    lease: bytes
    units: int


class DropLease(Struct, frozen=True):
    """Command to `market`: the seller refused it, or the buyer is done with this peer."""

    lease: bytes
    reason: str


class LeaseGranted(Struct, frozen=True):
    """Command to `tasks` on the seller's side: honour chunks under this lease."""

    lease: bytes
    buyer: str
    kind: str
    price: int
    units: int
    expires_mono: float


class LeaseEnded(Struct, frozen=True):
    """Command to `tasks` on the seller's side."""

    lease: bytes
