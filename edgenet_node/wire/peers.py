"""`peers/1` and the `presence` topic: who is in the swarm, where, and what it offers. Spec: `protocols/peers`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..effects import Query
from .codec import Wire
from .fields import Count, Kind, Model, Price, Version
from .hello import SignedRecord

RECORDS_MAX = 64
"""Records in one answer; about 20 kB. A larger swarm is learnt over several calls."""

CAPABILITIES_MAX = 32
"""Task kinds that one node announces."""


class Capability(Wire, frozen=True):
    """One task kind that a peer executes. `model` is empty for kinds without one; `price` is micro-rUv per unit."""

    kind: Kind
    model: Model
    price: Price


class Presence(Wire, frozen=True):
    """Gossiped every `presence_interval_s` and on change. `load` counts queued and running chunks, measured."""

    record: SignedRecord
    capabilities: Annotated[list[Capability], Meta(max_length=CAPABILITIES_MAX)]
    workers: Count
    load: Count
    version: Version


class Members(Wire, frozen=True):
    records: Annotated[list[SignedRecord], Meta(max_length=RECORDS_MAX)]


class ListMembers(Wire, Query[Members], frozen=True):
    """Ask a peer for signed records that it holds, most recently seen first."""

    records_max: Annotated[int, Meta(ge=1, le=RECORDS_MAX)] = RECORDS_MAX
