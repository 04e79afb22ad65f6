"""Messages that no correct member sends: `Malformed` before anything changes, and never anything worse.

A liar can do harm (Raft tolerates crashes): what is checked is that it cannot crash a member or break what the member
knows about itself.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgenet_node.errors import Malformed
from edgenet_node.raft.algorithm.confchange import ChangeKind, ConfChange, ConfChangeSingle, ConfChangeV2, encode_change
from edgenet_node.raft.algorithm.config import TRANSFER
from edgenet_node.raft.algorithm.errors import ProposalDropped
from edgenet_node.raft.algorithm.rawnode import LOCAL_APPEND_THREAD, HardState, RawNode, Role, StorageAppend
from edgenet_node.raft.algorithm.storage import NO_LIMIT
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.raft import (
    FRAME_BYTES_MAX,
    STREAM_KINDS,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Snapshot,
)

from .group import Group, Member, entry, storage

NUMBERS = st.one_of(st.integers(0, 9), st.sampled_from([2**62, 2**32]))
MEMBER_IDS = st.one_of(st.integers(0, 5), st.just(2**63 - 1))
CHANGE_BYTES = st.one_of(
    st.binary(max_size=6),
    st.builds(
        encode_change,
        st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, 5))
        | st.builds(
            ConfChangeV2,
            changes=st.lists(
                st.builds(ConfChangeSingle, st.sampled_from(ChangeKind), st.integers(0, 5)), max_size=3
            ).map(tuple),
        ),
    ),
)
ENTRIES = st.lists(st.builds(Entry, NUMBERS, NUMBERS, st.sampled_from(EntryKind), CHANGE_BYTES), max_size=3).map(tuple)
ID_LISTS = st.lists(st.integers(0, 5), max_size=3).map(tuple)
SNAPSHOTS = st.builds(
    Snapshot, NUMBERS, NUMBERS, st.builds(ConfState, ID_LISTS, ID_LISTS, ID_LISTS, ID_LISTS, st.booleans())
)
COMMIT_3 = (3).to_bytes(8, "big") + (2).to_bytes(8, "big")
"""What a rejected vote says: entry 3, of term 2, is committed."""

MESSAGES = st.builds(
    Message,
    st.sampled_from(MessageKind),
    to=st.one_of(st.just(1), MEMBER_IDS),
    sender=MEMBER_IDS,
    term=NUMBERS,
    log_term=NUMBERS,
    index=NUMBERS,
    entries=ENTRIES,
    commit=NUMBERS,
    vote=NUMBERS,
    snapshot=st.none() | SNAPSHOTS,
    reject=st.booleans(),
    reject_hint=NUMBERS,
    context=st.sampled_from([b"", TRANSFER, b"\x01", bytes(8), (1).to_bytes(8, "little"), b"\xff" * 8, COMMIT_3]),
    session=st.integers(0, 16),
)


def _plausible(message: Message) -> Message:
    """Passes the first checks: from a member, built on what its log holds, entries in order, terms rising; a snapshot
    of a configuration that can be; without a term where there is none."""
    log_term = term = LOG.get(message.index, message.log_term)
    log: list[Entry] = []
    for place, one in enumerate(message.entries, 1):
        term = max(1, term + one.term % 3)
        log.append(structs.replace(one, index=message.index + place, term=term))
    snapshot = message.snapshot
    if snapshot is not None:
        voters = tuple(set(snapshot.conf_state.voters) - {0}) or (1, 2, 3)
        snapshot = Snapshot(snapshot.index or 4, 1 + snapshot.term % 4, ConfState(voters))
        term = max(term, snapshot.term)
    message = structs.replace(message, to=1, sender=2 + message.sender % 2, snapshot=snapshot, log_term=log_term)
    if message.kind in (MessageKind.PROP, MessageKind.READ_INDEX, MessageKind.READ_INDEX_RESP):
        return structs.replace(
            message,
            term=3 if message.kind is MessageKind.READ_INDEX_RESP else 0,
            entries=(message.entries or (entry(0, 0),))[:1],
        )
    term = max(message.term % 12, term) if message.term else 0
    return structs.replace(message, term=term, entries=tuple(log))


LOG = {0: 0, 1: 1, 2: 1, 3: 2}
"""Index to term, of every member at the start."""

STREAM = st.lists(st.one_of(MESSAGES, MESSAGES.map(_plausible)), max_size=25)


def _start(role: str) -> Group:
    voters = (1, 2, 3)
    hard = HardState(2, 0, 2)
    group = Group({one: storage((1, 1, 2), voters=voters, hard=hard) for one in voters}, pre_vote=role == "asking")
    group.cut = {2, 3} if role in ("campaigning", "asking") else set()
    if role == "leading":
        group.elect(1)
    elif role == "following":
        group.elect(2)
    elif role != "idle":
        group[1].raw.campaign()
        group.settle()
    return group


def _picture(raw: RawNode) -> tuple[Any, ...]:
    """All that a refused message must leave as it was."""
    raft = raw._raft
    return (
        raw.status(),
        list(raft.outbox),
        list(raft.outbox_after_append),
        list(raft.read_states),
        list(raft.log.entries(raft.log.first_index(), NO_LIMIT)),
        raft.election_elapsed,
    )


class _Watch:
    """What must hold of one member whatever it is told."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._votes: dict[int, int] = {}
        self._committed: dict[int, Entry] = {}
        self._term = 0
        self._commit = 0
        self.look()

    def look(self) -> None:
        raft = self._member.raft
        log = raft.log
        assert log.applied <= log.applying <= log.committed <= log.last_index
        assert raft.term >= self._term
        assert log.committed >= self._commit
        self._term, self._commit = raft.term, log.committed
        if raft.vote:
            assert self._votes.setdefault(raft.term, raft.vote) == raft.vote
        first = log.first_index()
        terms = [log.term(index) for index in range(first - 1, log.last_index + 1)]
        assert terms == sorted(terms)
        assert not terms or terms[-1] <= raft.term
        entries = log.slice(first, log.committed + 1, NO_LIMIT) if log.committed >= first else ()
        for one in entries:
            assert self._committed.setdefault(one.index, one) == one, "a committed entry changed"
        if raft.role is Role.LEADER:
            assert raft.lead == raft.id
            assert all(one.match < one.next and one.match <= log.last_index for one in raft.members.progress.values())


