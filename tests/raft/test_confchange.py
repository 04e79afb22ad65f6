"""Configurations: the algebra of their changes, and their form in the log."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import Malformed, TooLarge
from edgenet_node.raft.algorithm.confchange import (
    Change,
    ChangeKind,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    Configuration,
    Transition,
    apply_change,
    decode_change,
    encode_change,
    enter_joint,
    entry_kind,
    leave_joint,
    restore,
    simple,
)
from edgenet_node.raft.algorithm.errors import ConfChangeRefused
from edgenet_node.raft.algorithm.membership import Members
from edgenet_node.raft.algorithm.quorum import Voters
from edgenet_node.wire.raft import ConfState, Entry, EntryKind

SINGLES = st.builds(ConfChangeSingle, st.sampled_from(ChangeKind), st.integers(0, 6))
CHANGES = st.builds(
    ConfChangeV2, st.sampled_from(Transition), st.lists(SINGLES, max_size=5).map(tuple), st.binary(max_size=8)
)
ONE = Configuration(Voters(frozenset({1})))


def _majorities(ids: frozenset[int]) -> list[frozenset[int]]:
    return [frozenset(some) for some in combinations(sorted(ids), len(ids) // 2 + 1)]


def _quorums(voters: Voters) -> list[frozenset[int]]:
    others = _majorities(voters.outgoing) if voters.outgoing else [frozenset[int]()]
    return [one | other for one in _majorities(voters.incoming) for other in others]


@given(st.lists(CHANGES | st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, 6)), max_size=12))
def test_random_walks_keep_what_must_hold(walk: list[Change]) -> None:
    """Whatever is proposed: somebody votes, nobody is two things, quorums before and after a change meet, and a
    snapshot of the configuration leads back to it."""
    members = Members(1, 4, 0)
    members.restore(ConfState((1,)), 1)
    for last, change in enumerate(walk, 2):
        before = members.configuration
        try:
            changed = members.preview(change)
        except ConfChangeRefused:
            continue
        members.adopt(changed, last)
        now = members.configuration
        assert now.voters.incoming
        assert not now.learners & now.voters.ids()
        assert now.learners_next <= now.voters.outgoing - now.voters.incoming
        assert now.joint or not (now.learners_next or now.auto_leave)
        assert members.progress.keys() == now.members()
        assert {one for one, progress in members.progress.items() if progress.learner} == now.learners
        assert all(progress.match < progress.next for progress in members.progress.values())
        assert all(one & other for one in _quorums(before.voters) for other in _quorums(now.voters))
        assert restore(now.conf_state()) == now


@given(st.lists(SINGLES.filter(lambda one: one.member != 1), min_size=1, max_size=8))
def test_one_by_one_and_jointly_lead_to_the_same(changes: list[ConfChangeSingle]) -> None:
    step = ONE
    for change in changes:
        step = simple(step, (change,)).configuration
    for auto_leave in (False, True):
        joint = enter_joint(ONE, changes, auto_leave=auto_leave).configuration
        assert joint.voters.outgoing == {1}
        assert leave_joint(joint).configuration == step


@given(CHANGES | st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, 6), st.binary(max_size=8)))
def test_the_log_holds_changes(change: Change) -> None:
    assert decode_change(Entry(1, 1, entry_kind(change), encode_change(change))) == change


@given(st.binary(max_size=64), st.sampled_from(EntryKind))
def test_foreign_bytes_are_malformed(data: bytes, kind: EntryKind) -> None:
    try:
        change = decode_change(Entry(1, 1, kind, data))
    except (Malformed, TooLarge):
        return
    assert entry_kind(change) is kind


def test_the_change_without_content_needs_no_bytes() -> None:
    assert encode_change(ConfChangeV2()) == b""
    assert ConfChangeV2().leaves_joint


def test_which_changes_are_joint() -> None:
    add = ConfChangeSingle(ChangeKind.ADD_NODE, 2)
    assert not ConfChangeV2(changes=(add,)).enters_joint
    for transition, changes, leaves_itself in (
        (Transition.AUTO, (add, add), True),
        (Transition.JOINT_IMPLICIT, (add,), True),
        (Transition.JOINT_EXPLICIT, (add,), False),
    ):
        change = ConfChangeV2(transition, changes)
        assert change.enters_joint
        assert apply_change(ONE, change).configuration.auto_leave == leaves_itself


def test_a_member_removed_and_added_again_is_met_anew() -> None:
    """Its log may be another one."""
    two = Configuration(Voters(frozenset({1, 2})))
    remove, add = ConfChangeSingle(ChangeKind.REMOVE_NODE, 2), ConfChangeSingle(ChangeKind.ADD_NODE, 2)
    assert simple(two, (remove, add)).renewed == {2}
    assert enter_joint(two, (remove, add), auto_leave=True).renewed == set()  # it went on voting


@pytest.mark.parametrize(
    "state",
    [
        ConfState(learners=(1,)),
        ConfState((1, 1)),
        ConfState((0,)),
        ConfState((1,), learners=(1,)),
        ConfState((1,), learners_next=(2,)),
        ConfState((1,), auto_leave=True),
        ConfState((), voters_outgoing=(1,)),
        ConfState((1, 2), voters_outgoing=(2,), learners_next=(2,)),
    ],
)
def test_impossible_configurations_are_refused(state: ConfState) -> None:
    with pytest.raises(ConfChangeRefused):
        restore(state)
