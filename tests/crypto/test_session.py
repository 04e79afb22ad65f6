"""Sessions: both sides agree, nobody else can take part, and both directions end."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.crypto import session
from edgenet_node.crypto.fingerprints import session_id
from edgenet_node.crypto.session import HANDSHAKE_BYTES, PENDING_S, TTL_S_MAX, Pending, Session, accept, offer
from edgenet_node.effects import Now
from edgenet_node.errors import Conflict, InvariantError, Malformed, Refused
from edgenet_node.identity.keys import Identity

ANN = Identity(b"\x01" * 32)
BEN = Identity(b"\x02" * 32)
EVE = Identity(b"\x03" * 32)
ENTROPY_A = bytes(range(64))
ENTROPY_B = bytes(range(64, 128))
START = Now(mono=100.0, wall=1_700_000_000.0)


def later(seconds: float) -> Now:
    return Now(START.mono + seconds, START.wall + seconds)


def handshake(ttl_s: int = 3600) -> tuple[Session, Session, bytes, bytes]:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START, ttl_s=ttl_s)
    ben, answer = accept(BEN, ANN.public, offered, ENTROPY_B, START)
    return pending.complete(answer, START), ben, offered, answer


def test_rfc_7748_section_6_1() -> None:
    """Bob's private key and Alice's public key, through the function that sessions use."""
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = session._exchange(X25519PrivateKey.from_private_bytes(bob), alice)
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_known_answer() -> None:
    ann, ben, offered, answer = handshake()
    assert len(offered) == len(answer) == HANDSHAKE_BYTES == 240
    assert ann.own_id == ben.peer_id == session_id(ANN.public, ENTROPY_A[32:])
    assert ben.own_id == ann.peer_id == session_id(BEN.public, ENTROPY_B[32:])
    assert (ann.peer, ben.peer) == (BEN.public, ANN.public)
    message = ann.seal(b"hello", b"topic", START)
    assert message.hex() == "0000000000000000a246021dd15f2b6c9c404d82b786b8f2a6e70c0343"
    assert ben.open(message, b"topic", START) == b"hello"
    assert (
        hashlib.sha256(offered + answer).hexdigest()
        == "66e2d9a41a055bc323626979e9deb66a96dd908a47d310daa6d20c068a67b0b4"
    )


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=64), st.binary(max_size=16)), max_size=20))
@settings(max_examples=30)
def test_both_directions_carry_what_was_said(said: list[tuple[bool, bytes, bytes]]) -> None:
    ann, ben, _, _ = handshake()
    for forth, text, aad in said:
        sender, receiver = (ann, ben) if forth else (ben, ann)
        message = sender.seal(text, aad, START)
        with pytest.raises((Malformed, Refused)):
            sender.open(message, aad, START)  # one's own message does not open: each direction has its key
        with pytest.raises(Malformed):
            receiver.open(message, aad + b"x", START)
        assert receiver.open(message, aad, START) == text
        with pytest.raises(Refused):
            receiver.open(message, aad, START)


@given(st.booleans(), st.integers(0, 8 * HANDSHAKE_BYTES - 1))
@settings(max_examples=300)
def test_any_changed_bit_of_the_handshake_is_refused(in_offer: bool, bit: int) -> None:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START)
    message = bytearray(offered if in_offer else accept(BEN, ANN.public, offered, ENTROPY_B, START)[1])
    message[bit // 8] ^= 1 << bit % 8
    changed = bytes(message)
    with pytest.raises((Malformed, Refused)):
        accept(BEN, ANN.public, changed, ENTROPY_B, START) if in_offer else pending.complete(changed, START)


@given(st.binary(max_size=260))
def test_hostile_handshakes_raise_nothing_else(data: bytes) -> None:
    pending, _ = offer(ANN, BEN.public, ENTROPY_A, START)
    padded = (b"\x01\x01" + data).ljust(HANDSHAKE_BYTES, b"\x00")
    for message in (data, padded):
        with pytest.raises((Malformed, Refused)):
            accept(BEN, ANN.public, message, ENTROPY_B, START)
        with pytest.raises((Malformed, Refused)):
            pending.complete(message, START)


def test_nobody_can_take_the_place_of_either_side() -> None:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START)
    with pytest.raises(Refused, match="other peers"):
        accept(EVE, ANN.public, offered, ENTROPY_B, START)  # meant for Ben
    with pytest.raises(Refused, match="other peers"):
        accept(BEN, EVE.public, offered, ENTROPY_B, START)  # came from Eve's connection
    _, eves = offer(EVE, ANN.public, ENTROPY_B, START)
    _, from_eve = accept(EVE, ANN.public, offer(ANN, EVE.public, ENTROPY_A, START)[1], ENTROPY_B, START)
    for wrong in (offered, eves, from_eve):
        with pytest.raises((Refused, Malformed)):
            pending.complete(wrong, START)
    _, answer = accept(BEN, ANN.public, offered, ENTROPY_B, START)
    assert pending.complete(answer, START).peer == BEN.public  # wrong ones did not spoil it


def test_an_answer_fits_one_offer() -> None:
    first, offered = offer(ANN, BEN.public, ENTROPY_A, START)
    second, _ = offer(ANN, BEN.public, ENTROPY_B, START)
    _, answer = accept(BEN, ANN.public, offered, ENTROPY_B, START)
    with pytest.raises(Refused, match="another session offer"):
        second.complete(answer, START)
    first.complete(answer, START)
    with pytest.raises(Conflict, match="lapsed"):
        first.complete(answer, START)


def test_both_directions_end_on_both_sides() -> None:
    ann, ben, _, _ = handshake(ttl_s=10)
    from_ann, from_ben = ann.seal(b"a", b"", later(9.9)), ben.seal(b"b", b"", later(9.9))
    for one in (ann, ben):
        with pytest.raises(Conflict, match="expired"):
            one.seal(b"late", b"", later(10))
    for one, message in ((ann, from_ben), (ben, from_ann)):
        with pytest.raises(Conflict, match="expired"):
            one.open(message, b"", later(10))
        assert len(one.open(message, b"", later(9.99))) == 1


def test_the_responder_may_shorten_and_never_lengthen() -> None:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START, ttl_s=1000)
    ben, answer = accept(BEN, ANN.public, offered, ENTROPY_B, later(5), ttl_s_max=60)
    ann = pending.complete(answer, later(6))
    assert ben.expires_mono == START.mono + 65
    assert ann.expires_mono == START.mono + 60
    long, long_answer = _answered_with_ttl(1001)
    with pytest.raises(Malformed, match="longer"):
        long.complete(long_answer, START)


def _answered_with_ttl(ttl_s: int) -> tuple[Pending, bytes]:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START, ttl_s=1000)
    _, part = session._own_part(
        BEN, ANN.public, ENTROPY_B, START, kind=2, ttl_s=ttl_s, offer_digest=hashlib.sha256(offered).digest()
    )
    return pending, part.signed(BEN)


@pytest.mark.parametrize(("skew_s", "fits"), [(-61, False), (-59, True), (299, True), (301, False)])
def test_offers_must_be_fresh(skew_s: float, fits: bool) -> None:
    _, offered = offer(ANN, BEN.public, ENTROPY_A, START)
    if fits:
        assert accept(BEN, ANN.public, offered, ENTROPY_B, later(skew_s))[0].peer == ANN.public
    else:
        with pytest.raises(Refused, match="clock"):
            accept(BEN, ANN.public, offered, ENTROPY_B, later(skew_s))


def test_an_offer_does_not_wait_for_ever() -> None:
    pending, offered = offer(ANN, BEN.public, ENTROPY_A, START)
    _, answer = accept(BEN, ANN.public, offered, ENTROPY_B, START)
    with pytest.raises(Conflict, match="lapsed"):
        pending.complete(answer, later(PENDING_S))
    assert pending.complete(answer, later(PENDING_S - 1)).peer == BEN.public


@pytest.mark.parametrize("weak", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")])
def test_weak_ephemeral_keys_are_refused(weak: bytes) -> None:
    _, part = session._own_part(ANN, BEN.public, ENTROPY_A, START, kind=1, ttl_s=60, offer_digest=bytes(32))
    message = msgspec.structs.replace(part, ephemeral=weak).signed(ANN)
    with pytest.raises(Malformed, match="weak"):
        accept(BEN, ANN.public, message, ENTROPY_B, START)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"ttl_s": 0}, "at most"), ({"ttl_s": TTL_S_MAX + 1}, "at most"), ({"offer_digest": b"x" * 32}, "digest")],
)
def test_signed_nonsense_is_malformed(change: dict[str, object], why: str) -> None:
    _, part = session._own_part(ANN, BEN.public, ENTROPY_A, START, kind=1, ttl_s=60, offer_digest=bytes(32))
    with pytest.raises(Malformed, match=why):
        accept(BEN, ANN.public, msgspec.structs.replace(part, **change).signed(ANN), ENTROPY_B, START)


def test_our_own_mistakes() -> None:
    for peer, entropy, ttl_s in ((ANN.public, ENTROPY_A, 60), (BEN.public, b"", 60), (BEN.public, ENTROPY_A, 0)):
        with pytest.raises(InvariantError, match="a session"):
            offer(ANN, peer, entropy, START, ttl_s=ttl_s)
