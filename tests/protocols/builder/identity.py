"""Keys, names, signatures, genesis records, session handshakes."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .kit import CREATED_MS, FOUNDER, OTHER, THIRD, Book, Key, base58, framed, genesis

NAMES, PEER_ID, SIGNATURE, GENESIS = "names", "peer-id", "signature", "genesis"
OFFER, ANSWER = "session-offer", "session-answer"
RFC8032 = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""The public key of RFC 8032 section 7.1, test 1."""


def build(book: Book) -> None:
    _names(book)
    _signatures(book)
    _genesis(book)
    _sessions(book)


def pi_key(public: bytes) -> bytes:
    hashed = hashlib.sha512(bytes.fromhex("3141592653589793") + public).digest()[:40]
    return bytes(a ^ b for a, b in zip(hashed, bytes.fromhex("31415926") + bytes(36), strict=True))


def _names(book: Book) -> None:
    for name, public in (
        ("RFC 8032, test 1", RFC8032),
        ("seed of ones", FOUNDER.public),
        ("seed of twos", OTHER.public),
    ):
        peer = base58(bytes.fromhex("002408011220") + public)
        value = {"peer_id": peer, "pi_key": pi_key(public), "short_id": "\u03c0:" + pi_key(public)[:8].hex()}
        book.good(f"names of a key: {name}", NAMES, public, ["ID-1", "ID-2"], value)
    good = FOUNDER.peer_id
    for name, text in (
        ("a character outside the alphabet", "0" + good[1:]),
        ("one character less", good[:-1]),
        ("one character more", good + "1"),
        ("a hashed key (Qm)", base58(b"\x12\x20" + bytes(32))),
        ("a secp256k1 key", base58(bytes.fromhex("002508021221") + b"\2" + bytes(32))),
        ("a leading zero byte more", "1" + good),
        ("nothing", ""),
        ("a newline at the end", good + "\n"),
        ("129 characters", "1" * 129),
    ):
        book.bad(f"peer id: {name}", PEER_ID, text.encode(), "malformed", name, ["ID-1"])


def _signatures(book: Book) -> None:
    message = b"a message"
    for domain in ("peer-record", "index-grant", "genesis", "d", "d" * 255):
        more = {"domain": domain, "public": FOUNDER.public.hex(), "signature": FOUNDER.sign(domain, message).hex()}
        name = f"signed in the domain {domain[:16]} of {len(domain)} bytes"
        book.good(name, SIGNATURE, message, ["ENC-10"], {"signed": framed(domain, message)}, **more)
    empty = {"domain": "d", "public": FOUNDER.public.hex(), "signature": FOUNDER.sign("d", b"").hex()}
    book.good("an empty message", SIGNATURE, b"", ["ENC-10"], {"signed": framed("d", b"")}, **empty)
    good = FOUNDER.sign("peer-record", message)
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    identity = b"\1" + bytes(31)
    key = FOUNDER.public
    for name, public, signature, domain in (
        ("of another message", key, FOUNDER.sign("peer-record", b"another"), "peer-record"),
        ("of another key", key, THIRD.sign("peer-record", message), "peer-record"),
        ("in another domain", key, good, "index-grant"),
        ("in a longer domain", key, FOUNDER.sign("peer-recor", b"d" + message), "peer-record"),
        ("without a domain", key, FOUNDER.sign_raw(message), "peer-record"),
        ("with S above the group order", key, malleable, "peer-record"),
        ("with an R that is not canonical", key, (2**255 - 18).to_bytes(32, "little") + good[32:], "peer-record"),
        ("of the neutral key", identity, identity + bytes(32), "peer-record"),
        ("of a key that is no point", b"\2" + bytes(31), good, "peer-record"),
        ("of 63 bytes", key, good[:63], "peer-record"),
        ("of 65 bytes", key, good + b"\0", "peer-record"),
    ):
        more = {"domain": domain, "public": public.hex(), "signature": signature.hex()}
        book.bad(
            f"a signature {name}",
            SIGNATURE,
            message,
            "malformed",
            name,
            ["ENC-10" if "domain" in name else "ENC-11"],
            **more,
        )


def record(founder: Key = FOUNDER, **changes: Any) -> bytes:
    parts = genesis(founder, **changes)
    numbers = parts["epoch"].to_bytes(4, "big") + parts["created_ms"].to_bytes(8, "big")
    data: bytes = b"\1" + parts["genesis"] + parts["founder"] + numbers + parts["signature"]
    return data


