"""The registry of this node: chain, rows, cursor; and how they are saved.

A member advances it by committed entries, a follower by whole registries that a certified head proves. Each step saves
what it changed together with the cursor, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from ..effects import Delete, Effect, Put, Row
from ..errors import EdgenetError, InvariantError, Malformed
from ..messages.raft import CommittedEntry
from ..wire.codec import Wire, decode, encode
from ..wire.committee import SET_SIZES, CertifiedHead, CommitteeSet, Head, Link
from ..wire.raft import EntryKind
from .chain import SET_DOMAIN, Chain, digest, proves
from .following import Adopted
from .state import EMPTY_HISTORY, Applied, RegistryState, check_rows

T = TypeVar("T", bound=Wire)

STATE_BYTES_MAX = 64 * 1024 * 1024

ALARMS_MAX = 16
"""An operator reads the first ones; a liar could go on."""


class Cursor(Wire, frozen=True):
    index: int
    history: bytes


class Whole(Wire, frozen=True):
    """State for a snapshot of the log, and what a consumer begins with after one."""

    index: int
    history: bytes
    pending: CommitteeSet | None
    rows: dict[str, bytes]


class Taken(Struct, frozen=True):
    """What an entry did: `applied` for a command, `changed` when the committee's set or its pending one did."""

    effects: list[Effect]
    applied: Applied | None = None
    changed: bool = False


