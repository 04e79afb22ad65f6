"""What followers' answers mean to their leader, and how leadership is handed over."""

from __future__ import annotations

from ...wire.raft import Message
from .progress import Progress, ProgressState
from .reading import answer_confirmed, answer_postponed
from .reads import number_of
from .sending import broadcast_append, broadcast_heartbeat, maybe_commit, send_append, send_timeout_now
from .state import NOBODY, Raft


def on_append_response(raft: Raft, message: Message) -> None:
    progress = raft.members.progress.get(message.sender)
    if progress is None or progress.session != message.session:
        return
    progress.recent_active = True
    if message.reject:
        _on_rejection(raft, message, progress)
        return
    index = message.index
    # A probe that brings nothing new still shows that the follower is there and agrees.
    if not progress.acknowledge(index) and not (progress.match == index and progress.state is ProgressState.PROBE):
        return
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(index)
    elif progress.match + 1 >= raft.log.first_index():
        # Whatever snapshot it installed, our log goes on from there.
        progress.become_probe()
        progress.become_replicate()
    if maybe_commit(raft):
        answer_postponed(raft)
        broadcast_append(raft)
    elif message.sender != raft.id and progress.may_bump_commit(raft.log.committed):
        send_append(raft, message.sender, progress)
    if message.sender != raft.id:
        while send_append(raft, message.sender, progress, if_empty=False):
            pass  # the window may have room for several
    if message.sender == raft.lead_transferee and progress.match == raft.log.last_index:
        send_timeout_now(raft, message.sender)


def _on_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    """Probe further back, over whole terms at a time: where our log has a larger term than the follower's hint, they
    cannot agree, as terms only grow along a log."""
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if progress.reject(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.sender, progress)


def on_heartbeat_response(raft: Raft, message: Message) -> None:
    progress = raft.members.progress.get(message.sender)
    if progress is None or progress.session != message.session:
        return
    progress.recent_active = True
    progress.paused = False
    # In probe state also without news: the answer takes it back to replicate.
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        send_append(raft, message.sender, progress)
    if raft.config.read_only == "safe" and message.context:
        raft.reads.acknowledge(message.sender, number_of(message.context))
        answer_confirmed(raft)


def on_snapshot_status(raft: Raft, message: Message) -> None:
    """Whoever carried the snapshot says how that went. The next append waits for an answer of the follower."""
    progress = raft.members.progress.get(message.sender)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0  # probe from what it had before
    progress.become_probe()
    progress.paused = True


def on_unreachable(raft: Raft, message: Message) -> None:
    """What was under way is probably lost."""
    progress = raft.members.progress.get(message.sender)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


# ---- handing over (Ongaro's thesis, section 3.10)


def on_transfer_leader(raft: Raft, message: Message) -> None:
    """`sender` is to lead. Until it does, or an election timeout has passed, proposals are dropped."""
    progress = raft.members.progress.get(message.sender)
    if progress is None or progress.learner or message.sender == raft.lead_transferee:
        return
    raft.lead_transferee = NOBODY
    if message.sender == raft.id:
        return
    raft.election_elapsed = 0
    raft.lead_transferee = message.sender
    if progress.match == raft.log.last_index:
        send_timeout_now(raft, message.sender)
    else:
        send_append(raft, message.sender, progress)


# ---- timers


def on_check_quorum(raft: Raft, _: Message) -> None:
    if not raft.members.quorum_active():
        raft.become_follower(raft.term, NOBODY)
    for _member, progress in raft.members.others:
        progress.recent_active = False


def on_beat(raft: Raft, _: Message) -> None:
    broadcast_heartbeat(raft)
