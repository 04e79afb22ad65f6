"""Proposals, and changes of the configuration from their proposal until they are applied."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import Malformed
from ...wire.raft import MEMBERS_MAX, ConfState, Entry, EntryKind, Message
from .confchange import Change, as_v2, decode_change
from .errors import ConfChangeRefused, ProposalDropped
from .reading import answer_postponed
from .ready import Role
from .sending import broadcast_append, maybe_commit, send_append
from .state import NOBODY, Raft


def on_proposal(raft: Raft, message: Message) -> None:
    propose(raft, message.entries)


def propose(raft: Raft, entries: Sequence[Entry]) -> None:
    """Take them into the log and send them on. A change of the configuration that may not come now becomes an empty
    entry."""
    if raft.id not in raft.members.progress:
        raise ProposalDropped("this member was removed", retry_after_s=0.2)
    if raft.lead_transferee != NOBODY:
        raise ProposalDropped("leadership is being handed over", retry_after_s=0.2)
    drafts = list(entries)
    pending = raft.pending_conf_index
    for place, entry in enumerate(entries):
        if entry.kind is EntryKind.NORMAL:
            continue
        change = decode_change(entry)
        if not raft.config.disable_conf_change_validation and refusal(raft, change):
            drafts[place] = Entry(0, 0)
        else:
            raft.pending_conf_index = raft.log.last_index + place + 1
    if not raft.append(drafts):
        raft.pending_conf_index = pending
        raise ProposalDropped("too much is proposed and not committed yet", retry_after_s=0.2)
    broadcast_append(raft)


def refusal(raft: Raft, change: Change) -> str:
    """Why it may not be proposed now; empty if it may. As every earlier change is applied then, it will apply to the
    configuration of now."""
    configuration = raft.members.configuration
    leaves = not as_v2(change).changes
    if raft.pending_conf_index > raft.log.applied:
        return f"a change at {raft.pending_conf_index} may not be applied yet"
    if configuration.joint and not leaves:
        return "the joint configuration must be left first"
    if not configuration.joint and leaves:
        return "the configuration is not joint"
    try:
        changed = raft.members.preview(change)
    except ConfChangeRefused as error:
        return error.message
    if len(changed.configuration.members()) > MEMBERS_MAX:
        return f"more than {MEMBERS_MAX} members"
    return ""


def applied_to(raft: Raft, index: int, size: int) -> None:
    """Entries up to `index`, of `size` bytes, were applied."""
    raft.log.applied_to(max(index, raft.log.applied), size)
    leave_if_due(raft)


def leave_if_due(raft: Raft) -> None:
    """Propose to leave a joint configuration that is to be left by itself, once all that might change it is applied."""
    if (
        raft.members.configuration.auto_leave
        and raft.log.applied >= raft.pending_conf_index
        and raft.role is Role.LEADER
    ):
        try:
            # Without data, so that it cannot be refused for its size.
            propose(raft, (Entry(0, 0, EntryKind.CONF_CHANGE_V2),))
        except ProposalDropped:
            return  # leadership is being handed over: tried again if that fails, or by whoever leads then


def apply_conf_change(raft: Raft, change: Change) -> ConfState:
    """A committed change is applied. One that does not fit (proposed without validation) changes nothing, at every
    member alike."""
    try:
        changed = raft.members.preview(change)
    except ConfChangeRefused:
        return raft.members.configuration.conf_state()
    raft.members.adopt(changed, raft.log.last_index)
    _follow_change(raft)
    return raft.members.configuration.conf_state()


def _follow_change(raft: Raft) -> None:
    if raft.role is not Role.LEADER:
        return
    members = raft.members
    own = members.progress.get(raft.id)
    if own is None or own.learner:
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NOBODY)
        return
    if maybe_commit(raft):  # fewer voters may suffice
        answer_postponed(raft)
        broadcast_append(raft)
    else:
        for to, progress in members.others:  # new ones need not wait for a heartbeat
            send_append(raft, to, progress, if_empty=False)
    if raft.lead_transferee not in members.configuration.voters.ids():
        raft.lead_transferee = NOBODY


def check_changes(entries: Sequence[Entry]) -> None:
    """`Malformed` if one that claims to change the configuration cannot be read."""
    for entry in entries:
        if entry.kind is not EntryKind.NORMAL:
            decode_change(entry)


def check_proposal(message: Message) -> None:
    if not message.entries:
        raise Malformed("a proposal without entries")
    check_changes(message.entries)
