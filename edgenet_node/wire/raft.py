"""The `raft` stream, topic and calls: what the members of a committee say to one another, and to everybody else. Spec:
`protocols/raft`.

Message kinds, fields and their meaning are those of etcd's raft (raftpb), so that its tests and its literature apply.
Only kinds in `STREAM_KINDS` travel; the others are a member's own business (`edgenet_node.raft`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta

from ..effects import Query
from .codec import Wire
from .fields import Digest, PeerId

MESSAGES_PER_FRAME_MAX = 256
"""Of one frame of the stream: what one member has for another after one batch of inputs."""

ENTRIES_PER_MESSAGE_MAX = 4096
"""A follower that is behind takes about 1 MiB at once."""

ENTRY_BYTES_MAX = 64 * 1024
"""One command: a registry entry, an auction close, a certificate. Larger things travel as artifacts, by their hash."""

FRAME_BYTES_MAX = 1024 * 1024
"""One frame of the stream, encoded."""

SNAPSHOT_CHUNK_BYTES_MAX = 512 * 1024
SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024
"""State of all consumers together; it is held in memory while it is made and installed."""

MEMBERS_MAX = 16
"""Voters and learners of one configuration; a committee has at most seven voters, as many again while it changes."""

MemberId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A member's number in the log, new for each time it joins; 0: none."""

Term = Annotated[int, Meta(ge=0, le=2**62)]
LogIndex = Annotated[int, Meta(ge=0, le=2**62)]
MemberIds = Annotated[tuple[MemberId, ...], Meta(max_length=MEMBERS_MAX)]