def _genesis(book: Book) -> None:
    for name, epoch, created_ms in (
        ("a swarm", 0, CREATED_MS),
        ("the lowest numbers", 0, 0),
        ("the highest numbers", 2**32 - 1, 2**63 - 1),
    ):
        value = genesis(FOUNDER, epoch, created_ms)
        data = record(epoch=epoch, created_ms=created_ms)
        book.good(f"genesis of {name}", GENESIS, data, ["ID-3"], value | {"name": value["genesis"].hex()})
    good = record()
    forged = record(OTHER)[:22] + FOUNDER.public + record(OTHER)[54:]
    for name, data in (
        ("cut short", good[:-1]),
        ("with a byte after it", good + b"\0"),
        ("of version 2", b"\2" + good[1:]),
        ("of version 0", b"\0" + good[1:]),
        ("of nothing", b""),
        ("with another name", good[:1] + bytes(21) + good[22:]),
        ("with another founder", forged),
        ("with another epoch", good[:54] + b"\0\0\0\1" + good[58:]),
        ("with another time", good[:65] + bytes([good[65] ^ 1]) + good[66:]),
        ("with a time above 2^63", record(created_ms=2**63)),
        ("with another signature", good[:66] + record(OTHER)[66:]),
        ("signed in another domain", good[:66] + FOUNDER.sign("peer-record", good[1:66])),
        ("signed without a domain", good[:66] + FOUNDER.sign_raw(good[1:66])),
    ):
        book.bad(f"genesis {name}", GENESIS, data, "malformed", name, ["ID-3"])


def half(
    kind: int,
    sender: Key,
    receiver: Key,
    number: int,
    *,
    version: int = 1,
    created_ms: int = CREATED_MS,
    ttl_s: int = 3600,
    digest: bytes = bytes(32),
    domain: str = "",
    ephemeral: bytes | None = None,
) -> bytes:
    """One half of a handshake; its 64 bytes of entropy are all `number`."""
    entropy = bytes([number]) * 32
    public = X25519PrivateKey.from_private_bytes(entropy).public_key().public_bytes_raw()
    session = hashlib.sha512(b"SESSION:" + bytes.fromhex("27182818") + sender.pi_key + entropy).digest()[:34]
    body = struct.pack(
        ">BB32s32s32s34sQI32s",
        version,
        kind,
        sender.public,
        receiver.public,
        ephemeral or public,
        session,
        created_ms,
        ttl_s,
        digest,
    )
    return body + sender.sign(domain or ("session-offer" if kind == 1 else "session-answer"), body)


def _sessions(book: Book) -> None:
    offer = half(1, FOUNDER, OTHER, 0xA1)
    digest = hashlib.sha256(offer).digest()
    answer = half(2, OTHER, FOUNDER, 0xB2, digest=digest)
    at = {"sender": FOUNDER.public.hex(), "receiver": OTHER.public.hex(), "now_ms": CREATED_MS}
    book.good("session offer", OFFER, offer, ["ID-4"], {"answer": answer}, **at, entropy="b2" * 64)
    book.good("session answer", ANSWER, answer, ["ID-4"], {"offer": offer}, **at, entropy="a1" * 64)
    for name, data, error in (
        ("cut short", offer[:-1], "malformed"),
        ("with a byte after it", offer + b"\0", "malformed"),
        ("of version 2", half(1, FOUNDER, OTHER, 0xA1, version=2), "malformed"),
        ("of another kind", half(2, FOUNDER, OTHER, 0xA1, domain="session-offer"), "malformed"),
        ("to somebody else", half(1, FOUNDER, THIRD, 0xA1), "refused"),
        ("from somebody else", half(1, THIRD, OTHER, 0xA1), "refused"),
        ("signed in another domain", half(1, FOUNDER, OTHER, 0xA1, domain="session-answer"), "malformed"),
        ("with the digest of an offer", half(1, FOUNDER, OTHER, 0xA1, digest=digest), "malformed"),
        ("that lives for no time", half(1, FOUNDER, OTHER, 0xA1, ttl_s=0), "malformed"),
        ("that lives for more than a day", half(1, FOUNDER, OTHER, 0xA1, ttl_s=86_401), "malformed"),
        ("more than five minutes old", half(1, FOUNDER, OTHER, 0xA1, created_ms=CREATED_MS - 300_001), "refused"),
        ("more than a minute ahead", half(1, FOUNDER, OTHER, 0xA1, created_ms=CREATED_MS + 60_001), "refused"),
        ("with a weak ephemeral key", half(1, FOUNDER, OTHER, 0xA1, ephemeral=b"\1" + bytes(31)), "malformed"),
    ):
        ids = ["ID-5"] if error == "refused" else ["ID-4"]
        book.bad(f"session offer {name}", OFFER, data, error, name, ids, **at, entropy="b2" * 64)
    for name, data, error in (
        ("to another offer", half(2, OTHER, FOUNDER, 0xB2, digest=hashlib.sha256(b"").digest()), "refused"),
        ("without the digest of its offer", half(2, OTHER, FOUNDER, 0xB2), "malformed"),
        ("that lives longer than was offered", half(2, OTHER, FOUNDER, 0xB2, digest=digest, ttl_s=3601), "malformed"),
        ("from somebody else", half(2, THIRD, FOUNDER, 0xB2, digest=digest), "refused"),
        ("that is the offer sent back", offer, "malformed"),
    ):
        ids = ["ID-5"] if error == "refused" else ["ID-4"]
        book.bad(f"session answer {name}", ANSWER, data, error, name, ids, **at, entropy="a1" * 64)
