"""The simulator finds the mistakes that Raft implementations are known for: each of these, planted alone, is noticed
within the stated number of seeds of a scenario that is aimed at it (`seeds_max`), and the same scenario without the
mistake is well.

Which seed notices changes with every change of the code that it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct, structs

from edgenet_node.effects import Early, Put, Saved, Send
from edgenet_node.raft import member, view
from edgenet_node.raft.algorithm import leading, membership, quorum, rawnode
from edgenet_node.raft.algorithm.log import RaftLog
from edgenet_node.raft.algorithm.membership import Members
from edgenet_node.raft.applying import Applied, Contents
from edgenet_node.raft.changes import Changes
from edgenet_node.raft.core import RaftCore
from edgenet_node.raft.journal import Journal, SavedHard, seal
from edgenet_node.raft.member import Member
from edgenet_node.testing.events.network import LinkPlan
from edgenet_node.testing.events.world import FaultKind, Scenario, Strike
from edgenet_node.testing.raft import faults
from edgenet_node.testing.raft.clients import Load
from edgenet_node.testing.raft.committee import Committee, Shape
from edgenet_node.testing.raft.register import RegisterCore
from edgenet_node.testing.raft.scenario import RAFT, SETTINGS

Patch = pytest.MonkeyPatch

BUSY = Load(clients=3, slots=2, keys=2, think_s=0.3)


def aimed(kinds: Sequence[Callable[[Strike], Any]], shape: Shape, window_s: float = 15.0) -> Scenario:
    """Every run meets all of these faults."""
    return structs.replace(
        RAFT,
        build=lambda seed, _nodes: Committee(seed, shape),
        faults=tuple(FaultKind(kind.__name__, 1.0, kind) for kind in kinds),
        window_s=window_s,
        settle_s=30.0,
    )


class Mistake(Struct, frozen=True):
    """`plant` changes the code; one of `noticed` must be violated within `seeds_max` seeds of `scenario`."""

    name: str
    plant: Callable[[Patch], None]
    noticed: frozenset[str]
    seeds_max: int
    scenario: Scenario = RAFT


def vote_not_persisted(patch: Patch) -> None:
    save = Journal.save_hard

    def forgetful(self: Journal, hard: Any) -> Any:
        save(self, hard)
        return [Put("state", "hard", seal(SavedHard(hard.term, 0, hard.commit)))]

    patch.setattr(Journal, "save_hard", forgetful)


def old_term_committed_by_counting(patch: Patch) -> None:
    """The paper's figure 8."""

    def counting(self: RaftLog, term: int, index: int) -> bool:
        del term
        if index > self.committed:
            self.commit_to(index)
            return True
        return False

    patch.setattr(RaftLog, "maybe_commit", counting)


def truncation_without_a_conflict(patch: Patch) -> None:
    patch.setattr(RaftLog, "_first_new", lambda self, entries: 0)