class EntryKind(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageKind(IntEnum):
    """As in raftpb. Those from `STORAGE_APPEND` on, and the ones not in `STREAM_KINDS`, never leave a member."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


STREAM_KINDS: Final = frozenset(
    {
        MessageKind.PROP,
        MessageKind.APP,
        MessageKind.APP_RESP,
        MessageKind.VOTE,
        MessageKind.VOTE_RESP,
        MessageKind.SNAP,
        MessageKind.HEARTBEAT,
        MessageKind.HEARTBEAT_RESP,
        MessageKind.TRANSFER_LEADER,
        MessageKind.TIMEOUT_NOW,
        MessageKind.READ_INDEX,
        MessageKind.READ_INDEX_RESP,
        MessageKind.PRE_VOTE,
        MessageKind.PRE_VOTE_RESP,
    }
)


class Entry(Wire, frozen=True):
    """One entry of the log. `data` is empty in the entry that a new leader begins its term with, and in the one that
    leaves a joint configuration by itself."""

    term: Term
    index: LogIndex
    kind: EntryKind = EntryKind.NORMAL
    data: Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX)] = b""


class ConfState(Wire, frozen=True):
    """A configuration; joint while `voters_outgoing` is not empty."""

    voters: MemberIds = ()
    learners: MemberIds = ()
    voters_outgoing: MemberIds = ()
    learners_next: MemberIds = ()
    auto_leave: bool = False


class Snapshot(Wire, frozen=True):
    """State after applying `index`. `data` stays empty on the stream: a receiver fetches it in chunks
    (`FetchSnapshot`), `size` bytes with this SHA-256, before it takes the message."""

    index: LogIndex = 0
    term: Term = 0
    conf_state: ConfState = ConfState()
    size: Annotated[int, Meta(ge=0, le=SNAPSHOT_BYTES_MAX)] = 0
    digest: Annotated[str, Meta(max_length=64, pattern=r"^([0-9a-f]{64})?\Z")] = ""
    data: Annotated[bytes, Meta(max_length=SNAPSHOT_BYTES_MAX)] = b""


class Message(Wire, frozen=True):
    """One message of the algorithm. `session` numbers the leader's view of a follower (its progress): it is echoed in
    answers, so that those to an earlier membership of the same member count for nothing."""

    kind: MessageKind
    to: MemberId = 0
    sender: MemberId = 0
    term: Term = 0
    log_term: Term = 0
    index: LogIndex = 0
    entries: Annotated[tuple[Entry, ...], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)] = ()
    commit: LogIndex = 0
    vote: MemberId = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: LogIndex = 0
    context: Annotated[bytes, Meta(max_length=1024)] = b""
    session: LogIndex = 0


# ---- what no member sends


_TERMLESS: Final = frozenset({MessageKind.PROP, MessageKind.READ_INDEX})
"""Forwarded to the leader, whichever it is: they belong to no term."""

_REJECTING: Final = frozenset({MessageKind.APP_RESP, MessageKind.VOTE_RESP, MessageKind.PRE_VOTE_RESP})
_READS: Final = frozenset({MessageKind.READ_INDEX, MessageKind.READ_INDEX_RESP})


def check_message(message: Message) -> None:
    """`ValueError` for a message that no member sends to another, whatever their logs and terms are."""
    kind = message.kind
    if kind not in STREAM_KINDS:
        raise ValueError(f"{kind.name} does not travel")
    if not message.to or not message.sender or message.to == message.sender:
        raise ValueError(f"{kind.name} from member {message.sender} to member {message.to}")
    # A member that has never heard of a term rejects a pre-vote in term 0.
    if (message.term == 0) != (kind in _TERMLESS) and not (kind is MessageKind.PRE_VOTE_RESP and message.reject):
        raise ValueError(f"{kind.name} of term {message.term}")
    if message.vote or (message.reject and kind not in _REJECTING):
        raise ValueError(f"{kind.name} with a vote or a rejection")
    _check_entries(message)
    if (message.snapshot is not None) != (kind is MessageKind.SNAP):
        raise ValueError(f"{kind.name} and a snapshot")
    if message.snapshot is not None:
        _check_snapshot(message.snapshot, message.term)


def _check_entries(message: Message) -> None:
    kind, entries = message.kind, message.entries
    if kind is MessageKind.APP:
        if (message.index == 0) != (message.log_term == 0) or message.log_term > message.term:
            raise ValueError(f"APP of term {message.term} after entry {message.index} of term {message.log_term}")
        index, term = message.index, max(1, message.log_term)
        for entry in entries:
            index += 1
            if entry.index != index or not term <= entry.term <= message.term:
                raise ValueError(
                    f"entry {entry.index} of term {entry.term} where {index} of term {term} or later belongs"
                )
            term = entry.term
    elif kind is MessageKind.PROP:
        if not entries or any(entry.index or entry.term for entry in entries):
            raise ValueError("a proposal is one entry or more, without index and term")
    elif kind in _READS:
        if len(entries) != 1 or entries[0].index or entries[0].term or entries[0].kind is not EntryKind.NORMAL:
            raise ValueError(f"{kind.name} carries one entry, its context, without index and term")
    elif entries:
        raise ValueError(f"{kind.name} with entries")


def _check_snapshot(snapshot: Snapshot, term: int) -> None:
    if snapshot.data:
        raise ValueError("the data of a snapshot does not travel with the message")
    if not snapshot.index or not 1 <= snapshot.term <= term:
        raise ValueError(f"a snapshot of entry {snapshot.index} of term {snapshot.term} in term {term}")
    if not snapshot.size or not snapshot.digest:
        raise ValueError("a snapshot of nothing: its size and its digest are what is fetched")
    check_conf_state(snapshot.conf_state)


def check_conf_state(conf: ConfState) -> None:
    """`ValueError` for a configuration that no sequence of changes leads to."""
    lists = (conf.voters, conf.learners, conf.voters_outgoing, conf.learners_next)
    if not conf.voters or any(0 in ids or len(set(ids)) != len(ids) for ids in lists):
        raise ValueError("a configuration without voters, or that names a member twice or none")
    voters, learners, outgoing, learners_next = map(frozenset, lists)
    if learners & (voters | outgoing):
        raise ValueError("a learner that votes")
    if not learners_next <= outgoing - voters:
        raise ValueError("a coming learner that is no leaving voter")
    if conf.auto_leave and not outgoing:
        raise ValueError("only a joint configuration can be left")


class RaftFrame(Wire, frozen=True):
    """One frame of the stream `raft/1`: messages of one member to another, in order. `epoch` grows when a committee
    was recovered by hand from a lost majority; members of different epochs do not speak.

    `ValueError` for messages that no member sends, whatever its state (`check_message`)."""

    epoch: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=MESSAGES_PER_FRAME_MAX)]

    def __post_init__(self) -> None:
        for message in self.messages:
            check_message(message)


class SnapshotChunk(Wire, frozen=True):
    data: Annotated[bytes, Meta(max_length=SNAPSHOT_CHUNK_BYTES_MAX)]


class FetchSnapshot(Wire, Query[SnapshotChunk], frozen=True):
    """Bytes of a snapshot from `offset`. `NotFound` when a newer one has replaced it."""

    digest: Digest
    offset: Annotated[int, Meta(ge=0, le=SNAPSHOT_BYTES_MAX)]


class RosterEntry(Wire, frozen=True):
    """Whose member id this is."""

    member: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    peer: PeerId


Roster = Annotated[tuple[RosterEntry, ...], Meta(max_length=4 * MEMBERS_MAX)]
"""Those of the configuration, and some that left it lately."""


class RosterReply(Wire, frozen=True):
    epoch: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    roster: Roster


class GetRoster(Wire, Query[RosterReply], frozen=True):
    """From a member that hears of another one which it does not know: its log may lag behind the change."""


class ChangeContext(Wire, frozen=True):
    """Context of a change of configuration: whose the new member ids are, and what the proposer added (`registry`)."""

    roster: Roster = ()
    body: Annotated[bytes, Meta(max_length=48 * 1024)] = b""


class Command(Wire, frozen=True):
    """`data` of a normal entry. `session` is SHA-256(peer id of the submitter, its `client`), first 16 bytes."""

    consumer: Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z][a-z_]*\Z")]
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    sequence: LogIndex
    low: LogIndex
    command: Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX - 256)]


class CommandResult(Wire, frozen=True):
    """Where the command lies in the log; `duplicate` when it was there already."""

    index: LogIndex
    term: Term
    duplicate: bool = False


class SubmitCommand(Wire, Query[CommandResult], frozen=True):
    """A command for the log, from any member of the swarm to any member of the committee. Exactly once: `client` is a
    random session of the sender, `sequence` grows with each command, and what is below `low` was answered, so that it
    may be forgotten. Sequences may arrive in any order."""

    consumer: Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z][a-z_]*\Z")]
    client: Annotated[bytes, Meta(min_length=16, max_length=16)]
    sequence: LogIndex
    low: LogIndex
    command: Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX - 256)]
