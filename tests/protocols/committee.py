"""One member of a committee under a microscope: the algorithm with a disk that is as slow as a test wants."""

from __future__ import annotations

import random
from collections.abc import Sequence

from edgenet_node.raft.algorithm.confchange import decode_change
from edgenet_node.raft.algorithm.rawnode import Config, RawNode, StorageAppend, StorageApply
from edgenet_node.raft.algorithm.storage import HardState, MemoryStorage
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Message, MessageKind, RaftFrame, Snapshot

ELECTION_TICKS = 10
THREE = ConfState((1, 2, 3))


class Microscope:
    """Member 1. Its log begins behind a snapshot of entry 1 of term 1; `terms` are those of the entries after it.

    `early` went out at once, `promised` only when `sync` had made everything durable. Each is held to the rules of the
    stream on its way out.
    """

    def __init__(
        self, conf: ConfState = THREE, terms: Sequence[int] = (), *, term: int = 1, vote: int = 0, commit: int = 1
    ) -> None:
        self.storage = MemoryStorage()
        self.storage.apply_snapshot(Snapshot(1, 1, conf))
        self.storage.append([Entry(one, index) for index, one in enumerate(terms, 2)])
        self.storage.set_hard_state(HardState(term, vote, commit))
        config = Config(
            id=1,
            election_tick=ELECTION_TICKS,
            heartbeat_tick=2,
            check_quorum=True,
            pre_vote=True,
            async_storage_writes=True,
            step_down_on_removal=True,
        )
        self.node = RawNode(config, self.storage, random.Random(0), applied=1)
        self.early: list[Message] = []
        self.promised: list[Message] = []
        self.reads: list[int] = []
        self.saved = HardState(term, vote, commit)
        self.applied: list[Entry] = []
        self.applies = True
        self._waiting: list[Message] = []

    @property
    def term(self) -> int:
        return self.node.status().term

    @property
    def commit(self) -> int:
        return self.node.status().commit

    @property
    def last(self) -> int:
        return self.storage.last_index()

    def step(self, kind: MessageKind, sender: int = 2, **fields: object) -> None:
        """As it comes from another member, over the stream."""
        frame = RaftFrame(0, (Message(kind, to=1, sender=sender, **fields),))  # type: ignore[arg-type]
        self.node.step(frame.messages[0])
        self.take()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.node.tick()
            self.take()

    def take(self) -> None:
        """Everything it wants, but for what waits for the disk."""
        while self.node.has_ready():
            ready = self.node.ready()
            self.reads += [state.index for state in ready.read_states]
            for message in ready.messages:
                if isinstance(message, StorageAppend):
                    self._append(message)
                elif isinstance(message, StorageApply):
                    self._apply(message)
                else:
                    self.early += RaftFrame(0, (message,)).messages

    def sync(self) -> None:
        """The disk is done."""
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            if message.to == 1:
                self.node.step(message)
            else:
                self.promised += RaftFrame(0, (message,)).messages
        self.take()

    def sent(self, kind: MessageKind) -> list[Message]:
        """Early or promised, and forget all."""
        found = [one for one in (*self.early, *self.promised) if one.kind is kind]
        self.early.clear()
        self.promised.clear()
        return found

    def lead(self) -> None:
        """Elected by members 2 and 3; nothing of its term is acknowledged by others yet."""
        self.tick(2 * ELECTION_TICKS)
        self.sync()
        for kind in (MessageKind.PRE_VOTE_RESP, MessageKind.VOTE_RESP):
            term = self.term + (kind is MessageKind.PRE_VOTE_RESP)
            conf = self.storage.snapshot().conf_state
            for other in sorted({*conf.voters, *conf.voters_outgoing} - {1}):
                self.step(kind, other, term=term)
            self.sync()
        assert self.node.status().lead == 1

    def session(self, member: int) -> int:
        """What the leader calls its view of this follower: the number in the newest message to it."""
        self.sent(MessageKind.HEARTBEAT)
        self.tick(2)
        return next(one.session for one in reversed(self.early) if one.to == member)

    def acknowledge(self, member: int, index: int) -> None:
        session = self.session(member)
        self.step(MessageKind.APP_RESP, member, term=self.term, index=index, session=session)

    def _append(self, message: StorageAppend) -> None:
        if message.snapshot is not None:
            self.storage.apply_snapshot(message.snapshot)
        self.storage.append(message.entries)
        if message.hard_state is not None:
            self.saved = message.hard_state
            self.storage.set_hard_state(message.hard_state)
        self._waiting += message.responses

    def _apply(self, message: StorageApply) -> None:
        if not self.applies:
            return
        for entry in message.entries:
            if entry.kind is not EntryKind.NORMAL:
                self.node.apply_conf_change(decode_change(entry))
            self.applied.append(entry)
        for response in message.responses:
            self.node.step(response)
