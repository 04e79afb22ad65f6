"""Ed25519: other people's vectors, and one strict rule."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.crypto.signing import (
    expanded_key,
    framed,
    public_key,
    sign,
    sign_expanded,
    sign_raw,
    verify,
    verify_raw,
)
from edgenet_node.errors import InvariantError

from .conformance import wycheproof

ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19

# RFC 8032 section 7.1: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
            "24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
            "eeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
            "8dc027beceea1ec40a"
        ),
    ),
]

seeds = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    assert public_key(bytes.fromhex(seed)).hex() == public
    assert sign_raw(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert verify_raw(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


def test_wycheproof() -> None:
    for group, test in wycheproof("ed25519.json"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        valid = verify_raw(public, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        assert valid == (test["result"] == "valid"), test


@given(seeds, st.binary(max_size=200))
def test_openssl_agrees(seed: bytes, message: bytes) -> None:
    other = Ed25519PrivateKey.from_private_bytes(seed)
    assert public_key(seed) == other.public_key().public_bytes_raw()
    assert sign_raw(seed, message) == other.sign(message) == sign_expanded(expanded_key(seed), message)


def test_what_is_signed_is_as_specified() -> None:
    assert framed(b"ab", b"xyz") == b"edgenet/sign/1\x00\x02abxyz"
    seed = bytes(range(32))
    assert verify_raw(public_key(seed), b"edgenet/sign/1\x00\x02abxyz", sign(seed, b"ab", b"xyz"))


domains = st.binary(min_size=1, max_size=255)


@given(domains, st.binary(max_size=64), domains, st.binary(max_size=64))
def test_the_frame_is_injective(domain: bytes, message: bytes, other_domain: bytes, other_message: bytes) -> None:
    same = (domain, message) == (other_domain, other_message)
    assert (framed(domain, message) == framed(other_domain, other_message)) == same
    # The boundary between domain and message cannot be moved.
    assert framed(domain, b"x" + message) != framed((domain + b"x")[-255:], message)


@given(seeds, domains, st.binary(max_size=64), st.data())
def test_any_changed_bit_is_refused(seed: bytes, domain: bytes, message: bytes, data: st.DataObject) -> None:
    public, signature = public_key(seed), sign(seed, domain, message)
    assert verify(public, domain, message, signature)
    assert not verify(public, domain + b"x" if len(domain) < 255 else b"x", message, signature)
    assert not verify(public, domain, message + b"\x00", signature)
    bit = data.draw(st.integers(0, 511))
    flipped = (int.from_bytes(signature, "little") ^ 1 << bit).to_bytes(64, "little")
    assert not verify(public, domain, message, flipped)
    bit = data.draw(st.integers(0, 255))
    assert not verify((int.from_bytes(public, "little") ^ 1 << bit).to_bytes(32, "little"), domain, message, signature)


def test_a_second_form_of_s_is_refused() -> None:
    seed = bytes(32)
    signature = sign(seed, b"d", b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(public_key(seed), b"d", b"m", signature[:32] + s.to_bytes(32, "little"))


def _order_8_y() -> int:
    """The y of a point T of order 8. Then 2 T has order 4 and y = 0, so x^2 = -y^2 for T by the law of doubling, and
    the curve -x^2 + y^2 = 1 + d x^2 y^2 becomes d u^2 + 2 u - 1 = 0 with u = y^2."""
    d = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME
    for sign_ in (1, -1):
        root = _sqrt((1 + d) % PRIME)
        if root is not None:
            u = (-1 + sign_ * root) * pow(d, PRIME - 2, PRIME) % PRIME
            y = _sqrt(u)
            if y is not None:
                return y
    raise AssertionError("edwards25519 has points of order 8")


def _sqrt(square: int) -> int | None:
    root = pow(square, (PRIME + 3) // 8, PRIME)
    for candidate in (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME):
        if candidate * candidate % PRIME == square:
            return candidate
    return None


def test_points_of_small_order_and_their_aliases_are_refused() -> None:
    """With A of small order, R = S B verifies many messages: without the check anybody could sign for such a key."""
    y8 = _order_8_y()
    small = [0, 1, PRIME - 1, y8, PRIME - y8]
    aliases = [y + PRIME for y in small if y + PRIME < 2**255]
    refused = 0
    for y in small + aliases:
        for sign_bit in (0, 1):
            point = (y | sign_bit << 255).to_bytes(32, "little")
            # S = 0 and R = identity or the point itself: valid for k A = 0 or k A = -R by the bare equation.
            for r in (point, (1).to_bytes(32, "little")):
                for message in (b"", b"a", b"b", b"c", b"d", b"e", b"f", b"g"):
                    assert not verify_raw(point, message, r + bytes(32))
                    refused += 1
    assert refused == (5 + 2) * 2 * 2 * 8
    seed = bytes(32)
    signature = sign_raw(seed, b"m")
    assert not verify_raw(public_key(seed), b"m", (1).to_bytes(32, "little") + signature[32:])


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=130))
def test_hostile_lengths_are_false(public: bytes, message: bytes, signature: bytes) -> None:
    assert not verify(public, b"d", message, signature)


@pytest.mark.parametrize("domain", [b"", b"x" * 256])
def test_a_domain_is_mandatory_and_bounded(domain: bytes) -> None:
    with pytest.raises(InvariantError, match="domain"):
        sign(bytes(32), domain, b"m")


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(InvariantError, match="32 bytes, not 31"):
        public_key(bytes(31))
