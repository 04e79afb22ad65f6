"""Who keeps the committee as it should be: founds it, adds and removes members, replaces those whose disks are lost.

It wants a role for each host, looks at what the leader says, and asks for the difference, again and again: what a
careful operator with a script would do, and what the registry of the daemon does with certificates.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from ...errors import EdgenetError
from ...messages.raft import (
    ChangeMembers,
    FoundCommittee,
    LearnRoster,
    LeaveJoint,
    MemberChange,
    PrepareMember,
    RetireMember,
)
from ...raft.journal import Membership
from ...raft.member import Member
from ...wire.codec import decode
from ..events.host import Host
from ..events.loop import Script
from .watch import PART, member_of

if TYPE_CHECKING:
    from .committee import Committee

LOOK_S = 0.5


class Operator:
    """`roles`: what each host should be: voter, learner or none."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self.roles: dict[str, str] = {}
        self.content = False
        self.changing = False
        self.prepared: dict[str, int] = {}
        self._gone: set[int] = set()
        self._served: set[int] = set()
        self._roster: LearnRoster | None = None
        self._rng = committee.rng
        self._patience_s = committee.shape.patience_s

    def want(self, voters: Sequence[Host]) -> None:
        for host in self._committee.hosts:
            self.roles[host.name] = "voter" if host in voters else "none"

    def wish(self, name: str, role: str) -> None:
        self.roles[name] = role
        self.content = False

    def lost(self, host: Host, member: int) -> None:
        """Its disk is gone: the member must leave, and the host may come back as another one."""
        self.prepared.pop(host.name, None)
        if member:
            self._gone.add(member)
        self.content = False

    @staticmethod
    def holds(host: Host, member: int) -> bool:
        saved = host.disk_of(PART).image(PART).get(("state", "member"))
        return saved is not None and decode(saved[4:], Membership, bytes_max=64 * 1024).member == member

    # ---- work

    def work(self) -> Script:
        committee = self._committee
        if committee.shape.grown:
            yield from self._found()
        while True:
            yield min(LOOK_S, self._patience_s) * self._rng.uniform(0.5, 1.5)
            self._tell_roster()
            leader = committee.leader()
            member = member_of(leader) if leader is not None else None
            if leader is None or member is None:
                self.content = False
                continue
            try:
                self.changing = True
                yield from self._improve(leader, member)
            except EdgenetError as error:
                self._committee.world.journal.note("op", "is refused: %s", str(error))
            finally:
                self.changing = False

    def _found(self) -> Script:
        first = self._committee.hosts[0]
        while True:
            try:
                yield from self._committee.asked(first, FoundCommittee(), self._patience_s)
            except EdgenetError:
                yield 0.2
                if member_of(first) is not None:
                    return
            else:
                return

    def _improve(self, leader: Host, member: Member) -> Generator[float, None, None]:
        conf = member.conf
        if conf.voters_outgoing:
            self.content = False
            yield from self._committee.asked(leader, LeaveJoint(), self._patience_s)
            return
        now: dict[int, str] = dict.fromkeys(conf.voters, "voter")
        now.update((one, "learner") for one in conf.learners)
        self._served |= set(now)  # a member that left comes back as another one
        wanted = yield from self._wanted(member, now)
        changes = [
            MemberChange(one, self._peer(member, one), wanted.get(one, "none"))
            for one in sorted({*now, *wanted})
            if wanted.get(one, "none") != now.get(one, "none")
        ]
        if not any(role == "voter" for role in wanted.values()):
            return
        self._roster = LearnRoster(member.epoch, member.roster.entries())
        if not changes:
            self.content = not self._missing(wanted)
            return
        self.content = False
        some = changes if self._rng.random() < 0.5 else changes[:1]
        after = {**now, **{one.member: one.role for one in some}}
        if not any(role == "voter" for role in after.values()):
            some = changes
        if not self._bearable(conf.voters, some):
            some = [one for one in changes if one.role != "none" or one.member in self._gone]
            if not some or not self._bearable(conf.voters, some):
                return
        self._committee.world.journal.note("op", "asks %s for %s", leader.name, some)
        self._committee.world.journal.faults["membership change"] += 1
        yield from self._committee.asked(leader, ChangeMembers(tuple(some)), self._patience_s)

    def _bearable(self, voters: Sequence[int], changes: Sequence[MemberChange]) -> bool:
        """Would a majority of the voters afterwards have its disks? One does not remove a good member while another
        one is lost for good."""
        roles = {**dict.fromkeys(voters, "voter"), **{one.member: one.role for one in changes}}
        after = [one for one, role in roles.items() if role == "voter"]
        lost = [one for one in after if one in self._committee.watch.lost]
        return len(lost) <= (len(after) - 1) // 2

    def _missing(self, wanted: dict[int, str]) -> bool:
        """Is a host that should be a member not one yet?"""
        return sum(role != "none" for role in self.roles.values()) != len(wanted)

    def _wanted(self, leader: Member, now: dict[int, str]) -> Generator[float, None, dict[int, str]]:
        """Member ids and their roles: a host's present one, or a new one that it is made ready for."""
        wanted: dict[int, str] = {}
        for host in self._committee.hosts:
            role = self.roles[host.name]
            current = [one for one in now if leader.roster.peer(one) == host.peer and one not in self._gone]
            if role == "none":
                if not current:
                    self._dismiss(host, now)
                continue
            if current and not self._forgot(host, current[-1]):
                wanted[current[-1]] = role
                continue
            ready = yield from self._prepare(host, leader)
            if ready:
                wanted[ready] = role
        return wanted

    def _dismiss(self, host: Host, now: dict[int, str]) -> None:
        """It was made ready and is not wanted any more, or it left without hearing of it."""
        member = member_of(host)
        if member is not None and member.id not in now:
            host.tell(RetireMember(member.epoch, 0))

    def _forgot(self, host: Host, one: int) -> bool:
        """It was dismissed before the change that makes it a member: as good as lost."""
        member = member_of(host)
        if not host.running or self.holds(host, one) or (member is not None and member.id == one):
            return False
        self._committee.watch.destroyed(one)
        self._gone.add(one)
        return True

    def _prepare(self, host: Host, leader: Member) -> Generator[float, None, int]:
        if not host.running:
            return 0
        ready = self.prepared.get(host.name, 0)
        member = member_of(host)
        if ready and member is not None and member.id == ready and ready not in self._served:
            return ready
        if member is not None:
            # Of an earlier membership: it was removed, and need not know.
            host.tell(RetireMember(member.epoch, 0))
            return 0
        try:
            query = PrepareMember(leader.epoch, leader.roster.entries())
            found: int = yield from self._committee.asked(host, query, self._patience_s)
        except EdgenetError as error:
            self._committee.world.journal.note("op", "cannot prepare %s: %s", host.name, str(error))
            return 0
        self.prepared[host.name] = found
        self._committee.world.journal.note("op", "%s is ready to be member %d", host.name, found)
        return found

    def _peer(self, leader: Member, one: int) -> str:
        for name, ready in self.prepared.items():
            if ready == one:
                return self._committee.world.hosts[name].peer
        return leader.roster.peer(one)

    def _tell_roster(self) -> None:
        """Those who have no log must be told whose word counts: the registry of the daemon does it by certificates."""
        for host in self._committee.hosts:
            member = member_of(host)
            if host.running and self._roster is not None and (member is None or not member.conf.voters):
                host.tell(self._roster)
