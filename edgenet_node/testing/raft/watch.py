"""What must hold at every step of every member, checked as it happens. Names as in etcd's TLA+ model where it has them.

Most of it is seen from outside: the rows that a member saves, what is durable on its disk, the frames that it lets go,
the events and answers that it gives. Role and marks (term, committed) are read from the algorithm itself.

* election safety: at most one leader in a term.
* log matching: an entry is known by index and term; the one before it is the same in every log, and so is its data.
* leader completeness: a new leader holds everything that was committed in earlier terms.
* state machine safety: at one index every consumer has executed the same commands (a hash over all of them), and what
  any member takes for committed at one index is one entry.
* quorum log: no quorum of members could elect a leader without what is committed.
* committed is durable: what is committed lies on the disks of a quorum at that moment.
* vote once: one vote for each term, also across restarts.
* applied <= commit, and neither goes back while a member runs.
* one change at a time: a leader's log holds at most one change of configuration that it has not applied.
* nothing acknowledged is lost, and every command is executed exactly once.
"""

from __future__ import annotations

from typing import Any

from ...effects import Delete, Envelope, Put
from ...raft.algorithm.log import UNKNOWN_TERM
from ...raft.algorithm.ready import Role
from ...raft.algorithm.state import Raft
from ...raft.core import RaftCore
from ...raft.journal import Membership, SavedHard, SavedHead, key
from ...raft.member import Member
from ...wire.codec import decode
from ...wire.raft import ConfState, Entry, EntryKind, MessageKind, RaftFrame
from ..events.disk import Rows
from ..events.host import Host
from ..events.world import World
from .register import MapCommand

PART = "raft"
CONSUMER_PART = "map"
ROW_BYTES_MAX = 128 * 1024 * 1024


def member_of(host: Host) -> Member | None:
    """The member that this host runs, if it does."""
    driver = host.drivers.get(PART)
    if driver is None or not host.running or driver.closed:
        return None
    core = driver.core
    assert isinstance(core, RaftCore)
    return core.member


def algorithm_of(member: Member) -> Raft:
    """The algorithm's own state, which no status shows as cheaply."""
    return member.node._raft


def majority(members: tuple[int, ...]) -> int:
    return len(members) // 2 + 1


class _Seen:
    """What was last seen of one incarnation of one member."""

    __slots__ = ("applied", "changes", "committed", "conf", "leading", "member")

    def __init__(self, member: Member) -> None:
        raft = algorithm_of(member)
        self.member = member
        self.applied = member.applied.index
        self.committed = raft.log.committed
        self.conf = member.conf
        self.leading = 0
        self.changes: set[int] = set()
        storage = member.journal.storage
        for entry in (
            storage.entries(storage.first_index(), storage.last_index() + 1, 2**62) if member.journal.last else ()
        ):
            if entry.kind is not EntryKind.NORMAL:
                self.changes.add(entry.index)


