"""Reads at the leader: postponed, confirmed, answered (`reads`)."""

from __future__ import annotations

from ...wire.raft import Message, MessageKind
from .ready import ReadState
from .sending import broadcast_heartbeat
from .state import NOBODY, Raft

_WAITING_MAX = 4096
"""Reads that wait at a leader, of all members: each stands for everything asked there since the one before."""


def on_read_index(raft: Raft, message: Message) -> None:
    if len(raft.reads) >= _WAITING_MAX:
        return
    if not raft.committed_in_term():
        # What former leaders committed is not known before this one has committed something.
        raft.reads.postponed.append(message)
    else:
        _begin(raft, message)


def _begin(raft: Raft, message: Message) -> None:
    if raft.config.read_only == "lease" or raft.members.alone():
        answer(raft, message, raft.log.committed)
        return
    raft.reads.add(message, raft.log.committed)
    raft.reads.acknowledge(raft.id, raft.reads.newest)
    broadcast_heartbeat(raft)


def answer_postponed(raft: Raft) -> None:
    """The leader has committed an entry of its term."""
    if raft.reads.postponed and raft.committed_in_term():
        messages, raft.reads.postponed = raft.reads.postponed, []
        for message in messages:
            _begin(raft, message)


def answer_confirmed(raft: Raft) -> None:
    for request, index in raft.reads.take_confirmed(raft.members.configuration.voters):
        answer(raft, request, index)


def answer(raft: Raft, request: Message, index: int) -> None:
    if request.sender in (NOBODY, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data))
        return
    raft.send(
        Message(
            MessageKind.READ_INDEX_RESP,
            to=request.sender,
            sender=raft.id,
            term=raft.term,
            index=index,
            entries=request.entries,
        )
    )