class Record:
    """Exists once the swarm is known."""

    def __init__(self, swarm: str, founder: bytes, accepted: Sequence[str]) -> None:
        self.swarm = swarm
        self.founder = founder
        self.chain = Chain(swarm, founder, accepted)
        self.state = RegistryState()
        self.state.load({"set/0": encode(self.chain.links[0])}, 0, EMPTY_HISTORY)
        self.pending: CommitteeSet | None = None
        self.certified: CertifiedHead | None = None
        self.alarms: list[str] = []
        self._office = self.chain.office

    def alarm(self, text: str) -> None:
        """For the operator; each once."""
        if text not in self.alarms and len(self.alarms) < ALARMS_MAX:
            self.alarms.append(text)

    @property
    def place(self) -> tuple[int, int, int]:
        """Epoch and number of the set that the rows end with, and the cursor: later heads compare greater."""
        return (*self._office, self.state.index)

    @property
    def cursor(self) -> int:
        return self.state.index

    def load(self, rows: Sequence[Row]) -> list[Effect]:
        """What was saved; the first set, if nothing was."""
        saved = {row.key: row.value for row in rows if row.table == "rows"}
        meta = {row.key: row.value for row in rows if row.table == "meta"}
        if "cursor" not in meta:
            return [*(Put("rows", key, value) for key, value in self.state.rows.items()), self._cursor_row()]
        cursor = _read(meta["cursor"], Cursor)
        self.state.load(saved, cursor.index, cursor.history)
        self._rebuild()
        if "pending" in meta:
            self.pending = _read(meta["pending"], CommitteeSet)
        if "head" in meta:
            self.certified = _read(meta["head"], CertifiedHead)
        return []

    def _rebuild(self) -> None:
        """The chain, from rows that are our own or that members vouch for."""
        links = self.state.links()
        fresh = Chain(self.swarm, self.founder, [digest(link.set).hex() for link in links])
        try:
            fresh.extend(links)
        except EdgenetError as error:
            raise InvariantError(f"the saved chain of committees does not hold together: {error.message}") from error
        if [link.set for link in fresh.links] != [link.set for link in links]:
            raise InvariantError("the saved chain of committees does not hold together")
        self.chain.links = fresh.links
        self._office = fresh.office

    def _cursor_row(self) -> Effect:
        return Put("meta", "cursor", encode(Cursor(self.state.index, self.state.history)))

    # ---- as a member

    def take(self, entry: CommittedEntry, raft_epoch: int) -> Taken:
        """Apply a committed entry."""
        if entry.index <= self.cursor:
            raise InvariantError(f"entry {entry.index} was applied before")
        if self.chain.office != self._office:  # as a follower it learned of sets that the log has yet to come to
            self._rebuild()
        if entry.kind is not EntryKind.NORMAL:
            return self._reshape(entry)
        applied = self.state.apply(entry.index, entry.command, self.chain.tip, self.swarm)
        effects: list[Effect] = [
            Delete("rows", key) if value is None else Put("rows", key, value) for key, value in applied.writes.items()
        ]
        changed = False
        if applied.command is not None and applied.command.kind == "epoch" and not applied.refused:
            out = self._begin_epoch(entry.index, applied.author, raft_epoch)
            effects += out
            changed = bool(out)
        return Taken(effects, applied, changed)

    def finish(self, upto: int) -> list[Effect]:
        """After a page: nothing of ours up to here but what was taken."""
        self.state.index = max(self.state.index, upto)
        return [self._cursor_row()]

    def _reshape(self, entry: CommittedEntry) -> Taken:
        """A change of configuration: the joint one names the set to come, the one that leaves it proves it."""
        self.state.index = entry.index
        conf = entry.conf_state
        if conf is None:
            return Taken([])
        if conf.voters_outgoing:
            self.pending = self._valid_set(entry.context)
            if self.pending is None:
                return Taken([])
            return Taken([Put("meta", "pending", encode(self.pending))], changed=True)
        pending, self.pending = self.pending, None
        link = _try(entry.context, Link)
        if pending is None and link is None:
            return Taken([])
        effects: list[Effect] = [] if pending is None else [Delete("meta", "pending")]
        if link is None or not self._certified_next(link):
            tip = self.chain.tip
            self.alarm(f"the committee changed at entry {entry.index} without a certificate of set {tip.number}")
            return Taken(effects, changed=True)
        return Taken([*effects, *self._link(entry.index, link)], changed=True)

    def _certified_next(self, link: Link) -> bool:
        """The same for who saw the joint change and who adopted a head after it: the link proves itself."""
        tip, certificate = self.chain.tip, link.certificate
        return (
            self._next(link.set) and certificate is not None and proves(certificate, tip, SET_DOMAIN, digest(link.set))
        )

    def _next(self, found: CommitteeSet) -> bool:
        tip = self.chain.tip
        follows = (found.epoch, found.number, found.previous) == (tip.epoch, tip.number + 1, digest(tip))
        return follows and len(found.members) in SET_SIZES

    def _valid_set(self, context: bytes) -> CommitteeSet | None:
        found = _try(context, CommitteeSet)
        return found if found is not None and self._next(found) else None

    def _link(self, index: int, link: Link) -> list[Effect]:
        self.chain.extend([link])
        self._office = self.chain.office
        key, value = f"set/{link.set.number}", encode(link)
        self.state.write(index, {key: value})
        return [Put("rows", key, value)]

    def _begin_epoch(self, index: int, author: bytes, raft_epoch: int) -> list[Effect]:
        """By the one who went on alone: only in a log of that epoch."""
        tip = self.chain.tip
        if raft_epoch != tip.epoch + 1:
            return []
        following = CommitteeSet(raft_epoch, tip.number + 1, (author,), digest(tip))
        self.chain.accept(digest(following).hex())
        return self._link(index, Link(following))

    def head(self) -> Head:
        """Of the state as it is."""
        tip = self.chain.tip
        return Head(self.swarm, tip.epoch, tip.number, self.state.index, self.state.root(), self.state.history)

    def certify(self, certified: CertifiedHead) -> list[Effect]:
        self.certified = certified
        return [Put("meta", "head", encode(certified))]

    # ---- snapshots and adoption

    def whole(self) -> bytes:
        state = self.state
        return encode(Whole(state.index, state.history, self.pending, dict(sorted(state.rows.items()))))

    def install(self, data: bytes) -> list[Effect]:
        """From a snapshot of the log: members vouch for it, and the next mark compares it."""
        whole = _read(data, Whole)
        try:
            check_rows(whole.rows)
        except EdgenetError as error:
            raise InvariantError(f"a snapshot of the registry that is none: {error.message}") from error
        effects = self._replace(whole.rows, whole.index, whole.history)
        self._rebuild()
        self.pending = whole.pending
        if whole.pending is not None:
            effects.append(Put("meta", "pending", encode(whole.pending)))
        return effects

    def adopt(self, adopted: Adopted) -> list[Effect]:
        """From a certified head: the rows are proven. What a quorum certified and is no registry is not taken."""
        head = adopted.certified.head
        try:
            check_rows(adopted.rows)
            self._check_sets(adopted.rows)
        except EdgenetError as error:
            self.alarm(f"what the committee certified after entry {head.index} cannot be its registry: {error.message}")
            return []
        out = self._replace(adopted.rows, head.index, head.history)
        self._office = self.chain.office
        return [*out, *self.certify(adopted.certified)]

    def _check_sets(self, rows: dict[str, bytes]) -> None:
        """They are the chain that this node has verified; certificates may be by other signers."""
        known = self.chain.links
        if sum(key.startswith("set/") for key in rows) != len(known):
            raise Malformed("other committees")
        for number, own in enumerate(known):
            link = decode(rows.get(f"set/{number}", b""), Link, bytes_max=STATE_BYTES_MAX)
            proven = link == own or (
                number > 0
                and own.certificate is not None
                and link.certificate is not None
                and proves(link.certificate, known[number - 1].set, SET_DOMAIN, digest(link.set))
            )
            if link.set != own.set or not proven:
                raise Malformed(f"another committee set {number}")

    def _replace(self, rows: dict[str, bytes], index: int, history: bytes) -> list[Effect]:
        before = self.state.rows
        effects: list[Effect] = [Delete("rows", key) for key in before if key not in rows]
        effects += [Put("rows", key, value) for key, value in rows.items() if before.get(key) != value]
        self.state.load(rows, index, history)
        if self.pending is not None:
            effects.append(Delete("meta", "pending"))
            self.pending = None
        return [*effects, self._cursor_row()]


def _read(data: bytes, kind: type[T]) -> T:
    """Of our own making, or proven. `InvariantError` when it does not decode."""
    try:
        return decode(data, kind, bytes_max=STATE_BYTES_MAX)
    except EdgenetError as error:
        raise InvariantError(f"a saved {kind.__name__} of the registry cannot be read: {error.message}") from error


def _try(data: bytes, kind: type[T]) -> T | None:
    """Of somebody else's making: None when it is not what it should be."""
    try:
        return decode(data, kind, bytes_max=STATE_BYTES_MAX)
    except EdgenetError:
        return None
