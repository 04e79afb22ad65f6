"""The follower's side: appends, heartbeats and snapshots of the leader; what is passed on to it."""

from __future__ import annotations

from msgspec import structs

from ...wire.raft import Message, MessageKind, Snapshot
from .errors import ProposalDropped
from .ready import ReadState
from .state import NOBODY, Raft


def on_append(raft: Raft, message: Message) -> None:
    _follow(raft, message)
    log = raft.log
    if message.index < log.committed:  # what we hold there is committed, so it agrees
        _acknowledge(raft, message, log.committed)
        return
    last = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last is not None:
        _acknowledge(raft, message, last)
        return
    # The leader's entries before `index` have at most its term there: where ours is larger, they cannot agree.
    hint, hint_term = log.find_conflict_by_term(min(message.index, log.last_index), message.log_term)
    raft.promise(
        Message(
            MessageKind.APP_RESP,
            to=message.sender,
            sender=raft.id,
            term=raft.term,
            log_term=hint_term,
            index=message.index,
            reject=True,
            reject_hint=hint,
            session=message.session,
        )
    )


def on_heartbeat(raft: Raft, message: Message) -> None:
    _follow(raft, message)
    raft.log.commit_to(message.commit)
    raft.send(
        Message(
            MessageKind.HEARTBEAT_RESP,
            to=message.sender,
            sender=raft.id,
            term=raft.term,
            context=message.context,
            session=message.session,
        )
    )


def on_snapshot(raft: Raft, message: Message) -> None:
    _follow(raft, message)
    snapshot = message.snapshot
    restored = snapshot is not None and _restore(raft, snapshot)
    _acknowledge(raft, message, raft.log.last_index if restored else raft.log.committed)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """False if it is not needed: out of date, or our log reaches it and agrees, which commits it.

    It may be older than our own membership: the entry that adds us comes after it then. (etcd ignores such a snapshot,
    and so relies on a new one being made for every new member.)
    """
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    if log.term(snapshot.index) == snapshot.term:
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.members.restore(snapshot.conf_state, log.last_index)
    return True


def _follow(raft: Raft, message: Message) -> None:
    """Whoever sends these leads this term."""
    raft.election_elapsed = 0
    raft.lead = message.sender


def _acknowledge(raft: Raft, message: Message, index: int) -> None:
    raft.promise(
        Message(
            MessageKind.APP_RESP,
            to=message.sender,
            sender=raft.id,
            term=raft.term,
            index=index,
            session=message.session,
        )
    )


# ---- passed on


def forward_proposal(raft: Raft, message: Message) -> None:
    if raft.lead == NOBODY:
        raise ProposalDropped("there is no leader at the moment", retry_after_s=0.2)
    if raft.config.disable_proposal_forwarding:
        raise ProposalDropped("another member leads", retry_after_s=0.2)
    raft.send(structs.replace(message, to=raft.lead, sender=raft.id))


def forward_read(raft: Raft, message: Message) -> None:
    """Our own, to the leader, who answers its sender; so those of others are lost here, as without a leader."""
    if raft.lead != NOBODY and message.sender in (NOBODY, raft.id):
        raft.send(structs.replace(message, to=raft.lead, sender=raft.id))


def forward_transfer(raft: Raft, message: Message) -> None:
    """The wish that another member leads: `sender` is the one that shall."""
    if raft.lead != NOBODY:
        raft.send(structs.replace(message, to=raft.lead, term=raft.term))


def on_read_response(raft: Raft, message: Message) -> None:
    raft.read_states.append(ReadState(message.index, message.entries[0].data))


def on_forget_leader(raft: Raft, _: Message) -> None:
    """Grant votes at once to whoever campaigns. Not where reads trust that nobody does."""
    if raft.config.read_only != "lease":
        raft.lead = NOBODY
