"""The committed log, as a service: what subsystems ask of the part `raft`, and what it says by itself."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query
from ..wire.raft import ConfState, EntryKind, RosterEntry, SubmitCommand


class Proposed(Struct, frozen=True):
    """Committed at `index` in `term`; `duplicate` when an earlier try had been."""

    index: int
    term: int
    duplicate: bool = False


class Propose(Query[Proposed], frozen=True):
    """Have `command` committed for `consumer`, exactly once by (`client`, `sequence`): 16 random bytes, and a number
    that grows. What is below `low` was answered and may be forgotten. Answered when committed on this node or by its
    leader. `Overloaded` with a pause when there is no leader or too much waits; trying again with the same numbers is
    safe."""

    consumer: str
    client: bytes
    sequence: int
    low: int
    command: bytes


class CommittedEntry(Struct, frozen=True):
    """`command` is empty for a change of configuration, whose `context` came with its proposal."""

    index: int
    term: int
    kind: EntryKind
    command: bytes
    conf_state: ConfState | None = None
    context: bytes = b""


class LogPage(Struct, frozen=True):
    """`entries` are this consumer's, and all configuration changes, with index in (after, upto]. `snapshot` is present
    instead when the log no longer reaches back to `after`: the consumer's state as of `upto`."""

    entries: tuple[CommittedEntry, ...]
    upto: int
    commit: int
    snapshot: bytes | None = None


class ReadLog(Query[LogPage], frozen=True):
    """Committed entries after `after`, at most `bytes_max` of them and at least one if there is one."""

    consumer: str
    after: int
    bytes_max: int = 1024 * 1024


class LogAdvanced(Struct, frozen=True):
    """Event: this node knows of commits up to here. Pull with `ReadLog`."""

    commit: int


class ReadBarrier(Query[int], frozen=True):
    """An index such that a state that has applied it holds everything committed before the question (linearizable;
    confirmed with a quorum). `Overloaded` when there is no leader."""


class TakeState(Struct, frozen=True):
    """Event: a snapshot is due; each consumer answers with `GiveState` once it has applied `upto`."""

    upto: int


class GiveState(Struct, frozen=True):
    """Tell: the whole state of a consumer after `index`, which is at least what `TakeState` said."""

    consumer: str
    index: int
    state: bytes


class FoundCommittee(Query[int], frozen=True):
    """Begin the log, as a committee of one. The new member's id; `Conflict` when this node has a log already."""


class PrepareMember(Query[int], frozen=True):
    """Make ready to be added to the committee that `roster` describes: an empty log under a new member id. `Conflict`
    when this node is a member that has a log."""

    epoch: int
    roster: tuple[RosterEntry, ...]


class MemberChange(Struct, frozen=True):
    """`role`: voter, learner or none (removed)."""

    member: int
    peer: str
    role: str


class ChangeMembers(Query[int], frozen=True):
    """Propose a change of configuration; answered with its index when it was applied. More than one change of voters
    is a joint configuration, which `LeaveJoint` ends. `Refused` unless this node leads; `Conflict` while an earlier
    change is not applied. Consumers see `context` with the entry."""

    changes: tuple[MemberChange, ...]
    context: bytes = b""


class LeaveJoint(Query[int], frozen=True):
    """Propose to leave the joint configuration."""

    context: bytes = b""


class TransferLeadership(Query[None], frozen=True):
    """Answered when the leader has begun to hand over; `NotFound` for a peer that is no voter."""

    peer: str


class TakeSnapshot(Query[int], frozen=True):
    """Make a snapshot now and compact the log. Its index."""


class RecoverCommittee(Query[int], frozen=True):
    """The majority is lost for good: go on alone in a new epoch, with what this member has. What only the lost members
    had committed is lost. The new epoch."""


class RetireMember(Struct, frozen=True):
    """Tell: a certified configuration without this node exists; its log here is dropped."""

    epoch: int
    number: int


class LearnRoster(Struct, frozen=True):
    """Tell: who the members are, from a certified source. Where a node that is none sends its commands."""

    epoch: int
    roster: tuple[RosterEntry, ...]


class Overheard(Struct, frozen=True):
    """Tell: a command that came by gossip, from a node without a stream to any member. Nobody waits for its answer."""

    sender: str
    command: SubmitCommand


class MemberView(Struct, frozen=True):
    """`role`: leader, follower, learner; with `leaving` and `joining` in a joint configuration. `match`: the last
    entry known to be durable there, 0 unless this node leads. `contact_s`: since its last message, negative if none."""

    member: int
    peer: str
    role: str
    match: int
    contact_s: float


class RaftFigures(Struct, frozen=True):
    """Counters since start, and medians of the last thousand: `commit_s` from proposal to applied here, `fsync_s` from
    save to durable, `batch` entries in one append."""

    leader_changes: int = 0
    proposals: int = 0
    proposals_dropped: int = 0
    entries_applied: int = 0
    frames_refused: int = 0
    snapshots_made: int = 0
    snapshots_installed: int = 0
    snapshot_bytes: int = 0
    commit_s: float = 0.0
    fsync_s: float = 0.0
    batch: float = 0.0


class CommitteeView(Struct, frozen=True):
    """The log as this node sees it; `member` is 0 and most else empty on a node that is none. `leader` is a peer."""

    epoch: int
    member: int
    role: str
    term: int
    leader: str
    members: tuple[MemberView, ...]
    commit: int
    applied: int
    first: int
    last: int
    joint: bool
    figures: RaftFigures


class GetCommittee(Query[CommitteeView], frozen=True):
    pass


class LeaderChanged(Struct, frozen=True):
    """Event: `leader` is empty while there is none; `leading` when it is this node."""

    term: int
    leader: str
    leading: bool
