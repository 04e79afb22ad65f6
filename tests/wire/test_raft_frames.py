"""Frames of `raft/1`: what members may say is read, and what no member says is refused before anybody acts on it."""

from __future__ import annotations

import random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgenet_node.errors import Malformed, TooLarge
from edgenet_node.wire.codec import encode
from edgenet_node.wire.raft import (
    STREAM_KINDS,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    RaftFrame,
    Snapshot,
    check_conf_state,
)
from edgenet_node.wire.registry import WireTable

from .test_registry import mutated

TABLE: Final = WireTable()
K: Final = MessageKind

ids = st.integers(1, 2**63 - 1)
terms = st.integers(1, 2**62)
indexes = st.integers(0, 2**62)
members = st.lists(st.integers(1, 9), unique=True)


@st.composite
def conf_states(draw: st.DrawFn) -> ConfState:
    """As a sequence of changes leaves them: everyone votes, leaves, learns, or is on the way from one to the other."""
    voters = draw(st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=7))
    outgoing = draw(members.map(lambda found: found[:7]))
    learners = [one for one in draw(members) if one not in voters and one not in outgoing]
    leaving = [one for one in outgoing if one not in voters and draw(st.booleans())]
    auto = draw(st.booleans()) and bool(outgoing)
    return ConfState(tuple(voters), tuple(learners), tuple(outgoing), tuple(leaving), auto)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(sorted(STREAM_KINDS)))
    to, sender = draw(st.lists(ids, unique=True, min_size=2, max_size=2))
    term = draw(terms)
    fields: dict[str, Any] = {"commit": draw(indexes), "session": draw(indexes), "context": draw(st.binary(max_size=9))}
    match kind:
        case K.PROP:
            term = 0
            kinds = draw(st.lists(st.sampled_from(EntryKind), min_size=1, max_size=4))
            fields["entries"] = tuple(Entry(0, 0, one, draw(st.binary(max_size=9))) for one in kinds)
        case K.READ_INDEX | K.READ_INDEX_RESP:
            term = 0 if kind is K.READ_INDEX else term
            fields["entries"] = (Entry(0, 0, data=draw(st.binary(max_size=9))),)
        case K.APP:
            index = draw(st.integers(0, 2**62 - 9))
            before = min(draw(terms), term) if index else 0
            rising = sorted(draw(st.lists(st.integers(max(before, 1), term), max_size=4)))
            fields |= {"index": index, "log_term": before}
            fields["entries"] = tuple(Entry(one, index + at) for at, one in enumerate(rising, 1))
        case K.SNAP:
            size = draw(st.integers(1, 2**26))
            fields["snapshot"] = Snapshot(draw(terms), min(draw(terms), term), draw(conf_states()), size, "0f" * 32)
        case K.APP_RESP | K.VOTE_RESP | K.PRE_VOTE_RESP:
            fields |= {"reject": draw(st.booleans()), "reject_hint": draw(indexes), "index": draw(indexes)}
            if kind is K.PRE_VOTE_RESP and fields["reject"]:
                term = draw(st.sampled_from([0, term]))
        case _:
            fields |= {"index": draw(indexes), "log_term": draw(indexes)}
    return Message(kind, to, sender, term, **fields)


frames = st.builds(RaftFrame, st.integers(0, 2**32 - 1), st.lists(messages(), min_size=1, max_size=4).map(tuple))


@settings(max_examples=150)
@given(frames)
def test_what_members_say_is_read_as_it_was_meant(frame: RaftFrame) -> None:
    stream, data = TABLE.encode_message(frame)
    assert stream == "raft/1"
    assert TABLE.decode_message(stream, data) == frame


@settings(max_examples=80)
@given(frames, st.integers(0, 2**32))
def test_changed_bytes_are_read_or_refused(frame: RaftFrame, seed: int) -> None:
    """What is read after all still obeys every rule: it can be made and written again."""
    data = mutated(TABLE.encode_message(frame)[1], random.Random(seed))
    try:
        found = TABLE.decode_message("raft/1", data)
    except Malformed:
        return
    assert TABLE.decode_message("raft/1", TABLE.encode_message(RaftFrame(found.epoch, found.messages))[1]) == found


APP: Final = Message(
    K.APP, to=2, sender=1, term=5, log_term=3, index=7, entries=(Entry(3, 8), Entry(5, 9, data=b"x")), commit=7
)
TAKEN: Final = Snapshot(9, 4, ConfState((1, 2, 3)), 4, "0f" * 32)
SNAP: Final = Message(K.SNAP, 2, 1, 5, snapshot=TAKEN)
PROP: Final = Message(K.PROP, 2, 1, entries=(Entry(0, 0, data=b"x"),))
READ: Final = Message(K.READ_INDEX, 2, 1, entries=(Entry(0, 0, data=b"x"),))
VOTE: Final = Message(K.VOTE, 2, 1, 5, log_term=3, index=7)

