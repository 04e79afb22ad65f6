"""The simulator finds mistakes: each of these, planted alone, is noticed within the stated number of seeds.

Which seed notices changes with every change of the code that it runs; `first` was right when it was written and only
saves time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct, structs

from edgenet_node.effects import Ask
from edgenet_node.identity.membership import MembershipCore
from edgenet_node.market.buyer import Buyer
from edgenet_node.memory.catalog import Batch, Index
from edgenet_node.memory.holding import Holdings
from edgenet_node.memory.owner import IndexesCore
from edgenet_node.messages.network import GetConnections, GetPeers
from edgenet_node.runtime.outbox import Outbox
from edgenet_node.tasks import jobs, judging
from edgenet_node.tasks.chunks import gaps
from edgenet_node.tasks.executors import Executors
from edgenet_node.tasks.judging import Judge
from edgenet_node.tasks.serving import ServingCore
from edgenet_node.testing.main_job import SWARM
from edgenet_node.testing.simulation import play

Patch = pytest.MonkeyPatch

IMPATIENT = structs.replace(SWARM, settle_s=150.0)
"""What is broken need not be waited for as long as what is slow."""


class Mistake(Struct, frozen=True):
    """`plant` changes the code; one of `noticed` must be violated within `seeds_max` seeds, from `first` on."""

    name: str
    plant: Callable[[Patch], None]
    noticed: frozenset[str]
    seeds_max: int
    first: int = 0


def verification_skipped(patch: Patch) -> None:
    patch.setattr(judging, "draw", lambda items, rate, rng: ())


def results_counted_twice(patch: Patch) -> None:
    accept = Judge._accept

    def twice(self: Judge, job: Any, segment: Any) -> Any:
        job.done += segment.items if job.done + 2 * segment.items <= len(job.items) else 0
        return accept(self, job, segment)

    patch.setattr(Judge, "_accept", twice)


def removal_forgotten_while_embedding(patch: Patch) -> None:
    patch.setattr(Batch, "wanted", lambda self: list(range(len(self.documents))))
    patch.setattr(Index, "_counts", lambda self, piece, at, batch: True)


def deletions_ignored_by_holders(patch: Patch) -> None:
    update = Holdings.update

    def deaf(self: Holdings, entry: Any, hold: Any, grant: Any) -> Any:
        bitmap = entry.row.bitmap
        saves = update(self, entry, hold, grant)
        entry.row = structs.replace(entry.row, bitmap=bitmap)
        return saves

    patch.setattr(Holdings, "update", deaf)


def answered_before_saved(patch: Patch) -> None:
    add = Outbox.add

    def hasty(self: Outbox, saves: list[Any], outputs: list[Any]) -> None:
        self._release(outputs, 0)
        add(self, saves, [])

    patch.setattr(Outbox, "add", hasty)


def units_of_leases_unchecked(patch: Patch) -> None:
    check = ServingCore._lease
    patch.setattr(
        ServingCore, "_lease", lambda self, run, buyer, now: check(self, structs.replace(run, units=0), buyer, now)
    )


def standing_ignored(patch: Patch) -> None:
    judge = Executors.judge
    patch.setattr(Buyer, "judge", lambda self, standing: None)
    patch.setattr(Executors, "judge", lambda self, one, now: judge(self, structs.replace(one, avoided=False), now))


def unfinished_items_lost_in_a_restart(patch: Patch) -> None:
    patch.setattr(jobs, "gaps", lambda done, items: gaps(done, items)[1:] if done else gaps(done, items))


def keys_forgotten_in_a_restart(patch: Patch) -> None:
    resume = jobs.JobsCore._resume

    def forgetful(self: Any, saved: Any, handler: Any) -> None:
        resume(self, saved, handler)
        self._keys.pop(saved.request.key, None)

    patch.setattr(jobs.JobsCore, "_resume", forgetful)


def genesis_not_compared(patch: Patch) -> None:
    hello, answered = MembershipCore._hello, MembershipCore._answered
    patch.setattr(
        MembershipCore,
        "_hello",
        lambda self, body, *rest: hello(self, structs.replace(body, swarm="", record=None), *rest),
    )
    assert answered is MembershipCore._answered  # the dialling side still looks: one guard less is enough


def connections_not_asked_for_after_a_crash(patch: Patch) -> None:
    _unasked(patch, MembershipCore, GetConnections)


def peers_not_asked_for_after_a_full_disk(patch: Patch) -> None:
    """Found here first: a rebuilt `IndexesCore` waited for peers to come that had been there all along."""
    _unasked(patch, IndexesCore, GetPeers)


def _unasked(patch: Patch, core: Any, question: type) -> None:
    restore = core.restore

    def hopeful(self: Any, rows: Any, now: Any) -> Any:
        found = restore(self, rows, now)
        return [one for one in found if not (isinstance(one, Ask) and isinstance(one.query, question))]

    patch.setattr(core, "restore", hopeful)


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


MISTAKES = (
    Mistake("verification skipped", verification_skipped, _of("what was checked is right"), 12, first=1),
    Mistake("results counted twice", results_counted_twice, _of("no item is lost or doubled", "owners are served"), 8),
    Mistake(
        "removal forgotten while embedding",
        removal_forgotten_while_embedding,
        _of("what was deleted stays away", "indexes settle", "complete searches are exact"),
        12,
    ),
    Mistake(
        "deletions ignored by holders",
        deletions_ignored_by_holders,
        _of("what was deleted stays away", "complete searches are exact", "hits are documents"),
        60,
    ),
    Mistake("answered before saved", answered_before_saved, _of("nothing is released before it is durable"), 1),
    Mistake("units of leases unchecked", units_of_leases_unchecked, _of("leases are not overspent"), 12),
    Mistake("standing ignored", standing_ignored, _of("liars get no more work"), 40, first=2),
    Mistake(
        "unfinished items lost in a restart",
        unfinished_items_lost_in_a_restart,
        _of("owners are served", "indexes settle", "no item is lost or doubled"),
        30,
        first=4,
    ),
    Mistake("keys forgotten in a restart", keys_forgotten_in_a_restart, _of("a key names one task"), 30, first=2),
    Mistake("genesis not compared", genesis_not_compared, _of("strangers stay out"), 8),
    Mistake(
        "connections not asked for after a crash",
        connections_not_asked_for_after_a_crash,
        _of("all end in one swarm"),
        40,
        first=3,
    ),
    Mistake(
        "peers not asked for after a full disk",
        peers_not_asked_for_after_a_full_disk,
        _of("indexes settle", "searches are complete in peace"),
        60,
        first=18,
    ),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_found(mistake: Mistake, monkeypatch: Patch) -> None:
    mistake.plant(monkeypatch)
    seen: set[str] = set()
    for seed in range(mistake.first, mistake.first + mistake.seeds_max):
        seen |= {one.invariant for one in play(IMPATIENT, seed).violations}
        if seen & mistake.noticed:
            return
    pytest.fail(f"not found in {mistake.seeds_max} seeds; seen {sorted(seen)}")
