"""Who may do what with an index: the owner's signed grant, made and opened."""

from __future__ import annotations

import re
from typing import Final

from ..crypto.fingerprints import peer_id
from ..crypto.signing import Signer, verify
from ..errors import Malformed, Overloaded, Refused, UsageError, WrongSwarm
from ..wire.codec import decode_canonical, encode
from ..wire.index import GRANT_BYTES_MAX, READERS_MAX, IndexGrant, SignedGrant

DOMAIN: Final = b"index-grant"
NAME_CHARS_MAX: Final = 64
EVERYBODY: Final = "*"
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}", re.ASCII)
_READER_CHARS_MAX: Final = 64


class Authority:
    """This node's right to speak for its indexes. `swarm` is empty until the node knows its swarm."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.peer = peer_id(signer.public)
        self.swarm = ""
        self._made: dict[str, tuple[int, SignedGrant]] = {}

    def grant(self, name: str, version: int, readers: tuple[str, ...]) -> SignedGrant:
        """The signed grant of a reader list; made once for each version. `Overloaded` before the swarm is known."""
        if not self.swarm:
            raise Overloaded("this node has not joined a swarm yet", retry_after_s=1.0)
        known = self._made.get(name)
        if known is None or known[0] != version:
            body = encode(IndexGrant(self.signer.public, name, self.swarm, version, list(readers)))
            known = self._made[name] = version, SignedGrant(body, self.signer.sign(DOMAIN, body))
        return known[1]

    def forget(self, name: str) -> None:
        self._made.pop(name, None)


def open_grant(signed: SignedGrant, swarm: str) -> IndexGrant:
    """What the owner granted. `Malformed` when it does not decode or verify, `WrongSwarm` for another swarm's."""
    grant = decode_canonical(signed.body, IndexGrant, bytes_max=GRANT_BYTES_MAX)
    if not verify(grant.owner, DOMAIN, signed.body, signed.signature):
        raise Malformed("an index grant whose signature does not verify")
    if grant.swarm != swarm:
        raise WrongSwarm("an index grant of another swarm")
    return grant


def check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"an index name has 1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-', not {name[:80]!r}")


def check_readers(readers: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted, each once. `UsageError` for too many, or ones that cannot be peer ids."""
    distinct = tuple(sorted(set(readers)))
    if len(distinct) > READERS_MAX:
        raise UsageError(f"{len(distinct)} readers, an index takes at most {READERS_MAX}; use '*' for every member")
    for reader in distinct:
        if reader != EVERYBODY and not (0 < len(reader) <= _READER_CHARS_MAX and reader.isascii() and reader.isalnum()):
            raise UsageError(f"{reader[:80]!r} is not a peer id")
    return distinct


def may_read(peer: str, owner: str, readers: tuple[str, ...] | list[str]) -> bool:
    return peer == owner or peer in readers or EVERYBODY in readers


def check_reader(peer: str, owner: str, readers: tuple[str, ...] | list[str]) -> None:
    if not may_read(peer, owner, readers):
        raise Refused("not among the readers of this index: ask its owner to share it")
