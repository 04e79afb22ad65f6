"""Names of keys and of swarms.

One Ed25519 key has two names. The PeerId contains the key (`00 24 08 01 12 20 || key`, an identity multihash in base58)
and is what peers are addressed and authorised by. The Pi-key is a 40-byte fingerprint of the same key: it identifies a
node to people, and whoever shows it must also show the key, since a hash does not give it back.

A swarm is named by its genesis: 21 bytes that commit to founder, epoch and time of founding. The `Genesis` record
carries what they commit to and the founder's signature, so that anybody can check who founded the swarm.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from ..errors import InvariantError, Malformed
from .base58 import b58decode, b58encode
from .hashing import sha256
from .signing import PUBLIC_BYTES, SIGNATURE_BYTES, Signer, verify

PI_KEY_BYTES: Final = 40
SESSION_ID_BYTES: Final = 34
GENESIS_BYTES: Final = 21
"""314, 271 and 161 bits (pi, e and the golden ratio) in whole bytes; the spare bits are part of the hash."""

_PI_MAGIC: Final = bytes.fromhex("3141592653589793")
_EULER_MAGIC: Final = bytes.fromhex("27182818")
_PHI_MAGIC: Final = bytes.fromhex("16180339")
_PEER_ID_PREFIX: Final = bytes.fromhex("002408011220")

GENESIS_DOMAIN: Final = b"genesis"
GENESIS_RECORD_BYTES: Final = 1 + GENESIS_BYTES + PUBLIC_BYTES + 4 + 8 + SIGNATURE_BYTES
_GENESIS_VERSION: Final = 1
_EPOCH_MAX: Final = 2**32 - 1
_CREATED_MS_MAX: Final = 2**63 - 1


def pi_key(public: bytes) -> bytes:
    """`h = SHA-512(magic || public)[:40]`, its first 4 bytes XOR `magic[:4]`; magic is 31 41 59 26 53 58 97 93."""
    _check_public(public)
    digest = hashlib.sha512(_PI_MAGIC + public).digest()[:PI_KEY_BYTES]
    return bytes(a ^ b for a, b in zip(digest[:4], _PI_MAGIC[:4], strict=True)) + digest[4:]


def short_id(public: bytes) -> str:
    """`π:` and the first 16 hex digits of the Pi-key. For display only: 64 bits can be matched on purpose, so nothing
    is ever granted to, or looked up by, a short id."""
    return "π:" + pi_key(public)[:8].hex()


def peer_id(public: bytes) -> str:
    """The libp2p PeerId, `12D3KooW...`, 52 characters."""
    _check_public(public)
    return b58encode(_PEER_ID_PREFIX + public)


def public_from_peer_id(text: str) -> bytes:
    """The Ed25519 public key inside a PeerId. `Malformed` for anything else: other key types, hashed keys, CIDs.

    Only the form of the bytes is checked; a key that is no point, or a weak one, verifies nothing (`signing.verify`).
    """
    data = b58decode(text)
    if len(data) != len(_PEER_ID_PREFIX) + PUBLIC_BYTES or not data.startswith(_PEER_ID_PREFIX):
        raise Malformed("not the PeerId of an Ed25519 key (12D3KooW...)")
    return data[len(_PEER_ID_PREFIX) :]


def session_id(public: bytes, entropy: bytes) -> bytes:
    """`SHA-512("SESSION:" || 27 18 28 18 || pi_key || entropy)[:34]`, with 32 random bytes of entropy."""
    if len(entropy) != 32:
        raise InvariantError(f"a session id takes 32 random bytes, not {len(entropy)}")
    return hashlib.sha512(b"SESSION:" + _EULER_MAGIC + pi_key(public) + entropy).digest()[:SESSION_ID_BYTES]


class Genesis(Struct, frozen=True, forbid_unknown_fields=True):
    """The birth certificate of a swarm. May be a field of a `Wire` message; whoever receives one calls `verify`.

    `genesis = SHA-256("GENESIS_ORIGIN:" || 16 18 03 39 || pi_key(founder) || epoch (4) || created_ms (8))[:21]`;
    `signature` is the founder's, in the domain `genesis`, over `genesis || founder || epoch || created_ms`. Numbers are
    big-endian; `created_ms` is Unix time in milliseconds.
    """

    genesis: bytes
    founder: bytes
    epoch: int
    created_ms: int
    signature: bytes

    @property
    def name(self) -> str:
        """The swarm's name: 42 hex digits."""
        return self.genesis.hex()

    def verify(self) -> bool:
        """Whether the fields have their lengths and ranges, the genesis follows from them, and the founder signed."""
        return (
            len(self.founder) == PUBLIC_BYTES
            and len(self.signature) == SIGNATURE_BYTES
            and 0 <= self.epoch <= _EPOCH_MAX
            and 0 <= self.created_ms <= _CREATED_MS_MAX
            and self.genesis == _genesis(self.founder, self.epoch, self.created_ms)
            and verify(self.founder, GENESIS_DOMAIN, self._signed(), self.signature)
        )

    def to_bytes(self) -> bytes:
        """`01 || genesis || founder || epoch || created_ms || signature`, 130 bytes. Of a verified record only."""
        return bytes((_GENESIS_VERSION,)) + self._signed() + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Genesis:
        """The verified record, or `Malformed`."""
        if len(data) != GENESIS_RECORD_BYTES or data[0] != _GENESIS_VERSION:
            raise Malformed(f"not a genesis record of version {_GENESIS_VERSION} ({GENESIS_RECORD_BYTES} bytes)")
        record = cls(
            genesis=data[1:22],
            founder=data[22:54],
            epoch=int.from_bytes(data[54:58], "big"),
            created_ms=int.from_bytes(data[58:66], "big"),
            signature=data[66:],
        )
        if not record.verify():
            raise Malformed("a genesis record that its founder did not sign")
        return record

    def _signed(self) -> bytes:
        return self.genesis + self.founder + self.epoch.to_bytes(4, "big") + self.created_ms.to_bytes(8, "big")


def found_swarm(founder: Signer, *, epoch: int, created_ms: int) -> Genesis:
    """A new swarm's record. `InvariantError` for an epoch beyond 32 or a time beyond 63 bits."""
    if not (0 <= epoch <= _EPOCH_MAX and 0 <= created_ms <= _CREATED_MS_MAX):
        raise InvariantError(f"genesis epoch {epoch} or time {created_ms} out of range")
    draft = Genesis(_genesis(founder.public, epoch, created_ms), founder.public, epoch, created_ms, b"")
    signature = founder.sign(GENESIS_DOMAIN, draft._signed())
    return Genesis(draft.genesis, draft.founder, epoch, created_ms, signature)


def _genesis(founder: bytes, epoch: int, created_ms: int) -> bytes:
    committed = pi_key(founder) + epoch.to_bytes(4, "big") + created_ms.to_bytes(8, "big")
    return sha256(b"GENESIS_ORIGIN:" + _PHI_MAGIC + committed)[:GENESIS_BYTES]


def _check_public(public: bytes) -> None:
    if len(public) != PUBLIC_BYTES:
        raise InvariantError(f"an Ed25519 public key has {PUBLIC_BYTES} bytes, not {len(public)}")
