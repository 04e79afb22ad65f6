"""What a member of the committee does for the swarm: marks, signatures, certified heads, changes of the committee."""

from __future__ import annotations

import math

from ..crypto.fingerprints import peer_id
from ..crypto.signing import Signer
from ..effects import Ask, Effect, Now, Publish
from ..errors import Overloaded, Refused
from ..messages.raft import CommitteeView, LeaveJoint
from ..wire.codec import encode
from ..wire.committee import (
    CertifiedHead,
    CommitteeSet,
    GetSignature,
    Link,
    MemberSignature,
    Notice,
)
from .chain import HEAD_DOMAIN, SET_DOMAIN, digest, sign_subject
from .collecting import Round
from .heads import Marks
from .record import Record
from .reshaping import Plan, Reshaping
from .settings import CommitteeSettings, Rng

HINT_INTERVAL_S = 10.0
"""Between two notices of a leader whose registry does not change: newcomers hear of it within that time."""


REMARK_S = 5.0
"""A member that restarted has forgotten the mark before, and a mark may be lost on its way into the log: one that a
quorum does not sign in this time is made anew."""


class Office:
    """Does nothing on a node that does not lead, except to sign what it has itself."""

    def __init__(self, signer: Signer, settings: CommitteeSettings, rng: Rng) -> None:
        self._signer = signer
        self._settings = settings
        self._rng = rng
        self.marks = Marks(settings.marks_max)
        self.reshaping = Reshaping(settings)
        self._heads = Round(signer, settings, "head")
        self._sets = Round(signer, settings, "set")
        self._leaving = False
        self._mark_at = math.inf
        self._remark_at = math.inf
        self._hint_at = math.inf
        self.leading = False

    @property
    def wake_at(self) -> float:
        if not self.leading:
            return math.inf
        return min(
            self.reshaping.wake_at,
            self._heads.wake_at,
            self._sets.wake_at,
            self._mark_at,
            self._remark_at,
            self._hint_at,
        )

    # ---- leadership

    def lead(self, leading: bool, record: Record, now: Now) -> None:
        if leading == self.leading:
            return
        self.leading = leading
        self._heads.drop()
        self._sets.drop()
        self._leaving = False
        self._mark_at = now.mono if leading and self._unmarked(record) else math.inf
        self._remark_at = math.inf
        self._hint_at = now.mono if leading else math.inf
        if not leading:
            self.reshaping.fail("this node leads no longer")

    def _unmarked(self, record: Record) -> bool:
        certified = record.certified
        return certified is None or certified.head.history != record.state.history

    # ---- heads

    def wrote(self, record: Record, *, mark: bool, now: Now) -> list[Effect]:
        """The registry changed; or the committee's set; or this was a mark."""
        if not mark:
            if self.leading and self._mark_at == math.inf:
                self._mark_at = now.mono + record.state.parameter("head_interval_ms") / 1000
            return []
        marked = self.marks.add(record.head(), record.state.rows)
        if not self.leading:
            return []
        self._remark_at = now.mono + REMARK_S
        return self._heads.begin(record.chain.tip, marked.head.index, marked.digest, now)

    def mark_due(self, record: Record, now: Now) -> bool:
        """Once for each time; the mark itself is a command."""
        if not self.leading or now.mono < min(self._mark_at, self._remark_at):
            return False
        if not self._unmarked(record):
            self._mark_at = self._remark_at = math.inf
            return False
        self._mark_at, self._remark_at = math.inf, now.mono + REMARK_S
        return True

    def sign(self, query: GetSignature, record: Record, raft: CommitteeView | None) -> MemberSignature:
        """For another member: only what this node has itself."""
        tip = record.chain.tip
        if query.subject == "set":
            if record.pending is None or raft is None or not _is_configuration(record.pending, raft):
                raise Overloaded("no change of the committee is applied here yet", retry_after_s=0.1)
            if digest(record.pending) != query.digest:
                raise Refused("the set to come is another one here")
            return sign_subject(self._signer, tip, SET_DOMAIN, query.digest)
        marked = self.marks.find(query.index)
        if marked is None:
            raise Overloaded("that mark is not applied here", retry_after_s=0.1)
        if marked.digest != query.digest:
            raise Refused("the registry is another one here")
        signing = record.chain.find(marked.head.epoch, marked.head.number)
        return sign_subject(self._signer, signing or tip, HEAD_DOMAIN, query.digest)

    def signed(self, kind: str, run: int, place: int, value: MemberSignature | None, error: Exception | None) -> None:
        (self._sets if kind == "set" else self._heads).answered(run, place, value, error)

    def publish(self, record: Record, raft: CommitteeView | None, now: Now) -> list[Effect]:
        """To everybody: where the leader is, and the newest head."""
        self._hint_at = now.mono + HINT_INTERVAL_S * (0.75 + 0.5 * self._rng.random())
        if raft is None:
            return []
        return [Publish(Notice(raft.epoch, raft.term, peer_id(self._signer.public), raft.commit, record.certified))]

    def certified(self, record: Record, raft: CommitteeView | None, now: Now) -> list[Effect]:
        """If enough have signed."""
        subject = self._heads.subject
        certificate = self._heads.finished()
        marked = self.marks.newest
        if certificate is None or marked is None or marked.digest != subject:
            return []
        self._remark_at = math.inf
        out = record.certify(CertifiedHead(marked.head, certificate))
        return [*out, *self.publish(record, raft, now)]

    # ---- sets

    def certify_set(self, record: Record, now: Now) -> list[Effect]:
        """Have the set to come signed by the one in office, then leave the joint configuration with the proof."""
        if not self.leading or record.pending is None or self._leaving:
            return []
        subject = digest(record.pending)
        begun = self._sets.subject == subject
        out = [] if begun else self._sets.begin(record.chain.tip, record.cursor, subject, now)
        certificate = self._sets.finished()
        if certificate is None:
            return out
        return [*out, *self._leave(Link(record.pending, certificate))]

    def _leave(self, link: Link) -> list[Effect]:
        self._leaving = True
        return [Ask(("leave",), LeaveJoint(encode(link)), self._settings.command_timeout_s)]

    def left(self, error: Exception | None) -> None:
        """If that did not work, the signatures are collected anew."""
        self._leaving = False

    # ---- changes

    def change(self, plan: Plan, view: CommitteeView, record: Record, now: Now) -> list[Effect]:
        if not self.leading:
            raise Refused("this node does not lead the committee")
        return self.reshaping.begin(plan, view, tuple(record.chain.links), now)

    def tick(self, record: Record, raft: CommitteeView | None, now: Now) -> list[Effect]:
        if not self.leading:
            return []
        out = self.reshaping.tick(now) if now.mono >= self.reshaping.wake_at else []
        out += self._heads.tick(now) + self._sets.tick(now)
        if now.mono >= self._hint_at:
            out += self.publish(record, raft, now)
        return out


def _is_configuration(coming: CommitteeSet, raft: CommitteeView) -> bool:
    """Whether the log's joint configuration leads to this set. (The view does not say whether the leader stays.)"""
    voters = {one.peer for one in raft.members if one.role in ("follower", "joining")}
    return raft.joint and {peer_id(key) for key in coming.members} - {raft.leader} == voters - {raft.leader}
