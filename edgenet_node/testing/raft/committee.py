"""One run: hosts with the daemon's Raft core and a replicated map, their operator, their clients, and the watch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from msgspec import Struct, structs

from ...effects import Limits, Part, Put
from ...errors import CorruptData
from ...messages.network import PeerDisconnected
from ...messages.raft import (
    ChangeMembers,
    FoundCommittee,
    GetCommittee,
    GiveState,
    LearnRoster,
    LeaveJoint,
    LogAdvanced,
    PrepareMember,
    Propose,
    ReadBarrier,
    ReadLog,
    RecoverCommittee,
    RetireMember,
    TakeSnapshot,
    TakeState,
    TransferLeadership,
)
from ...raft.algorithm.ready import Role
from ...raft.applying import Contents
from ...raft.core import RaftCore
from ...raft.journal import Journal as RaftJournal
from ...raft.journal import Membership
from ...raft.member import Member
from ...raft.settings import RaftSettings
from ...wire.codec import decode, encode
from ...wire.raft import (
    FRAME_BYTES_MAX,
    ConfState,
    FetchSnapshot,
    GetRoster,
    RaftFrame,
    RosterEntry,
    Snapshot,
    SubmitCommand,
)
from ..events.clock import ClockPlan
from ..events.disk import DiskPlan
from ..events.host import Host, HostPlan
from ..events.linearizability import check, explains, of_each
from ..events.network import LinkPlan
from ..events.world import World
from .clients import Client, History, Load, in_log_order, step
from .operator import Operator
from .register import CONSUMER, MapOutcome, MapRead, RegisterCore
from .watch import CONSUMER_PART, PART, Watch, algorithm_of, member_of

REMOTE = (RaftFrame, SubmitCommand, FetchSnapshot, GetRoster)
LOCAL = (
    Propose,
    ReadLog,
    ReadBarrier,
    GiveState,
    FoundCommittee,
    PrepareMember,
    ChangeMembers,
    LeaveJoint,
    TransferLeadership,
    TakeSnapshot,
    RecoverCommittee,
    RetireMember,
    LearnRoster,
    GetCommittee,
)
"""What the part `raft` of the daemon accepts, from peers too and from the node alone."""


class Acknowledged(Protocol):
    def __call__(self, client: str, name: str, index: int, term: int, *, duplicate: bool) -> None: ...


class Shape(Struct, frozen=True):
    """A run, drawn from its seed. `grown`: the first founds the committee and the others join; otherwise all are born
    with it. `spares` are hosts that may join later. Consumers have a disk of their own, as in the daemon. The operator
    asks again after `patience_s`. `wire`: everything that travels is encoded and decoded, which takes time and shows
    what does not survive it."""

    voters: int
    spares: int = 1
    grown: bool = False
    settings: RaftSettings = RaftSettings(consumers=(CONSUMER,))
    load: Load = Load()
    link: LinkPlan = LinkPlan()
    disk: DiskPlan = DiskPlan()
    consumer_disk: DiskPlan = DiskPlan()
    patience_s: float = 4.0
    wire: bool = False
    drift_max: float = 0.0
    skew_max_s: float = 0.0


def over_the_wire(body: Any) -> Any:
    return decode(encode(body), type(body), bytes_max=FRAME_BYTES_MAX)


class Committee:
    """`Run` of the scenario `raft`."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.world = World(seed)
        self.shape = shape
        self.rng = random.Random(self.world.rng.getrandbits(64))
        self.watch = Watch(self.world)
        self.history = History()
        self.peace = False
        self.flipped: dict[str, tuple[str, int]] = {}
        self.world.network.default = shape.link
        if shape.wire:
            self.world.network.wire = over_the_wire
        self.world.expected = self._expected
        for number in range(shape.voters + shape.spares):
            self.world.add(self._plan(f"n{number}"))
        self.hosts = list(self.world.hosts.values())
        self.clients = self._clients()
        self.operator = Operator(self)

    def _plan(self, name: str) -> HostPlan:
        rng, shape = self.rng, self.shape
        clock = ClockPlan(
            skew_s=rng.uniform(-shape.skew_max_s, shape.skew_max_s),
            drift=rng.uniform(-shape.drift_max, shape.drift_max),
        )
        slower = {CONSUMER_PART: shape.consumer_disk}
        return HostPlan(name, self._parts, clock=clock, disk=shape.disk, slower=slower)

    def _parts(self, host: Host) -> Sequence[Part]:
        rng = random.Random(host.rng.getrandbits(64))
        return (
            Part(
                PART,
                lambda: RaftCore(host.peer, self.shape.settings, rng, rng.randbytes),
                accepts=(*REMOTE, *LOCAL),
                remote=REMOTE,
                hears=(PeerDisconnected,),
                limits=Limits(mailbox_max=4096),
                fail_stop=True,
            ),
            Part(
                CONSUMER_PART,
                lambda: RegisterCore(self.watch.observer(host)),
                accepts=(MapRead, MapOutcome),
                remote=(MapRead, MapOutcome),
                hears=(LogAdvanced, TakeState),
            ),
        )

    def _clients(self) -> list[Client]:
        load, found = self.shape.load, []
        for number in range(load.clients):
            home = self.rng.choice(self.hosts) if self.rng.random() < load.resident else None
            hosts = list(self.hosts)
            self.rng.shuffle(hosts)
            found.append(
                Client(
                    self.world,
                    f"c{number}",
                    hosts,
                    home,
                    structs.replace(load, reads=1.0) if number < load.readers else load,
                    self.history,
                    self.watch.acknowledge,
                    self.rng.getrandbits(64),
                )
            )
        return found

    def _expected(self, host: Host, part: str, error: Exception) -> bool:
        """A flipped bit has to end the member; nothing else may."""
        if part == PART and isinstance(error, CorruptData) and host.name in self.flipped:
            self.world.journal.note(host.name, "the flipped bit is found: %s", str(error))
            return True
        return False

    # ---- the run

    def begin(self) -> None:
        self.operator.want(self.hosts[: self.shape.voters])
        if not self.shape.grown:
            self._bear()
        for host in self.hosts:
            self.start(host)
        self.world.loop.spawn(self.operator.work())
        for client in self.clients:
            client.begin()

    def _bear(self) -> None:
        """A committee that is there from the beginning: each disk holds what founding leaves, with all as voters."""
        voters = self.hosts[: self.shape.voters]
        ids = {host.name: self.rng.getrandbits(62) + 1 for host in voters}
        roster = [RosterEntry(ids[host.name], host.peer) for host in voters]
        data = encode(Contents([], roster, {}))
        conf = ConfState(voters=tuple(sorted(ids.values())))
        snapshot = Snapshot(1, 1, conf, len(data), hashlib.sha256(data).hexdigest(), data)
        for host in voters:
            effects = RaftJournal().begin(Membership(0, ids[host.name]), snapshot)
            rows = host.disk_of(PART).image(PART)
            rows.update({(one.table, one.key): one.value for one in effects if isinstance(one, Put)})
            self.watch.homes[ids[host.name]] = host

    def start(self, host: Host) -> None:
        """Start a host; a bit that was flipped meanwhile must be found."""
        if host.running:
            return
        begun = host.start()
        if host.name not in self.flipped:
            return
        where, member = self.flipped[host.name]
        if begun:
            self.world.journal.violate("a flipped bit is found", f"{host.name} runs with a flipped bit in {where}")
        del self.flipped[host.name]
        self._replace(host, member)

    def destroy(self, host: Host) -> None:
        """The disk is lost for good, and the host comes back with an empty one."""
        host.crash()
        member = self.member_id(host)
        self.watch.destroyed(member)
        self._replace(host, member)

    def flip(self, host: Host, rng: random.Random) -> None:
        """One bit of a host that is down turns over: it is lost as soon as it starts."""
        member = self.member_id(host)
        self.watch.destroyed(member)
        self.flipped[host.name] = (host.disk_of(PART).flip(PART, rng), member)

    def _replace(self, host: Host, member: int) -> None:
        for disk in host.disks:
            disk.wipe()
        self.operator.lost(host, member)

    def member_id(self, host: Host) -> int:
        """By its disk: 0 if it is none."""
        return next(
            (one for one, home in self.watch.homes.items() if home is host and self.operator.holds(host, one)), 0
        )

    def make_peace(self) -> None:
        self.peace = True
        self.world.network.mend_all()
        self.world.network.default = LinkPlan()
        for host in self.hosts:
            for disk in host.disks:
                disk.full = False
                disk.sync_fails_after = -1
            self.start(host)
        for client in self.clients:
            client.stopping = True

    def settled(self) -> bool:
        """Everybody has been answered, the operator has what was wanted, and all members have applied the same."""
        if self.history.open or not self.operator.content:
            return False
        members = [found for host in self.hosts if (found := self._voice(host)) is not None]
        if not members or sum(algorithm_of(one).role is Role.LEADER for one in members) != 1:
            return False
        return all(
            one.applied.index == algorithm_of(one).log.last_index == self.watch.commit for one in members
        ) and all(self._register(one).index >= self.watch.commit for one in self.hosts if self._voice(one) is not None)

    def _voice(self, host: Host) -> Member | None:
        """The member of the newest configuration that runs on this host."""
        member = member_of(host)
        conf = self.watch.conf[1]
        ids = {*conf.voters, *conf.learners, *conf.voters_outgoing}
        return member if member is not None and member.id in ids else None

    def _register(self, host: Host) -> RegisterCore:
        core = host.drivers[CONSUMER_PART].core
        assert isinstance(core, RegisterCore)
        return core

    def judge(self, *, settled: bool) -> None:
        journal, watch = self.world.journal, self.watch
        network = self.world.network
        journal.faults.update(
            {"lost message": network.lost, "doubled message": network.doubled, "reordered message": network.reordered}
        )
        if journal.violations:
            return
        if not settled:
            journal.violate("progress", self._standstill())
            return
        watch.judge()
        states = {self._register(host).digest() for host in self.hosts if self._voice(host) is not None}
        if len(states) != 1:
            journal.violate("all members are equal", f"{len(states)} different states after {watch.commit}")
        for name, operations in of_each(self.history.operations, lambda operation: operation.asked[1]).items():
            # What the log says is only a hint: when it does not explain what clients saw, any order may.
            if not explains(in_log_order(operations, watch.executed), 0, step):
                verdict = check(operations, 0, step)
                if verdict != "linearizable":
                    journal.violate("linearizable", f"{name}: the history is {verdict}")

    def _standstill(self) -> str:
        said = [f"{self.history.open} operations open, operator {'content' if self.operator.content else 'waits'}"]
        for host in self.hosts:
            member = member_of(host)
            if member is None:
                said.append(f"{host.name} {'is no member' if host.running else 'is down ' + host.failure}")
                continue
            raft = algorithm_of(member)
            marks = f"commit {raft.log.committed}, last {raft.log.last_index}, applied {member.applied.index}"
            register = self._register(host).index
            said.append(f"{host.name} {raft.role.name} of term {raft.term}: {marks}, map {register}")
        return "; ".join(said)

    # ---- for faults

    def leader(self) -> Host | None:
        """Who leads in the newest term, as nobody in the world could know."""
        best: Host | None = None
        best_term = -1
        for host in self.hosts:
            member = member_of(host)
            if member is not None:
                raft = algorithm_of(member)
                if raft.role is Role.LEADER and raft.term > best_term:
                    best, best_term = host, raft.term
        return best

    def expendable(self, host: Host) -> bool:
        """May this disk be lost, so that a majority of those that matter stays?"""
        member = self.member_id(host)
        conf = self.watch.conf[1]
        confs = [conf, *(found.conf for one in self.hosts if (found := member_of(one)) is not None)]
        for one in confs:
            for half in (one.voters, one.voters_outgoing):
                if member in half or any(lost in half for lost in self.watch.lost):
                    lost = {*self.watch.lost, member} & set(half)
                    if len(lost) > (len(half) - 1) // 2:
                        return False
        return not self.operator.changing and not self.watch.changing and bool(member)

    def asked(self, host: Host, query: Any, timeout_s: float = 10.0) -> Generator[float, None, Any]:
        return self.world.asked(host, query, timeout_s)
