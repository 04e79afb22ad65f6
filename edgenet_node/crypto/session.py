"""A session: two identities agree on two keys that only they know, in one round trip.

The initiator sends an offer, the responder an answer; each carries a fresh X25519 key and a session id of its sender,
names both identities, and is signed by its sender's Ed25519 key in a domain of its own; the answer also signs the
digest of the offer. Both sides then derive

    secret = X25519(own ephemeral, other ephemeral)                       (an all-zero one is refused)
    salt   = SHA-256(offer || answer)
    info   = "edgenet/session/1" || identity_i || identity_r || ephemeral_i || ephemeral_r || id_i || id_r
    key_ir || key_ri = HKDF-SHA256(secret, salt, info, 64)

Ephemerals give forward secrecy, signatures over both names mutual authentication, the digest ties the answer to its
offer. The key is confirmed by the first message that opens. An offer that is replayed within its freshness makes the
responder build a session that nobody can use: limit how many are kept per peer.

A session lives `ttl_s` seconds of each side's own monotonic clock and then neither seals nor opens; messages are sealed
with counters, opened once (`aead.Sealer`, `aead.Opener`) and bound to the associated data of the caller.
Freshness follows wall clocks: 5 minutes old at most, 1 minute ahead at most.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Struct

from ..effects import Now
from ..errors import Conflict, InvariantError, Malformed, Refused
from .aead import KEY_BYTES, WINDOW, Opener, Sealer
from .fingerprints import session_id
from .hashing import sha256
from .kdf import hkdf_sha256
from .signing import Signer, verify

TTL_S: Final = 3600
TTL_S_MAX: Final = 86_400
"""A day: keys that live longer are not ephemeral."""

PAST_MS: Final = 300_000
FUTURE_MS: Final = 60_000
PENDING_S: Final = 60.0
"""How long an offer waits for its answer; a round trip takes far less."""

ENTROPY_BYTES: Final = 64

_VERSION: Final = 1
_OFFER: Final = 1
_ANSWER: Final = 2
_DOMAINS: Final = {_OFFER: b"session-offer", _ANSWER: b"session-answer"}
_BODY: Final = struct.Struct(">BB32s32s32s34sQI32s")
"""Version, kind, sender, receiver, ephemeral key, session id, created_ms, ttl_s, digest of the offer (0 in offers)."""

HANDSHAKE_BYTES: Final = _BODY.size + 64
_NO_OFFER: Final = bytes(32)


class _Part(Struct, frozen=True):
    """One side's half of the handshake, as sent."""

    kind: int
    sender: bytes
    receiver: bytes
    ephemeral: bytes
    session: bytes
    created_ms: int
    ttl_s: int
    offer_digest: bytes

    def signed(self, signer: Signer) -> bytes:
        body = _BODY.pack(
            _VERSION,
            self.kind,
            self.sender,
            self.receiver,
            self.ephemeral,
            self.session,
            self.created_ms,
            self.ttl_s,
            self.offer_digest,
        )
        return body + signer.sign(_DOMAINS[self.kind], body)


class Session:
    """An open session; both directions end at `expires_mono`."""

    def __init__(
        self, *, peer: bytes, ids: tuple[bytes, bytes], keys: tuple[bytes, bytes], expires_mono: float
    ) -> None:
        """`ids` and `keys`: this side's first."""
        self.peer = peer
        self.own_id, self.peer_id = ids
        self.expires_mono = expires_mono
        self._sealer = Sealer(keys[0])
        self._opener = Opener(keys[1], window=WINDOW)

    def seal(self, plaintext: bytes, aad: bytes, now: Now) -> bytes:
        """`counter || ciphertext || tag` for the peer. `Conflict` after the end of the session or of its key."""
        self._check_alive(now)
        return self._sealer.seal(plaintext, aad)

    def open(self, message: bytes, aad: bytes, now: Now) -> bytes:
        """What the peer sealed, once. `Malformed` for forgeries, `Refused` for replays, `Conflict` after the end."""
        self._check_alive(now)
        return self._opener.open(message, aad)

    def _check_alive(self, now: Now) -> None:
        if now.mono >= self.expires_mono:
            raise Conflict("this session has expired: agree on a new one")


class Pending:
    """An offer that was sent and not yet answered."""

    def __init__(self, part: _Part, message: bytes, secret: X25519PrivateKey, made_mono: float) -> None:
        self._part = part
        self._message = message
        self._secret: X25519PrivateKey | None = secret
        self._made_mono = made_mono

    def complete(self, answer: bytes, now: Now) -> Session:
        """The session, from the peer's answer. `Malformed` or `Refused` for one that does not fit, and the offer goes
        on waiting for the right one; `Conflict` once it was used or has waited for `PENDING_S`."""
        if self._secret is None or now.mono >= self._made_mono + PENDING_S:
            raise Conflict("this session offer has lapsed: make a new one")
        part = _read(answer, _ANSWER, sender=self._part.receiver, receiver=self._part.sender, now=now)
        if part.offer_digest != sha256(self._message):
            raise Refused("an answer to another session offer")
        if part.ttl_s > self._part.ttl_s:
            raise Malformed("an answer that lives longer than the session offered")
        shared = _exchange(self._secret, part.ephemeral)
        forth, back = _keys(shared, self._part, part, self._message + answer)
        self._secret = None
        return Session(
            peer=part.sender,
            ids=(self._part.session, part.session),
            keys=(forth, back),
            expires_mono=self._made_mono + part.ttl_s,
        )


