"""Bounded field types of messages: the limits of `protocols/*` in one place. A value outside them is `Malformed`.

Patterns end in `\\Z`: in Python's dialect `$` would also let a newline pass at the end.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

PeerId = Annotated[str, Meta(min_length=46, max_length=64, pattern=r"^[1-9A-HJ-NP-Za-km-z]+\Z")]
"""base58btc; an Ed25519 PeerId has 52 characters."""

Swarm = Annotated[str, Meta(min_length=42, max_length=42, pattern=r"^[0-9a-f]+\Z")]
"""The genesis key (21 bytes) in hex."""

SwarmOrNone = Annotated[str, Meta(max_length=42, pattern=r"^([0-9a-f]{42})?\Z")]
"""Empty for a peer that has not found its swarm yet."""

Version = Annotated[str, Meta(max_length=32, pattern=r"^[0-9A-Za-z.+\-]*\Z")]
"""Software version: shown to people, never compared."""

Multiaddr = Annotated[str, Meta(min_length=4, max_length=256, pattern=r"^/[\x21-\x7e]+\Z")]
"""The longest practical one (relay over DNS with peer ids) has about 200 characters."""

Key32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Nonce16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""Random identifier of an auction or a lease."""

Digest = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]+\Z")]
"""SHA-256 in hex."""

Kind = Annotated[str, Meta(min_length=1, max_length=48, pattern=r"^[a-z][a-z0-9_.\-]*\Z")]
"""A task kind."""

Model = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.\-/]*\Z")]

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")]
"""An index, as its owner calls it."""

TaskId = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_]+\Z")]

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bytes64 = Annotated[int, Meta(ge=0, le=2**40)]
"""A size in bytes, at most 1 TiB."""

Millis = Annotated[int, Meta(ge=0, le=2**53)]
"""Unix milliseconds."""

Units = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""Keeps price times units far inside 64 bits."""

Price = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""micro-rUv per unit, at most 1,000 rUv: a typing error above it is refused instead of paid."""

Seconds = Annotated[float, Meta(ge=0, le=86_400 * 31)]
"""A duration; NaN and infinities fail the bounds."""

DocumentId = Annotated[str, Meta(min_length=1, max_length=512)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
