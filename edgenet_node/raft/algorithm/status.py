"""A member's view of itself and, if it leads, of the others."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from ...wire.raft import ConfState
from .progress import Progress, ProgressState
from .ready import Role
from .state import Raft

_STATES: Final[dict[ProgressState, Literal["probe", "replicate", "snapshot"]]] = {
    ProgressState.PROBE: "probe",
    ProgressState.REPLICATE: "replicate",
    ProgressState.SNAPSHOT: "snapshot",
}


class ProgressStatus(Struct, frozen=True):
    """`paused`: nothing is sent until it answers. `inflight` appends are under way."""

    match: int
    next: int
    state: Literal["probe", "replicate", "snapshot"]
    recent_active: bool
    paused: bool
    learner: bool
    pending_snapshot: int
    inflight: int
    inflight_full: bool
    session: int


class Status(Struct, frozen=True):
    """`progress` is empty unless this member leads. `pending_conf_index` likewise: no change of the configuration may
    be proposed before it is applied."""

    id: int
    term: int
    vote: int
    lead: int
    role: Role
    commit: int
    applied: int
    first_index: int
    last_index: int
    conf_state: ConfState
    progress: dict[int, ProgressStatus]
    lead_transferee: int
    pending_conf_index: int
    uncommitted_size: int


def status_of(raft: Raft) -> Status:
    progress: dict[int, ProgressStatus] = {}
    if raft.role is Role.LEADER:
        progress = {member: _progress(one) for member, one in raft.members.progress.items()}
    return Status(
        id=raft.id,
        term=raft.term,
        vote=raft.vote,
        lead=raft.lead,
        role=raft.role,
        commit=raft.log.committed,
        applied=raft.log.applied,
        first_index=raft.log.first_index(),
        last_index=raft.log.last_index,
        conf_state=raft.members.configuration.conf_state(),
        progress=progress,
        lead_transferee=raft.lead_transferee,
        pending_conf_index=raft.pending_conf_index,
        uncommitted_size=raft.uncommitted_size,
    )


def _progress(one: Progress) -> ProgressStatus:
    return ProgressStatus(
        match=one.match,
        next=one.next,
        state=_STATES[one.state],
        recent_active=one.recent_active,
        paused=one.blocked(),
        learner=one.learner,
        pending_snapshot=one.pending_snapshot,
        inflight=len(one.inflights),
        inflight_full=one.inflights.full(),
        session=one.session,
    )
