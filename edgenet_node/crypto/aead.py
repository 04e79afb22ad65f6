"""AES-256-GCM (NIST SP 800-38D): 256-bit keys, 96-bit nonces, 128-bit tags, associated data always said.

A nonce must never repeat under one key: it would give away both plaintexts and the key of the tag. `seal` leaves that
to the caller and suits keys that seal once; `Sealer` counts, and refuses before the counter or the block budget ends.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Conflict, InvariantError, Malformed, Refused

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

MESSAGES_MAX: Final = 2**32
"""Messages under one key: far inside the 64 bits of the counter."""

BLOCKS_MAX: Final = 2**36
"""16-byte blocks under one key (1 TiB): an observer's advantage stays below 2^-57, as in TLS 1.3 (RFC 8446, 5.5)."""

WINDOW: Final = 64
"""How far back an `Opener` still accepts a message that was overtaken; parallel streams reorder by a few."""

COUNTER_BYTES: Final = 8


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """`ciphertext || tag`, 16 bytes longer than the plaintext. `InvariantError` for wrong lengths of key or nonce."""
    _check(key, nonce)
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext, if `sealed` was made with this key, nonce and associated data; else `Malformed`."""
    _check(key, nonce)
    return _unseal(AESGCM(key), nonce, sealed, aad)


def nonce_of(counter: int) -> bytes:
    """Four zero bytes and the counter, big-endian."""
    return bytes(NONCE_BYTES - COUNTER_BYTES) + counter.to_bytes(COUNTER_BYTES, "big")


class Sealer:
    """The sending half of a key that is used in one direction by one sender: `counter (8 bytes) || ciphertext || tag`.

    The counter starts at 0 and is the nonce; it is authenticated by being it.
    """

    def __init__(self, key: bytes, *, messages_max: int = MESSAGES_MAX, blocks_max: int = BLOCKS_MAX) -> None:
        _check(key, nonce_of(0))
        self._cipher = AESGCM(key)
        self._messages_max = min(messages_max, MESSAGES_MAX)
        self._blocks_left = min(blocks_max, BLOCKS_MAX)
        self._next = 0

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """`Conflict` when the key has reached its limit: agree on a new one. Nothing was sealed then."""
        blocks = -(-len(plaintext) // 16) + -(-len(aad) // 16) + 1
        if self._next >= self._messages_max or blocks > self._blocks_left:
            raise Conflict(f"this key has sealed its limit ({self._next} messages): agree on a new session")
        counter, self._next = self._next, self._next + 1
        self._blocks_left -= blocks
        nonce = nonce_of(counter)
        return nonce[-COUNTER_BYTES:] + self._cipher.encrypt(nonce, plaintext, aad)


class Opener:
    """The receiving half: each message once. Messages may overtake one another by less than `window`; with `window` 0
    every message must be the successor of the one before, so that a missing one shows.

    A message is authenticated before it moves the window: forgeries cannot shut out what is genuine.
    """

    def __init__(self, key: bytes, *, window: int = WINDOW) -> None:
        _check(key, nonce_of(0))
        self._cipher = AESGCM(key)
        self._window = window
        self._next = 0
        self._seen = 0

    def open(self, message: bytes, aad: bytes) -> bytes:
        """The plaintext. `Malformed` if it does not authenticate, `Refused` for a replay or a message out of order."""
        if len(message) < COUNTER_BYTES + TAG_BYTES:
            raise Malformed(f"a sealed message of {len(message)} bytes")
        counter = int.from_bytes(message[:COUNTER_BYTES], "big")
        self._check_order(counter)
        plaintext = _unseal(self._cipher, nonce_of(counter), message[COUNTER_BYTES:], aad)
        self._mark(counter)
        return plaintext

    def _check_order(self, counter: int) -> None:
        age = self._next - 1 - counter
        if self._window == 0 and age != -1:
            raise Refused(f"sealed message {counter} where {self._next} was due")
        if counter >= MESSAGES_MAX:
            raise Refused("a sealed message beyond the limit of its key")
        if age >= 0 and (age >= self._window or self._seen >> age & 1):
            raise Refused(f"sealed message {counter} was seen before, or is too old to tell")

    def _mark(self, counter: int) -> None:
        """Bit `a` of `_seen` is message `_next - 1 - a`."""
        if counter >= self._next:
            shift = counter + 1 - self._next
            self._seen = 1 if shift >= self._window else (self._seen << shift | 1) & ((1 << self._window) - 1)
            self._next = counter + 1
        else:
            self._seen |= 1 << (self._next - 1 - counter)


def _unseal(cipher: AESGCM, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag as error:
        raise Malformed("sealed bytes do not authenticate") from error


def _check(key: bytes, nonce: bytes) -> None:
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise InvariantError(f"AES-256-GCM takes a key of 32 and a nonce of 12 bytes, not {len(key)} and {len(nonce)}")
