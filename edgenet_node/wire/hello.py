"""`hello/1`: the first call on every new connection, before any swarm-bound protocol. Spec: `protocols/hello`.

The dialling side calls, and an accepting member too that hears nothing for half a second: two that dial each other at
once may both take themselves for the accepting side. The answer admits both, or refuses with the reason. It is open to
peers of any swarm: that is how a fresh node learns which swarm it has reached.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..crypto.fingerprints import Genesis
from ..effects import Query
from .codec import Wire
from .fields import Key32, Millis, Multiaddr, Signature, Swarm, SwarmOrNone, Version

ADDRESSES_MAX = 16
"""Multiaddrs of one peer; a server with several interfaces and a relay needs fewer."""

RECORD_BYTES_MAX = 8192
"""An encoded record with the most and longest addresses has about 4.3 kB."""

WELCOME_RECORDS_MAX = 16
"""Members that a newcomer learns with its admission; `peers/1` tells more."""


class SignedRecord(Wire, frozen=True):
    """Addresses of one peer, signed by itself: `body` is the canonical encoding of a `PeerRecord`, `signature` is
    Ed25519 over it in the domain `peer-record`. Anybody may pass it on."""

    body: Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
    signature: Signature


class PeerRecord(Wire, frozen=True):
    """What a `SignedRecord` carries. `seq` grows with each change (Unix milliseconds); the highest one counts."""

    public_key: Key32
    swarm: Swarm
    seq: Millis
    addresses: Annotated[list[Multiaddr], Meta(max_length=ADDRESSES_MAX)]


class Welcome(Wire, frozen=True):
    """Admission granted. `genesis` lets a fresh peer adopt the swarm after checking it; `records` are some members."""

    swarm: Swarm
    genesis: Genesis
    version: Version
    record: SignedRecord
    records: Annotated[list[SignedRecord], Meta(max_length=WELCOME_RECORDS_MAX)]


class Hello(Wire, Query[Welcome], frozen=True):
    """`swarm` is the caller's genesis in hex, empty when it is fresh and will adopt; `record` is absent then."""

    swarm: SwarmOrNone
    version: Version
    record: SignedRecord | None = None
