"""Key derivation: HKDF-SHA256 (RFC 5869) from good secrets, Argon2id (RFC 9106) from passwords."""

from __future__ import annotations

from typing import Final

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import InvariantError, LocalError

HKDF_BYTES_MAX: Final = 255 * 32
"""RFC 5869 section 2.3."""

ARGON2_MEMORY_KIB: Final = 65_536
ARGON2_PASSES: Final = 3
ARGON2_LANES: Final = 1
"""64 MiB, three passes, one lane: about 0.2 s on one core."""

ARGON2_MEMORY_KIB_MIN: Final = 8
ARGON2_MEMORY_KIB_MAX: Final = 262_144
ARGON2_PASSES_MAX: Final = 16
ARGON2_LANES_MAX: Final = 4
"""Bounds for parameters that were read from a file: 256 MiB and some seconds at most, whoever wrote it."""

SALT_BYTES: Final = 16


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes of output keying material. `InvariantError` outside 1 to 8,160 bytes.

    Salt and info must not be of a peer's free choosing and length: HMAC pads short salts, so that different ones may
    give the same key. Ours are digests or fixed layouts.
    """
    if not 0 < length <= HKDF_BYTES_MAX:
        raise InvariantError(f"HKDF-SHA256 gives 1 to {HKDF_BYTES_MAX} bytes, not {length}")
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def argon2id(
    password: bytes,
    salt: bytes,
    *,
    memory_kib: int = ARGON2_MEMORY_KIB,
    passes: int = ARGON2_PASSES,
    lanes: int = ARGON2_LANES,
    length: int = 32,
) -> bytes:
    """A key of `length` bytes from a password: Argon2id version 0x13, without the secret and associated data of
    the RFC, which the library does not offer.

    `InvariantError` for parameters out of bounds (checked before memory is taken), `LocalError` when there is not
    enough memory.
    """
    low = max(ARGON2_MEMORY_KIB_MIN, 8 * lanes)
    if not (low <= memory_kib <= ARGON2_MEMORY_KIB_MAX and 1 <= passes <= ARGON2_PASSES_MAX):
        raise InvariantError(f"Argon2id memory {memory_kib} KiB or passes {passes} out of bounds")
    if not (1 <= lanes <= ARGON2_LANES_MAX and 8 <= len(salt) <= 64 and 4 <= length <= 1024):
        raise InvariantError(f"Argon2id lanes {lanes}, salt of {len(salt)} or output of {length} bytes out of bounds")
    try:
        return hash_secret_raw(password, salt, passes, memory_kib, lanes, length, Type.ID)
    except HashingError as error:
        raise LocalError(f"Argon2id with {memory_kib} KiB of memory: {error}") from error
