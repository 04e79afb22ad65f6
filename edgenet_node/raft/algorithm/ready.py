"""What a member wants done: `Ready`, and the two messages to itself that carry it when storage writes are asynchronous.

Synchronous: save hard state, entries and snapshot; then send the messages and apply the committed entries; then
`advance`. Asynchronous: messages to others may go out at once. `StorageAppend` asks for durable saves, `StorageApply`
for applying; once done, its `responses` are to be delivered, in order: to others over the network, to the member itself
by `step`. Requests of one kind are carried out in the order given, and none is lost.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from ...wire.raft import Entry, Message, Snapshot
from .storage import HardState


class Role(IntEnum):
    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


class SoftState(Struct, frozen=True):
    """What need not be durable."""

    lead: int
    role: Role


class ReadState(Struct, frozen=True):
    """The read asked for with `context` is linearizable once `index` is applied."""

    index: int
    context: bytes


class StorageAppend(Message, frozen=True):
    """To `LOCAL_APPEND_THREAD`: save hard state, snapshot and entries durably, then deliver `responses`. Without
    responses it need not be durable. Never travels."""

    responses: tuple[Message, ...] = ()

    @property
    def hard_state(self) -> HardState | None:
        """None when it did not change."""
        if not (self.term or self.vote or self.commit):
            return None
        return HardState(self.term, self.vote, self.commit)


class StorageApply(Message, frozen=True):
    """To `LOCAL_APPLY_THREAD`: apply `entries`, then deliver `responses`. Never travels."""

    responses: tuple[Message, ...] = ()


class Ready(Struct, frozen=True):
    """`must_sync`: something in it is promised and has to be durable. With asynchronous writes everything to do is in
    `messages`; the other fields repeat it."""

    soft_state: SoftState | None
    hard_state: HardState | None
    read_states: tuple[ReadState, ...]
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    committed_entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    must_sync: bool
