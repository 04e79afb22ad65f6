"""Limits of the market."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

Entropy = Callable[[int], bytes]
"""`n` random bytes: the operating system's in the node, seeded in simulation."""


class MarketSettings(Struct, frozen=True):
    """`bid_window_s`: an auction closes after it, or when every eligible peer has answered. `lease_s` is what this node
    grants, `lease_s_max` what it believes. `lease_margin_s`: a lease about to expire is not used. `late_s`: how long
    after closing an offer still becomes a lease. `reserve`: micro-rUv per unit when the owner names no price.
    `auctions_max` open at once, `held_max` leases held, `granted_max` granted, `granted_per_buyer_max` to one peer.
    `peers_max` peers remembered. `load_per_worker_max`: above it this node makes no offers."""

    bid_window_s: float = 0.4
    lease_s: float = 120.0
    lease_s_max: float = 3600.0
    lease_margin_s: float = 5.0
    lease_units_max: int = 1_000_000
    late_s: float = 10.0
    reserve: int = 100
    auctions_max: int = 64
    held_max: int = 4096
    granted_max: int = 1024
    granted_per_buyer_max: int = 16
    peers_max: int = 4096
    load_per_worker_max: float = 64.0
    latency_interval_s: float = 5.0
