"""Every vector, in both directions, and by readers that share no code with ours."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgenet_node.errors import EdgenetError

from .corpus import Vector, jsonable, vectors
from .readers import MESSAGEPACK, READERS, TRANSFERS, Carried

VECTORS = [vector for vector in vectors() if vector.head not in TRANSFERS]
VALID = [vector for vector in VECTORS if vector.valid and "raises" not in vector.more]
RAISING = [vector for vector in VECTORS if "raises" in vector.more]
INVALID = [vector for vector in VECTORS if not vector.valid]
PACKED = [vector for vector in VECTORS if vector.valid and vector.head in MESSAGEPACK and vector.data]
SIGNED = [vector for vector in VECTORS if vector.head in ("record", "grant", "signature", "genesis")]


@pytest.mark.parametrize("vector", VALID, ids=str)
def test_a_valid_vector_is_read_and_written_again(vector: Vector) -> None:
    value, data = READERS[vector.head](vector)
    if vector.more.get("lenient"):
        # Not what a sender may send: it is read as what it means, and written as it should have been.
        assert data is not None
        assert data != vector.data
        assert _without_defaults(value, vector.value)
    else:
        assert value == vector.value
        assert data in (None, vector.data)


@pytest.mark.parametrize("vector", RAISING, ids=str)
def test_a_carried_error_is_raised_here(vector: Vector) -> None:
    with pytest.raises(Carried) as raised:
        READERS[vector.head](vector)
    assert raised.value.error.code == vector.more["raises"]


@pytest.mark.parametrize("vector", INVALID, ids=str)
def test_an_invalid_vector_is_refused_with_exactly_its_error(vector: Vector) -> None:
    with pytest.raises(EdgenetError) as raised:
        READERS[vector.head](vector)
    assert raised.value.code == vector.error


@pytest.mark.parametrize("vector", PACKED, ids=str)
def test_the_plain_msgpack_package_reads_the_same(vector: Vector) -> None:
    plain = jsonable(msgpack.unpackb(vector.data, raw=False))
    if vector.head == "error-frame" and vector.more["retry_after_s"] == 0.0:
        plain, expected = plain[:2], vector.value[:2]  # a pause that is not believed, NaN among them
    else:
        expected = vector.value
    assert plain == expected
    if not vector.more.get("lenient") and vector.head != "error-frame":
        assert msgpack.packb(msgpack.unpackb(vector.data, raw=False), use_bin_type=True) == vector.data


@pytest.mark.parametrize("vector", SIGNED, ids=str)
def test_signatures_are_judged_the_same_by_another_implementation(vector: Vector) -> None:
    """OpenSSL's Ed25519, through `cryptography`, over bytes that are put together here from the text of encoding.md."""
    parts = _signed_parts(vector)
    if parts is None:
        assert not vector.valid
        return
    public, message, signature = parts
    verified = _verifies(public, message, signature)
    if vector.valid:
        assert verified
    elif "ENC-10" in vector.must:
        assert not verified


def _signed_parts(vector: Vector) -> tuple[bytes, bytes, bytes] | None:
    """Public key, message with its domain, signature; None when the bytes do not even have that form."""
    if vector.head == "signature":
        more = vector.more
        return bytes.fromhex(more["public"]), _framed(more["domain"], vector.data), bytes.fromhex(more["signature"])
    if vector.head == "genesis":
        data = vector.data
        return (data[22:54], _framed("genesis", data[1:66]), data[66:]) if len(data) == 130 else None
    envelope = msgpack.unpackb(vector.data, raw=False)
    domain, field = ("peer-record", "public_key") if vector.head == "record" else ("index-grant", "owner")
    if not envelope["body"]:
        return None
    body = msgpack.unpackb(envelope["body"], raw=False)
    return body[field], _framed(domain, envelope["body"]), envelope["signature"]


def _framed(domain: str, message: bytes) -> bytes:
    return b"edgenet/sign/1\x00" + struct.pack("B", len(domain)) + domain.encode() + message


def _verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _without_defaults(value: Any, expected: Any) -> bool:
    """Whether `value` holds all of `expected`, and beyond it only fields that were left out."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(_without_defaults(value[key], one) for key, one in expected.items())
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(_without_defaults, value, expected))
    return bool(value == expected)
