"""SHA-256 and Merkle trees against FIPS, Certificate Transparency and the recursive definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.crypto.hashing import (
    inclusion_proof,
    leaf_hash,
    merkle_root,
    node_hash,
    sha256,
    sha256_hex,
    verify_inclusion,
)
from edgenet_node.errors import InvariantError

# FIPS 180-4 examples of NIST.
NIST = [
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
]

# The eight leaves of the Certificate Transparency test suite, and the roots over the first 1, 2, ... 8 of them.
CT_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

leaf_lists = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


@pytest.mark.parametrize(("data", "digest"), NIST)
def test_nist(data: bytes, digest: str) -> None:
    assert sha256_hex(data) == digest == sha256(data).hex()


def test_certificate_transparency_roots() -> None:
    assert merkle_root([]) == sha256(b"")
    assert [merkle_root(CT_LEAVES[:size]).hex() for size in range(1, 9)] == CT_ROOTS


def _defined_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + _defined_root(leaves[:split]) + _defined_root(leaves[split:]))


@given(leaf_lists)
def test_the_root_is_as_defined(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == _defined_root(leaves)


@given(leaf_lists, st.data())
def test_every_leaf_is_proved_and_nothing_else(leaves: list[bytes], data: st.DataObject) -> None:
    root, size = merkle_root(leaves), len(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    assert len(proof) <= (size - 1).bit_length()
    assert verify_inclusion(leaves[index], index, size, proof, root)
    assert not verify_inclusion(leaves[index] + b"x", index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not verify_inclusion(leaves[index], index, size, proof, sha256(root))
    assert not verify_inclusion(leaves[index], size, size, proof, root)
    if proof:
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)
        assert not verify_inclusion(leaves[index], index, size, [proof[0][:31], *proof[1:]], root)
        at = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:at], sha256(proof[at]), *proof[at + 1 :]]
        assert not verify_inclusion(leaves[index], index, size, changed, root)


def test_a_node_cannot_pose_as_a_leaf() -> None:
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    assert merkle_root([b"l", b"r"]) == node_hash(left, right)
    assert not verify_inclusion(left + right, 0, 1, [], merkle_root([b"l", b"r"]))


def test_there_is_no_proof_outside_the_tree() -> None:
    for index in (-1, 1):
        with pytest.raises(InvariantError, match="no leaf"):
            inclusion_proof([b"x"], index)
