"""The registry, shown to operators and to admission."""

from __future__ import annotations

from ..crypto.fingerprints import peer_id
from ..messages.committee import Admission, HeadView, ParameterView, RegistryView
from ..messages.raft import CommitteeView
from .chain import digest, faults, quorum
from .parameters import LISTED, PARAMETERS
from .record import Record

MEMBERS_SHOWN_MAX = 1000


def trust(members: int) -> str:
    """In words: what a certificate of so many is worth."""
    if not faults(members):
        return "trusted"
    return f"quorum {quorum(members)} of {members}"


def admission(record: Record) -> Admission:
    rows = record.state.member_rows()
    return Admission(
        listed=record.state.parameter("admission") == LISTED,
        admitted=frozenset(peer for peer, row in rows if row.status == "admitted"),
        banned={peer: row.reason for peer, row in rows if row.status == "banned"},
        committee=frozenset(peer_id(key) for key in record.chain.tip.members),
    )


def registry_view(record: Record, raft: CommitteeView | None, reshaping: str, alarms: tuple[str, ...]) -> RegistryView:
    tip, certified, state = record.chain.tip, record.certified, record.state
    head = None
    if certified is not None:
        signing = record.chain.find(certified.head.epoch, certified.head.number)
        head = HeadView(
            epoch=certified.head.epoch,
            number=certified.head.number,
            index=certified.head.index,
            root=certified.head.root.hex(),
            history=certified.head.history.hex(),
            signatures=len(certified.certificate.signatures),
            members=0 if signing is None else len(signing.members),
        )
    offered = record.chain.offered
    return RegistryView(
        swarm=record.swarm,
        trust=trust(len(tip.members)),
        committee=tuple(peer_id(key) for key in tip.members),
        epoch=tip.epoch,
        number=tip.number,
        index=state.index,
        history=state.history.hex(),
        head=head,
        members=tuple(state.member_rows()[:MEMBERS_SHOWN_MAX]),
        parameters=tuple(
            ParameterView(name, known.show(state.parameter(name)), known.show(known.default), known.meaning)
            for name, known in PARAMETERS.items()
        ),
        reshaping=reshaping,
        offered_epoch="" if offered is None else digest(offered).hex(),
        alarms=(*record.alarms, *alarms),
        raft=raft,
    )


def nothing(raft: CommitteeView | None) -> RegistryView:
    """Before the swarm is known."""
    return RegistryView("", "none", (), 0, 0, 0, "", None, (), (), "", "", (), raft)
