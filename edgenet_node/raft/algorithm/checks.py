"""What no correct member could have sent: refused as `Malformed`, before anything changes.

Raft tolerates crashes, not lies: a member may still claim a log or a match that it does not have. Checked is what would
otherwise break this member's own state: gaps, commits beyond its log, acknowledgements of entries that it never had,
configurations that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ...errors import Malformed
from ...wire.raft import STREAM_KINDS, Message, MessageKind
from .confchange import restore
from .errors import ConfChangeRefused
from .leading import check_changes, check_proposal
from .reads import number_of
from .ready import Role
from .state import Raft

_WITHOUT_TERM: Final = frozenset({MessageKind.PROP, MessageKind.READ_INDEX})
_IN_OUR_NAME: Final = frozenset(
    {MessageKind.APP_RESP, MessageKind.VOTE_RESP, MessageKind.PRE_VOTE_RESP, MessageKind.TRANSFER_LEADER}
)
"""Promises to ourselves; and the wish that we lead, which has us as its sender."""


def check(raft: Raft, message: Message) -> None:
    """A message of another member, or a promise to ourselves that has become durable."""
    kind = message.kind
    if kind not in STREAM_KINDS:
        raise Malformed(f"{kind.name} does not travel")
    if not 0 < message.sender < 2**63:
        raise Malformed(f"{kind.name} from nobody")
    if message.sender == raft.id and kind not in _IN_OUR_NAME:
        raise Malformed(f"{kind.name} from ourselves")
    if kind in _WITHOUT_TERM:
        if message.term:
            raise Malformed(f"{kind.name} with a term")
    # A member that has never heard of a term rejects a pre-vote in term 0.
    elif not message.term and not (kind is MessageKind.PRE_VOTE_RESP and message.reject):
        raise Malformed(f"{kind.name} without a term")
    of_kind = _OF_KIND.get(kind)
    if of_kind is not None:
        of_kind(raft, message)


def _check_append(_raft: Raft, message: Message) -> None:
    """Consecutive, with terms that never fall along the log, up to the leader's own."""
    index, term = message.index, message.log_term
    if not index and term:
        raise Malformed("there is no entry 0")
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term or not entry.term:
            raise Malformed(f"entry {entry.index} in term {entry.term} where {index} follows a term of {term}")
        term = entry.term
    if term > message.term:
        raise Malformed(f"an entry of term {term} from a leader in term {message.term}")
    check_changes(message.entries)


def _check_heartbeat(raft: Raft, message: Message) -> None:
    """A leader commits no more than we have acknowledged."""
    if message.term >= raft.term and message.commit > raft.log.last_index:
        raise Malformed(f"a commit of {message.commit}, but our log ends at {raft.log.last_index}")


def _check_append_response(raft: Raft, message: Message) -> None:
    if raft.role is Role.LEADER and message.term == raft.term and message.index > raft.log.last_index:
        raise Malformed(f"entry {message.index} is acknowledged, but our log ends at {raft.log.last_index}")
    if message.reject_hint > message.index:
        raise Malformed(f"a hint at {message.reject_hint} upon the rejection of {message.index}")


def _check_heartbeat_response(raft: Raft, message: Message) -> None:
    number = number_of(message.context)
    if raft.role is Role.LEADER and message.term == raft.term and number > raft.reads.newest:
        raise Malformed(f"read {number} is confirmed, but {raft.reads.newest} were asked")


def _check_snapshot(_raft: Raft, message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is None or not snapshot.index or not 0 < snapshot.term <= message.term:
        raise Malformed("a snapshot of nothing")
    try:
        configuration = restore(snapshot.conf_state)
    except ConfChangeRefused as error:
        raise Malformed(f"the configuration of a snapshot: {error.message}") from error
    if not configuration.voters.incoming:
        raise Malformed("the configuration of a snapshot has no voters")


def _check_read(_raft: Raft, message: Message) -> None:
    if len(message.entries) != 1:
        raise Malformed(f"{message.kind.name} has one entry, its context")


def _check_proposal(_raft: Raft, message: Message) -> None:
    check_proposal(message)


_OF_KIND: Final[Mapping[MessageKind, Callable[[Raft, Message], None]]] = {
    MessageKind.APP: _check_append,
    MessageKind.HEARTBEAT: _check_heartbeat,
    MessageKind.APP_RESP: _check_append_response,
    MessageKind.HEARTBEAT_RESP: _check_heartbeat_response,
    MessageKind.SNAP: _check_snapshot,
    MessageKind.READ_INDEX: _check_read,
    MessageKind.READ_INDEX_RESP: _check_read,
    MessageKind.PROP: _check_proposal,
}