WRONG: Final[list[tuple[Message, dict[str, Any]]]] = [
    *((VOTE, {"kind": kind}) for kind in K if kind not in STREAM_KINDS),
    (VOTE, {"to": 0}),
    (VOTE, {"sender": 0}),
    (VOTE, {"to": 1}),
    *((message, {"term": 0}) for message in (VOTE, APP, SNAP)),
    *((VOTE, {"term": 0, "kind": kind}) for kind in (K.VOTE_RESP, K.PRE_VOTE, K.PRE_VOTE_RESP, K.APP_RESP)),
    *((message, {"term": 5}) for message in (PROP, READ)),
    *((message, {"vote": 1}) for message in (VOTE, APP, SNAP, PROP, READ)),
    *((message, {"reject": True}) for message in (VOTE, APP, SNAP, PROP, READ)),
    *((message, {"snapshot": SNAP.snapshot}) for message in (VOTE, APP, PROP, READ)),
    (SNAP, {"snapshot": None}),
    (VOTE, {"entries": (Entry(3, 8),)}),
    (SNAP, {"entries": (Entry(3, 8),)}),
    (APP, {"entries": (Entry(3, 9),)}),
    (APP, {"entries": (Entry(3, 7),)}),
    (APP, {"entries": (Entry(3, 8), Entry(3, 10))}),
    (APP, {"entries": (Entry(3, 8), Entry(3, 8))}),
    (APP, {"entries": (Entry(2, 8),)}),
    (APP, {"entries": (Entry(5, 8), Entry(4, 9))}),
    (APP, {"entries": (Entry(6, 8),)}),
    (APP, {"entries": (Entry(0, 1),), "index": 0, "log_term": 0}),
    (APP, {"log_term": 6, "entries": ()}),
    (APP, {"log_term": 0, "entries": ()}),
    (APP, {"index": 0, "entries": ()}),
    (PROP, {"entries": ()}),
    (PROP, {"entries": (Entry(0, 0), Entry(1, 0))}),
    (PROP, {"entries": (Entry(0, 1),)}),
    (READ, {"entries": ()}),
    (READ, {"entries": (Entry(0, 0), Entry(0, 0))}),
    (READ, {"entries": (Entry(0, 0, EntryKind.CONF_CHANGE),)}),
    (READ, {"entries": (Entry(0, 1),)}),
    *(
        (SNAP, {"snapshot": structs.replace(TAKEN, **change)})
        for change in (
            {"data": b"x"},
            {"index": 0},
            {"term": 0},
            {"term": 6},
            {"size": 0},
            {"digest": ""},
            {"size": 0, "digest": ""},
            {"conf_state": ConfState()},
        )
    ),
]


@pytest.mark.parametrize(("message", "change"), WRONG)
def test_what_no_member_says_is_malformed(message: Message, change: dict[str, Any]) -> None:
    """A frame is refused as a whole, here when it is made and there when it is read."""
    wrong = structs.replace(message, **change)
    good = RaftFrame(1, (message,))
    with pytest.raises(ValueError, match=r"."):
        RaftFrame(1, (message, wrong))
    data = TABLE.encode_message(good)[1]
    assert TABLE.decode_message("raft/1", data) == good
    encoded = _unchecked(wrong)
    with pytest.raises(Malformed):
        TABLE.decode_message("raft/1", encoded)


def _unchecked(message: Message) -> bytes:
    return encode({"epoch": 1, "messages": [message]})


IMPOSSIBLE: Final = (
    ConfState((1, 1)),
    ConfState((0,)),
    ConfState((), (1,)),
    ConfState((1, 2), (2,)),
    ConfState((1,), (2, 2)),
    ConfState((1,), (2,), (2, 3)),
    ConfState((1,), (), (2, 2)),
    ConfState((1,), (), (2,), (3,)),
    ConfState((1, 2), (), (2,), (2,)),
    ConfState((1,), (), (), (2,)),
    ConfState((1,), auto_leave=True),
)


@pytest.mark.parametrize("conf", IMPOSSIBLE)
def test_impossible_configurations(conf: ConfState) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_conf_state(conf)


@given(conf_states())
def test_configurations_that_changes_lead_to(conf: ConfState) -> None:
    check_conf_state(conf)


def test_a_frame_above_its_limit_is_not_sent() -> None:
    entries = tuple(Entry(3, 8 + n, data=bytes(64 * 1024)) for n in range(16))
    with pytest.raises(TooLarge):
        TABLE.encode_message(RaftFrame(1, (structs.replace(APP, entries=entries),)))
