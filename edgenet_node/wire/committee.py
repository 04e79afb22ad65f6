"""What the committee certifies, and how everybody checks it: sets, heads, certificates, registry rows. Spec:
`protocols/committee`.

Raft orders, a quorum certificate authorises: with n members and f = floor((n - 1) / 3), floor((n + f) / 2) + 1 of them
have signed. The first set is the founder alone, named by the genesis; each later one is certified by the one before.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from ..effects import Query
from .codec import Wire
from .fields import Key32, Kind, Millis, Multiaddr, PeerId, Signature, Swarm
from .raft import LogIndex, MemberId, Roster, SubmitCommand, Term

SET_SIZES: Final = (1, 3, 4, 5, 7)
"""Voters of a committee. Two would lose both by losing one; six tolerate no more crashes than five."""

SET_MEMBERS_MAX: Final = 7
LINKS_PER_REPLY_MAX: Final = 64
ROWS_PER_REPLY_MAX: Final = 512
ROWS_REPLY_BYTES_MAX: Final = 512 * 1024
ROW_BYTES_MAX: Final = 8 * 1024
PROPOSAL_BYTES_MAX: Final = 16 * 1024
"""Of a command that travels by gossip: every node of the swarm carries it."""

ROWS_MAX: Final = 16_384
"""Of a registry: it is held in memory by every node of the swarm."""

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Epoch = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SetNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]
RowKey = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-z]+/[A-Za-z0-9_.\-]+\Z")]
Reason = Annotated[str, Meta(max_length=200)]
ParameterName = Annotated[str, Meta(max_length=48, pattern=r"^([a-z][a-z0-9_]*)?\Z")]


class CommitteeSet(Wire, frozen=True):
    """The voters from one change of configuration to the next, as public keys in ascending order. `previous` is the
    digest of the set before; of the first one, SHA-256 of the genesis in hex (ASCII)."""

    epoch: Epoch
    number: SetNumber
    members: Annotated[tuple[Key32, ...], Meta(min_length=1, max_length=SET_MEMBERS_MAX)]
    previous: Hash32

    def __post_init__(self) -> None:
        if list(self.members) != sorted(set(self.members)):
            raise ValueError("members of a set are in ascending order, each once")


class MemberSignature(Wire, frozen=True):
    """`place` counts the members of the signing set from 0."""

    place: Annotated[int, Meta(ge=0, lt=SET_MEMBERS_MAX)]
    signature: Signature


class Certificate(Wire, frozen=True):
    """Signatures of members of set `number`, in ascending order of place, each at most once."""

    epoch: Epoch
    number: SetNumber
    signatures: Annotated[tuple[MemberSignature, ...], Meta(min_length=1, max_length=SET_MEMBERS_MAX)]

    def __post_init__(self) -> None:
        places = [one.place for one in self.signatures]
        if places != sorted(set(places)):
            raise ValueError("signatures of a certificate are in ascending order of place, each once")


class Link(Wire, frozen=True):
    """One step of the chain. The certificate is of the set before; None for the first set and for one that begins a new
    epoch, which every operator has to accept by hand."""

    set: CommitteeSet
    certificate: Certificate | None = None


class Head(Wire, frozen=True):
    """The registry after entry `index`: `root` is the Merkle root (RFC 6962) over its rows in order of their keys, each
    leaf the canonical encoding of the row; `history` chains every write since the first."""

    swarm: Swarm
    epoch: Epoch
    number: SetNumber
    index: LogIndex
    root: Hash32
    history: Hash32


class CertifiedHead(Wire, frozen=True):
    head: Head
    certificate: Certificate


class Notice(Wire, frozen=True):
    """Topic `raft`: for everyone who is no member. `leader` and `commit` are hints, worth nothing by themselves. `head`
    proves itself. `proposal` is a command from a node that has no stream to any member."""

    epoch: Epoch
    term: Term = 0
    leader: Annotated[str, Meta(max_length=64, pattern=r"^[1-9A-HJ-NP-Za-km-z]*\Z")] = ""
    commit: LogIndex = 0
    head: CertifiedHead | None = None
    proposal: SubmitCommand | None = None

    def __post_init__(self) -> None:
        if self.proposal is not None and len(self.proposal.command) > PROPOSAL_BYTES_MAX:
            raise ValueError(f"a command of {len(self.proposal.command)} bytes by gossip")


class RegistryRow(Wire, frozen=True):
    """`member/<peer id>`, `parameter/<name>`, `set/<number>` or `author/<key in hex>`."""

    key: RowKey
    value: Annotated[bytes, Meta(max_length=ROW_BYTES_MAX)]


class MemberRow(Wire, frozen=True):
    """Value of `member/`. `status`: `open` came by itself, `admitted` and `banned` were decided. `sequence` is that of
    its own last registration, `index` that of the entry that changed it last."""

    public_key: Key32
    status: Literal["open", "admitted", "banned"]
    reason: Reason = ""
    addresses: Annotated[tuple[Multiaddr, ...], Meta(max_length=16)] = ()
    capabilities: Annotated[tuple[Kind, ...], Meta(max_length=64)] = ()
    sequence: Millis = 0
    index: LogIndex = 0


class ParameterRow(Wire, frozen=True):
    """Value of `parameter/`."""

    value: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    index: LogIndex = 0


class AuthorRow(Wire, frozen=True):
    """Value of `author/`: the sequence of a committee member's last command."""

    sequence: Millis


