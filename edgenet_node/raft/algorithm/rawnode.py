"""`RawNode`: one member of a Raft group, to be driven by calls (`step`, `tick`, `propose`) and `ready`.

Not thread-safe, and never waits. Everything it wants done in the world is in the next `Ready`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InvariantError
from ...wire.raft import ConfState, Entry, Message, MessageKind, Snapshot
from .checks import check
from .confchange import Change, encode_change, entry_kind
from .config import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, Config, Rng
from .election import tick_election
from .leading import apply_conf_change, leave_if_due, refusal
from .ready import ReadState, Ready, Role, SoftState, StorageAppend, StorageApply
from .state import NOBODY, Raft
from .status import ProgressStatus, Status, status_of
from .stepping import step
from .storage import HardState, Storage, size_of

__all__ = [
    "LOCAL_APPEND_THREAD",
    "LOCAL_APPLY_THREAD",
    "NOBODY",
    "Config",
    "HardState",
    "ProgressStatus",
    "RawNode",
    "ReadState",
    "Ready",
    "Role",
    "SoftState",
    "Status",
    "StorageAppend",
    "StorageApply",
]

_LOCAL_THREADS = frozenset({LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD})
_ANSWERS = frozenset(
    {
        MessageKind.APP_RESP,
        MessageKind.VOTE_RESP,
        MessageKind.HEARTBEAT_RESP,
        MessageKind.READ_INDEX_RESP,
        MessageKind.PRE_VOTE_RESP,
    }
)


class RawNode:
    """`applied`: what the state machine holds already after a restart, which is not handed out again.

    `InvariantError` from any method means that this member's own state, or what its storage says, cannot be.
    """

    __slots__ = ("_async", "_hard_state", "_raft", "_soft_state", "_steps_on_advance")

    def __init__(self, config: Config, storage: Storage, rng: Rng, applied: int = 0) -> None:
        self._raft = Raft(config, storage, rng, applied)
        self._async = config.async_storage_writes
        self._soft_state = self._raft.soft_state()
        self._hard_state = self._raft.hard_state()
        self._steps_on_advance: list[Message] = []

    # ---- inputs

    def tick(self) -> None:
        raft = self._raft
        if raft.role is Role.LEADER:
            _tick_leader(raft)
        else:
            tick_election(raft)

    def step(self, message: Message) -> bool:
        """A message of another member, or a response of a `StorageAppend` or `StorageApply`.

        `Malformed` for what no correct member could have sent; `ProposalDropped` for a proposal that is not taken. In
        both cases nothing has changed. False: ignored, as it is for another member, or an answer of somebody who is no
        member (any more).
        """
        raft = self._raft
        if message.sender in _LOCAL_THREADS:
            step(raft, message)
            return True
        check(raft, message)
        if message.to != raft.id or (message.kind in _ANSWERS and message.sender not in raft.members.progress):
            return False
        step(raft, message)
        return True

    def campaign(self) -> None:
        """As if the election timeout had passed."""
        self._local(MessageKind.HUP)

    def propose(self, data: bytes) -> None:
        """One entry. `ProposalDropped` when it is not taken; when it is, it may still be lost with its leader."""
        self.propose_many((data,))

    def propose_many(self, batch: Sequence[bytes]) -> None:
        """All or none, next to one another in the log."""
        entries = tuple([Entry(0, 0, data=data) for data in batch])
        step(self._raft, Message(MessageKind.PROP, sender=self._raft.id, entries=entries))

    def propose_conf_change(self, change: Change) -> int:
        """Where it lies in the log, if this member leads. 0 if another one does, or if it may not come now: an empty
        entry has taken its place (`conf_change_refusal`)."""
        raft = self._raft
        entry = Entry(0, 0, entry_kind(change), encode_change(change))
        before = raft.log.last_index
        step(raft, Message(MessageKind.PROP, sender=raft.id, entries=(entry,)))
        if raft.role is Role.LEADER and raft.pending_conf_index == before + 1:
            return raft.pending_conf_index
        return 0

    def conf_change_refusal(self, change: Change) -> str:
        """Why a leader could not propose it now; empty if it could."""
        return refusal(self._raft, change)

    def apply_conf_change(self, change: Change) -> ConfState:
        """To be called for each change among the committed entries, in order."""
        return apply_conf_change(self._raft, change)

    def read_index(self, context: bytes) -> None:
        """A `ReadState` with this context follows, unless it is lost: ask again after a while or with a new leader."""
        step(self._raft, Message(MessageKind.READ_INDEX, entries=(Entry(0, 0, data=context),)))

    def transfer_leader(self, member: int) -> None:
        self._local(MessageKind.TRANSFER_LEADER, member)

    def forget_leader(self) -> None:
        self._local(MessageKind.FORGET_LEADER)

    def report_unreachable(self, member: int) -> None:
        """What was sent to it lately is probably lost."""
        self._local(MessageKind.UNREACHABLE, member)

    def report_snapshot(self, member: int, ok: bool) -> None:
        """Did the snapshot that it was sent arrive?"""
        step(self._raft, Message(MessageKind.SNAP_STATUS, sender=member, reject=not ok))

    def _local(self, kind: MessageKind, sender: int = NOBODY) -> None:
        step(self._raft, Message(kind, sender=sender))

    # ---- outputs

    def has_ready(self) -> bool:
        raft, soft, hard = self._raft, self._soft_state, self._hard_state
        log = raft.log
        return bool(
            raft.outbox
            or raft.outbox_after_append
            or log.has_unstable()
            or log.has_committed(unstable=not self._async)
            or raft.term != hard.term
            or log.committed != hard.commit
            or raft.vote != hard.vote
            or raft.lead != soft.lead
            or raft.role is not soft.role
            or raft.read_states
            or log.has_next_snapshot()
        )

    def ready(self) -> Ready:
        """What is to be done; it counts as under way from now on."""
        raft, log = self._raft, self._raft.log
        must_sync = log.has_unstable() or raft.term != self._hard_state.term or raft.vote != self._hard_state.vote
        hard, soft = self._take_hard_state(), self._take_soft_state()
        entries, committed = log.next_unstable(), log.next_committed(unstable=not self._async)
        snapshot = log.snapshot if log.has_next_snapshot() else None
        promises = raft.outbox_after_append
        responses = (*promises, *self._append_responses(snapshot))
        messages = raft.outbox
        if self._async:
            if entries or promises or hard is not None or snapshot is not None:
                messages.append(self._append_request(hard, entries, snapshot, responses))
            if committed:
                messages.append(self._apply_request(committed))
        else:
            if self._steps_on_advance:
                raise InvariantError("ready was called twice without advance")
            messages += [message for message in responses if message.to != raft.id]
            self._steps_on_advance = [message for message in responses if message.to == raft.id]
            self._steps_on_advance += self._applied_responses(committed)
        read_states = tuple(raft.read_states)
        raft.outbox, raft.outbox_after_append = [], []
        raft.read_states.clear()
        log.accept_unstable()
        if committed:
            log.accept_applying(committed[-1].index, size_of(committed), unstable=not self._async)
        return Ready(soft, hard, read_states, entries, snapshot, committed, tuple(messages), must_sync)

    def _take_hard_state(self) -> HardState | None:
        hard = self._raft.hard_state()
        if hard == self._hard_state:
            return None
        self._hard_state = hard
        return hard

    def _take_soft_state(self) -> SoftState | None:
        soft = self._raft.soft_state()
        if soft == self._soft_state:
            return None
        self._soft_state = soft
        return soft

    def _append_request(
        self,
        hard: HardState | None,
        entries: tuple[Entry, ...],
        snapshot: Snapshot | None,
        responses: tuple[Message, ...],
    ) -> StorageAppend:
        return StorageAppend(
            MessageKind.STORAGE_APPEND,
            to=LOCAL_APPEND_THREAD,
            sender=self._raft.id,
            term=0 if hard is None else hard.term,
            vote=0 if hard is None else hard.vote,
            commit=0 if hard is None else hard.commit,
            entries=entries,
            snapshot=snapshot,
            responses=responses,
        )

    def _append_responses(self, snapshot: Snapshot | None) -> tuple[Message, ...]:
        """Tells this member what is stable: after its own acknowledgements, which need the terms of these entries.

        It names the last entry of the log and the term of now, even if no entry is saved this time, and is ignored in a
        later term. So an entry leaves the unstable part only when no save under way could still overwrite it: with A,
        then B, then A again in flight at the same index (three leaders), the answer to the first A must not count.
        """
        raft, log = self._raft, self._raft.log
        unstable = log.has_any_unstable()
        if not unstable and snapshot is None:
            return ()
        return (
            Message(
                MessageKind.STORAGE_APPEND_RESP,
                to=raft.id,
                sender=LOCAL_APPEND_THREAD,
                term=raft.term,
                index=log.last_index if unstable else 0,
                log_term=log.last_term if unstable else 0,
                snapshot=snapshot,
            ),
        )

    def _apply_request(self, committed: tuple[Entry, ...]) -> StorageApply:
        return StorageApply(
            MessageKind.STORAGE_APPLY,
            to=LOCAL_APPLY_THREAD,
            sender=self._raft.id,
            entries=committed,
            responses=self._applied_responses(committed),
        )

    def _applied_responses(self, committed: tuple[Entry, ...]) -> tuple[Message, ...]:
        if not committed:
            return ()
        return (
            Message(MessageKind.STORAGE_APPLY_RESP, to=self._raft.id, sender=LOCAL_APPLY_THREAD, entries=committed),
        )

    def advance(self) -> None:
        """Everything in the last `Ready` is done. Only with synchronous writes."""
        if self._async:
            raise InvariantError("advance is for synchronous storage writes")
        steps, self._steps_on_advance = self._steps_on_advance, []
        for message in steps:
            step(self._raft, message)

    # ---- views

    @property
    def config(self) -> Config:
        return self._raft.config

    def status(self) -> Status:
        return status_of(self._raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_tick:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            step(raft, Message(MessageKind.CHECK_QUORUM, sender=raft.id))
        if raft.role is not Role.LEADER:
            return
        if raft.lead_transferee != NOBODY:  # it had its time
            raft.lead_transferee = NOBODY
            leave_if_due(raft)
    if raft.heartbeat_elapsed >= raft.config.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        step(raft, Message(MessageKind.BEAT, sender=raft.id))
