"""The log: against a plain list, and where its two parts meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.errors import InvariantError
from edgenet_node.raft.algorithm.errors import Compacted, SnapshotOutOfDate, Unavailable
from edgenet_node.raft.algorithm.log import UNKNOWN_TERM, RaftLog
from edgenet_node.raft.algorithm.storage import (
    ENTRY_OVERHEAD_BYTES,
    NO_LIMIT,
    HardState,
    MemoryStorage,
    limit_size,
    size_of,
)
from edgenet_node.wire.raft import ConfState, Entry, EntryKind, Snapshot

from .group import entry, storage


def _log(terms: tuple[int, ...] = (), stable: int = 0, limit: int = NO_LIMIT) -> tuple[RaftLog, MemoryStorage]:
    """Entries 1, 2, ...; the first `stable` of them in storage."""
    disk = storage(terms[:stable])
    log = RaftLog(disk, limit)
    rest = [entry(term, index) for index, term in enumerate(terms, 1)][stable:]
    if rest:
        log.append(rest)
    return log, disk


@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "hand-out", "save", "stable", "commit"]), st.integers(0, 9)), max_size=40
    )
)
def test_whatever_is_saved_and_when_it_reads_as_one_list(steps: list[tuple[str, int]]) -> None:
    """Appends truncate at random, saves lag behind, and the answers to saves come in any state of the rest; each answer
    names the last entry and the term of its save, and one of an earlier term is ignored, as the algorithm does."""
    log, disk = _log()
    model: list[Entry] = []
    saving: list[tuple[tuple[Entry, ...], int, int, int]] = []
    saved: list[tuple[int, int, int]] = []
    term, committed = 1, 0
    for step, number in steps:
        if step == "append":
            start = max(committed, len(model) - number)
            term += start < len(model)  # only another leader overwrites
            new = [entry(term, start + 1 + place) for place in range(1 + number % 3)]
            log.append(new)
            model[start:] = new
        elif step == "hand-out" and log.has_unstable():
            saving.append((log.next_unstable(), term, log.last_term, log.last_index))
            log.accept_unstable()
        elif step == "save" and saving:
            entries, *answer = saving.pop(0)
            disk.append(entries)
            saved.append((answer[0], answer[1], answer[2]))
        elif step == "stable" and saved:
            at, last_term, last_index = saved.pop(0)
            if at == term:
                log.stable_to(last_term, last_index)
        elif step == "commit":
            committed = max(committed, min(number, len(model)))
            log.commit_to(committed)
        assert list(log.entries(1, NO_LIMIT)) == model
        assert (log.last_index, log.last_term) == (len(model), model[-1].term if model else 0)
        assert [log.term(index) for index in range(1, len(model) + 2)] == [one.term for one in model] + [UNKNOWN_TERM]
        assert disk.last_index() >= log.last_index - len(log._unstable)


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 12), st.integers(0, 8 * ENTRY_OVERHEAD_BYTES))
def test_a_slice_is_the_longest_that_fits(stable: int, lo: int, count: int, limit: int) -> None:
    log, _ = _log(tuple([1] * 12), stable)
    hi = min(lo + count, 13)
    found = log.slice(lo, hi, limit)
    wanted = log.slice(lo, hi, NO_LIMIT)
    assert [one.index for one in wanted] == list(range(lo, hi))
    assert list(found) == list(wanted[: len(found)])
    if wanted:
        assert found
        assert len(found) == 1 or size_of(found) <= limit
        assert len(found) == len(wanted) or size_of(wanted[: len(found) + 1]) > limit


def test_an_append_conflicts_only_where_terms_differ() -> None:
    """One that was delayed and holds less than we have must not truncate."""
    log, _ = _log((1, 1, 2, 2), stable=2)
    assert log.maybe_append(1, 1, [entry(1, 2), entry(2, 3)], 0) == 3
    assert log.last_index == 4
    assert log.maybe_append(1, 1, [], 0) == 1
    assert log.last_index == 4
    assert log.maybe_append(2, 1, [entry(3, 3)], 9) == 3
    assert (log.last_index, log.last_term, log.committed) == (3, 3, 3)
    assert log.maybe_append(3, 2, [entry(3, 4)], 0) is None
    assert log.maybe_append(7, 3, [], 0) is None


def test_committed_entries_are_never_replaced() -> None:
    log, _ = _log((1, 1, 1))
    log.commit_to(2)
    with pytest.raises(InvariantError):
        log.append([entry(2, 2)])
    with pytest.raises(InvariantError):
        log.commit_to(4)
    log.commit_to(1)
    assert log.committed == 2


def test_stability_is_reported_by_index_and_term() -> None:
    log, _ = _log((1, 1, 1))
    log.stable_to(2, 3)
    log.stable_to(1, 9)
    assert log._unstable[0].index == 1
    log.stable_to(1, 2)
    assert [one.index for one in log._unstable] == [3]


@pytest.mark.parametrize(
    ("ours", "index", "term", "found"),
    [
        ((1, 3, 3, 3, 5, 5, 5, 5, 5), 6, 2, (1, 1)),  # as a leader looks for a follower's hint
        ((1, 3, 3, 4, 4, 5, 5, 5, 6), 8, 3, (3, 3)),  # as a follower looks for where a leader could agree
        ((2, 2, 2), 3, 2, (3, 2)),
        ((2, 2, 2), 3, 1, (0, 0)),
        ((1, 1), 5, 1, (5, 0)),  # beyond the log nothing is known
    ],
)
def test_the_best_guess_of_where_logs_agree(
    ours: tuple[int, ...], index: int, term: int, found: tuple[int, int]
) -> None:
    assert _log(ours)[0].find_conflict_by_term(index, term) == found


def test_what_is_applied_is_bounded_in_bytes() -> None:
    """The next batch waits until enough of the former ones was reported."""
    one = size_of([entry(1, 1, b"1.1")])
    log, _ = _log((1,) * 6, stable=6, limit=2 * one)
    log.commit_to(6)
    first = log.next_committed(unstable=False)
    assert [each.index for each in first] == [1, 2]
    log.accept_applying(2, size_of(first), unstable=False)
    assert not log.has_committed(unstable=False)
    log.applied_to(1, one)
    assert [each.index for each in log.next_committed(unstable=False)] == [3]
    with pytest.raises(InvariantError):
        log.applied_to(7, 0)


def test_only_stable_entries_are_applied_when_writes_are_asynchronous() -> None:
    log, _ = _log((1, 1, 1), stable=1)
    log.commit_to(3)
    assert [one.index for one in log.next_committed(unstable=False)] == [1]
    assert [one.index for one in log.next_committed(unstable=True)] == [1, 2, 3]


def test_a_snapshot_replaces_the_log() -> None:
    log, disk = _log((1, 1, 1), stable=1)
    log.restore(Snapshot(9, 4, ConfState((1,))))
    assert (log.first_index(), log.last_index, log.last_term, log.committed) == (10, 9, 4, 9)
    assert [log.term(index) for index in (8, 9, 10)] == [UNKNOWN_TERM, 4, UNKNOWN_TERM]
    assert not log.has_committed(unstable=True), "the snapshot goes first"
    log.append([entry(4, 10)])
    disk.apply_snapshot(Snapshot(9, 4, ConfState((1,))))
    log.accept_unstable()
    log.stable_snapshot_to(8)
    assert log.snapshot is not None
    log.stable_snapshot_to(9)
    log.applied_to(9, 0)
    assert [one.index for one in log.entries(10, NO_LIMIT)] == [10]
    with pytest.raises(Compacted):
        log.slice(9, 10, NO_LIMIT)


def test_a_conf_change_among_the_unapplied_is_found() -> None:
    log, _ = _log((1, 1), stable=2)
    log.append([Entry(1, 3, EntryKind.CONF_CHANGE_V2)])
    log.commit_to(2)
    assert not log.unapplied_conf_change()
    log.commit_to(3)
    assert log.unapplied_conf_change()
    log.applied_to(3, 0)
    assert not log.unapplied_conf_change()


def test_storage_in_memory() -> None:
    disk = storage((1, 1, 2, 2))
    disk.set_hard_state(HardState(2, 1, 3))
    disk.compact(2)
    assert (disk.first_index(), disk.last_index(), disk.term(2), disk.term(4)) == (3, 4, 1, 2)
    for call in (lambda: disk.term(1), lambda: disk.entries(2, 3, NO_LIMIT), lambda: disk.compact(2)):
        with pytest.raises(Compacted):
            call()
    for call in (lambda: disk.term(5), lambda: disk.entries(3, 6, NO_LIMIT)):
        with pytest.raises(Unavailable):
            call()
    disk.append([entry(3, 2), entry(3, 3)])  # the first was compacted: passed over
    assert [one.term for one in disk.entries(3, 4, NO_LIMIT)] == [3]
    assert disk.last_index() == 3
    with pytest.raises(InvariantError):
        disk.append([entry(3, 5)])
    assert disk.create_snapshot(3, ConfState((7,)), b"state") == disk.snapshot()
    with pytest.raises(SnapshotOutOfDate):
        disk.create_snapshot(3)
    with pytest.raises(SnapshotOutOfDate):
        disk.apply_snapshot(Snapshot(3, 3))
    with pytest.raises(InvariantError):
        disk.set_snapshot(Snapshot(4, 3))
    with pytest.raises(InvariantError):
        disk.compact(4)
    disk.apply_snapshot(Snapshot(8, 4, ConfState((7,))))
    assert (disk.first_index(), disk.last_index(), disk.initial_state()) == (
        9,
        8,
        (HardState(2, 1, 3), ConfState((7,))),
    )


def test_sizes_are_limited_but_for_the_first() -> None:
    several = [entry(1, index, b"x" * 100) for index in (1, 2, 3)]
    one = size_of(several[:1])
    assert [len(limit_size(several, limit)) for limit in (0, one, 2 * one - 1, 2 * one, NO_LIMIT)] == [1, 1, 1, 2, 3]
