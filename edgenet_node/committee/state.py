"""The registry: a deterministic state machine over committed commands.

Rows are the whole state, and the same on every member after the same entry; `history` chains every write, the Merkle
root over the rows is computed at marks. A bad command is refused and writes nothing; it never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, structs

from ..crypto.fingerprints import peer_id, public_from_peer_id
from ..crypto.hashing import merkle_root, sha256
from ..crypto.signing import verify
from ..errors import EdgenetError, InvariantError, Malformed
from ..wire.codec import Wire, decode, decode_canonical, encode
from ..wire.committee import (
    ROW_BYTES_MAX,
    AuthorRow,
    CommitteeSet,
    Link,
    MemberRow,
    ParameterRow,
    RegistryCommand,
    RegistryRow,
    SignedCommand,
)
from .parameters import LISTED, PARAMETERS

T = TypeVar("T", bound=Wire)

COMMAND_DOMAIN = b"registry-command"
COMMAND_BYTES_MAX = 17 * 1024
EMPTY_HISTORY = sha256(b"edgenet/registry/1")


ROW_KINDS: Mapping[str, type[Wire]] = MappingProxyType(
    {"member": MemberRow, "parameter": ParameterRow, "set": Link, "author": AuthorRow}
)


def check_rows(rows: Mapping[str, bytes]) -> None:
    """`Malformed` for rows that no log leads to: unknown keys, values that do not decode or belong elsewhere."""
    for key, value in rows.items():
        kind = ROW_KINDS.get(key.partition("/")[0])
        if kind is None:
            raise Malformed(f"registry row {key!a} is of no known kind")
        row = decode_canonical(value, kind, bytes_max=ROW_BYTES_MAX)
        named = (
            f"member/{peer_id(row.public_key)}"
            if isinstance(row, MemberRow)
            else f"set/{row.set.number}"
            if isinstance(row, Link)
            else key
        )
        if key != named:
            raise Malformed(f"registry row {key!a} holds {named}")


class Applied(Struct, frozen=True):
    """What an entry did. `refused` says why nothing; `writes` are new values by key, None for a deletion."""

    command: RegistryCommand | None
    author: bytes = b""
    writes: Mapping[str, bytes | None] = {}
    refused: str = ""


class RegistryState:
    """Rows by key."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.index = 0
        self.history = EMPTY_HISTORY
        self.members = 0

    def load(self, rows: Mapping[str, bytes], index: int, history: bytes) -> None:
        self.rows = dict(rows)
        self.index, self.history = index, history
        self.members = sum(key.startswith("member/") for key in self.rows)

    # ---- reading

    def get(self, key: str, kind: type[T]) -> T | None:
        """`InvariantError` for a row that does not decode: rows are our own, or proven by a root."""
        value = self.rows.get(key)
        if value is None:
            return None
        try:
            return decode(value, kind, bytes_max=ROW_BYTES_MAX)
        except EdgenetError as error:
            raise InvariantError(f"registry row {key} cannot be read: {error.message}") from error

    def sequence_of(self, author: bytes) -> int:
        """The largest that this author has used; 0 for none."""
        decided = self.get(f"author/{author.hex()}", AuthorRow)
        registered = self.get(f"member/{peer_id(author)}", MemberRow)
        return max(0 if decided is None else decided.sequence, 0 if registered is None else registered.sequence)

    def parameter(self, name: str) -> int:
        row = self.get(f"parameter/{name}", ParameterRow)
        known = PARAMETERS[name]
        return known.default if row is None else min(max(row.value, known.least), known.most)

    def member_rows(self) -> list[tuple[str, MemberRow]]:
        found = [(key[7:], self.get(key, MemberRow)) for key in sorted(self.rows) if key.startswith("member/")]
        return [(peer, row) for peer, row in found if row is not None]

    def links(self) -> list[Link]:
        """Of the committee chain, oldest first."""
        found = (self.get(key, Link) for key in self.rows if key.startswith("set/"))
        return sorted((link for link in found if link is not None), key=lambda link: link.set.number)

    def root(self) -> bytes:
        """RFC 6962 over the canonical encodings of the rows, in order of their keys."""
        return merkle_root([encode(RegistryRow(key, self.rows[key])) for key in sorted(self.rows)])

    # ---- applying

    def apply(self, index: int, data: bytes, committee: CommitteeSet, swarm: str) -> Applied:
        """A committed command; `committee` is the set in office at this entry."""
        self.index = index
        try:
            signed = decode_canonical(data, SignedCommand, bytes_max=COMMAND_BYTES_MAX)
            command = decode_canonical(signed.body, RegistryCommand, bytes_max=COMMAND_BYTES_MAX)
        except EdgenetError as error:
            return Applied(None, refused=f"it does not decode: {error.message}")
        if command.swarm != swarm or not verify(signed.author, COMMAND_DOMAIN, signed.body, signed.signature):
            return Applied(command, signed.author, refused="it is not signed by its author for this swarm")
        try:
            writes = self._writes(index, command, signed.author, committee)
            if any(value is not None and len(value) > ROW_BYTES_MAX for value in writes.values()):
                raise Malformed(f"its row would have more than {ROW_BYTES_MAX} bytes")
        except EdgenetError as error:
            return Applied(command, signed.author, refused=error.message)
        self.write(index, writes)
        return Applied(command, signed.author, writes)

    def write(self, index: int, writes: Mapping[str, bytes | None]) -> None:
        """Apply and chain: `history = SHA-256(history || index (8) || canonical map of the writes)`."""
        self.index = index
        for key, value in writes.items():
            present = key in self.rows
            if key.startswith("member/"):
                self.members += (value is not None) - present
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.history = sha256(self.history + index.to_bytes(8, "big") + encode(dict(sorted(writes.items()))))

    def _writes(
        self, index: int, command: RegistryCommand, author: bytes, committee: CommitteeSet
    ) -> dict[str, bytes | None]:
        if command.kind == "register":
            return self._register(index, command, author)
        if author not in committee.members:
            raise Malformed("only members of the committee decide this")
        key = f"author/{author.hex()}"
        before = self.get(key, AuthorRow)
        if before is not None and command.sequence <= before.sequence:
            raise Malformed("its author has decided something newer")
        writes: dict[str, bytes | None] = {key: encode(AuthorRow(command.sequence))}
        if command.kind in ("admit", "ban"):
            writes.update(self._decide(index, command, committee))
        elif command.kind == "set":
            writes.update(self._set(index, command))
        return writes

    def _register(self, index: int, command: RegistryCommand, author: bytes) -> dict[str, bytes | None]:
        peer = peer_id(author)
        known = self.get(f"member/{peer}", MemberRow)
        if known is None:
            if self.parameter("admission") == LISTED:
                raise Malformed("this swarm admits only those that its committee lists")
            self._room()
            known = MemberRow(author, "open")
        if known.status == "banned":
            raise Malformed(f"banned: {known.reason or 'no reason was given'}")
        if command.sequence <= known.sequence:
            raise Malformed("there is a newer registration of this node")
        row = structs.replace(
            known,
            addresses=command.addresses,
            capabilities=command.capabilities,
            sequence=command.sequence,
            index=index,
        )
        return {f"member/{peer}": encode(row)}

    def _decide(self, index: int, command: RegistryCommand, committee: CommitteeSet) -> dict[str, bytes | None]:
        public = public_from_peer_id(command.peer)
        if command.kind == "ban" and public in committee.members:
            raise Malformed("a member of the committee cannot be banned: remove it from the committee first")
        known = self.get(f"member/{command.peer}", MemberRow)
        if known is None:
            self._room()
            known = MemberRow(public, "open")
        status = "admitted" if command.kind == "admit" else "banned"
        row = structs.replace(known, status=status, reason=command.reason, index=index)
        return {f"member/{command.peer}": encode(row)}

    def _set(self, index: int, command: RegistryCommand) -> dict[str, bytes | None]:
        known = PARAMETERS.get(command.name)
        if known is None:
            raise Malformed(f"there is no parameter {command.name!r}")
        if not known.least <= command.value <= known.most:
            raise Malformed(f"{command.name} must be {known.least} to {known.most} {known.unit}".rstrip())
        return {f"parameter/{command.name}": encode(ParameterRow(command.value, index))}

    def _room(self) -> None:
        limit = self.parameter("members_max")
        if self.members >= limit:
            raise Malformed(f"the registry is full ({limit} members)")
