"""HKDF and Argon2id against RFC 5869, Wycheproof, RFC 9106 and the reference implementation's own tests."""

from __future__ import annotations

from typing import Any

import pytest
from argon2 import low_level
from argon2.low_level import ffi, lib  # type: ignore[attr-defined]

from edgenet_node.crypto.kdf import ARGON2_MEMORY_KIB_MAX, argon2id, hkdf_sha256
from edgenet_node.errors import InvariantError

from .conformance import wycheproof


def test_rfc_5869_case_1() -> None:
    out = hkdf_sha256(
        b"\x0b" * 22, salt=bytes.fromhex("000102030405060708090a0b0c"), info=bytes(range(0xF0, 0xFA)), length=42
    )
    assert out.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_wycheproof_hkdf() -> None:
    for _, test in wycheproof("hkdf_sha256.json"):
        secret, salt, info = (bytes.fromhex(test[name]) for name in ("ikm", "salt", "info"))
        if test["result"] == "valid":
            out = hkdf_sha256(secret, salt=salt, info=info, length=test["size"])
            assert out.hex() == test["okm"], test
        else:
            with pytest.raises(InvariantError):
                hkdf_sha256(secret, salt=salt, info=info, length=test["size"])


@pytest.mark.parametrize(
    ("memory_kib", "tag"),
    [
        (256, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"),
        (65_536, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"),
    ],
)
def test_argon2id_reference_vectors(memory_kib: int, tag: str) -> None:
    """From test.c of the reference implementation, version 0x13."""
    assert argon2id(b"password", b"somesalt", memory_kib=memory_kib, passes=2, lanes=1).hex() == tag


def test_argon2id_rfc_9106_section_5_3() -> None:
    """The RFC's vector has a secret and associated data, which `argon2id` does not offer; the same compiled library
    takes them through its context, which proves the arithmetic."""
    fields: dict[str, Any] = {
        "pwd": ffi.new("uint8_t[]", b"\x01" * 32),
        "salt": ffi.new("uint8_t[]", b"\x02" * 16),
        "secret": ffi.new("uint8_t[]", b"\x03" * 8),
        "ad": ffi.new("uint8_t[]", b"\x04" * 12),
        "out": ffi.new("uint8_t[]", 32),
    }
    context = ffi.new(
        "argon2_context *",
        {
            **fields,
            "pwdlen": 32,
            "saltlen": 16,
            "secretlen": 8,
            "adlen": 12,
            "outlen": 32,
            "t_cost": 3,
            "m_cost": 32,
            "lanes": 4,
            "threads": 4,
            "version": lib.ARGON2_VERSION_13,
            "allocate_cbk": ffi.NULL,
            "free_cbk": ffi.NULL,
            "flags": lib.ARGON2_DEFAULT_FLAGS,
        },
    )
    assert low_level.core(context, low_level.Type.ID.value) == lib.ARGON2_OK
    tag = bytes(ffi.buffer(fields["out"], 32)).hex()
    assert tag == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_kib": 100 * 1024 * 1024},
        {"memory_kib": ARGON2_MEMORY_KIB_MAX + 1},
        {"memory_kib": 7},
        {"memory_kib": 8, "lanes": 4},
        {"passes": 0},
        {"passes": 2**32 - 1},
        {"lanes": 0},
        {"lanes": 2**24},
        {"length": 3},
    ],
)
def test_parameters_are_bounded_before_memory_is_taken(wrong: dict[str, int]) -> None:
    with pytest.raises(InvariantError, match="out of bounds"):
        argon2id(b"password", bytes(16), **wrong)
