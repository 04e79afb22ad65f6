"""The registry of the swarm: what it holds, what operators ask of it."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query
from ..wire.committee import MemberRow
from .raft import CommitteeView


class Decided(Struct, frozen=True):
    """A registry command was committed at `index`."""

    index: int


class Decide(Query[Decided], frozen=True):
    """`admit` or `ban` a peer, or `set` a parameter (`name`, `text` as people write it). `Refused` says why the swarm
    did not take it; only members of the committee decide."""

    kind: str
    peer: str = ""
    reason: str = ""
    name: str = ""
    text: str = ""


class ChangeCommittee(Query[None], frozen=True):
    """These peers in, those out, at once. Answered when the change has begun; `GetRegistry` tells how it goes."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class HandOver(Query[None], frozen=True):
    """Leadership of the committee to this peer."""

    peer: str


class RecoverAlone(Query[str], frozen=True):
    """The majority is lost for good: go on alone in a new epoch. The digest of the new set, which every other operator
    accepts by hand."""


class AcceptEpoch(Query[None], frozen=True):
    """The operator's word for a new epoch, by the digest of its set in hex."""

    digest: str


class ParameterView(Struct, frozen=True):
    name: str
    value: str
    default: str
    meaning: str


class HeadView(Struct, frozen=True):
    """The newest certified head: hashes in hex, signatures of how many of how many members."""

    epoch: int
    number: int
    index: int
    root: str
    history: str
    signatures: int
    members: int


class RegistryView(Struct, frozen=True):
    """`trust`: none (no committee known), trusted (below four members: its own operators could lie), or how many
    must sign. `reshaping` says what an unfinished change waits for; `alarms` what an operator has to look at."""

    swarm: str
    trust: str
    committee: tuple[str, ...]
    epoch: int
    number: int
    index: int
    history: str
    head: HeadView | None
    members: tuple[tuple[str, MemberRow], ...]
    parameters: tuple[ParameterView, ...]
    reshaping: str
    offered_epoch: str
    alarms: tuple[str, ...]
    raft: CommitteeView | None


class GetRegistry(Query[RegistryView], frozen=True):
    """As this node has it; `linearizable`: with everything decided anywhere before the question, which only members of
    the committee can say (`Refused` by others), and only while a quorum is there (`Overloaded`, `TimedOut`)."""

    linearizable: bool = False


class Admission(Struct, frozen=True):
    """Who may connect. `listed`: only `admitted` and the committee; otherwise all but `banned` (peer to reason)."""

    listed: bool
    admitted: frozenset[str]
    banned: dict[str, str]
    committee: frozenset[str]


class AdmissionChanged(Struct, frozen=True):
    """Event."""

    admission: Admission


class GetAdmission(Query[Admission], frozen=True):
    pass
