"""What stands around the algorithm: sessions, the journal on disk, frames, pages of the log."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edgenet_node.effects import Delete, Effect, Put, Row
from edgenet_node.errors import CorruptData, Malformed
from edgenet_node.raft.algorithm.confchange import ConfChangeV2, encode_change
from edgenet_node.raft.algorithm.storage import HardState
from edgenet_node.raft.frames import frames
from edgenet_node.raft.journal import Journal, Membership
from edgenet_node.raft.member import check_contents
from edgenet_node.raft.sessions import Sessions, session_key
from edgenet_node.raft.view import founding_snapshot
from edgenet_node.wire.codec import encode
from edgenet_node.wire.raft import (
    FRAME_BYTES_MAX,
    MESSAGES_PER_FRAME_MAX,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    RaftFrame,
    Snapshot,
)

A, B = b"a" * 16, b"b" * 16


class Rows:
    """What a store keeps."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}

    def take(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Put):
                self.rows[effect.table, effect.key] = effect.value
            elif isinstance(effect, Delete):
                self.rows.pop((effect.table, effect.key), None)

    def all(self) -> list[Row]:
        return [Row(table, key, value) for (table, key), value in sorted(self.rows.items())]

    def reload(self) -> Journal:
        journal = Journal()
        journal.load(self.all())
        return journal


def entries(first: int, last: int, term: int) -> list[Entry]:
    return [Entry(term, index, data=b"x" * (index % 7)) for index in range(first, last + 1)]


def begun() -> tuple[Journal, Rows]:
    journal, rows = Journal(), Rows()
    rows.take(journal.begin(Membership(0, 5), founding_snapshot(5, "12D3KooW" + "a" * 44)))
    return journal, rows


# ---- sessions


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 12), st.integers(0, 12)), max_size=80))
def test_each_command_is_executed_at_most_once(tries: list[tuple[bytes, int, int]]) -> None:
    sessions, done = Sessions(8, 64), set()
    for index, (client, sequence, low) in enumerate(tries, 2):
        fresh = sessions.apply(client, sequence, low, index)
        assert not (fresh and (client, sequence) in done)
        if fresh:
            done.add((client, sequence))
            assert sessions.find(client, sequence) in (index, 0)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 40)), max_size=120), st.integers(0, 119))
def test_a_loaded_table_decides_as_the_one_that_was_saved(tries: list[tuple[bytes, int]], at: int) -> None:
    one, other = Sessions(2, 8), Sessions(2, 8)
    for index, (client, sequence) in enumerate(tries):
        if index == at:
            other.load(one.save())
        first = one.apply(client, sequence, 0, index)
        if index >= at:
            assert other.apply(client, sequence, 0, index) == first
    if len(tries) > at:
        assert one.save() == other.save()


def test_a_retry_finds_its_place_and_an_answered_one_is_forgotten() -> None:
    sessions = Sessions(8, 64)
    assert sessions.apply(A, 1, 1, 10)
    assert sessions.find(A, 1) == 10
    assert sessions.find(A, 2) is None
    assert sessions.apply(A, 3, 1, 11), "out of order"
    assert sessions.apply(A, 2, 2, 12)
    assert sessions.find(A, 1) == 0
    assert not sessions.apply(A, 1, 1, 13)
    assert sessions.find(A, 3) == 11


def test_the_idlest_session_goes_first() -> None:
    sessions = Sessions(2, 8)
    for index, client in enumerate((A, B, A, b"c" * 16)):
        sessions.apply(client, index + 1, 0, index)
    assert sessions.find(B, 2) is None
    assert sessions.find(A, 1) == 0 or sessions.find(A, 1) is not None


def test_nobody_uses_up_another_one_s_sequences() -> None:
    assert session_key("anna", A) != session_key("ben", A)


