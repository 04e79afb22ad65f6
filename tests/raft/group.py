"""A few members in memory: their disks, the messages between them, and faults made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from msgspec import structs

from edgenet_node.errors import Malformed
from edgenet_node.raft.algorithm.confchange import Change, decode_change
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.rawnode import Config, HardState, RawNode, ReadState, Role, StorageAppend, StorageApply
from edgenet_node.raft.algorithm.state import Raft
from edgenet_node.raft.algorithm.storage import NO_LIMIT, MemoryStorage
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Message, MessageKind, Snapshot

DEFAULTS = Config(id=1, election_tick=10, heartbeat_tick=1, async_storage_writes=True)


def storage(
    terms: Sequence[int] = (), *, voters: Iterable[int] = (1, 2, 3), hard: HardState | None = None
) -> MemoryStorage:
    """A log whose entries 1, 2, ... have these terms, in a configuration that was there from the beginning."""
    made = MemoryStorage()
    log = [Entry(term, index, data=f"{term}.{index}".encode()) for index, term in enumerate(terms, 1)]
    state = HardState(term=max(terms, default=0)) if hard is None else hard
    made.load(state, Snapshot(conf_state=ConfState(tuple(voters))), 0, 0, log)
    return made


class Member:
    """`applied` are the entries handed to its state machine; `disk` what it asked to save, while `stalled`."""

    def __init__(self, config: Config, disk: MemoryStorage) -> None:
        self.config = config
        self.storage = disk
        self.stalled = False
        self.waiting: list[StorageAppend] = []
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []
        self.start()

    def start(self) -> None:
        """From disk: its state machine begins at the snapshot, and applies again what came after."""
        self.waiting.clear()
        self.reads.clear()
        self.raw = RawNode(self.config, self.storage, Random(self.config.id), applied=self.storage.snapshot().index)

    @property
    def raft(self) -> Raft:
        return self.raw._raft

    def role(self) -> Role:
        return self.raft.role

    @property
    def log(self) -> list[int]:
        """Terms of all its entries, stable or not."""
        return [entry.term for entry in self.entries()]

    def entries(self) -> Sequence[Entry]:
        return self.raft.log.entries(self.raft.log.first_index(), NO_LIMIT)

    @property
    def data(self) -> list[bytes]:
        """Of the commands applied."""
        return [entry.data for entry in self.applied if entry.kind is EntryKind.NORMAL and entry.data]

    def save(self, request: StorageAppend) -> tuple[Message, ...]:
        if request.snapshot is not None:
            self.storage.apply_snapshot(request.snapshot)
        self.storage.append(request.entries)
        if request.hard_state is not None:
            self.storage.set_hard_state(request.hard_state)
        return request.responses

    def apply(self, request: StorageApply) -> tuple[Message, ...]:
        for entry in request.entries:
            self.applied.append(entry)
            if entry.kind is not EntryKind.NORMAL:
                self.raw.apply_conf_change(decode_change(entry))
        return request.responses


class Group:
    """Members 1 to n (or as given), with asynchronous storage writes."""

    def __init__(self, disks: int | dict[int, MemoryStorage] = 3, **options: Any) -> None:
        if isinstance(disks, int):
            voters = range(1, disks + 1)
            disks = {one: storage(voters=voters) for one in voters}
        self.members = {one: Member(structs.replace(DEFAULTS, id=one, **options), disk) for one, disk in disks.items()}
        self.flying: list[Message] = []
        self.cut: set[int] = set()
        self.carry: Callable[[Message], Message | None] = lambda message: message
        self.malformed: list[Malformed] = []

    def __getitem__(self, member: int) -> Member:
        return self.members[member]

    def join(self, member: int, **options: Any) -> Member:
        """A new one with an empty log; it knows the configuration that the group began with."""
        first = next(iter(self.members.values()))
        config = structs.replace(first.config, id=member, **options)
        self.members[member] = Member(config, storage(voters=first.storage.snapshot().conf_state.voters))
        return self.members[member]

    def collect(self, member: int) -> bool:
        """Do what it wants done; its messages fly. False if there was nothing."""
        one = self.members[member]
        busy = False
        while one.raw.has_ready():
            busy = True
            ready = one.raw.ready()
            one.reads += ready.read_states
            for message in ready.messages:
                if isinstance(message, StorageAppend):
                    one.waiting.append(message)
                elif isinstance(message, StorageApply):
                    for response in one.apply(message):
                        one.raw.step(response)
                else:
                    self.flying.append(message)
            if not one.stalled:
                self.flush(member)
        return busy

    def flush(self, member: int) -> None:
        """Its disk works off what waits."""
        one = self.members[member]
        while one.waiting:
            for response in one.save(one.waiting.pop(0)):
                if response.to == member:
                    one.raw.step(response)
                else:
                    self.flying.append(response)

    def deliver(self, message: Message) -> None:
        """What `carry` makes of it; nothing goes to or from who is cut off."""
        if {message.sender, message.to} & self.cut or message.to not in self.members:
            return
        carried = self.carry(message)
        if carried is None:
            return
        try:
            self.members[carried.to].raw.step(carried)
        except ProposalDropped:
            return
        except Malformed as error:
            self.malformed.append(error)

    def crash(self, member: int) -> None:
        """It is gone, and with it all that was not saved."""
        self.cut.add(member)
        self.flying = [one for one in self.flying if one.to != member]

    def restart(self, member: int) -> None:
        self.cut.discard(member)
        self.members[member].start()

    def settle(self) -> None:
        """Until nothing moves."""
        busy = True
        while busy:
            busy = False
            for member in list(self.members):
                busy |= member not in self.cut and self.collect(member)
            flying, self.flying = self.flying, []
            for message in flying:
                busy = True
                self.deliver(message)

    def elect(self, member: int) -> Member:
        self.members[member].raw.campaign()
        self.settle()
        assert self.members[member].role() is Role.LEADER
        return self.members[member]

    def propose(self, member: int, *data: bytes) -> None:
        for one in data:
            self.members[member].raw.propose(one)
        self.settle()

    def change(self, member: int, change: Change) -> None:
        self.members[member].raw.propose_conf_change(change)
        self.settle()

    def tick(self, member: int, count: int = 1) -> None:
        for _ in range(count):
            self.members[member].raw.tick()
        self.settle()

    def sent(self, kind: MessageKind, to: int = 0) -> list[Message]:
        return [one for one in self.flying if one.kind is kind and to in (0, one.to)]


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    return Entry(term, index, data=data)
