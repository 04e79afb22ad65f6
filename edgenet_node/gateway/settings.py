"""Limits of the owner's door."""

from __future__ import annotations

from msgspec import Struct


class GatewaySettings(Struct, frozen=True):
    """`host` and `port` (0: any free one). `body_bytes_max` of one request. `ask_timeout_s` for quick questions.
    `requests_max` at once. `events_wait_s`: longest silence of an event stream before a keep-alive comment."""

    host: str = "127.0.0.1"
    port: int = 8787
    body_bytes_max: int = 16 * 1024 * 1024
    ask_timeout_s: float = 10.0
    requests_max: int = 64
    events_wait_s: float = 15.0