def half_is_a_majority(patch: Patch) -> None:
    """Right for odd committees."""

    def half(acked: Any) -> int:
        ascending: list[int] = sorted(acked)
        return ascending[len(ascending) // 2]

    patch.setattr(quorum, "majority_index", half)
    patch.setattr(membership, "majority_index", half)


def duplicate_votes_counted(patch: Patch) -> None:
    def counting(self: Members, who: int, *, granted: bool) -> Any:
        free = [one for one in sorted(self.configuration.voters.ids()) if one not in self.votes]
        self.votes[who if who not in self.votes or not free else free[0]] = granted
        return self.configuration.voters.vote_result(self.votes)

    patch.setattr(Members, "record_vote", counting)


def second_change_before_the_first_is_applied(patch: Patch) -> None:
    propose = Changes.propose

    def hasty(self: Changes, query: Any, reply_to: int, one: Member, now: Any) -> Any:
        self._deadline = float("inf")
        return propose(self, query, reply_to, one, now)

    patch.setattr(Changes, "propose", hasty)
    patch.setattr(leading, "refusal", lambda raft, change: "")
    patch.setattr(rawnode, "refusal", lambda raft, change: "")


def lease_reads(patch: Patch) -> None:
    """Clocks that drift, and processes that stand still, outlast a lease."""
    configure = view.algorithm_config
    patch.setattr(member, "algorithm_config", lambda *args: structs.replace(configure(*args), read_only="lease"))


def acknowledged_before_fsync(patch: Patch) -> None:
    append = Member._append

    def hasty(self: Member, request: Any, now: Any) -> Any:
        out = []
        for effect in append(self, request, now):
            if isinstance(effect, Saved):
                self.saved(effect.tag[2], now)
            else:
                out.append(Early(effect) if isinstance(effect, Send) else effect)
        return out

    patch.setattr(Member, "_append", hasty)


def cursor_saved_apart_from_its_effects(patch: Patch) -> None:
    """After a restart a consumer applies entries a second time."""
    page = RegisterCore._page

    def careless(self: RegisterCore, found: Any) -> Any:
        return [one for one in page(self, found) if not (isinstance(one, Put) and one.table == "cursor")]

    patch.setattr(RegisterCore, "_page", careless)


def snapshot_without_sessions(patch: Patch) -> None:
    contents = Applied.contents

    def lossy(self: Applied, roster: Any) -> Contents:
        return structs.replace(contents(self, roster), sessions=[])

    patch.setattr(Applied, "contents", lossy)


def duplicates_forgotten_behind_a_snapshot(patch: Patch) -> None:
    """Found here first: entries that a snapshot leaves in the log were handed out anew after a restart."""
    install = Applied.install

    def forgetful(self: Applied, snapshot: Any) -> Any:
        found = install(self, snapshot)
        self._floor = 0
        return found

    patch.setattr(Applied, "install", forgetful)


def wiped_member_remembered(patch: Patch) -> None:
    """A node takes the same member id each time it joins."""
    patch.setattr(RaftCore, "_new_id", lambda self: int.from_bytes(self._own.encode()[-7:], "big"))


def votes_for_anybody(patch: Patch) -> None:
    patch.setattr(RaftLog, "is_up_to_date", lambda self, term, index: True)


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


LOST = _of("leader completeness", "state machine safety", "log matching", "committed is durable", "no core crashes")
VOTES = _of("vote once", "election safety")

CRASHES = aimed((faults.crash, faults.crash_all, faults.bad_network), Shape(3, settings=SETTINGS, load=BUSY))
ELECTIONS = aimed(
    (faults.restarts, faults.restarts, faults.depose),
    Shape(5, spares=0, settings=SETTINGS, load=BUSY, link=LinkPlan(delay_max_s=0.6, loss=0.1)),
)
SPLIT = aimed((faults.partition, faults.crash, faults.bad_network), Shape(3, settings=SETTINGS, load=BUSY))
EVEN = aimed((faults.partition, faults.crash), Shape(4, spares=0, settings=SETTINGS, load=BUSY))
NOISY = LinkPlan(delay_max_s=0.05, duplicate=0.5, reorder=0.3)
DOUBLED = aimed((faults.partition, faults.crash), Shape(5, spares=0, settings=SETTINGS, load=BUSY, link=NOISY))
REORDERED = aimed(
    (faults.partition, faults.crash),
    Shape(
        3,
        spares=0,
        settings=structs.replace(SETTINGS, inflight_max=4),
        load=Load(clients=4, slots=2, keys=2, think_s=0.1, reads=0.1),
        link=LinkPlan(delay_max_s=0.03, duplicate=0.1, reorder=0.5),
    ),
    window_s=10.0,
)
FIGURE_8 = aimed(
    (faults.depose, faults.depose),
    Shape(
        3,
        spares=0,
        settings=structs.replace(SETTINGS, message_bytes_max=1, inflight_max=1),
        load=Load(clients=4, slots=4, keys=2, think_s=0.05, reads=0.1),
        link=LinkPlan(delay_max_s=0.08),
    ),
)
OLD_READS = aimed(
    (faults.depose, faults.depose),
    Shape(
        3, settings=SETTINGS, load=Load(clients=4, readers=2, keys=1, think_s=0.1, reads=0.0, swaps=0.0), drift_max=0.6
    ),
)
RESTARTS = aimed(
    (faults.crash, faults.bad_network, faults.snapshot, faults.wipe),
    Shape(3, settings=structs.replace(SETTINGS, snapshot_entries=20, keep_entries=0), load=BUSY, link=NOISY),
)
RETRIES = aimed(
    (faults.restarts, faults.restarts),
    Shape(
        3,
        spares=0,
        settings=structs.replace(SETTINGS, snapshot_entries=2, keep_entries=50),
        load=Load(clients=3, slots=1, keys=2, think_s=0.3, reads=0.1, resident=0.0),
        link=LinkPlan(delay_max_s=0.1, loss=0.1),
    ),
)
WIPES = aimed((faults.wipe, faults.wipe, faults.wipe), Shape(3, spares=0, grown=True, settings=SETTINGS, load=BUSY))
CHANGES = aimed(
    (faults.membership, faults.partition, faults.crash),
    Shape(3, spares=2, settings=SETTINGS, load=BUSY, link=LinkPlan(delay_max_s=0.2), patience_s=0.2),
)

MISTAKES = (
    Mistake("vote not persisted", vote_not_persisted, VOTES, 20, ELECTIONS),
    Mistake("old term committed by counting", old_term_committed_by_counting, LOST, 60, FIGURE_8),
    Mistake("truncation without a conflict", truncation_without_a_conflict, LOST, 10, REORDERED),
    Mistake("half is a majority", half_is_a_majority, LOST, 5, EVEN),
    Mistake("duplicate votes counted", duplicate_votes_counted, LOST | VOTES, 20, DOUBLED),
    Mistake(
        "second change before the first is applied",
        second_change_before_the_first_is_applied,
        _of("one change at a time"),
        20,
        CHANGES,
    ),
    Mistake("lease reads", lease_reads, _of("linearizable"), 30, OLD_READS),
    Mistake("acknowledged before fsync", acknowledged_before_fsync, _of("committed is durable"), 2, CRASHES),
    Mistake(
        "cursor saved apart from its effects",
        cursor_saved_apart_from_its_effects,
        _of("exactly once"),
        5,
        CRASHES,
    ),
    Mistake(
        "snapshot without sessions",
        snapshot_without_sessions,
        _of("exactly once", "state machine safety"),
        40,
        RESTARTS,
    ),
    Mistake(
        "duplicates forgotten behind a snapshot",
        duplicates_forgotten_behind_a_snapshot,
        _of("exactly once", "state machine safety"),
        60,
        RETRIES,
    ),
    Mistake("wiped member remembered", wiped_member_remembered, _of("a lost member stays lost"), 10, WIPES),
    Mistake("votes for anybody", votes_for_anybody, LOST, 40, SPLIT),
)


def test_all_is_well_without_a_mistake() -> None:
    for mistake in MISTAKES:
        for seed in range(2):
            found = mistake.scenario.play(seed)
            assert not found.violations, f"{mistake.name}\n{found.story()}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_found(mistake: Mistake, monkeypatch: Patch) -> None:
    mistake.plant(monkeypatch)
    seen: set[str] = set()
    for seed in range(mistake.seeds_max):
        seen |= {one.invariant for one in mistake.scenario.play(seed).violations}
        if seen & mistake.noticed:
            return
    pytest.fail(f"not found in {mistake.seeds_max} seeds; seen {sorted(seen)}")
