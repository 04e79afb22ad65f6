"""Groups under random faults, checked after every step: loss, duplication, reordering, crashes, lagging disks, changes
of the configuration, snapshots, transfers. In the end all is healed, and everybody must agree."""

from __future__ import annotations

from random import Random

import pytest

from edgenet_node.raft.algorithm.confchange import ChangeKind, ConfChangeSingle, ConfChangeV2, Transition
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.rawnode import Role
from edgenet_node.wire.raft import Entry

from .group import Group, Member

MEMBERS = 5
STEPS = 1200


class Run:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        size = self.rng.choice((2, 3, 3, 4))
        self.group = Group(
            size,
            pre_vote=self.rng.random() < 0.5,
            check_quorum=self.rng.random() < 0.5,
            step_down_on_removal=self.rng.random() < 0.5,
            max_size_per_message=self.rng.choice((0, 200, 2**20)),
            max_inflight_messages=self.rng.choice((1, 2, 64)),
            max_committed_size_per_ready=self.rng.choice((1, 2**20)),
        )
        for member in range(size + 1, MEMBERS + 1):
            self.group.join(member)
        self.loss = self.rng.choice((0.0, 0.05, 0.2))
        self.group.elect(1)
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.asked: dict[bytes, int] = {}
        self.read = 0

    # ---- what happens

    def step(self) -> None:
        rng, group = self.rng, self.group
        member = rng.randint(1, MEMBERS)
        one = group[member]
        action = rng.random()
        if action < 0.55:
            self.deliver()
        elif action < 0.70:
            for _ in range(rng.randint(1, 5)):
                one.raw.tick()
        elif action < 0.80:
            self.propose(one)
        elif action < 0.86:
            one.stalled = not one.stalled and rng.random() < 0.2
            if not one.stalled:
                group.flush(member)
        elif action < 0.87:
            one.start()
        elif action < 0.89:
            self.change(one)
        elif action < 0.90:
            self.snapshot(one)
        elif action < 0.91:
            one.raw.transfer_leader(rng.randint(1, MEMBERS))
        elif action < 0.92:
            one.raw.report_unreachable(rng.randint(1, MEMBERS))
        elif action < 0.93:
            one.raw.report_snapshot(rng.randint(1, MEMBERS), ok=rng.random() < 0.5)
        elif action < 0.95:
            context = len(self.asked).to_bytes(4, "big")
            self.asked[context] = max(self.committed, default=0)
            one.raw.read_index(context)
        elif action < 0.96:
            one.raw.campaign()
        for each in group.members:
            group.collect(each)
        self.check()

    def deliver(self) -> None:
        flying = self.group.flying
        if flying:
            place = self.rng.randrange(min(len(flying), 8))
            message = flying[place] if self.rng.random() < 0.05 else flying.pop(place)
            if self.rng.random() >= self.loss:
                self.group.deliver(message)
            del flying[:-400]

    def propose(self, one: Member) -> None:
        try:
            one.raw.propose_many([self.rng.randbytes(8) for _ in range(self.rng.randint(1, 3))])
        except ProposalDropped:
            return

    def change(self, one: Member) -> None:
        kinds = (ChangeKind.ADD_NODE, ChangeKind.REMOVE_NODE, ChangeKind.ADD_LEARNER_NODE)
        steps = tuple(
            ConfChangeSingle(self.rng.choice(kinds), self.rng.randint(1, MEMBERS))
            for _ in range(self.rng.randint(0, 3))
        )
        try:
            one.raw.propose_conf_change(ConfChangeV2(self.rng.choice(list(Transition)), steps))
        except ProposalDropped:
            return

    def snapshot(self, one: Member) -> None:
        applied = one.raft.log.applied
        if applied > one.storage.snapshot().index and not one.waiting:
            one.storage.create_snapshot(applied, one.raw.status().conf_state)
            upto = applied - self.rng.randint(0, 3)
            if upto >= one.storage.first_index():
                one.storage.compact(upto)

    # ---- what must hold

    def check(self) -> None:
        assert not self.group.malformed, self.group.malformed
        for member, one in self.group.members.items():
            raft = one.raft
            assert raft.log.applied <= raft.log.committed <= raft.log.last_index
            if raft.role is Role.LEADER:
                assert self.leaders.setdefault(raft.term, member) == member, "two leaders in one term"
            hard = one.storage.initial_state()[0]
            if hard.vote:
                assert self.votes.setdefault((member, hard.term), hard.vote) == hard.vote, "two votes in one term"
            for entry in one.applied:
                assert self.committed.setdefault(entry.index, entry) == entry, "two entries at one index"
            one.applied.clear()
            for state in one.reads:
                assert state.index >= self.asked[state.context], "a read missed what was committed before it"
                self.read += 1
            one.reads.clear()

    def heal(self) -> None:
        self.loss = 0.0
        group = self.group
        for member, one in group.members.items():
            one.stalled = False
            group.flush(member)
        for _ in range(400):
            for one in group.members.values():
                for member, progress in one.raw.status().progress.items():
                    if progress.state == "snapshot":  # nobody else could tell that it was lost
                        one.raw.report_snapshot(member, ok=False)
                one.raw.tick()
            group.settle()
            self.check()
            if self._agreed():
                return
        raise AssertionError("no agreement after all was healed")

    def _agreed(self) -> bool:
        leaders = [one.raft for one in self.group.members.values() if one.role() is Role.LEADER]
        leader = max(leaders, key=lambda raft: raft.term, default=None)
        if leader is None or leader.log.committed != leader.log.last_index or leader.members.configuration.auto_leave:
            return False
        members = [self.group[one].raft for one in leader.members.configuration.members()]
        return all(one.log.applied == leader.log.applied and one.term == leader.term for one in members) and all(
            one.members.configuration == leader.members.configuration for one in members
        )


@pytest.mark.parametrize("seed", range(60))
def test_safety_under_faults_and_agreement_after_them(seed: int) -> None:
    run = Run(seed)
    for _ in range(STEPS):
        run.step()
    run.heal()


def test_the_random_runs_do_reach_what_they_are_for() -> None:
    """Otherwise they would prove little."""
    runs = [Run(seed) for seed in range(20)]
    for run in runs:
        for _ in range(STEPS):
            run.step()
    assert sum(len(run.leaders) for run in runs) > 40
    assert sum(len(run.committed) for run in runs) > 400
    assert sum(run.read for run in runs) > 20
    members = [one for run in runs for one in run.group.members.values()]
    assert any(one.raft.members.configuration.joint for one in members)
    assert sum(one.storage.first_index() > 1 for one in members) > 10
