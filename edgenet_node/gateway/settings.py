"""Limits of the owner's door."""

from __future__ import annotations

from msgspec import Struct


class GatewaySettings(Struct, frozen=True):
    """Bounds of the API, with their reasons.

    * `host`, `port`: where it listens; port 0 is any free one.
    * `body_bytes_max`: one request; `bodies_bytes_max`: all that are being read or parsed, so that `requests_max` full
      bodies never lie in memory together.
    * `requests_max`: quick questions at once. `waits_max`: requests that wait for work (event streams, `wait`), counted
      apart so that they starve nobody. `probes_max`: `/livez` and `/readyz`, which need no token.
    * `ask_timeout_s`: quick questions to the bus; `search_timeout_s`: a search, whose text the swarm may have to embed.
    * `head_timeout_s`: from connecting, or the last answer, to the end of a request's head; `body_timeout_s`: for a
      whole body; `write_timeout_s`: for a client to take one piece of an answer. Together they bound what a slow or
      silent client can hold.
    * `events_wait_s`: longest silence of an event stream before a keep-alive comment.
    * `grace_s`: for answers that are under way when the door closes.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    body_bytes_max: int = 16 * 1024 * 1024
    bodies_bytes_max: int = 64 * 1024 * 1024
    requests_max: int = 64
    waits_max: int = 256
    probes_max: int = 16
    ask_timeout_s: float = 10.0
    search_timeout_s: float = 60.0
    head_timeout_s: float = 5.0
    body_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    events_wait_s: float = 15.0
    grace_s: float = 0.5

    @property
    def connections_max(self) -> int:
        """Every request has one; some more lie idle between requests or are being refused."""
        return self.requests_max + self.waits_max + self.probes_max + 64
