"""What a leader sends: appends, snapshots, heartbeats. And what it counts as committed."""

from __future__ import annotations

from ...errors import InvariantError
from ...wire.raft import Message, MessageKind
from .errors import Compacted, SnapshotTemporarilyUnavailable
from .log import UNKNOWN_TERM
from .progress import Progress, ProgressState
from .state import Raft


def send_append(raft: Raft, to: int, progress: Progress, *, if_empty: bool = True) -> bool:
    """The next entries, or a snapshot when they were compacted; with `if_empty` also a message that only tells the
    commit index. False when nothing was sent."""
    if progress.blocked():
        return False
    log = raft.log
    before = progress.next - 1
    before_term = log.term(before)
    if before_term == UNKNOWN_TERM:
        return _send_snapshot(raft, to, progress)
    # With a full window only the empty message goes out: if all those under way were lost, its rejection starts anew.
    room = progress.state is not ProgressState.REPLICATE or not progress.inflights.full()
    try:
        entries = tuple(log.entries(progress.next, raft.max_size)) if room else ()
    except Compacted:
        return _send_snapshot(raft, to, progress)
    if not entries and not if_empty:
        return False
    raft.outbox.append(
        Message(
            MessageKind.APP,
            to=to,
            sender=raft.id,
            term=raft.term,
            log_term=before_term,
            index=before,
            entries=entries,
            commit=log.committed,
            session=progress.session,
        )
    )
    progress.sent(len(entries), sum([len(entry.data) for entry in entries]), log.committed)
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    """Not to somebody who seems to be away: it would be out of date when it comes back."""
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.newest_snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    if not snapshot.index:
        raise InvariantError("the log was compacted without a snapshot")
    progress.become_snapshot(snapshot.index)
    raft.send(
        Message(
            MessageKind.SNAP,
            to=to,
            sender=raft.id,
            term=raft.term,
            snapshot=snapshot,
            session=progress.session,
        )
    )
    return True


def broadcast_append(raft: Raft) -> None:
    for to, progress in raft.members.others:
        send_append(raft, to, progress)


def broadcast_heartbeat(raft: Raft) -> None:
    """With the number of the newest read that waits. A follower must not be told to commit what may not match there."""
    context = raft.reads.context()
    for to, progress in raft.members.others:
        commit = min(progress.match, raft.log.committed)
        raft.outbox.append(
            Message(
                MessageKind.HEARTBEAT,
                to=to,
                sender=raft.id,
                term=raft.term,
                commit=commit,
                context=context,
                session=progress.session,
            )
        )
        progress.sent_commit = commit


def maybe_commit(raft: Raft) -> bool:
    """Did the commit index advance?"""
    return raft.log.maybe_commit(raft.term, raft.members.committed())


def send_timeout_now(raft: Raft, to: int) -> None:
    raft.send(Message(MessageKind.TIMEOUT_NOW, to=to, sender=raft.id, term=raft.term))
