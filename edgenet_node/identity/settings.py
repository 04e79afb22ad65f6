"""Limits and pauses of membership."""

from __future__ import annotations

from msgspec import Struct

from ..wire.peers import Capability


class MembershipSettings(Struct, frozen=True):
    """`presence_interval_s`: how often capabilities and load are gossiped; `exchange_interval_s`: how often a member is
    asked for records; `blame_max`: malformed messages of one peer within `blame_window_s` before it is refused for
    `refuse_for_s`; `hello_tries_max`: hellos on one connection; `hello_wait_s`: how long a peer that dialled us may
    take to say the first one; `peers_max`: peers remembered, records saved; `chosen`: PeerIds that the owner named
    (bootstrap and static peers), which a fresh node greets also when they dialled it."""

    version: str
    capabilities: tuple[Capability, ...] = ()
    workers: int = 0
    presence_interval_s: float = 10.0
    presence_debounce_s: float = 0.4
    exchange_interval_s: float = 30.0
    hello_timeout_s: float = 5.0
    hello_wait_s: float = 0.5
    hello_tries_max: int = 6
    blame_max: int = 20
    blame_window_s: float = 60.0
    refuse_for_s: float = 600.0
    peers_max: int = 2048
    chosen: frozenset[str] = frozenset()
