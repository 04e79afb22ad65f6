"""A group of members without network or disk: messages wait in one list until a command delivers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from msgspec import structs

from edgenet_node.raft.algorithm.confchange import ConfChange, ConfChangeV2, Transition, as_v2, decode_change
from edgenet_node.raft.algorithm.errors import Compacted, ProposalDropped, SnapshotOutOfDate, Unavailable
from edgenet_node.raft.algorithm.rawnode import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    Config,
    HardState,
    RawNode,
    StorageAppend,
    StorageApply,
)
from edgenet_node.raft.algorithm.storage import NO_LIMIT, MemoryStorage
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Message, MessageKind, Snapshot

from . import describe
from .script import Command, truth

_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
_LOCAL = (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD)
_TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}
_ERRORS: dict[type[Exception], str] = {
    ProposalDropped: "raft proposal dropped",
    Compacted: "requested index is unavailable due to compaction",
    Unavailable: "requested entry at index is unavailable",
    SnapshotOutOfDate: "requested index is older than the existing snapshot",
}


class ScriptError(Exception):
    """What a command prints instead of the rest of its output."""


class _Storage(MemoryStorage):
    """Whoever asks for a snapshot gets the newest state."""

    __slots__ = ("history",)

    def __init__(self, first: Snapshot) -> None:
        super().__init__()
        self.history = [first]

    def snapshot(self) -> Snapshot:
        return self.history[-1]


class Node:
    """One member, its storage, and what it has asked its two threads for. Its state machine appends."""

    def __init__(self, config: Config, snapshot: Snapshot) -> None:
        self.config = config
        self.storage = _Storage(snapshot)
        if snapshot.index:
            self.storage.apply_snapshot(snapshot)
        self.raw = RawNode(config, self.storage, Random(config.id), applied=snapshot.index)
        self.append_work: list[StorageAppend] = []
        self.apply_work: list[StorageApply] = []

    def save(self, hard: HardState | None, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        if hard is not None:
            self.storage.set_hard_state(hard)
        if snapshot is None:
            self.storage.append(entries)
        elif entries:
            raise ScriptError("can't apply snapshot and entries at the same time")
        else:
            self.storage.apply_snapshot(snapshot)

    def apply(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            last = self.storage.history[-1]
            update, conf_state = entry.data, last.conf_state
            if entry.kind is not EntryKind.NORMAL:
                change = decode_change(entry)
                update, conf_state = as_v2(change).context, self.raw.apply_conf_change(change)
            data = last.data + update
            self.storage.history.append(Snapshot(entry.index, entry.term, conf_state, len(data), data=data))


class Environment:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self._out: list[str] = []
        self._level = 0

    def run(self, command: Command) -> str:
        """What it prints."""
        self._out = []
        handler = _HANDLERS.get(command.name)
        try:
            if handler is None:
                raise ScriptError("unknown command")
            handler(self, command)
        except (ScriptError, ProposalDropped, Compacted, Unavailable, SnapshotOutOfDate) as error:
            text = _ERRORS.get(type(error), str(error))
            if self._quiet:
                return text
            self._print(text)
        return "".join(self._out) or "ok"

    @property
    def _quiet(self) -> bool:
        return self._level == _LEVELS.index("NONE")

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._out.append(text)

    def _indented(self, work: Callable[[], None]) -> None:
        outer, self._out = self._out, []
        try:
            work()
        finally:
            inner, self._out = "".join(self._out), outer
            self._out += [f"  {line}\n" for line in inner.splitlines()]

    def _node(self, command: Command) -> Node:
        return self.nodes[int(command.arguments[0].key) - 1]

    def _chosen(self, command: Command) -> list[Node]:
        return [self.nodes[int(one.key) - 1] for one in command.arguments if not one.values]

    # ---- members

    def add_nodes(self, command: Command) -> None:
        options: dict[str, bool | int | str] = {}
        ids: dict[str, tuple[int, ...]] = {"voters": (), "learners": ()}
        index, data = 0, b""
        for argument in command.arguments[1:]:
            value = argument.values[0]
            if argument.key in ids:
                ids[argument.key] = tuple(map(int, argument.values))
            elif argument.key == "index":
                index = int(value)
            elif argument.key == "content":
                data = value.encode()
            elif argument.key == "inflight":
                options["max_inflight_messages"] = int(value)
            elif argument.key == "max-committed-size-per-ready":
                options["max_committed_size_per_ready"] = int(value)
            elif argument.key == "read-only":
                options["read_only"] = {"safe": "safe", "lease-based": "lease"}[value]
            else:
                options[_OPTIONS[argument.key]] = truth(value)
        snapshot = Snapshot(index, 1 if index else 0, ConfState(ids["voters"], ids["learners"]), len(data), data=data)
        if not index and snapshot != Snapshot():
            raise ScriptError("index must be specified as > 1 due to bootstrap")
        for _ in range(int(command.arguments[0].key)):
            config = structs.replace(_DEFAULTS, id=len(self.nodes) + 1, **options)
            self.nodes.append(Node(config, snapshot))

    def campaign(self, command: Command) -> None:
        self._node(command).raw.campaign()

    def forget_leader(self, command: Command) -> None:
        self._node(command).raw.forget_leader()

    def transfer_leadership(self, command: Command) -> None:
        self.nodes[int(command.value("from")) - 1].raw.transfer_leader(int(command.value("to")))

    def report_unreachable(self, command: Command) -> None:
        node, other = self._chosen(command)
        node.raw.report_unreachable(other.config.id)

    def set_randomized_election_timeout(self, command: Command) -> None:
        self._node(command).raw._raft.election_timeout = int(command.value("timeout"))

    def tick_election(self, command: Command) -> None:
        node = self._node(command)
        for _ in range(node.config.election_tick):
            node.raw.tick()

    def tick_heartbeat(self, command: Command) -> None:
        node = self._node(command)
        for _ in range(node.config.heartbeat_tick):
            node.raw.tick()

    # ---- proposals

    def propose(self, command: Command) -> None:
        _, data = command.arguments
        self._node(command).raw.propose(data.key.encode())

    def propose_conf_change(self, command: Command) -> None:
        single, transition = False, Transition.AUTO
        for argument in command.arguments[1:]:
            if argument.key == "v1":
                single = truth(argument.values[0])
            elif argument.key == "transition":
                transition = _TRANSITIONS[argument.values[0]]
            else:
                raise ScriptError(f"unknown command {argument.key}")
        try:
            changes = describe.changes_of(command.input)
        except ValueError as error:
            raise ScriptError(str(error)) from error
        if not single:
            self._node(command).raw.propose_conf_change(ConfChangeV2(transition, changes))
            return
        if len(changes) > 1 or transition is not Transition.AUTO:
            raise ScriptError("v1 conf change can only have one operation and no transition")
        self._node(command).raw.propose_conf_change(ConfChange(changes[0].kind, changes[0].member))

    # ---- messages

    def deliver_msgs(self, command: Command) -> None:
        kind: MessageKind | None = None
        targets: list[tuple[int, bool]] = []
        for argument in command.arguments:
            if argument.key == "type":
                (kind,) = (one for one, name in describe.KINDS.items() if name == argument.values[0])
            elif argument.key == "drop":
                targets += [(int(value), True) for value in argument.values]
            else:
                targets.append((int(argument.key), False))
        if {to for to, drop in targets if drop} & {to for to, drop in targets if not drop}:
            raise AssertionError("can't both deliver and drop messages to one member")
        if not sum([self._deliver(to, kind, drop=drop) for to, drop in targets]):
            self._print("no messages\n")

    def _waiting(self, to: int, kind: MessageKind | None = None, *, drop: bool = False) -> list[Message]:
        return [
            message
            for message in self.messages
            if message.to == to
            and (kind is None or message.kind is kind)
            and not (drop and (message.sender == to or message.sender in _LOCAL))
        ]

    def _deliver(self, to: int, kind: MessageKind | None = None, *, drop: bool = False) -> int:
        found = self._waiting(to, kind, drop=drop)
        taken = set(map(id, found))
        self.messages = [message for message in self.messages if id(message) not in taken]
        for message in found:
            self._print(("dropped: " if drop else "") + describe.message(message) + "\n")
            if drop:
                continue
            try:
                if not self.nodes[to - 1].raw.step(message):
                    self._print("raft: cannot step as peer not found\n")
            except ProposalDropped:
                self._print(_ERRORS[ProposalDropped] + "\n")
        return len(found)

    def send_snapshot(self, command: Command) -> None:
        source, target = self._chosen(command)
        status = source.raw.status()
        message = Message(
            MessageKind.SNAP,
            to=target.config.id,
            sender=source.config.id,
            term=status.term,
            snapshot=source.storage.snapshot(),
            session=status.progress[target.config.id].session,
        )
        self.messages.append(message)
        self._print(describe.message(message))

    # ---- work

    def process_ready(self, command: Command) -> None:
        self._each(command, "handling Ready", self._process_ready)

    def process_append_thread(self, command: Command) -> None:
        self._each(command, "processing append thread", self._process_append)

    def process_apply_thread(self, command: Command) -> None:
        self._each(command, "processing apply thread", self._process_apply)

    def _each(self, command: Command, title: str, work: Callable[[Node], None]) -> None:
        nodes = self._chosen(command)
        for node in nodes:
            if len(nodes) > 1:
                self._titled(node, title, work)
            else:
                work(node)

    def _titled(self, node: Node, title: str, work: Callable[[Node], None]) -> None:
        self._print(f"> {node.config.id} {title}\n")
        self._indented(lambda: work(node))

    def _process_ready(self, node: Node) -> None:
        ready = node.raw.ready()
        self._print(describe.ready(ready))
        if not node.config.async_storage_writes:
            node.save(ready.hard_state, ready.entries, ready.snapshot)
            node.apply(ready.committed_entries)
        for message in ready.messages:
            if isinstance(message, StorageAppend):
                node.append_work.append(message)
            elif isinstance(message, StorageApply):
                node.apply_work.append(message)
            else:
                self.messages.append(message)
        if not node.config.async_storage_writes:
            node.raw.advance()

    def _process_append(self, node: Node) -> None:
        if not node.append_work:
            self._print("no append work to perform")
            return
        request = node.append_work.pop(0)
        self._print(f"Processing:\n{describe.message(request, responses=False)}\n")
        node.save(request.hard_state, request.entries, request.snapshot)
        self._respond(request)

    def _process_apply(self, node: Node) -> None:
        if not node.apply_work:
            self._print("no apply work to perform")
            return
        request = node.apply_work.pop(0)
        self._print(f"Processing:\n{describe.message(request, responses=False)}\n")
        node.apply(request.entries)
        self._respond(request)

    def _respond(self, request: StorageAppend | StorageApply) -> None:
        self._print("Responses:\n" + "".join(f"{describe.message(one)}\n" for one in request.responses))
        self.messages += request.responses

    def stabilize(self, command: Command) -> None:
        level = self._level
        for argument in command.arguments:
            if argument.key == "log-level":
                self._set_level(argument.values[0])
        try:
            nodes = self._chosen(command) or self.nodes
            while self._round(nodes):
                pass
        finally:
            self._level = level

    def _round(self, nodes: Sequence[Node]) -> bool:
        """Was there anything to do?"""
        busy = False
        for node in nodes:
            if node.raw.has_ready():
                busy = True
                self._titled(node, "handling Ready", self._process_ready)
        for node in nodes:
            if self._waiting(node.config.id):
                busy = True
                self._titled(node, "receiving messages", self._deliver_all)
        for node in nodes:
            if node.append_work:
                busy = True
                self._drain(node, "processing append thread", node.append_work, self._process_append)
        for node in nodes:
            if node.apply_work:
                busy = True
                self._drain(node, "processing apply thread", node.apply_work, self._process_apply)
        return busy

    def _deliver_all(self, node: Node) -> None:
        self._deliver(node.config.id)

    def _drain(self, node: Node, title: str, queue: Sequence[Message], work: Callable[[Node], None]) -> None:
        self._print(f"> {node.config.id} {title}\n")
        while queue:
            self._indented(lambda: work(node))

    # ---- views

    def log_level(self, command: Command) -> None:
        self._set_level(command.arguments[0].key)

    def _set_level(self, name: str) -> None:
        if name.upper() not in _LEVELS:
            raise ScriptError(f"log levels must be either of [{' '.join(_LEVELS)}]")
        self._level = _LEVELS.index(name.upper())

    def compact(self, command: Command) -> None:
        self._node(command).storage.compact(int(command.arguments[1].key))
        self.raft_log(command)

    def raft_log(self, command: Command) -> None:
        storage = self._node(command).storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self._print(f"log is empty: first index={first}, last index={last}")
        else:
            self._print(describe.entries(storage.entries(first, last + 1, NO_LIMIT)))

    def raft_state(self, _: Command) -> None:
        for node in self.nodes:
            status = node.raw.status()
            voter = status.id in {*status.conf_state.voters, *status.conf_state.voters_outgoing}
            self._print(
                f"{status.id}: {describe.ROLES[status.role]} ({'Voter' if voter else 'Non-Voter'}) "
                f"Term:{status.term} Lead:{status.lead}\n"
            )

    def status(self, command: Command) -> None:
        self._print(describe.progress(self._node(command).raw.status().progress))

    def breakpoint(self, _: Command) -> None:
        """For debuggers."""


_DEFAULTS = Config(
    id=1, election_tick=3, heartbeat_tick=1, max_size_per_message=NO_LIMIT, max_inflight_messages=2**31 - 1
)
_OPTIONS = {
    "async-storage-writes": "async_storage_writes",
    "prevote": "pre_vote",
    "checkquorum": "check_quorum",
    "disable-conf-change-validation": "disable_conf_change_validation",
    "step-down-on-removal": "step_down_on_removal",
}
_HANDLERS: dict[str, Callable[[Environment, Command], None]] = {
    "_breakpoint": Environment.breakpoint,
    "add-nodes": Environment.add_nodes,
    "campaign": Environment.campaign,
    "compact": Environment.compact,
    "deliver-msgs": Environment.deliver_msgs,
    "process-ready": Environment.process_ready,
    "process-append-thread": Environment.process_append_thread,
    "process-apply-thread": Environment.process_apply_thread,
    "log-level": Environment.log_level,
    "raft-log": Environment.raft_log,
    "raft-state": Environment.raft_state,
    "set-randomized-election-timeout": Environment.set_randomized_election_timeout,
    "stabilize": Environment.stabilize,
    "status": Environment.status,
    "tick-election": Environment.tick_election,
    "tick-heartbeat": Environment.tick_heartbeat,
    "transfer-leadership": Environment.transfer_leadership,
    "forget-leader": Environment.forget_leader,
    "send-snapshot": Environment.send_snapshot,
    "propose": Environment.propose,
    "propose-conf-change": Environment.propose_conf_change,
    "report-unreachable": Environment.report_unreachable,
}
