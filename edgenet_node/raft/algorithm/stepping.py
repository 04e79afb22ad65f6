"""What happens upon a message: first its term counts, then its kind and this member's role, by a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ...wire.raft import Message, MessageKind
from .election import in_lease, learn_commit, on_hup, on_timeout_now, on_vote, on_vote_response, reject_vote
from .errors import ProposalDropped
from .following import (
    forward_proposal,
    forward_read,
    forward_transfer,
    on_append,
    on_forget_leader,
    on_heartbeat,
    on_read_response,
    on_snapshot,
)
from .leading import applied_to, on_proposal
from .reading import on_read_index
from .ready import Role
from .replication import (
    on_append_response,
    on_beat,
    on_check_quorum,
    on_heartbeat_response,
    on_snapshot_status,
    on_transfer_leader,
    on_unreachable,
)
from .state import NOBODY, Raft
from .storage import size_of

Handler = Callable[[Raft, Message], None]
Kind = MessageKind

_OF_A_LEADER: Final = frozenset({Kind.APP, Kind.HEARTBEAT, Kind.SNAP})


def step(raft: Raft, message: Message) -> None:
    """`ProposalDropped` for a proposal that is not taken."""
    if message.reject and message.context:
        learn_commit(raft, message)
    term = message.term
    if term and term != raft.term:
        if term < raft.term:
            _on_earlier_term(raft, message)
            return
        if not _on_later_term(raft, message):
            return
    handler = _HANDLERS[raft.role][message.kind]
    if handler is not None:
        handler(raft, message)


def _on_later_term(raft: Raft, message: Message) -> bool:
    """Follow it, mostly. False for a candidate that is not even answered."""
    kind = message.kind
    if kind is Kind.VOTE or kind is Kind.PRE_VOTE:
        if in_lease(raft, message):
            return False
        if kind is Kind.PRE_VOTE:
            return True  # a term that somebody might campaign for is none yet
    elif kind is Kind.PRE_VOTE_RESP and not message.reject:
        return True  # it repeats the term that we asked about
    raft.become_follower(message.term, message.sender if kind in _OF_A_LEADER else NOBODY)
    return True


def _on_earlier_term(raft: Raft, message: Message) -> None:
    kind = message.kind
    if kind is Kind.APP or kind is Kind.HEARTBEAT:
        if raft.config.check_quorum or raft.config.pre_vote:
            # A leader behind our term: tell it, as our vote requests would be ignored, and neither could go on.
            raft.promise(
                Message(Kind.APP_RESP, to=message.sender, sender=raft.id, term=raft.term, session=message.session)
            )
    elif kind is Kind.PRE_VOTE:
        # Rejected aloud: a candidate with an early term and a late log could otherwise block everybody.
        reject_vote(raft, message)
    elif kind is Kind.STORAGE_APPEND_RESP and message.snapshot is not None:
        # The snapshot is installed in whatever term. Not so the entries: later ones may be on their way to overwrite
        # them, and reading storage between the two would show a log that never was (`rawnode`).
        raft.log.stable_snapshot_to(message.snapshot.index)
        applied_to(raft, message.snapshot.index, 0)


def _on_appended(raft: Raft, message: Message) -> None:
    if message.index:
        raft.log.stable_to(message.log_term, message.index)
    if message.snapshot is not None:
        raft.log.stable_snapshot_to(message.snapshot.index)
        applied_to(raft, message.snapshot.index, 0)


def _on_applied(raft: Raft, message: Message) -> None:
    if message.entries:
        applied_to(raft, message.entries[-1].index, size_of(message.entries))
        raft.release(sum([len(entry.data) for entry in message.entries]))


def _drop_proposal(_raft: Raft, _message: Message) -> None:
    raise ProposalDropped("there is no leader at the moment", retry_after_s=0.2)


def _concede(handler: Handler) -> Handler:
    """A candidate that hears of the leader of its own term follows it."""

    def follow(raft: Raft, message: Message) -> None:
        raft.become_follower(message.term, message.sender)
        handler(raft, message)

    return follow


_ANY: Mapping[Kind, Handler] = {
    Kind.HUP: on_hup,
    Kind.VOTE: on_vote,
    Kind.PRE_VOTE: on_vote,
    Kind.STORAGE_APPEND_RESP: _on_appended,
    Kind.STORAGE_APPLY_RESP: _on_applied,
}
_FOLLOWER: Mapping[Kind, Handler] = {
    Kind.PROP: forward_proposal,
    Kind.APP: on_append,
    Kind.HEARTBEAT: on_heartbeat,
    Kind.SNAP: on_snapshot,
    Kind.TRANSFER_LEADER: forward_transfer,
    Kind.READ_INDEX: forward_read,
    Kind.READ_INDEX_RESP: on_read_response,
    Kind.TIMEOUT_NOW: on_timeout_now,
    Kind.FORGET_LEADER: on_forget_leader,
}
_CANDIDATE: Mapping[Kind, Handler] = {
    Kind.PROP: _drop_proposal,
    Kind.APP: _concede(on_append),
    Kind.HEARTBEAT: _concede(on_heartbeat),
    Kind.SNAP: _concede(on_snapshot),
    Kind.VOTE_RESP: on_vote_response,
    Kind.PRE_VOTE_RESP: on_vote_response,
}
_LEADER: Mapping[Kind, Handler] = {
    Kind.BEAT: on_beat,
    Kind.CHECK_QUORUM: on_check_quorum,
    Kind.PROP: on_proposal,
    Kind.READ_INDEX: on_read_index,
    Kind.APP_RESP: on_append_response,
    Kind.HEARTBEAT_RESP: on_heartbeat_response,
    Kind.SNAP_STATUS: on_snapshot_status,
    Kind.UNREACHABLE: on_unreachable,
    Kind.TRANSFER_LEADER: on_transfer_leader,
}


def _table(of_role: Mapping[Kind, Handler]) -> tuple[Handler | None, ...]:
    """By kind; None where nothing is to be done."""
    return tuple({**_ANY, **of_role}.get(kind) for kind in Kind)


_HANDLERS: Final[Mapping[Role, tuple[Handler | None, ...]]] = {
    Role.FOLLOWER: _table(_FOLLOWER),
    Role.PRE_CANDIDATE: _table(_CANDIDATE),
    Role.CANDIDATE: _table(_CANDIDATE),
    Role.LEADER: _table(_LEADER),
}
