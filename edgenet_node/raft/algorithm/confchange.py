"""Changes of the configuration: their form in the log, and the algebra of what they do.

A change of one voter may apply at once (simple); more go through a joint configuration, in which every decision needs a
majority of the old and of the new voters, and which is left by another entry: automatically once the first one was
applied, or when asked for (Ongaro's thesis, section 4.3; as in etcd, a change becomes effective when it is applied,
which is why one may not begin before the one before it was applied).

The result of a change depends on nothing but the configuration before it, so every member comes to the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from ...errors import Malformed
from ...wire.codec import Wire, decode, encode
from ...wire.raft import ENTRY_BYTES_MAX, MEMBERS_MAX, ConfState, Entry, EntryKind, MemberId
from .errors import ConfChangeRefused
from .quorum import Voters, describe_ids

CONTEXT_BYTES_MAX: Final = ENTRY_BYTES_MAX - 4096
"""What the proposer adds; the rest of an entry is left to the changes."""

_CHANGES_MAX = 2 * MEMBERS_MAX
"""Every member replaced."""


class ChangeKind(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class Transition(IntEnum):
    """AUTO: simple if it can be, else joint and left automatically. JOINT_IMPLICIT: joint, left automatically.
    JOINT_EXPLICIT: joint until a change without content is proposed."""

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


class ConfChange(Wire, frozen=True):
    """One member, simple. Member 0 changes nothing."""

    kind: ChangeKind
    member: MemberId
    context: Annotated[bytes, Meta(max_length=CONTEXT_BYTES_MAX)] = b""


class ConfChangeSingle(Wire, frozen=True):
    kind: ChangeKind
    member: MemberId


class ConfChangeV2(Wire, frozen=True):
    """Several at once. The one without content leaves a joint configuration."""

    transition: Transition = Transition.AUTO
    changes: Annotated[tuple[ConfChangeSingle, ...], Meta(max_length=_CHANGES_MAX)] = ()
    context: Annotated[bytes, Meta(max_length=CONTEXT_BYTES_MAX)] = b""

    @property
    def leaves_joint(self) -> bool:
        return self.transition is Transition.AUTO and not self.changes

    @property
    def enters_joint(self) -> bool:
        """Several changes might be a simple one, but that depends on what they apply to; joint is always right."""
        return self.transition is not Transition.AUTO or len(self.changes) > 1

    @property
    def leaves_itself(self) -> bool:
        """Of one that enters a joint configuration."""
        return self.transition is not Transition.JOINT_EXPLICIT


Change = ConfChange | ConfChangeV2


def encode_change(change: Change) -> bytes:
    """`Entry.data`; of the change without content, nothing: such an entry is never refused for its size."""
    return b"" if change == ConfChangeV2() else encode(change)


def entry_kind(change: Change) -> EntryKind:
    return EntryKind.CONF_CHANGE if isinstance(change, ConfChange) else EntryKind.CONF_CHANGE_V2


def decode_change(entry: Entry) -> Change:
    """`Malformed` for an entry that holds none."""
    if entry.kind is EntryKind.CONF_CHANGE:
        return decode(entry.data, ConfChange, bytes_max=ENTRY_BYTES_MAX)
    if entry.kind is not EntryKind.CONF_CHANGE_V2:
        raise Malformed(f"entry {entry.index} is no change of the configuration")
    return decode(entry.data, ConfChangeV2, bytes_max=ENTRY_BYTES_MAX) if entry.data else ConfChangeV2()


def as_v2(change: Change) -> ConfChangeV2:
    if isinstance(change, ConfChange):
        return ConfChangeV2(changes=(ConfChangeSingle(change.kind, change.member),), context=change.context)
    return change


class Configuration(Struct, frozen=True):
    """Who votes and who only learns. Learners vote in neither half; `learners_next` are voters of the outgoing half
    that become learners when it is left."""

    voters: Voters = Voters()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        return bool(self.voters.outgoing)

    def members(self) -> frozenset[int]:
        return self.voters.incoming | self.voters.outgoing | self.learners

    def conf_state(self) -> ConfState:
        return ConfState(
            voters=tuple(sorted(self.voters.incoming)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.voters.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )

    def __str__(self) -> str:
        text = f"voters={self.voters}"
        if self.learners:
            text += f" learners={describe_ids(self.learners)}"
        if self.learners_next:
            text += f" learners_next={describe_ids(self.learners_next)}"
        return text + (" autoleave" if self.auto_leave else "")


class Changed(Struct, frozen=True):
    """`renewed`: members that are new, or were removed and added again, so that nothing is known of their logs."""

    configuration: Configuration
    renewed: frozenset[int]


def apply_change(before: Configuration, change: Change) -> Changed:
    """`ConfChangeRefused` when it does not fit."""
    change = as_v2(change)
    if change.leaves_joint:
        return leave_joint(before)
    if change.enters_joint:
        return enter_joint(before, change.changes, auto_leave=change.leaves_itself)
    return simple(before, change.changes)


def simple(before: Configuration, changes: Iterable[ConfChangeSingle]) -> Changed:
    """At most one voter more or less: majorities before and after always meet."""
    if before.joint:
        raise ConfChangeRefused("can't apply simple config change in joint config")
    draft = _Draft(before)
    draft.apply(changes)
    if len(draft.incoming ^ before.voters.incoming) > 1:
        raise ConfChangeRefused("more than one voter changed without entering joint config")
    return draft.finish(auto_leave=False)


def enter_joint(before: Configuration, changes: Iterable[ConfChangeSingle], *, auto_leave: bool) -> Changed:
    """The voters so far become the outgoing half."""
    if before.joint:
        raise ConfChangeRefused("config is already joint")
    if not before.voters.incoming:
        raise ConfChangeRefused("can't make a zero-voter config joint")
    draft = _Draft(before)
    draft.outgoing = set(before.voters.incoming)
    draft.apply(changes)
    return draft.finish(auto_leave=auto_leave)


def leave_joint(before: Configuration) -> Changed:
    """The incoming half decides alone; who is in neither it nor the learners is gone."""
    if not before.joint:
        raise ConfChangeRefused("can't leave a non-joint config")
    learners = before.learners | before.learners_next
    return Changed(_checked(Configuration(Voters(before.voters.incoming), learners)), frozenset())


def restore(state: ConfState) -> Configuration:
    """`ConfChangeRefused` for a state that no sequence of changes leads to."""
    lists = (state.voters, state.learners, state.voters_outgoing, state.learners_next)
    if any(len(set(ids)) != len(ids) or 0 in ids for ids in lists):
        raise ConfChangeRefused("a configuration names a member twice, or nobody")
    if not state.voters and any(lists):
        raise ConfChangeRefused("removed all voters")
    voters = Voters(frozenset(state.voters), frozenset(state.voters_outgoing))
    learners, learners_next = frozenset(state.learners), frozenset(state.learners_next)
    return _checked(Configuration(voters, learners, learners_next, state.auto_leave))


def _checked(result: Configuration) -> Configuration:
    voters = result.voters
    if result.learners & voters.ids():
        raise ConfChangeRefused(f"{describe_ids(result.learners & voters.ids())} are learners and voters")
    if result.learners_next - voters.outgoing or result.learners_next & (voters.incoming | result.learners):
        raise ConfChangeRefused("the next learners are not those who leave the voters")
    if result.auto_leave and not result.joint:
        raise ConfChangeRefused("only a joint configuration can be left")
    return result


class _Draft:
    """A configuration under change. `known`: members whose logs the leader follows; it forgets those removed."""

    def __init__(self, before: Configuration) -> None:
        self.incoming = set(before.voters.incoming)
        self.outgoing = set(before.voters.outgoing)
        self.learners = set(before.learners)
        self.learners_next = set(before.learners_next)
        self.known = set(before.members())
        self.renewed: set[int] = set()

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if not change.member:
                continue
            if change.kind is ChangeKind.ADD_NODE:
                self._make_voter(change.member)
            elif change.kind is ChangeKind.ADD_LEARNER_NODE:
                self._make_learner(change.member)
            elif change.kind is ChangeKind.REMOVE_NODE:
                self._remove(change.member)
        if not self.incoming:
            raise ConfChangeRefused("removed all voters")

    def _make_voter(self, member: int) -> None:
        self._meet(member)
        self.learners.discard(member)
        self.learners_next.discard(member)
        self.incoming.add(member)

    def _make_learner(self, member: int) -> None:
        self._meet(member)
        self.incoming.discard(member)
        # A voter of the outgoing half goes on voting until it is left.
        (self.learners_next if member in self.outgoing else self.learners).add(member)

    def _remove(self, member: int) -> None:
        for ids in (self.incoming, self.learners, self.learners_next):
            ids.discard(member)
        if member not in self.outgoing:
            self.known.discard(member)
            self.renewed.discard(member)

    def _meet(self, member: int) -> None:
        if member not in self.known:
            self.known.add(member)
            self.renewed.add(member)

    def finish(self, *, auto_leave: bool) -> Changed:
        voters = Voters(frozenset(self.incoming), frozenset(self.outgoing))
        learners, learners_next = frozenset(self.learners), frozenset(self.learners_next)
        return Changed(_checked(Configuration(voters, learners, learners_next, auto_leave)), frozenset(self.renewed))
