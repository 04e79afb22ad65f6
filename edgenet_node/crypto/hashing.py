"""SHA-256 content names, and Merkle trees whose leaves cannot be mistaken for nodes (RFC 6962 section 2.1).

`leaf(d) = SHA-256(00 || d)`, `node(l, r) = SHA-256(01 || l || r)`; a tree of n > 1 leaves splits after the largest
power of two below n; the empty tree has the root SHA-256("").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from ..errors import InvariantError

DIGEST_BYTES: Final = 32


def sha256(data: bytes) -> bytes:
    """FIPS 180-4, 32 bytes."""
    return hashlib.sha256(data).digest()


def sha256_hex(data: bytes) -> str:
    """The name of an artifact: 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root (32 bytes) over the data of the leaves, in O(n) hashes."""
    if not leaves:
        return sha256(b"")
    return _levels(leaves)[-1][0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings (32 bytes each) from leaf `index` up to the root; at most ceil(log2 n) of them."""
    if not 0 <= index < len(leaves):
        raise InvariantError(f"no leaf {index} in a tree of {len(leaves)}")
    proof = []
    for level in _levels(leaves)[:-1]:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        index >>= 1
    return proof


def verify_inclusion(data: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `data` is leaf `index` of the tree of `size` leaves with that root. Hostile proofs give False."""
    if not 0 <= index < size:
        return False
    siblings = iter(proof)
    hashed, width = leaf_hash(data), size
    while width > 1:
        if index ^ 1 < width:
            sibling = next(siblings, b"")
            if len(sibling) != DIGEST_BYTES:
                return False
            hashed = node_hash(sibling, hashed) if index & 1 else node_hash(hashed, sibling)
        index, width = index >> 1, (width + 1) >> 1
    return hashed == root and next(siblings, None) is None


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Hashes level by level, leaves first. Pairing neighbours and carrying an odd last one up gives RFC 6962's tree."""
    levels = [[leaf_hash(data) for data in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            above.append(below[-1])
        levels.append(above)
    return levels
