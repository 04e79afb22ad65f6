"""Changes of configuration that this node proposed as leader: one at a time, answered when applied."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..effects import Effect, Now, Reply
from ..errors import Conflict, EdgenetError, Overloaded, TimedOut
from ..messages.raft import ChangeMembers, LeaveJoint
from ..wire.codec import encode
from ..wire.raft import ChangeContext, RosterEntry
from .algorithm.confchange import ChangeKind, ConfChangeSingle, ConfChangeV2, Transition
from .algorithm.errors import ProposalDropped
from .settings import RaftSettings

if TYPE_CHECKING:
    from .member import Member

_KINDS = {"voter": ChangeKind.ADD_NODE, "learner": ChangeKind.ADD_LEARNER_NODE, "none": ChangeKind.REMOVE_NODE}


class Changes:
    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._reply_to = 0
        self._index = 0
        self._deadline = math.inf

    @property
    def wake_at(self) -> float:
        return self._deadline

    def propose(self, query: ChangeMembers | LeaveJoint, reply_to: int, member: Member, now: Now) -> list[Effect]:
        """Several changes of voters go through a joint configuration, which stays until `LeaveJoint`: the registry
        certifies the new set in between."""
        if self._deadline < math.inf:
            raise Conflict("another change is under way")
        joint = bool(member.conf.voters_outgoing)
        if isinstance(query, LeaveJoint):
            if not joint:
                raise Conflict("the configuration is not joint")
            change = ConfChangeV2(context=encode(ChangeContext((), query.context)))
        else:
            if joint:
                raise Conflict("an earlier change is not finished: the configuration is joint")
            if any(one.role != "none" and member.roster.former(one.member) for one in query.changes):
                raise Conflict("that member id has left: a node that comes back prepares for a new one")
            steps = tuple(ConfChangeSingle(_KINDS[one.role], one.member) for one in query.changes)
            voters = [one for one in query.changes if one.role != "learner"]
            transition = Transition.JOINT_EXPLICIT if voters else Transition.AUTO
            roster = tuple(RosterEntry(one.member, one.peer) for one in query.changes if one.role != "none")
            change = ConfChangeV2(transition, steps, encode(ChangeContext(roster, query.context)))
        if refusal := member.node.conf_change_refusal(change):
            raise Conflict(refusal)
        try:
            self._index = member.node.propose_conf_change(change)
        except ProposalDropped as error:
            raise Overloaded("the leader takes no change at the moment", retry_after_s=0.5) from error
        if not self._index:
            raise Conflict("an earlier change is not applied yet")
        self._reply_to = reply_to
        self._deadline = now.mono + self._settings.propose_timeout_s
        return []

    def applied(self, index: int) -> list[Effect]:
        """The log was applied up to `index`."""
        if self._deadline == math.inf or index < self._index:
            return []
        reply_to, at = self._reply_to, self._index
        self._deadline = math.inf
        return [Reply(reply_to, at)]

    def expire(self, now: Now) -> list[Effect]:
        if now.mono < self._deadline:
            return []
        return self.drop_all(TimedOut("the change was not committed in time; it may still be", retry_after_s=1.0))

    def drop_all(self, error: EdgenetError) -> list[Effect]:
        if self._deadline == math.inf:
            return []
        self._deadline = math.inf
        return [Reply(self._reply_to, error=error)]
