"""Settings and limits of the network adapter, with the reason for each default; token buckets; counters."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct, structs

from ...errors import ConfigError


class NetworkSettings(Struct, frozen=True, kw_only=True):
    """All limits of the transport. Values out of range raise `ConfigError` naming the field.

    Addresses are multiaddrs. `listen` may name port 0; `announce` replaces what is advertised; `bootstrap` needs the
    `/p2p/<peer id>` part, because a peer is authenticated by it.
    """

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()

    # Connections. A full table keeps a quarter of its places for peers that we dial.
    peers_max: int = 64
    peers_target: int = 16
    connections_per_peer_max: int = 3
    handshakes_max: int = 128
    addresses_per_peer_max: int = 8
    peers_known_max: int = 1024
    streams_per_peer_max: int = 64

    # Calls. A frame of 1 MiB is the largest message of any protocol; bulk data goes through `fetch`. A peer that reads
    # no answers can make us hold one frame for each call in flight.
    frame_bytes_max: int = 1 << 20
    calls_in_flight_per_peer_max: int = 128
    calls_waiting_per_peer_max: int = 1024
    send_queue_bytes_max: int = 4 << 20
    call_bytes_per_s: int = 32 << 20

    # One-way messages that wait for one peer and kind; a committee's largest frame fits eight times.
    message_queue_frames_max: int = 1024
    message_queue_bytes_max: int = 8 << 20

    # Gossip. py-libp2p loses messages silently above about 30 a second per node on a small machine.
    gossip_bytes_max: int = 64 << 10
    publish_rate_per_s: float = 30.0
    publish_burst: int = 15
    publish_queue_max: int = 512
    gossip_in_rate_per_s: float = 300.0
    gossip_in_burst: int = 1000
    pubsub_queue_max: int = 1024
    gossip_seen_max: int = 200_000
    heartbeat_s: int = 1

    # Artifacts.
    blobs_served_per_peer_max: int = 4
    blobs_fetched_max: int = 8

    # Memory. A Yamux window may grow to `stream_window_bytes_max`. What a peer makes us hold unread on one connection
    # is bounded by all our fetches at full windows (8 of 4 MiB) and all its streams at initial ones (64 of 256 KiB).
    stream_window_bytes_max: int = 4 << 20
    buffered_bytes_per_connection_max: int = 48 << 20

    # Time.
    open_timeout_s: float = 5.0
    write_timeout_s: float = 10.0
    trickle_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    admission_wait_s: float = 5.0
    refuse_for_s: float = 300.0
    refuse_linger_s: float = 0.2
    health_interval_s: float = 2.0
    health_timeout_s: float = 2.0
    handshake_timeout_s: float = 5.0
    dial_timeout_s: float = 5.0
    redial_first_s: float = 0.5
    redial_max_s: float = 15.0
    restart_first_s: float = 0.5
    restart_max_s: float = 15.0

    def __post_init__(self) -> None:
        values = structs.asdict(self)
        for name, (low, high) in BOUNDS.items():
            if not low <= values[name] <= high:
                raise ConfigError(f"network.{name} = {values[name]}: must be between {low:g} and {high:g}")
        if not self.listen:
            raise ConfigError("network.listen is empty: name at least one multiaddr, for example /ip4/0.0.0.0/tcp/0")


BOUNDS: Mapping[str, tuple[float, float]] = {
    "peers_max": (1, 1024),
    "peers_target": (0, 1024),
    "connections_per_peer_max": (1, 16),
    "handshakes_max": (1, 4096),
    "addresses_per_peer_max": (1, 64),
    "peers_known_max": (1, 1 << 16),
    "streams_per_peer_max": (8, 1024),
    "frame_bytes_max": (1 << 10, 16 << 20),
    "calls_in_flight_per_peer_max": (1, 4096),
    "calls_waiting_per_peer_max": (0, 1 << 16),
    "send_queue_bytes_max": (1 << 16, 64 << 20),
    "call_bytes_per_s": (1 << 16, 1 << 32),
    "message_queue_frames_max": (1, 1 << 16),
    "message_queue_bytes_max": (1 << 20, 256 << 20),
    "gossip_bytes_max": (1, 64 << 10),
    "publish_rate_per_s": (0.1, 150),
    "publish_burst": (1, 1000),
    "publish_queue_max": (1, 1 << 16),
    "gossip_in_rate_per_s": (1, 10_000),
    "gossip_in_burst": (1, 100_000),
    "pubsub_queue_max": (32, 1 << 16),
    "gossip_seen_max": (1000, 10_000_000),
    "heartbeat_s": (1, 60),
    "blobs_served_per_peer_max": (1, 64),
    "blobs_fetched_max": (1, 64),
    "stream_window_bytes_max": (256 << 10, 16 << 20),
    "buffered_bytes_per_connection_max": (1 << 20, 1 << 30),
    "open_timeout_s": (0.05, 60),
    "write_timeout_s": (0.05, 120),
    "trickle_timeout_s": (0.05, 120),
    "idle_timeout_s": (0.05, 86_400),
    "admission_wait_s": (0, 60),
    "refuse_for_s": (0, 86_400),
    "refuse_linger_s": (0, 5),
    "health_interval_s": (0.05, 60),
    "health_timeout_s": (0.05, 60),
    "handshake_timeout_s": (0.1, 60),
    "dial_timeout_s": (0.1, 60),
    "redial_first_s": (0.01, 60),
    "redial_max_s": (0.01, 3600),
    "restart_first_s": (0.01, 60),
    "restart_max_s": (0.01, 3600),
}


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up. Time is monotonic seconds, passed in."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def take(self, n: float, now: float) -> float:
        """Take `n` tokens, going into debt; the seconds to wait until the debt is paid, 0 when there is none."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate) - n
        self._at = now
        return max(0.0, -self._tokens / self.rate)

    def allow(self, now: float) -> bool:
        """Take one token if there is one."""
        tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        self._tokens = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


class Counters:
    """Named totals since the start. Names are fixed in the code, so the table is bounded."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}

    def add(self, name: str, n: int = 1) -> None:
        self._totals[name] = self._totals.get(name, 0) + n

    def get(self, name: str) -> int:
        return self._totals.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        return dict(sorted(self._totals.items()))


def backoff_s(attempt: int, first_s: float, max_s: float, jitter: float) -> float:
    """Exponential backoff, `first · 2^attempt` up to `max`, times a factor in [0.5, 1.5) from `jitter` in [0, 1)."""
    exponent = min(attempt, 30)
    return min(max_s, first_s * math.ldexp(1.0, exponent)) * (0.5 + jitter)
