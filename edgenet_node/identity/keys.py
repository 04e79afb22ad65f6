"""The holder of this node's secret."""

from __future__ import annotations

from typing import NoReturn

from ..crypto import fingerprints, signing


class Identity:
    """One Ed25519 seed and all that follows from it. A `crypto.signing.Signer`. Compared by public key."""

    __slots__ = ("_expanded", "peer_id", "pi_key", "public", "short_id")

    public: bytes
    """The Ed25519 public key, 32 bytes."""
    peer_id: str
    """The libp2p PeerId, `12D3KooW...`."""
    pi_key: bytes
    """The 40-byte fingerprint, for people."""
    short_id: str
    """`π:` and 16 hex digits. For display only, never for authorisation."""

    def __init__(self, seed: bytes) -> None:
        """`InvariantError` unless the seed has 32 bytes; they must come from the operating system's generator."""
        self._expanded = signing.expanded_key(seed)
        self.public = self._expanded[signing.SEED_BYTES :]
        self.peer_id = fingerprints.peer_id(self.public)
        self.pi_key = fingerprints.pi_key(self.public)
        self.short_id = fingerprints.short_id(self.public)

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """The signature (64 bytes) of `message` in `domain`, see `crypto.signing`."""
        return signing.sign_expanded(self._expanded, signing.framed(domain, message))

    def reveal_seed(self) -> bytes:
        """The secret itself: for the keystore and for the transport's own key object, for nobody else."""
        return self._expanded[: signing.SEED_BYTES]

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.public == self.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity is not pickled: its secret stays in this process")
