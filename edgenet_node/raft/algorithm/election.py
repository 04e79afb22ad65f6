"""Who leads: campaigns, votes, and what a vote depends on (paper, section 5.2 and 5.4.1; pre-vote and leases: Ongaro's
thesis, sections 9.6 and 6.4.1)."""

from __future__ import annotations

import struct

from ...wire.raft import Message, MessageKind
from .config import TRANSFER
from .quorum import VoteResult
from .ready import Role
from .sending import broadcast_append
from .state import NOBODY, Raft

_ANSWER = {MessageKind.VOTE: MessageKind.VOTE_RESP, MessageKind.PRE_VOTE: MessageKind.PRE_VOTE_RESP}
_REJECTIONS = frozenset(_ANSWER.values())
_COMMIT = struct.Struct(">QQ")
"""Index and term of what is committed, in the context of a rejection."""


# ---- the candidate


def on_hup(raft: Raft, _: Message) -> None:
    hup(raft, pre_vote=raft.config.pre_vote)


def on_timeout_now(raft: Raft, _: Message) -> None:
    """The leader hands over. No pre-vote: we are no straggler, and the round trip would cost time without a leader."""
    hup(raft, pre_vote=False, transfer=True)


def hup(raft: Raft, *, pre_vote: bool, transfer: bool = False) -> None:
    """Campaign, if this member may: not with a change of the configuration waiting to be applied, which might give it
    other voters than those it would ask."""
    if raft.role is Role.LEADER or not raft.promotable() or raft.log.unapplied_conf_change():
        return
    campaign(raft, pre_vote=pre_vote, transfer=transfer)


def campaign(raft: Raft, *, pre_vote: bool, transfer: bool = False) -> None:
    if pre_vote:
        raft.become_pre_candidate()
        kind, term = MessageKind.PRE_VOTE, raft.term + 1  # the term that it would campaign for
    else:
        raft.become_candidate()
        kind, term = MessageKind.VOTE, raft.term
    log = raft.log
    for voter in sorted(raft.members.configuration.voters.ids()):
        if voter == raft.id:  # its own vote, too, counts once it is durable
            raft.promise(Message(_ANSWER[kind], to=voter, sender=raft.id, term=term))
            continue
        raft.send(
            Message(
                kind,
                to=voter,
                sender=raft.id,
                term=term,
                log_term=log.last_term,
                index=log.last_index,
                context=TRANSFER if transfer else b"",
            )
        )


def on_vote_response(raft: Raft, message: Message) -> None:
    """Those to the other kind of campaign are late, and ignored."""
    asking = raft.role is Role.PRE_CANDIDATE
    if asking is not (message.kind is MessageKind.PRE_VOTE_RESP):
        return
    result = raft.members.record_vote(message.sender, granted=not message.reject)
    if result is VoteResult.WON:
        if asking:
            campaign(raft, pre_vote=False)
        else:
            raft.become_leader()
            broadcast_append(raft)
    elif result is VoteResult.LOST:
        raft.become_follower(raft.term, NOBODY)


# ---- the voter


def in_lease(raft: Raft, message: Message) -> bool:
    """A leader was heard of within an election timeout: candidates are not even answered, unless it sent them."""
    return (
        raft.config.check_quorum
        and raft.lead != NOBODY
        and raft.election_elapsed < raft.config.election_tick
        and message.context != TRANSFER
    )


def on_vote(raft: Raft, message: Message) -> None:
    """Granted if this member could still give its vote (or gave it to this candidate before) and the candidate's log is
    at least as complete as its own.

    Learners vote too: one that was promoted may not know yet, and without its vote there might be no majority.
    """
    may_vote = (
        raft.vote == message.sender
        or (raft.vote == NOBODY and raft.lead == NOBODY)
        or (message.kind is MessageKind.PRE_VOTE and message.term > raft.term)
    )
    if not may_vote or not raft.log.is_up_to_date(message.log_term, message.index):
        reject_vote(raft, message)
        return
    # With the term asked for: of a pre-vote that is a later one than ours.
    raft.promise(Message(_ANSWER[message.kind], to=message.sender, sender=raft.id, term=message.term))
    if message.kind is MessageKind.VOTE:
        raft.election_elapsed = 0
        raft.vote = message.sender


def reject_vote(raft: Raft, message: Message) -> None:
    """A rejection tells what is committed here.

    Otherwise a group can come to a stop for ever: the last voters left by a change, who have its entry but do not know
    that it is committed, would need votes of those that it removed; these have more entries, and may not lead. (So in
    etcd, as changes count from when they are applied; TiKV's raft-rs tells the commit in the same place.)
    """
    log = raft.log
    raft.promise(
        Message(
            _ANSWER[message.kind],
            to=message.sender,
            sender=raft.id,
            term=raft.term,
            reject=True,
            context=_COMMIT.pack(log.committed, max(log.term(log.committed), 0)),
        )
    )


def learn_commit(raft: Raft, message: Message) -> None:
    """From a rejection, in whatever term: an entry that is committed is so for ever, and if ours has its term, it is
    that entry."""
    if message.kind not in _REJECTIONS or len(message.context) != _COMMIT.size:
        return
    index, term = _COMMIT.unpack(message.context)
    if term and raft.log.committed < index <= raft.log.last_index and raft.log.term(index) == term:
        raft.log.commit_to(index)


# ---- time


def tick_election(raft: Raft) -> None:
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.election_timeout and raft.promotable():
        raft.election_elapsed = 0
        hup(raft, pre_vote=raft.config.pre_vote)
