"""Artifacts on the bus: what subsystems ask of the content-addressed store. Served by `app.py` on the store port.

Pins have names, because two subsystems may need the same bytes: an artifact is spared by the store's budget while any
name pins it. Pins do not outlive the process; whoever needs an artifact pins it again in `restore`.
"""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query


class Stored(Struct, frozen=True):
    """An artifact that is here: its SHA-256 in hex, its size in bytes, and the file, for memory mapping."""

    digest: str
    size: int
    path: str


class PutArtifact(Query[Stored], frozen=True):
    """Keep `data` durably, pinned by `pin` unless that is empty. `StoreFull` when the budget does not allow it."""

    data: bytes
    pin: str = ""


class PinArtifact(Query[Stored], frozen=True):
    """Spare the artifact from eviction for `pin`'s sake. Idempotent; `NotFound` when it is not here."""

    digest: str
    pin: str


class ReleaseArtifact(Query[None], frozen=True):
    """Take back `pin`'s pin. No error when there is none."""

    digest: str
    pin: str
