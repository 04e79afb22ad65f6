"""What a holder has: segments of others, whose they are, who may read them, and the budgets. State and saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..crypto.fingerprints import peer_id
from ..effects import Delete, Now, Put, Row, Save
from ..errors import Malformed, Refused
from ..wire.codec import encode
from ..wire.index import Hold, IndexGrant, SignedGrant
from .grants import open_grant
from .rows import HeldRow, OwnerRow, read
from .settings import IndexSettings

HEARD_STEP_S = 3600.0
"""That an owner is alive is saved at most this often."""


class Entry:
    """A held segment. `path` is empty until it is pinned, again after each start."""

    __slots__ = ("digest", "key", "name", "owner", "path", "row")

    def __init__(self, key: str, row: HeldRow, path: str) -> None:
        self.key = key
        self.owner, self.name, self.digest = key.split("/")
        self.row = row
        self.path = path


class Holdings:
    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self.entries: dict[str, Entry] = {}
        self.grants: dict[tuple[str, str], IndexGrant] = {}
        self._heard: dict[str, float] = {}
        self._reserved: dict[str, tuple[str, int]] = {}

    def restore(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.table == "owner":
                self._heard[row.key] = read(row, OwnerRow).heard_wall
            elif row.table == "held":
                held = read(row, HeldRow)
                self.entries[row.key] = Entry(row.key, held, "")

    def join(self, swarm: str) -> list[str]:
        """The swarm is known: restored grants can be read. Returns the keys of segments of another swarm."""
        foreign = []
        for entry in self.entries.values():
            try:
                self.learn(open_grant(entry.row.grant, swarm))
            except (Malformed, Refused):
                foreign.append(entry.key)
        return foreign

    def learn(self, grant: IndexGrant) -> None:
        """The newest reader list of an index counts for all of its segments."""
        key = peer_id(grant.owner), grant.name
        known = self.grants.get(key)
        if known is None or known.version < grant.version:
            self.grants[key] = grant

    def reserve(self, key: str, owner: str, size: int) -> None:
        """Room for a segment that is about to be fetched. `Refused` when a budget does not allow it."""
        settings = self._settings
        sizes = [(entry.owner, entry.row.size) for entry in self.entries.values()] + list(self._reserved.values())
        own = [taken for whose, taken in sizes if whose == owner]
        if len(own) >= settings.held_owner_segments_max or sum(own) + size > settings.held_owner_bytes_max:
            raise Refused("this node holds as much for you as it may")
        if (
            len(sizes) >= settings.held_segments_max
            or sum(taken for _, taken in sizes) + size > settings.held_bytes_max
        ):
            raise Refused("this node holds as many segments as it may")
        self._reserved[key] = owner, size

    def cancel(self, key: str) -> None:
        self._reserved.pop(key, None)

    def add(self, key: str, hold: Hold, dimension: int, path: str) -> list[Save]:
        self.cancel(key)
        row = HeldRow(hold.grant, hold.size, hold.rows, dimension, hold.version, bitmap(hold.deleted))
        self.entries[key] = Entry(key, row, path)
        return [Put("held", key, encode(row))]

    def update(self, entry: Entry, hold: Hold, grant: IndexGrant) -> list[Save]:
        """Newer deletions or readers of a segment that is here. `Malformed` when it is described differently now."""
        row = entry.row
        if (hold.size, hold.rows) != (row.size, row.rows):
            raise Malformed("a segment cannot change its size or rows", peer=entry.owner)
        signed = row.grant if self.grants[entry.owner, entry.name].version > grant.version else hold.grant
        if hold.version > row.version:
            row = HeldRow(signed, row.size, row.rows, row.dimension, hold.version, bitmap(hold.deleted))
        elif signed != row.grant:
            row = HeldRow(signed, row.size, row.rows, row.dimension, row.version, row.bitmap)
        if row is entry.row:
            return []
        entry.row = row
        return [Put("held", entry.key, encode(row))]

    def remove(self, key: str) -> list[Save]:
        entry = self.entries.pop(key)
        saves: list[Save] = [Delete("held", key)]
        if not any((other.owner, other.name) == (entry.owner, entry.name) for other in self.entries.values()):
            self.grants.pop((entry.owner, entry.name), None)
        if not any(other.owner == entry.owner for other in self.entries.values()):
            self._heard.pop(entry.owner, None)
            saves.append(Delete("owner", entry.owner))
        return saves

    def needed(self, digest: str) -> bool:
        """Whether another index holds the same file."""
        return any(entry.digest == digest for entry in self.entries.values())

    def heard(self, owner: str, now: Now) -> list[Save]:
        if self._heard.get(owner, 0.0) + HEARD_STEP_S > now.wall:
            return []
        self._heard[owner] = now.wall
        return [Put("owner", owner, encode(OwnerRow(now.wall)))]

    def silent(self, now: Now) -> list[str]:
        """Keys of segments whose owner is gone for good."""
        before = now.wall - self._settings.owner_silent_s
        return [entry.key for entry in self.entries.values() if self._heard.get(entry.owner, now.wall) < before]

    def owners(self) -> set[str]:
        return {entry.owner for entry in self.entries.values()}


def key_of(grant: IndexGrant, digest: str) -> str:
    return f"{peer_id(grant.owner)}/{grant.name}/{digest}"


def bitmap(rows: Iterable[int]) -> bytes:
    """Bits of row numbers, least significant first."""
    bits = bytearray()
    for row in rows:
        if row >> 3 >= len(bits):
            bits.extend(bytes((row >> 3) + 1 - len(bits)))
        bits[row >> 3] |= 1 << (row & 7)
    return bytes(bits)


def grant_of(signed: SignedGrant, swarm: str, sender: str) -> IndexGrant:
    """The grant, if its owner is who sent it. `Refused` otherwise: nobody speaks for another's index."""
    grant = open_grant(signed, swarm)
    if peer_id(grant.owner) != sender:
        raise Refused("only the owner of an index says who holds it")
    return grant
