"""Changing the committee, as its leader: prepare, let learn, promote jointly, certify, leave.

A change is: every new peer prepares an empty log under a new member id; it is added as a learner and catches up; one
joint change makes learners voters and removes who leaves; the old set certifies the new one, and only then the joint
configuration is left, with the set and its certificate in the entry that leaves it. Whoever leads finishes what is
begun in the log; what was only prepared is forgotten with its leader.
"""

from __future__ import annotations

import math

from msgspec import Struct

from ..crypto.fingerprints import public_from_peer_id
from ..effects import Ask, Call, Effect, Now
from ..errors import Conflict, Overloaded, TimedOut, UsageError
from ..messages.raft import ChangeMembers, CommitteeView, GetCommittee, MemberChange
from ..wire.codec import encode
from ..wire.committee import SET_SIZES, CommitteeSet, Link, Prepared, PrepareToJoin
from ..wire.raft import Roster, RosterEntry
from .chain import digest
from .settings import CommitteeSettings


class Plan(Struct, frozen=True):
    add: tuple[str, ...]
    remove: tuple[str, ...]


class Reshaping:
    """`state` for people: empty when there is nothing under way. The last failure stays in `failed`."""

    def __init__(self, settings: CommitteeSettings) -> None:
        self._settings = settings
        self.state = ""
        self.failed = ""
        self._plan: Plan | None = None
        self._ids: dict[str, int] = {}
        self._run = 0
        self._deadline = math.inf
        self._poll_at = math.inf
        self._looking = False

    @property
    def wake_at(self) -> float:
        return min(self._deadline, self._poll_at)

    @property
    def busy(self) -> bool:
        return self._plan is not None

    def begin(self, plan: Plan, view: CommitteeView, links: tuple[Link, ...], now: Now) -> list[Effect]:
        """`UsageError` for a change that makes no committee, `Conflict` while another is under way."""
        if self.busy or view.joint:
            raise Conflict("another change of the committee is under way")
        voters = {one.peer for one in view.members if one.role in ("leader", "follower")}
        learners = {one.peer: one.member for one in view.members if one.role == "learner"}
        check_plan(plan, voters, set(learners))
        self._plan, self.failed = plan, ""
        self._ids = {peer: learners[peer] for peer in plan.add if peer in learners}
        self._run += 1
        self._looking = False
        self._deadline = now.mono + self._settings.catch_up_s
        roster: Roster = tuple(RosterEntry(one.member, one.peer) for one in view.members)
        prepare = PrepareToJoin(view.epoch, links, roster)
        asked = [peer for peer in plan.add if peer not in self._ids]
        if not asked:
            return self._teach(view, now)
        self.state = f"preparing {len(asked)} new"
        return [
            Call(("prepare", self._run, peer), peer, prepare, self._settings.call_timeout_s)  # a refusal ends it
            for peer in asked
        ]

    def prepared(self, run: int, peer: str, value: Prepared | None, error: Exception | None, now: Now) -> list[Effect]:
        if run != self._run or self._plan is None:
            return []
        if value is None:
            self.fail(f"{peer} did not prepare: {error}")
            return []
        self._ids[peer] = value.member
        if len(self._ids) < len(self._plan.add):
            return []
        return self._view(now)

    def _view(self, now: Now) -> list[Effect]:
        self._poll_at = math.inf
        if self._looking:
            return []
        self._looking = True
        return [Ask(("progress", self._run), GetCommittee(), self._settings.call_timeout_s)]

    def progressed(self, run: int, view: CommitteeView | None, now: Now) -> list[Effect]:
        """Where the learners are."""
        if run != self._run or self._plan is None:
            return []
        self._looking = False
        if view is None:
            self._poll_at = now.mono + self._settings.catch_up_poll_s
            return []
        return self._teach(view, now)

    def _teach(self, view: CommitteeView, now: Now) -> list[Effect]:
        """The next new one becomes a learner; when all are and have caught up, the joint change."""
        plan = self._plan
        if plan is None or view.role != "leader":
            self.fail("this node leads no longer")
            return []
        known = {one.member: one for one in view.members}
        for peer in plan.add:
            if self._ids[peer] not in known:
                self.state = f"adding {peer} as a learner"
                change = MemberChange(self._ids[peer], peer, "learner")
                return [Ask(("learner", self._run), ChangeMembers((change,)), self._settings.command_timeout_s)]
        behind = [
            peer
            for peer in plan.add
            if known[self._ids[peer]].match + self._settings.catch_up_entries < view.commit
            or known[self._ids[peer]].match == 0
        ]
        if behind:
            self.state = f"waiting for {behind[0]} to catch up"
            self._poll_at = now.mono + self._settings.catch_up_poll_s
            return []
        self.state = "changing voters"
        return [Ask(("voters", self._run), GetCommittee(), self._settings.call_timeout_s)]

    def joint(self, run: int, view: CommitteeView | None, tip: CommitteeSet) -> list[Effect]:
        """The joint change itself, with the new set as its context."""
        plan = self._plan
        if run != self._run or plan is None or view is None:
            return []
        voters = {one.peer: one.member for one in view.members if one.role in ("leader", "follower")}
        changes = [MemberChange(self._ids[peer], peer, "voter") for peer in plan.add]
        known = {one.peer: one.member for one in view.members}
        changes += [MemberChange(known[peer], peer, "none") for peer in plan.remove if peer in known]
        after = (set(voters) | set(plan.add)) - set(plan.remove)
        members = tuple(sorted(public_from_peer_id(peer) for peer in after))
        following = CommitteeSet(tip.epoch, tip.number + 1, members, digest(tip))
        query = ChangeMembers(tuple(changes), encode(following))
        return [Ask(("joint", self._run), query, self._settings.command_timeout_s)]

    def changed(self, run: int, step: str, error: Exception | None, now: Now) -> list[Effect]:
        """The log took a step, or not."""
        if run != self._run or self._plan is None:
            return []
        if isinstance(error, Overloaded | TimedOut | Conflict) and now.mono < self._deadline:
            self._poll_at = now.mono + self._settings.catch_up_poll_s
            return []
        if error is not None:
            self.fail(f"{step}: {error}")
            return []
        if step == "joint":
            self._finish()
            return []
        return self._view(now)

    def tick(self, now: Now) -> list[Effect]:
        if now.mono >= self._deadline:
            self.fail(f"not done within {self._settings.catch_up_s:g} s while {self.state or 'waiting'}")
            return []
        return self._view(now) if now.mono >= self._poll_at else []

    def fail(self, reason: str) -> None:
        if self._plan is not None:
            self.failed = reason
            self._finish()

    def _finish(self) -> None:
        self._plan = None
        self.state = ""
        self._run += 1
        self._looking = False
        self._deadline = self._poll_at = math.inf


def check_plan(plan: Plan, voters: set[str], learners: set[str]) -> None:
    """Whether a committee comes out of it. Learners that a change which failed has left behind may be removed."""
    if not plan.add and not plan.remove:
        raise UsageError("name at least one peer to add or to remove")
    if doubled := sorted(set(plan.add) & voters):
        raise UsageError(f"{doubled[0]} is in the committee already")
    if strangers := sorted(set(plan.remove) - voters - learners):
        raise UsageError(f"{strangers[0]} is not in the committee")
    size = len((voters | set(plan.add)) - set(plan.remove))
    if size not in SET_SIZES:
        sizes = ", ".join(map(str, SET_SIZES))
        raise UsageError(f"this would make a committee of {size}; it may have {sizes} members")
    for peer in plan.add:
        public_from_peer_id(peer)