class RegistryCommand(Wire, frozen=True):
    """What a committee member (`admit`, `ban`, `set`, `mark`, `epoch`) or any node about itself (`register`) asks of
    the registry. `sequence` grows with each command of one author; a lower one is refused, so that nobody can play an
    old command again."""

    kind: Literal["register", "admit", "ban", "set", "mark", "epoch"]
    swarm: Swarm
    sequence: Millis
    peer: Annotated[str, Meta(max_length=64, pattern=r"^[1-9A-HJ-NP-Za-km-z]*\Z")] = ""
    reason: Reason = ""
    addresses: Annotated[tuple[Multiaddr, ...], Meta(max_length=16)] = ()
    capabilities: Annotated[tuple[Kind, ...], Meta(max_length=64)] = ()
    name: ParameterName = ""
    value: Annotated[int, Meta(ge=-(2**53), le=2**53)] = 0


class SignedCommand(Wire, frozen=True):
    """`body` is the canonical encoding of a `RegistryCommand`, signed by `author` in the domain `registry-command`."""

    author: Key32
    body: Annotated[bytes, Meta(max_length=16 * 1024)]
    signature: Signature


class HeadReply(Wire, frozen=True):
    """`links` follow the set that the asker knows, oldest first; `more` when there are further ones."""

    links: Annotated[tuple[Link, ...], Meta(max_length=LINKS_PER_REPLY_MAX)]
    more: bool
    roster: Roster
    head: CertifiedHead | None = None


class GetHead(Wire, Query[HeadReply], frozen=True):
    """From anybody who follows the committee. `number`: the newest set that the asker has, -1 for none."""

    number: Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class Rows(Wire, frozen=True):
    rows: Annotated[tuple[RegistryRow, ...], Meta(max_length=ROWS_PER_REPLY_MAX)]
    more: bool


class GetRows(Wire, Query[Rows], frozen=True):
    """Rows of the certified head `index` whose keys come after `after`, in order."""

    index: LogIndex
    after: Annotated[str, Meta(max_length=128)] = ""


class GetSignature(Wire, Query[MemberSignature], frozen=True):
    """From one member to another: sign this if it is what you have yourself. `digest` is SHA-256 of the canonical
    encoding of the set or head. `Overloaded` when it is not applied there yet, `Refused` when it differs."""

    subject: Literal["set", "head"]
    index: LogIndex
    digest: Hash32


class Prepared(Wire, frozen=True):
    member: MemberId


class PrepareToJoin(Wire, Query[Prepared], frozen=True):
    """From a member to a node that is to join: begin an empty log under a new id. `links` are the whole chain."""

    epoch: Epoch
    links: Annotated[tuple[Link, ...], Meta(min_length=1, max_length=1024)]
    roster: Roster


class ChangeStarted(Wire, frozen=True):
    pass


class RequestChange(Wire, Query[ChangeStarted], frozen=True):
    """From a member, whose operator asked, to the leader: these peers in, those out, or hand leadership to one."""

    add: Annotated[tuple[PeerId, ...], Meta(max_length=SET_MEMBERS_MAX)] = ()
    remove: Annotated[tuple[PeerId, ...], Meta(max_length=SET_MEMBERS_MAX)] = ()
    transfer: Annotated[str, Meta(max_length=64, pattern=r"^[1-9A-HJ-NP-Za-km-z]*\Z")] = ""