# ---- the journal


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 10)), max_size=20), st.integers(0, 12))
def test_what_was_saved_is_what_is_read(appends: list[tuple[int, int]], compacted: int) -> None:
    """Appends that replace a suffix, and a compaction that was swept in part."""
    journal, rows = begun()
    for term, (back, count) in enumerate(appends, 2):
        first = max(2, journal.last + 1 - back % 4)
        rows.take(journal.append(entries(first, first + count - 1, term)))
    rows.take(journal.save_hard(HardState(9, 5, journal.last)))
    if journal.last > compacted:
        rows.take(journal.compact(compacted))
        rows.take(journal.sweep(compacted // 2))
    read = rows.reload()
    assert (read.first, read.last) == (journal.first, journal.last)
    mine = journal.storage.entries(journal.first, journal.last + 1, 2**62) if journal.last >= journal.first else []
    theirs = read.storage.entries(read.first, read.last + 1, 2**62) if read.last >= read.first else []
    assert list(mine) == list(theirs)
    assert read.storage.initial_state()[0] == HardState(9, 5, journal.last)
    assert read.log_bytes == journal.log_bytes
    rows.take(read.sweep(1000))
    assert {int(key) for table, key in rows.rows if table == "log"} == set(range(read.first, read.last + 1))


def test_every_flipped_bit_is_found() -> None:
    journal, rows = begun()
    rows.take(journal.append(entries(2, 6, 1)))
    rows.take(journal.save_hard(HardState(1, 5, 6)))
    rng = random.Random(7)
    for name, value in list(rows.rows.items()):
        for _ in range(20):
            flipped = bytearray(value)
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            rows.rows[name] = bytes(flipped)
            with pytest.raises(CorruptData):
                rows.reload()
        rows.rows[name] = value


def test_a_hole_or_a_short_log_is_found() -> None:
    journal, rows = begun()
    rows.take(journal.append(entries(2, 6, 1)))
    rows.take(journal.save_hard(HardState(1, 5, 6)))
    whole = dict(rows.rows)
    for index in (2, 4, 6):
        del rows.rows["log", f"{index:019d}"]
        with pytest.raises(CorruptData):
            rows.reload()
        rows.rows = dict(whole)


def test_a_member_that_left_keeps_nothing() -> None:
    journal, rows = begun()
    rows.take(journal.append(entries(2, 20, 1)))
    rows.take(journal.compact(10))
    rows.take(journal.sweep(3))
    rows.take(journal.forget())
    assert rows.rows == {}


# ---- frames


@given(st.lists(st.integers(0, 60_000), max_size=60), st.integers(1, 400))
def test_frames_keep_order_and_fit(sizes: list[int], small: int) -> None:
    messages = [
        Message(MessageKind.APP, 2, 1, 3, 3, place, entries=(Entry(3, place + 1, data=bytes(size)),), session=1)
        for place, size in enumerate(sizes, 1)
    ]
    messages += [Message(MessageKind.HEARTBEAT, 2, 1, 3, commit=place, session=1) for place in range(small)]
    packed = list(frames(4, messages))
    assert [message for frame in packed for message in frame.messages] == messages
    assert all(len(encode(frame)) <= FRAME_BYTES_MAX for frame in packed)
    assert all(len(frame.messages) <= MESSAGES_PER_FRAME_MAX for frame in packed)
    assert all(frame.epoch == 4 for frame in packed)


def test_a_snapshot_s_data_stays_here() -> None:
    snapshot = founding_snapshot(5, "12D3KooW" + "a" * 44)
    [frame] = frames(0, [Message(MessageKind.SNAP, 2, 1, 3, snapshot=snapshot)])
    assert isinstance(frame, RaftFrame)
    sent = frame.messages[0].snapshot
    assert sent == structs.replace(snapshot, data=b"")
    assert sent.size == len(snapshot.data)


# ---- what one member may not do to all


def test_what_nobody_could_apply_is_refused_before_it_is_in_the_log() -> None:
    bad = Entry(3, 5, data=b"no command")
    for kind in (MessageKind.PROP, MessageKind.APP):
        with pytest.raises(Malformed):
            check_contents(Message(kind, 2, 1, 3, 3, 4, entries=(bad,)))
    change = Entry(3, 5, EntryKind.CONF_CHANGE_V2, encode_change(ConfChangeV2(context=b"no context")))
    with pytest.raises(Malformed):
        check_contents(Message(MessageKind.PROP, 2, 1, 3, entries=(change,)))
    with pytest.raises(Malformed):
        check_contents(Message(MessageKind.SNAP, 2, 1, 3, snapshot=Snapshot(5, 3, size=3, data=b"bad")))
    check_contents(Message(MessageKind.READ_INDEX, 2, 1, 3, entries=(Entry(0, 0, data=b"any context"),)))
    check_contents(Message(MessageKind.APP, 2, 1, 3, 3, 4, entries=(Entry(3, 5),)))
