"""How far the log is committed is saved with what else is saved, and not for its own sake: a sync less each time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.effects import Early, Effect, Envelope, Now, Put, Reply
from edgenet_node.messages.committee import Decide
from edgenet_node.messages.raft import Proposed, ReadBarrier
from edgenet_node.raft.algorithm.storage import HardState
from edgenet_node.raft.core import RaftCore
from edgenet_node.wire.raft import ConfState

from ..committee.test_swarm import formed, leader_of
from .test_service import begun, entries


def saves_hard(effects: list[Any]) -> bool:
    return any(isinstance(one, Put) and (one.table, one.key) == ("state", "hard") for one in effects)


def test_a_commit_alone_waits_and_a_vote_does_not() -> None:
    journal, rows = begun()
    rows.take(journal.append(entries(2, 6, 1)))
    assert journal.note_commit(HardState(1, 0, 4)) == []
    assert journal.storage.initial_state()[0].commit == 4
    assert rows.reload().storage.initial_state()[0].commit == 1
    for hard in (HardState(1, 7, 4), HardState(2, 7, 4), HardState(3, 0, 5)):
        effects = journal.note_commit(hard)
        assert saves_hard(effects)
        rows.take(effects)
        assert rows.reload().storage.initial_state()[0] == hard
    assert journal.save_commit() == []


def test_a_snapshot_never_lies_beyond_what_is_known_to_be_committed() -> None:
    """A log that began after its own commit could not be read again."""
    journal, rows = begun()
    rows.take(journal.append(entries(2, 9, 1)))
    rows.take(journal.note_commit(HardState(1, 0, 8)))
    rows.take(journal.keep_snapshot(7, ConfState((5,)), b"data", 4, "ab" * 32))
    rows.take(journal.compact(7))
    read = rows.reload()
    assert (read.first, read.storage.initial_state()[0].commit) == (8, 8)


@given(st.lists(st.sampled_from(["append", "commit", "vote", "term", "tick"]), max_size=30))
def test_what_is_read_back_lacks_nothing_but_commits_that_came_alone(steps: list[str]) -> None:
    """Term, vote and entries are always those of memory; the commit is that of the last step that saved anything."""
    journal, rows = begun()
    hard, saved = journal.storage.initial_state()[0], journal.storage.initial_state()[0].commit
    for step in steps:
        match step:
            case "append":
                rows.take(journal.append(entries(journal.last + 1, journal.last + 1, max(hard.term, 1))))
                rows.take(journal.save_commit())
                saved = hard.commit
            case "tick":
                rows.take(journal.save_commit())
                saved = hard.commit
            case "commit":
                hard = HardState(hard.term, hard.vote, min(hard.commit + 1, journal.last))
                rows.take(journal.note_commit(hard))
            case _:
                hard = HardState(hard.term + (step == "term"), hard.vote + 1, hard.commit)
                rows.take(journal.note_commit(hard))
                saved = hard.commit
        found = rows.reload()
        assert found.storage.initial_state()[0] == HardState(hard.term, hard.vote, saved)
        assert found.last == journal.last
        assert journal.storage.initial_state()[0] == hard


def test_an_answer_does_not_wait_for_what_is_saved_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the append of a command and its commit the next one is being saved: the answer leaves before that."""
    seen: list[Any] = []
    step = RaftCore.step

    def watched(core: RaftCore, e: Envelope[Any], now: Now) -> list[Effect]:
        effects = step(core, e, now)
        seen.extend(effects)
        return effects

    monkeypatch.setattr(RaftCore, "step", watched)
    swarm = formed(3, 3)
    seen.clear()
    for value in range(3):
        swarm.ask(leader_of(swarm, range(3)), Decide("set", name="members_max", text=str(100 + value)))
        swarm.ask(value, ReadBarrier())
    early = [one.effect for one in seen if isinstance(one, Early)]
    answers = [one.value for one in early if isinstance(one, Reply) and one.error is None]
    assert sum(isinstance(one, Proposed) for one in answers) >= 3
    assert sum(isinstance(one, int) for one in answers) == 3
    assert not [one for one in seen if isinstance(one, Reply) and isinstance(one.value, Proposed | int)]