def offer(signer: Signer, peer: bytes, entropy: bytes, now: Now, *, ttl_s: int = TTL_S) -> tuple[Pending, bytes]:
    """Start a session with the holder of `peer` (an Ed25519 public key): the offer to send (240 bytes), and what to
    complete with its answer. `entropy` is 64 random bytes, never used again."""
    if not 0 < ttl_s <= TTL_S_MAX:
        raise InvariantError(f"a session lives 1 to {TTL_S_MAX} s, not {ttl_s}")
    secret, part = _own_part(signer, peer, entropy, now, kind=_OFFER, ttl_s=ttl_s, offer_digest=_NO_OFFER)
    message = part.signed(signer)
    return Pending(part, message, secret, now.mono), message


def accept(
    signer: Signer, peer: bytes, message: bytes, entropy: bytes, now: Now, *, ttl_s_max: int = TTL_S
) -> tuple[Session, bytes]:
    """Answer an offer that came from `peer` (as the transport authenticated it): the session, and the answer to send.

    The session lives as long as was offered, at most `ttl_s_max`. `Malformed` or `Refused` for a bad offer.
    """
    theirs = _read(message, _OFFER, sender=peer, receiver=signer.public, now=now)
    ttl_s = min(theirs.ttl_s, ttl_s_max)
    digest = sha256(message)
    secret, part = _own_part(signer, peer, entropy, now, kind=_ANSWER, ttl_s=ttl_s, offer_digest=digest)
    shared = _exchange(secret, theirs.ephemeral)
    answer = part.signed(signer)
    forth, back = _keys(shared, theirs, part, message + answer)
    session = Session(
        peer=peer, ids=(part.session, theirs.session), keys=(back, forth), expires_mono=now.mono + part.ttl_s
    )
    return session, answer


def _own_part(
    signer: Signer, peer: bytes, entropy: bytes, now: Now, *, kind: int, ttl_s: int, offer_digest: bytes
) -> tuple[X25519PrivateKey, _Part]:
    if len(entropy) != ENTROPY_BYTES or len(peer) != 32 or peer == signer.public:
        raise InvariantError(f"a session takes {ENTROPY_BYTES} random bytes and the public key of another peer")
    secret = X25519PrivateKey.from_private_bytes(entropy[:32])
    part = _Part(
        kind=kind,
        sender=signer.public,
        receiver=peer,
        ephemeral=secret.public_key().public_bytes_raw(),
        session=session_id(signer.public, entropy[32:]),
        created_ms=int(now.wall * 1000),
        ttl_s=ttl_s,
        offer_digest=offer_digest,
    )
    return secret, part


def _read(message: bytes, kind: int, *, sender: bytes, receiver: bytes, now: Now) -> _Part:
    """The verified half of `sender`. The signature is checked before anything it covers is believed."""
    if len(message) != HANDSHAKE_BYTES:
        raise Malformed(f"a session handshake of {len(message)} bytes, not {HANDSHAKE_BYTES}")
    body, signature = message[: _BODY.size], message[_BODY.size :]
    version, said_kind, *fields = _BODY.unpack(body)
    if version != _VERSION or said_kind != kind:
        raise Malformed(f"a session handshake of version {version}, kind {said_kind}")
    part = _Part(kind, *fields)
    if part.sender != sender or part.receiver != receiver:
        raise Refused("a session handshake between other peers")
    if not verify(sender, _DOMAINS[kind], body, signature):
        raise Malformed("a session handshake that its sender did not sign")
    if (kind == _OFFER) != (part.offer_digest == _NO_OFFER):
        raise Malformed("a session handshake with the digest of another kind")
    if not 0 < part.ttl_s <= TTL_S_MAX:
        raise Malformed(f"a session of {part.ttl_s} s, at most {TTL_S_MAX} allowed")
    if not -FUTURE_MS <= now.wall * 1000 - part.created_ms <= PAST_MS:
        raise Refused("a session handshake that is too old, or whose clock and ours differ by minutes")
    return part


def _exchange(secret: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return secret.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # the shared secret is all zero: a point of small order (RFC 7748 section 6.1)
        raise Malformed("a session handshake with a weak ephemeral key") from error


def _keys(shared: bytes, first: _Part, second: _Part, transcript: bytes) -> tuple[bytes, bytes]:
    names = first.sender + second.sender
    info = b"edgenet/session/1" + names + first.ephemeral + second.ephemeral + first.session + second.session
    both = hkdf_sha256(shared, salt=sha256(transcript), info=info, length=2 * KEY_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]
