"""The node as the gateway sees it: the bus, and facts that no core holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from ..effects import Query

R = TypeVar("R")


class Asker(Protocol):
    """The bus, as far as the gateway needs it."""

    async def ask(self, query: Query[R], timeout_s: float) -> R: ...


class NodeFacts(Struct, frozen=True):
    """Measured now. `state`: starting, ready, draining. `limits`: the bounds in force, by name with unit."""

    state: str
    version: str
    peer_id: str
    pi_key: str
    short_id: str
    uptime_s: float
    loop_lag_ms: float
    rss_bytes: int
    workers: Mapping[str, int]
    limits: Mapping[str, Any]
    counters: Mapping[str, Any]


class ModelView(Struct, frozen=True):
    """One task kind that this node can run. `reason` says why not, when `available` is False."""

    kind: str
    model: str
    available: bool
    price: int
    reason: str = ""


class NodeView(Struct, frozen=True):
    """`present` turns a finished task's output into what its owner reads; `UsageError` for an unknown kind."""

    bus: Asker
    facts: Callable[[], NodeFacts]
    models: Callable[[], tuple[ModelView, ...]]
    present: Callable[[str, bytes], dict[str, Any]]
    stop: Callable[[], None]