class Watch:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.journal = world.journal
        self.commit = 0
        self.term = 0
        self.conf: tuple[int, ConfState] = (0, ConfState())
        self.homes: dict[int, Host] = {}
        self.lost: dict[int, Rows] = {}
        self.executed: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        self.leaders: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._committed_in: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._chains: dict[int, tuple[bytes, int]] = {}
        self._seen: dict[str, _Seen] = {}
        world.on_step.append(self._stepped)
        world.on_send.append(self._sent)
        world.on_start.append(self._started)
        world.on_end.append(self._ended)
        world.on_durable.append(self._durable)

    # ---- steps

    def _stepped(self, host: Host, driver: Any, envelope: Envelope[Any], effects: list[Any]) -> None:
        if driver.part.name != PART:
            return
        member: Member | None = driver.core.member
        if member is None:
            self._seen.pop(host.name, None)
            return
        seen = self._seen.get(host.name)
        if seen is None or seen.member is not member:
            seen = self._seen[host.name] = _Seen(member)
            self.homes[member.id] = host
            if member.applied.index > self.conf[0]:
                self.conf = (member.applied.index, member.conf)
        raft = algorithm_of(member)
        if effects:
            self._saved(host, member, seen, effects)
        log = raft.log
        if log.committed != seen.committed:
            self._advanced(host, raft, seen, member)
        if member.conf is not seen.conf:
            self._configured(member, seen)
        applied = member.applied.index
        if applied != seen.applied:
            if applied < seen.applied:
                self.violate("applied never goes back", host, f"from {seen.applied} to {applied}")
            seen.applied = applied
        if applied > log.committed:
            self.violate("applied <= commit", host, f"{applied} > {log.committed}")
        if raft.role is Role.LEADER:
            if seen.leading != raft.term:
                self._elected(host, raft, seen)
            if seen.changes and effects:
                waiting = [index for index in seen.changes if index > applied]
                if len(waiting) > 1:
                    self.violate("one change at a time", host, f"changes at {sorted(waiting)} and applied {applied}")

    def violate(self, invariant: str, host: Host, text: str) -> None:
        self.journal.violate(invariant, f"{host.name}: {text}")

    def _saved(self, host: Host, member: Member, seen: _Seen, effects: list[Any]) -> None:
        """Log matching, by induction: an entry is preceded by the same term everywhere, and has the same data."""
        puts: dict[str, bytes] = {}
        for effect in effects:
            kind = type(effect)
            if kind is Put:
                if effect.table == "log":
                    puts[effect.key] = effect.value
            elif kind is Delete and effect.table == "log":
                puts.pop(effect.key, None)
                seen.changes.discard(int(effect.key))
        storage = member.journal.storage
        for value in puts.values():
            entry = decode(value[4:], Entry, bytes_max=ROW_BYTES_MAX)
            index, term = entry.index, entry.term
            if entry.kind is EntryKind.NORMAL:
                seen.changes.discard(index)
            else:
                seen.changes.add(index)
            before = storage.term(index - 1) if index >= storage.first_index() else UNKNOWN_TERM
            known = self._entries.get((index, term))
            if known is None:
                self._entries[index, term] = (before, value)
                self.journal.note(host.name, "appends %d of term %d", index, term)
            elif known[1] != value or (before != known[0] and UNKNOWN_TERM not in (before, known[0])):
                text = f"entry {index} of term {term} follows {before} here and {known[0]} elsewhere"
                self.violate("log matching", host, text if known[1] == value else f"entry {index} of {term} differs")
            if before > term:
                self.violate("log matching", host, f"entry {index} of term {term} follows one of {before}")
            settled = self._committed.get(index)
            if settled is not None and settled < term:
                text = f"saves {index} of term {term}, where {settled} was committed"
                self.violate("leader completeness", host, text)

    # ---- commits

    def _advanced(self, host: Host, raft: Raft, seen: _Seen, member: Member) -> None:
        log, before = raft.log, seen.committed
        committed = log.committed
        seen.committed = committed
        if committed < before:
            self.violate("commit never goes back", host, f"from {before} to {committed}")
            return
        if committed > log.last_index:
            self.violate("commit lies in the log", host, f"{committed} of {log.last_index}")
            return
        fresh = committed > self.commit
        top = committed if not fresh else self.commit
        term = log.term(top)
        if top and term not in (UNKNOWN_TERM, self._committed.get(top, term)):
            text = f"takes {top} of term {term} for committed, elsewhere it is of {self._committed[top]}"
            self.violate("state machine safety", host, text)
        if not fresh:
            return
        for index in range(self.commit + 1, committed + 1):
            term = log.term(index)
            if term != UNKNOWN_TERM:
                self._committed[index] = term
        self.commit = committed
        self._committed_in[raft.term] = committed
        self.journal.note(host.name, "commits %d in term %d", committed, raft.term)
        self._check_durable(host, committed, log.term(committed), (seen.conf, member.conf))

    def _check_durable(self, host: Host, index: int, term: int, confs: tuple[ConfState, ...]) -> None:
        holders: dict[int, bool] = {}
        for conf in confs:
            short = ""
            for half in (conf.voters, conf.voters_outgoing):
                for one in half:
                    if one not in holders:
                        holders[one] = self._holds(one, index, term)
                if half and sum(holders[one] for one in half) < majority(half):
                    short = f"{sum(holders[one] for one in half)} of {len(half)}"
            if not short:
                return
        self.violate("committed is durable", host, f"{index} of term {term} lies on the disks of {short}")

    def _holds(self, member: int, index: int, term: int) -> bool:
        """Does its disk hold this entry, or a snapshot of it?"""
        rows = self.lost.get(member)
        if rows is None:
            home = self.homes.get(member)
            if home is None:
                return False
            rows = home.disk_of(PART).image(PART)
            saved = rows.get(("state", "member"))
            if saved is None or decode(saved[4:], Membership, bytes_max=ROW_BYTES_MAX).member != member:
                return False
        value = rows.get(("log", key(index)))
        if value is not None and decode(value[4:], Entry, bytes_max=ROW_BYTES_MAX).term == term:
            return True
        head = rows.get(("state", "head"))
        return head is not None and decode(head[4:], SavedHead, bytes_max=256).index >= index

    @property
    def changing(self) -> bool:
        """Is there a change of configuration in some log that was not applied there?"""
        return any(index > seen.applied for seen in self._seen.values() for index in seen.changes)

    def destroyed(self, member: int) -> None:
        """Its disk is about to be lost for good: what it had acknowledged counted while it was there."""
        home = self.homes.get(member)
        if home is not None and member not in self.lost:
            self.lost[member] = dict(home.disk_of(PART).image(PART))

    # ---- leaders, configurations, quorums

    def _elected(self, host: Host, raft: Raft, seen: _Seen) -> None:
        term = seen.leading = raft.term
        self.term = max(self.term, term)
        other = self.leaders.setdefault(term, raft.id)
        if other != raft.id:
            self.violate("election safety", host, f"leads term {term}, as member {other} does")
        self.journal.note(host.name, "leads term %d", term)
        needed = max((upto for earlier, upto in self._committed_in.items() if earlier < term), default=0)
        found = raft.log.term(needed) if needed else 0
        if needed and (needed > raft.log.last_index or found not in (UNKNOWN_TERM, self._committed.get(needed, found))):
            text = f"leads term {term} without {needed} of term {self._committed.get(needed)}; it has {found}"
            self.violate("leader completeness", host, text)
        self._check_quorums(host)

    def _configured(self, member: Member, seen: _Seen) -> None:
        seen.conf = member.conf
        if member.applied.index > self.conf[0]:
            self.conf = (member.applied.index, member.conf)
            conf = member.conf
            self.journal.note("", "configuration at %d: %s", member.applied.index, conf)
            self._check_quorums(self.homes[member.id])

    def _ended(self, host: Host) -> None:
        self._seen.pop(host.name, None)

    def _started(self, host: Host) -> None:
        self._check_quorums(host)

    def _check_quorums(self, host: Host) -> None:
        """Quorum log. Members whose disks were destroyed never vote again under that name."""
        index, conf = self.commit, self.conf[1]
        if not index or not conf.voters:
            return
        term = self._committed.get(index)
        if term is None:
            return
        for half in (conf.voters, conf.voters_outgoing):
            lacking = [one for one in half if one not in self.lost and not self._has(one, index, term)]
            if not half or len(lacking) < majority(half):
                return
        self.violate("quorum log", host, f"members {lacking} could decide without entry {index} of term {term}")

    def _has(self, member: int, index: int, term: int) -> bool:
        home = self.homes.get(member)
        running = member_of(home) if home is not None else None
        if running is not None and running.id == member:
            log = algorithm_of(running).log
            if log.first_index() > index or (index <= log.last_index and log.term(index) == term):
                return True
        return self._holds(member, index, term)

    # ---- the disk and the network

    def _durable(self, host: Host, part: str, saves: Any) -> None:
        if part == PART:
            for save in saves:
                if type(save) is not Put:
                    continue
                if save.key == "hard":
                    self._saved_vote(host, decode(save.value[4:], SavedHard, bytes_max=256))
                elif save.key == "member":
                    member = decode(save.value[4:], Membership, bytes_max=ROW_BYTES_MAX).member
                    self.homes[member] = host
                    if member in self.lost:
                        self.violate("a lost member stays lost", host, f"{member} is back with another disk")

    def _sent(self, host: Host, peer: str, body: Any) -> None:
        if type(body) is not RaftFrame:
            return
        for message in body.messages:
            kind = message.kind
            if kind is MessageKind.VOTE_RESP and not message.reject:
                self._vote(host, message.sender, message.term, message.to)

    def _saved_vote(self, host: Host, hard: SavedHard) -> None:
        """A vote counts when it is durable, and when it is told. A candidate that asks for votes has not given its own
        yet: it may forget that it asked."""
        seen = self._seen.get(host.name)
        if hard.vote and seen is not None:
            self._vote(host, seen.member.id, hard.term, hard.vote)

    def _vote(self, host: Host, member: int, term: int, choice: int) -> None:
        known = self._votes.setdefault((member, term), choice)
        if known != choice:
            self.violate(
                "vote once", host, f"member {member} votes for {choice} in term {term}, and for {known} before"
            )

    # ---- consumers and clients

    def observer(self, host: Host) -> HostObserver:
        return HostObserver(self, host)

    def chained(self, host: Host, index: int, chain: bytes, count: int) -> None:
        known = self._chains.setdefault(index, (chain, count))
        if known[0] != chain:
            self.violate("state machine safety", host, f"has executed something else up to {index}")
        elif known[1] != count:
            self.violate("exactly once", host, f"has executed {count} commands up to {index}, not {known[1]}")

    def execute(self, host: Host, index: int, command: MapCommand) -> None:
        first = self.executed.setdefault(command.name, index)
        if first != index:
            self.violate("exactly once", host, f"{command.name} is executed at {index}, and was at {first}")
        if index > self.commit:
            self.violate("state machine safety", host, f"executes {index}, committed is {self.commit}")

    def acknowledge(self, client: str, name: str, index: int, term: int, *, duplicate: bool) -> None:
        """A client was told that its command is committed."""
        if index > self.commit:
            text = f"{client}: {name} is said to be at {index}, committed is {self.commit}"
            self.journal.violate("nothing acknowledged is lost", text)
        if index:
            self.acknowledged[name] = index
            if not duplicate and self._committed.get(index, term) != term:
                text = f"{client}: {name} at {index} of term {term}, committed is term {self._committed[index]}"
                self.journal.violate("nothing acknowledged is lost", text)

    def judge(self) -> None:
        """When everything is applied everywhere."""
        for name, index in self.acknowledged.items():
            if self.executed.get(name) != index:
                text = f"{name} was acknowledged at {index}, and executed at {self.executed.get(name)}"
                self.journal.violate("nothing acknowledged is lost", text)


class HostObserver:
    """Of the consumer of one host."""

    def __init__(self, watch: Watch, host: Host) -> None:
        self._watch = watch
        self._host = host
        self._index = 0

    def executed(self, index: int, command: MapCommand, chain: bytes, count: int) -> None:
        if index <= self._index:
            self._watch.violate("exactly once", self._host, f"executes {index} after {self._index}")
        self._index = index
        self._watch.execute(self._host, index, command)
        self._watch.chained(self._host, index, chain, count)

    def installed(self, index: int) -> None:
        """The state after `index` (which need not be an entry that the consumer executed)."""
        self._index = index
