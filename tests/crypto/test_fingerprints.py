"""Names: known answers from the first key of RFC 8032, libp2p's own PeerIds, and genesis records."""

from __future__ import annotations

import hashlib

import base58
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from edgenet_node.crypto.base58 import ALPHABET, TEXT_CHARS_MAX, b58decode, b58encode
from edgenet_node.crypto.fingerprints import (
    GENESIS_RECORD_BYTES,
    Genesis,
    found_swarm,
    peer_id,
    pi_key,
    public_from_peer_id,
    session_id,
    short_id,
)
from edgenet_node.crypto.signing import public_key
from edgenet_node.errors import InvariantError, Malformed
from edgenet_node.identity.keys import Identity
from edgenet_node.wire.codec import Wire, decode_canonical, encode

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
CREATED_MS = 1_700_000_000_000

seeds = st.binary(min_size=32, max_size=32)


def test_pi_key_known_answer() -> None:
    assert pi_key(PUBLIC).hex() == "6ac2aedf8dcee92771d090bda2040986f42a2d861e77585df1f7e40b66eafc99a995436fc0d99e58"
    assert short_id(PUBLIC) == "π:" + pi_key(PUBLIC).hex()[:16]


def test_pi_key_is_as_specified() -> None:
    magic = bytes([0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93])
    digest = bytearray(hashlib.sha512(magic + PUBLIC).digest()[:40])
    for at in range(4):
        digest[at] ^= magic[at]
    assert pi_key(PUBLIC) == bytes(digest)


@given(seeds)
def test_peer_id_is_libp2ps(seed: bytes) -> None:
    theirs = ID.from_pubkey(create_new_key_pair(seed).public_key)
    ours = peer_id(public_key(seed))
    assert ours == str(theirs)
    assert len(ours) == 52
    assert ours.startswith("12D3KooW")
    assert public_from_peer_id(ours) == public_key(seed)


@given(st.binary(max_size=60))
def test_base58_agrees_with_another_implementation(data: bytes) -> None:
    assert b58encode(data) == base58.b58encode(data).decode()
    assert b58decode(b58encode(data)) == data


@given(st.text(alphabet=ALPHABET + "0OIl ", max_size=60))
def test_base58_text_has_one_meaning(text: str) -> None:
    if set(text) <= set(ALPHABET):
        assert b58encode(b58decode(text)) == text
    else:
        with pytest.raises(Malformed, match="alphabet"):
            b58decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # a hashed RSA key
        b58encode(bytes.fromhex("00250802122103") + bytes(32)),  # secp256k1
        b58encode(bytes.fromhex("002408011220") + bytes(31)),
        b58encode(bytes.fromhex("002408011220") + bytes(33)),
        "12D3KooW0" + "1" * 43,
        "bafzaajaiaejcal72gwuz2or47oyxxn6b3nkwdnoplgwxsbcqhvjjpfmi5uahzpjn",
        "π" * 52,
        "z" * (TEXT_CHARS_MAX + 1),
        "1" * 1_000_000,
    ],
)
def test_other_peer_ids_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        public_from_peer_id(text)


@given(st.text(max_size=80))
def test_hostile_peer_ids_raise_nothing_else(text: str) -> None:
    try:
        public = public_from_peer_id(text)
    except Malformed as error:
        public = b""
        said = error.message
    else:
        said = peer_id(public)
    assert said


def test_session_id() -> None:
    one = session_id(PUBLIC, bytes(32))
    assert one == hashlib.sha512(b"SESSION:\x27\x18\x28\x18" + pi_key(PUBLIC) + bytes(32)).digest()[:34]
    assert session_id(PUBLIC, b"\x01" * 32) != one != session_id(public_key(bytes(32)), bytes(32))
    with pytest.raises(InvariantError, match="32 random bytes"):
        session_id(PUBLIC, b"")


def test_genesis_known_answer() -> None:
    record = found_swarm(Identity(SEED), epoch=1, created_ms=CREATED_MS)
    committed = b"GENESIS_ORIGIN:\x16\x18\x03\x39" + pi_key(PUBLIC) + (1).to_bytes(4, "big")
    assert record.genesis == hashlib.sha256(committed + CREATED_MS.to_bytes(8, "big")).digest()[:21]
    assert record.name == "f6792812d5ae37f65d1bbd3c1aa15d66fb27af2dfb"
    assert len(record.name) == 42
    assert record.verify()
    data = record.to_bytes()
    assert len(data) == GENESIS_RECORD_BYTES == 130
    assert hashlib.sha256(data).hexdigest() == "589a53cc6a7796bf4010faeafffe6b42981e8e0a7900ae36017237107063cd5a"
    assert Genesis.from_bytes(data) == record


def test_each_founding_has_its_own_genesis() -> None:
    names = {
        found_swarm(Identity(seed), epoch=epoch, created_ms=created).name
        for seed in (SEED, bytes(32))
        for epoch in (0, 1)
        for created in (0, 1)
    }
    assert len(names) == 8


@given(st.integers(0, 8 * GENESIS_RECORD_BYTES - 1))
def test_any_changed_bit_of_a_genesis_record_is_refused(bit: int) -> None:
    data = bytearray(found_swarm(Identity(SEED), epoch=1, created_ms=CREATED_MS).to_bytes())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        Genesis.from_bytes(bytes(data))


@given(st.binary(max_size=140))
def test_hostile_genesis_records_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Genesis.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2**32},
        {"epoch": -1},
        {"created_ms": 2**63},
        {"created_ms": -1},
        {"founder": b""},
        {"founder": bytes(32)},
        {"signature": b""},
        {"genesis": b""},
        {"genesis": bytes(21)},
        {"epoch": 2},
        {"created_ms": CREATED_MS + 1},
        {"founder": public_key(bytes(32))},
    ],
)
def test_a_record_from_the_wire_with_a_changed_field_does_not_verify(change: dict[str, object]) -> None:
    class Carrier(Wire):
        genesis: Genesis

    record = found_swarm(Identity(SEED), epoch=1, created_ms=CREATED_MS)
    for expected, sent in ((True, record), (False, msgspec.structs.replace(record, **change))):
        data = encode(Carrier(sent))
        assert decode_canonical(data, Carrier, bytes_max=400).genesis.verify() is expected


def test_founding_is_bounded() -> None:
    for epoch, created_ms in ((2**32, 0), (-1, 0), (0, -1), (0, 2**63)):
        with pytest.raises(InvariantError, match="out of range"):
            found_swarm(Identity(SEED), epoch=epoch, created_ms=created_ms)


def test_keys_have_32_bytes() -> None:
    for name in (pi_key, peer_id, short_id):
        with pytest.raises(InvariantError, match="32 bytes"):
            name(bytes(33))
