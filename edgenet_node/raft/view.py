"""A member, shown to operators; and how the node sets the algorithm's options."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..effects import Now
from ..messages.raft import CommitteeView, MemberView
from ..wire.codec import encode
from ..wire.raft import ConfState, RosterEntry, Snapshot
from .algorithm.rawnode import Config
from .applying import Contents
from .meters import Meters
from .settings import RaftSettings

if TYPE_CHECKING:
    from .member import Member


def algorithm_config(member: int, settings: RaftSettings) -> Config:
    """Pre-vote, check-quorum and asynchronous writes on, reads by quorum: never by a clock's lease."""
    return Config(
        id=member,
        election_tick=settings.election_ticks,
        heartbeat_tick=settings.heartbeat_ticks,
        max_size_per_message=settings.message_bytes_max,
        max_committed_size_per_ready=settings.apply_bytes_max,
        max_uncommitted_size=settings.uncommitted_bytes_max,
        max_inflight_messages=settings.inflight_max,
        max_inflight_bytes=settings.inflight_bytes_max,
        check_quorum=True,
        pre_vote=True,
        read_only="safe",
        async_storage_writes=True,
        disable_proposal_forwarding=False,
        disable_conf_change_validation=False,
        step_down_on_removal=True,
    )


def founding_snapshot(member: int, peer: str) -> Snapshot:
    """The log of a new committee begins behind it: one voter, nothing applied."""
    data = encode(Contents([], [RosterEntry(member, peer)], {}))
    return Snapshot(1, 1, ConfState(voters=(member,)), len(data), hashlib.sha256(data).hexdigest(), data)


def nobody(meters: Meters) -> CommitteeView:
    return CommitteeView(0, 0, "none", 0, "", (), 0, 0, 0, 0, joint=False, figures=meters.figures())


def committee_view(member: Member, own: str, meters: Meters, now: Now) -> CommitteeView:
    status = member.node.status()
    conf = member.conf
    views = []
    for one in sorted(member.roster.members):
        progress = status.progress.get(one)
        heard = member.heard.get(one)
        mine = one == member.id
        contact = 0.0 if mine else -1.0 if heard is None else now.mono - heard
        views.append(
            MemberView(
                member=one,
                peer=member.roster.peer(one),
                role=_role(one, member.leader, conf),
                match=0 if progress is None else progress.match,
                contact_s=contact,
            )
        )
    return CommitteeView(
        epoch=member.epoch,
        member=member.id,
        role="leader" if member.leader == member.id else _role(member.id, member.leader, conf),
        term=status.term,
        leader=member.roster.peer(member.leader),
        members=tuple(views),
        commit=status.commit,
        applied=member.applied.index,
        first=member.journal.first,
        last=member.journal.last,
        joint=bool(conf.voters_outgoing),
        figures=meters.figures(),
    )


def _role(one: int, leader: int, conf: ConfState) -> str:
    if one == leader:
        return "leader"
    if one in conf.voters:
        return "joining" if conf.voters_outgoing and one not in conf.voters_outgoing else "follower"
    if one in conf.voters_outgoing:
        return "leaving"
    return "learner" if one in conf.learners or one in conf.learners_next else "none"