@pytest.mark.parametrize("role", ["idle", "following", "leading", "campaigning", "asking"])
@settings(max_examples=100)
@given(stream=STREAM)
def test_no_message_does_worse_than_being_malformed(role: str, stream: list[Message]) -> None:
    group = _start(role)
    group.cut = {2, 3}
    member = group[1]
    watch = _Watch(member)
    for message in stream:
        before = _picture(member.raw)
        try:
            taken = member.raw.step(message)
        except (Malformed, ProposalDropped):
            assert _picture(member.raw) == before
            continue
        if not taken:
            assert _picture(member.raw) == before
        watch.look()
        group.collect(1)
        group.flying.clear()
        watch.look()
        member.raw.tick()
        watch.look()


def _raises(raw: RawNode, message: Message) -> None:
    before = _picture(raw)
    with pytest.raises(Malformed):
        raw.step(message)
    assert _picture(raw) == before


@pytest.mark.parametrize("kind", sorted(set(MessageKind) - STREAM_KINDS))
def test_local_messages_do_not_travel(kind: MessageKind) -> None:
    _raises(_start("leading")[1].raw, Message(kind, to=1, sender=2, term=3, index=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": MessageKind.APP, "index": 3, "log_term": 2, "entries": (entry(3, 5),)},  # a gap
        {"kind": MessageKind.APP, "index": 3, "log_term": 2, "entries": (entry(1, 4),)},  # a falling term
        {"kind": MessageKind.APP, "index": 3, "log_term": 2, "entries": (entry(4, 4),)},  # beyond the leader's
        {"kind": MessageKind.APP, "index": 0, "log_term": 1},
        {"kind": MessageKind.APP, "index": 3, "log_term": 9},
        {"kind": MessageKind.APP, "entries": (Entry(3, 1, EntryKind.CONF_CHANGE_V2, b"\xc1"),)},
        {"kind": MessageKind.HEARTBEAT, "commit": 99},
        {"kind": MessageKind.SNAP},
        {"kind": MessageKind.SNAP, "snapshot": Snapshot()},
        {"kind": MessageKind.SNAP, "snapshot": Snapshot(9, 4, ConfState((1,)))},
        {"kind": MessageKind.SNAP, "snapshot": Snapshot(9, 3, ConfState())},
        {"kind": MessageKind.SNAP, "snapshot": Snapshot(9, 3, ConfState((1, 1)))},
        {"kind": MessageKind.READ_INDEX_RESP, "index": 3},
        {"kind": MessageKind.VOTE, "term": 0},
        {"kind": MessageKind.APP, "term": 0},
        {"kind": MessageKind.APP, "sender": 0},
        {"kind": MessageKind.APP, "sender": 1},
        {"kind": MessageKind.HEARTBEAT_RESP, "context": b"1234"},
        {"kind": MessageKind.PROP, "term": 0},
        {"kind": MessageKind.PROP, "entries": (Entry(0, 0),)},
        {"kind": MessageKind.PROP, "term": 0, "entries": (Entry(0, 0, EntryKind.CONF_CHANGE, b""),)},
        {"kind": MessageKind.READ_INDEX, "term": 0},
    ],
)
def test_impossible_messages(fields: dict[str, Any]) -> None:
    group = _start("following")
    _raises(group[1].raw, Message(**{"to": 1, "sender": 2, "term": 3, **fields}))


@pytest.mark.parametrize("fields", [{"index": 99}, {"index": 1, "reject": True, "reject_hint": 2}])
def test_impossible_acknowledgements(fields: dict[str, Any]) -> None:
    group = _start("leading")
    session = group[1].raft.members.progress[2].session
    _raises(group[1].raw, Message(MessageKind.APP_RESP, to=1, sender=2, term=3, session=session, **fields))


def test_a_leader_that_contradicts_what_is_committed_is_told_so() -> None:
    member = _start("following")[1]
    before = list(member.entries())
    append = Message(MessageKind.APP, to=1, sender=2, term=3, index=0, entries=(entry(3, 1), entry(3, 2), entry(3, 3)))
    assert member.raw.step(append)
    assert list(member.entries()) == before


def test_messages_for_others_and_answers_of_strangers_are_ignored() -> None:
    raw = _start("leading")[1].raw
    before = _picture(raw)
    assert not raw.step(Message(MessageKind.HEARTBEAT, to=7, sender=2, term=9))
    assert not raw.step(Message(MessageKind.APP_RESP, to=1, sender=7, term=9))
    assert _picture(raw) == before


def test_requests_to_storage_cannot_travel() -> None:
    """Neither their addresses nor their form exist on the wire."""
    request = StorageAppend(MessageKind.STORAGE_APPEND, to=LOCAL_APPEND_THREAD, sender=1)
    with pytest.raises(Malformed):
        decode(encode(request), Message, bytes_max=FRAME_BYTES_MAX)
    answer = Message(MessageKind.STORAGE_APPEND_RESP, to=1, sender=LOCAL_APPEND_THREAD, index=9)
    with pytest.raises(Malformed):
        decode(encode(answer), Message, bytes_max=FRAME_BYTES_MAX)
