"""Whole committees in simulated time: growth, certificates, followers, bans, recovery, members that went wrong."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgenet_node.committee.settings import CommitteeSettings
from edgenet_node.effects import Call, Done, Envelope, Now, Publish, Reply
from edgenet_node.errors import Overloaded, Refused, Unreachable, UsageError
from edgenet_node.messages.committee import (
    AcceptEpoch,
    ChangeCommittee,
    Decide,
    GetAdmission,
    HandOver,
    RecoverAlone,
)
from edgenet_node.messages.raft import Propose, RecoverCommittee, TakeSnapshot
from edgenet_node.raft.settings import RaftSettings
from edgenet_node.wire.committee import GetSignature

from .world import RAFT, SETTINGS, Swarm


def formed(nodes: int, size: int, seed: int = 1, raft: RaftSettings = RAFT) -> Swarm:
    """A committee of the first `size`, that all nodes know."""
    swarm = Swarm(nodes, seed, raft=raft)
    swarm.until(lambda: swarm.view(0).head is not None)
    if size > 1:
        swarm.ask(0, ChangeCommittee(tuple(swarm.peers[1:size])))
        swarm.until(lambda: all(len(swarm.view(number).committee) == size for number in range(nodes)))
    return swarm


def leader_of(swarm: Swarm, members: range) -> int:
    def found() -> list[int]:
        views = [(number, swarm.view(number).raft) for number in members if swarm.hosts[number].running]
        return [number for number, view in views if view is not None and view.role == "leader"]

    swarm.until(lambda: len(found()) == 1)
    return found()[0]


def heads_agree(swarm: Swarm, members: range) -> bool:
    heads = {(view.head.index, view.head.root) for view in map(swarm.view, members) if view.head is not None}
    return len(heads) == 1 and len({swarm.view(number).history for number in members}) == 1


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_founder_grows_its_committee(size: int) -> None:
    swarm = formed(size + 1, size)
    swarm.until(lambda: heads_agree(swarm, range(size + 1)))
    view = swarm.view(size)
    assert view.trust == ("trusted" if size < 4 else f"quorum {(size + (size - 1) // 3) // 2 + 1} of {size}")
    assert set(view.committee) == set(swarm.peers[:size])
    assert view.head is not None
    assert view.head.signatures >= (size + (size - 1) // 3) // 2 + 1 or view.head.number == 0
    assert not swarm.violations
    assert not view.alarms


def test_every_node_registers_and_followers_prove_it() -> None:
    swarm = formed(5, 3)
    swarm.until(lambda: all(len(swarm.view(number).members) == 5 for number in range(5)), 60)
    swarm.until(lambda: heads_agree(swarm, range(5)))
    assert {peer for peer, _ in swarm.view(4).members} == set(swarm.peers)


def test_a_ban_reaches_everybody() -> None:
    swarm = formed(5, 3)
    swarm.ask(1, Decide("ban", peer=swarm.peers[4], reason="wrong results"))
    swarm.until(lambda: swarm.peers[4] in swarm.ask(3, GetAdmission()).banned)
    assert swarm.ask(3, GetAdmission()).banned[swarm.peers[4]] == "wrong results"
    with pytest.raises(Refused, match="committee"):
        swarm.ask(3, Decide("admit", peer=swarm.peers[4]))
    swarm.ask(2, Decide("set", name="admission", text="listed"))
    swarm.until(lambda: swarm.ask(4, GetAdmission()).listed)
    assert not swarm.violations


def test_a_minority_is_not_missed() -> None:
    swarm = formed(6, 5)
    for number in (0, 3):
        swarm.hosts[number].crash()
    living = [1, 2, 4]
    swarm.ask(1, Decide("ban", peer=swarm.peers[5]), timeout_s=15)
    swarm.until(lambda: all(swarm.peers[5] in swarm.ask(number, GetAdmission()).banned for number in living))
    for number in (0, 3):
        swarm.hosts[number].start()
    swarm.run(1)
    swarm.until(lambda: all(swarm.peers[5] in swarm.ask(number, GetAdmission()).banned for number in (0, 3)))
    assert not swarm.violations


def test_leadership_moves_when_asked() -> None:
    swarm = formed(3, 3)
    before = leader_of(swarm, range(3))
    target = (before + 1) % 3
    swarm.ask((before + 2) % 3, HandOver(swarm.peers[target]))
    swarm.until(lambda: leader_of(swarm, range(3)) == target)


def test_members_leave_and_their_log_with_them() -> None:
    swarm = formed(5, 4)
    swarm.ask(0, ChangeCommittee((), (swarm.peers[3],)))
    swarm.until(lambda: all(len(swarm.view(number).committee) == 3 for number in range(5)))

    def retired() -> bool:
        view = swarm.view(3).raft
        return view is not None and view.member == 0

    swarm.until(retired)
    swarm.ask(0, Decide("set", name="head_interval_ms", text="500"))
    swarm.until(lambda: heads_agree(swarm, range(5)))
    swarm.ask(0, ChangeCommittee((swarm.peers[3],)))
    swarm.until(lambda: len(swarm.view(3).committee) == 4)
    assert not swarm.violations


def test_one_is_enough_again() -> None:
    swarm = formed(4, 3)
    leader = leader_of(swarm, range(3))
    others = tuple(swarm.peers[number] for number in range(3) if number != leader)
    swarm.ask(leader, ChangeCommittee((), others))
    swarm.until(lambda: all(len(swarm.view(number).committee) == 1 for number in range(4)))
    assert not swarm.violations


def test_what_makes_no_committee_is_refused() -> None:
    swarm = formed(4, 3)
    leader = leader_of(swarm, range(3))
    for add, remove, reason in (
        ((), (), "at least one"),
        ((swarm.peers[1],), (), "already"),
        ((), (swarm.peers[3],), "not in"),
        ((), (swarm.peers[1],), "1, 3, 4, 5, 7"),
    ):
        with pytest.raises(UsageError, match=reason):
            swarm.ask(leader, ChangeCommittee(add, remove))


def test_a_node_that_does_not_serve_is_not_made_a_member() -> None:
    swarm = Swarm(3, own_settings={2: structs.replace(SETTINGS, serves=False)})
    swarm.until(lambda: swarm.view(0).head is not None)
    swarm.ask(0, ChangeCommittee(tuple(swarm.peers[1:])))
    swarm.until(lambda: "does not serve" in swarm.view(0).reshaping)
    assert len(swarm.view(0).committee) == 1


def test_a_change_is_finished_by_the_next_leader() -> None:
    """The leader goes after the joint change, before the set is certified."""
    swarm = formed(6, 5, seed=3)
    leader = leader_of(swarm, range(5))
    gone = swarm.peers[(leader + 1) % 5]
    swarm.ask(leader, ChangeCommittee((), (gone,)))

    members = [swarm.hosts[number].drivers["raft"].core for number in range(5) if number != leader]

    def joint() -> bool:
        return any(core.member.conf.voters_outgoing for core in members)  # type: ignore[attr-defined]

    swarm.world.loop.run(swarm.world.loop.now + 10, joint)
    assert joint()
    swarm.hosts[leader].crash()
    others = [number for number in range(6) if number != leader]
    swarm.until(lambda: all(len(swarm.view(number).committee) == 4 for number in others), 60)
    assert not swarm.violations


def test_heads_survive_a_snapshot_and_a_late_member() -> None:
    raft = structs.replace(RAFT, snapshot_entries=20, keep_entries=5)
    swarm = formed(5, 3, raft=raft)
    for value in range(40):
        swarm.ask(0, Decide("set", name="members_max", text=str(100 + value)))
    swarm.run(1)
    swarm.ask(0, TakeSnapshot())
    swarm.run(1)
    view = swarm.view(0).raft
    assert view is not None
    assert view.first > 10
    swarm.ask(0, ChangeCommittee((swarm.peers[3], swarm.peers[4])))
    swarm.until(lambda: len(swarm.view(4).committee) == 5)
    swarm.until(lambda: heads_agree(swarm, range(5)))
    assert {one.name: one.value for one in swarm.view(4).parameters}["members_max"] == "139"
    assert not swarm.violations


def test_a_member_that_differs_stops() -> None:
    swarm = formed(4, 4)
    victim = next(number for number in range(4) if number != leader_of(swarm, range(4)))
    core = swarm.hosts[victim].drivers["committee"].core
    core._record.state.rows["parameter/members_max"] = b"\x80"  # type: ignore[attr-defined]  # a flipped bit
    leader = next(number for number in range(4) if number != victim)
    swarm.ask(leader, Decide("set", name="head_interval_ms", text="400"))
    swarm.until(lambda: bool(swarm.violations))
    assert "differs from what the committee certified" in swarm.violations[0].text


def test_strangers_get_no_signature() -> None:
    swarm = formed(4, 3)
    found: list[Exception | None] = []
    query = GetSignature("head", 3, b"d" * 32)
    swarm.hosts[0].serve(swarm.peers[3], query, lambda _value, error: found.append(error))
    swarm.until(lambda: bool(found))
    assert isinstance(found[0], Refused)


def test_a_lost_majority_is_mended_by_hand() -> None:
    swarm = formed(5, 3)
    survivor = 1
    swarm.hosts[0].crash()
    swarm.hosts[2].crash()
    swarm.run(3)
    digest = swarm.ask(survivor, RecoverAlone(), timeout_s=30)
    swarm.until(lambda: swarm.view(survivor).epoch == 1, 30)
    swarm.ask(survivor, Decide("ban", peer=swarm.peers[4], reason="after"))
    swarm.until(lambda: swarm.view(3).offered_epoch == digest, 60)
    assert swarm.view(3).epoch == 0, "nobody follows by itself"
    swarm.ask(3, AcceptEpoch(digest))
    swarm.until(lambda: swarm.view(3).epoch == 1 and swarm.peers[4] in swarm.ask(3, GetAdmission()).banned, 60)
    assert swarm.view(3).committee == (swarm.peers[survivor],)


def test_a_swarm_may_insist_on_more_members() -> None:
    careful = CommitteeSettings(certified_by_min=4, pull_interval_s=1.0)
    swarm = Swarm(5, own_settings={4: careful})
    swarm.until(lambda: swarm.view(3).head is not None)
    swarm.run(5)
    assert swarm.view(4).head is None
    swarm.ask(0, ChangeCommittee(tuple(swarm.peers[1:4])))
    swarm.until(lambda: swarm.view(4).head is not None, 60)


def test_a_command_from_a_follower_is_applied_once() -> None:
    swarm = formed(4, 3)
    query = Propose("registry", b"c" * 16, 1, 1, b"no command")
    first = swarm.ask(3, query)
    again = swarm.ask(3, query)
    assert not first.duplicate
    assert again.duplicate
    assert again.index == first.index


def test_only_a_member_can_recover() -> None:
    swarm = formed(4, 3)
    with pytest.raises(Exception, match="no member"):
        swarm.ask(3, RecoverCommittee())


def test_a_node_that_reaches_no_member_is_heard_by_gossip() -> None:
    swarm = formed(5, 3)
    core = swarm.hosts[4].drivers["raft"].core
    query = Propose("registry", b"g" * 16, 1, 1, b"no command")
    now = Now(1000.0, 1000.0)
    effects = core.step(Envelope(query, 77), now)
    tried = []
    while calls := [effect for effect in effects if isinstance(effect, Call)]:
        tried.append(calls[0].peer)
        effects = core.step(Envelope(Done(calls[0].tag, None, Unreachable("cut off"))), now)
    assert sorted(tried) == sorted(swarm.peers[:3])
    notice, reply = effects
    assert isinstance(notice, Publish)
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, Overloaded)
    swarm.hosts[1].hear(swarm.peers[4], notice.body)
    swarm.run(1)
    assert swarm.ask(4, query).duplicate, "it is in the log already"


def test_a_learner_that_never_caught_up_can_be_removed() -> None:
    hasty = structs.replace(SETTINGS, catch_up_s=3.0)
    swarm = Swarm(4, settings=hasty)
    swarm.until(lambda: swarm.view(0).head is not None)
    swarm.ask(0, ChangeCommittee(tuple(swarm.peers[1:3])))

    def learning() -> bool:
        view = swarm.view(0).raft
        return view is not None and any(one.role == "learner" for one in view.members)

    swarm.world.loop.run(
        swarm.world.loop.now + 5,
        lambda: swarm.hosts[0].drivers["raft"].core.member.conf.learners != (),  # type: ignore[attr-defined]
    )
    swarm.hosts[1].crash()
    swarm.hosts[2].crash()
    swarm.until(lambda: swarm.view(0).reshaping.startswith("failed"), 30)
    assert learning()
    view = swarm.view(0).raft
    assert view is not None
    left = tuple(one.peer for one in view.members if one.role == "learner")
    swarm.ask(0, ChangeCommittee((), left))
    swarm.until(lambda: not learning())
    assert swarm.view(0).committee == (swarm.peers[0],)
    assert not swarm.violations
