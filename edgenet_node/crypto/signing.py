"""Ed25519 (RFC 8032) with mandatory domain separation and one strict rule for what verifies.

What is signed: `"edgenet/sign/1" || 00 || len(domain) || domain || message`, with the length in one byte. The prefix is
free of collisions (fixed start, explicit length), so a signature made in one domain never verifies in another, nor as a
libp2p signature made with the same key: those begin with `noise-libp2p-`, `libp2p-pubsub:` or a length byte.

What verifies: 64-byte signatures `R || S` with `S < L`; `A` and `R` canonically encoded (`y < 2^255 - 19`) and outside
the eight points of small order; and `R` equal, byte for byte, to `S B - k A` (no multiplication by the cofactor).
Every node applies the same rule, so no signature is valid for one and invalid for another.
"""

from __future__ import annotations

from typing import Final, Protocol

from nacl import bindings
from nacl.exceptions import CryptoError

from ..errors import InvariantError

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
DOMAIN_BYTES_MAX: Final = 255

_PREFIX: Final = b"edgenet/sign/1\x00"
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_PRIME: Final = 2**255 - 19
_Y_MASK: Final = 2**255 - 1
_ORDER_8_Y: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
"""The y coordinate of four of the points of order 8; the other four have its negative."""

_SMALL_ORDER_Y: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8_Y, _PRIME - _ORDER_8_Y})


class Signer(Protocol):
    """Who can sign without showing the key: `identity.keys.Identity`, or a test."""

    @property
    def public(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        ...

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """As `sign` below."""
        ...


def public_key(seed: bytes) -> bytes:
    """The public key (32 bytes) of a seed (32 bytes), RFC 8032 section 5.1.5."""
    return expanded_key(seed)[SEED_BYTES:]


def expanded_key(seed: bytes) -> bytes:
    """`seed || public key` (64 bytes): what `sign_expanded` takes, computed once for a key that signs often."""
    if len(seed) != SEED_BYTES:
        raise InvariantError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bytes(secret)


def framed(domain: bytes, message: bytes) -> bytes:
    """What is really signed: see the head of this module. `InvariantError` for an empty or over-long domain."""
    if not 0 < len(domain) <= DOMAIN_BYTES_MAX:
        raise InvariantError(f"a signing domain has 1 to {DOMAIN_BYTES_MAX} bytes, not {len(domain)}")
    return _PREFIX + bytes((len(domain),)) + domain + message


def sign(seed: bytes, domain: bytes, message: bytes) -> bytes:
    """The signature (64 bytes) of `message` in `domain`. Deterministic."""
    return sign_raw(seed, framed(domain, message))


def verify(public: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s on `message` in `domain`. Hostile keys and signatures give False, no error."""
    return verify_raw(public, framed(domain, message), signature)


def sign_raw(seed: bytes, message: bytes) -> bytes:
    """Plain RFC 8032, no domain: only for protocols of others."""
    return sign_expanded(expanded_key(seed), message)


def sign_expanded(expanded: bytes, message: bytes) -> bytes:
    """As `sign_raw`, with the key from `expanded_key`."""
    return bytes(bindings.crypto_sign(message, expanded)[:SIGNATURE_BYTES])


def verify_raw(public: bytes, message: bytes, signature: bytes) -> bool:
    """Plain RFC 8032 under the strict rule, no domain: only for protocols of others."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    if int.from_bytes(signature[32:], "little") >= _ORDER:
        return False
    if not (_acceptable(public) and _acceptable(signature[:32])):
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except CryptoError:
        return False
    return True


def _acceptable(point: bytes) -> bool:
    """Whether 32 bytes encode a point canonically and not one of small order, if they encode a point at all.

    That also excludes the encodings of x = 0 with the sign bit set, whose y is 1 or -1.
    """
    y = int.from_bytes(point, "little") & _Y_MASK
    return y < _PRIME and y not in _SMALL_ORDER_Y
