"""The table of what travels: every type there and back, and nothing that a peer sends does harm."""

from __future__ import annotations

import contextlib
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from edgenet_node.errors import (
    Cancelled,
    Conflict,
    EdgenetError,
    InvalidResult,
    InvariantError,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    RemoteError,
    StoreFull,
    TimedOut,
    TooLarge,
    UsageError,
    WrongSwarm,
)
from edgenet_node.wire import registry
from edgenet_node.wire.codec import decode, decode_canonical, encode
from edgenet_node.wire.hello import PeerRecord, SignedRecord
from edgenet_node.wire.index import IndexGrant
from edgenet_node.wire.peers import ListMembers, Presence
from edgenet_node.wire.registry import CALLS, MESSAGES, STREAMS, TOPICS, CallKind, TopicKind, WireError, WireTable
from edgenet_node.wire.task import Run, RunResult, Stop

from .samples import SAMPLES
from .strategies import strategy

TABLE: Final = WireTable()
PACKAGE: Final = Path(registry.__file__).parents[1]
SWARM: Final = "0f" * 21
CHANNELS: Final[tuple[registry.Channel, ...]] = ("hello", "rpc")
TYPES: Final[list[Any]] = [
    *(call.query for call in CALLS),
    *(call.reply for call in CALLS),
    *(topic.body for topic in TOPICS),
    PeerRecord,
    IndexGrant,
    WireError,
]
CARRIED: Final = (
    Cancelled,
    Conflict,
    InvalidResult,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    TimedOut,
    TooLarge,
    WrongSwarm,
)


VALUES: Final = {kind: strategy(inspect.type_info(kind)) for kind in TYPES}
some_call = st.sampled_from(CALLS)
some_topic = st.sampled_from(TOPICS)
EXAMPLES: Final = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: str(kind.__name__))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_type_round_trips_canonically(kind: Any, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    encoded = encode(value)
    assert decode(encoded, kind, bytes_max=len(encoded)) == value
    assert decode_canonical(encoded, kind, bytes_max=len(encoded)) == value
    assert msgpack.unpackb(encoded, raw=False) == listed(msgspec.to_builtins(value, builtin_types=(bytes,)))


def listed(value: Any) -> Any:
    """Tuples as the arrays they are."""
    match value:
        case dict():
            return {key: listed(one) for key, one in value.items()}
        case list() | tuple():
            return [listed(one) for one in value]
        case _:
            return value


@EXAMPLES
@given(call=some_call, data=st.data())
def test_calls_and_answers_round_trip(call: CallKind, data: st.DataObject) -> None:
    query, value = data.draw(VALUES[call.query]), data.draw(VALUES[call.reply])
    assert TABLE.channel(query) == call.channel
    try:
        request, answer = TABLE.encode_call(query), TABLE.encode_reply(call.query, value)
    except TooLarge:
        assert len(encode([call.name, query])) > call.bytes_max or len(encode([0, value])) > call.reply_bytes_max
        return
    assert TABLE.decode_call(call.channel, request) == query
    assert TABLE.decode_reply(query, answer) == value


@EXAMPLES
@given(topic=some_topic, data=st.data())
def test_gossip_round_trips(topic: TopicKind, data: st.DataObject) -> None:
    body = data.draw(VALUES[topic.body])
    name, encoded = TABLE.encode_gossip(body, SWARM)
    assert name == f"/edgenet/{SWARM}/{topic.name}/{topic.version}"
    assert TABLE.decode_gossip(name, encoded) == body


# -- hostile bytes


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, removed, repeated or inserted."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 17)]
            case _:
                out[at:at] = rng.randbytes(rng.randrange(1, 5))
    return bytes(out)


def read_everywhere(data: bytes, query: Any) -> None:
    """Whatever the bytes are, each door opens, or says `Malformed` or `TooLarge`; an answer may also be an error."""
    for channel in CHANNELS:
        with contextlib.suppress(Malformed, TooLarge):
            TABLE.decode_call(channel, data)
    for topic in registry.topic_names(SWARM):
        with contextlib.suppress(Malformed, TooLarge):
            TABLE.decode_gossip(topic, data)
    for stream in MESSAGES:
        with contextlib.suppress(Malformed, TooLarge):
            TABLE.decode_message(stream.name, data)
    shown = ""
    try:
        TABLE.decode_reply(query, data)
    except (RemoteError, *CARRIED) as error:
        shown = error.message
    assert shown.isprintable()


@EXAMPLES
@given(data=st.binary(max_size=200), call=some_call)
def test_random_bytes_are_read_or_refused(data: bytes, call: CallKind) -> None:
    read_everywhere(data, SAMPLES[call.name])


@EXAMPLES
@given(call=some_call, seed=st.integers(0, 2**32), data=st.data())
def test_mutated_messages_are_read_or_refused(call: CallKind, seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    query = data.draw(VALUES[call.query])
    value = data.draw(
        st.sampled_from([call.reply, *(topic.body for topic in TOPICS), WireError]).flatmap(VALUES.__getitem__)
    )
    for payload in (encode([call.name, query]), encode(value), encode([0, value]), encode([1, value])):
        read_everywhere(mutated(payload, rng), query)


@EXAMPLES
@given(
    plain=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=8)
        | st.binary(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
    call=some_call,
)
def test_foreign_values_in_the_right_envelope_are_refused(plain: Any, call: CallKind) -> None:
    query = SAMPLES[call.name]
    for payload in ([call.name, plain], [0, plain], [1, plain], plain):
        read_everywhere(msgpack.packb(payload, use_bin_type=True), query)


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xc4\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_deep_and_boastful_bytes_cost_nothing(opening: bytes) -> None:
    query = ListMembers()
    for head in (b"", b"\x92\xaepeers.list/1", b"\x92\x00", b"\x92\x01"):
        read_everywhere(head + opening * 100_000, query)


def test_a_mebibyte_and_a_byte_is_too_large_whatever_it_is() -> None:
    data = bytes(registry.FRAME_BYTES_MAX + 1)
    with pytest.raises(TooLarge):
        TABLE.decode_call("rpc", data)
    with pytest.raises(TooLarge):
        TABLE.decode_reply(ListMembers(), data)
    for stream in MESSAGES:
        with pytest.raises(TooLarge):
            TABLE.decode_message(stream.name, data)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(call.name))
def test_the_limit_of_a_call_is_exact(call: CallKind) -> None:
    """One byte above it the size is what is wrong; at the limit, that the field is not known."""
    query = SAMPLES[call.name]
    doors: tuple[tuple[int, bytes, Callable[[bytes], Any]], ...] = (
        (call.bytes_max, encode(call.name), lambda data: TABLE.decode_call(call.channel, data)),
        (call.reply_bytes_max, b"\x00", lambda data: TABLE.decode_reply(query, data)),
    )
    for limit, head, read in doors:
        before = b"\x92" + head + b"\x81\xa2zz\xc6"
        for size, error in ((limit, Malformed), (limit + 1, TooLarge)):
            filler = bytes(size - len(before) - 4)
            with pytest.raises(error):
                read(before + len(filler).to_bytes(4, "big") + filler)


# -- errors


@pytest.mark.parametrize("kind", CARRIED, ids=lambda kind: str(kind.__name__))
def test_errors_arrive_as_themselves(kind: type[EdgenetError]) -> None:
    with pytest.raises(kind) as raised:
        TABLE.decode_reply(ListMembers(), TABLE.encode_error(kind("because", retry_after_s=2.5)))
    assert type(raised.value) is kind
    assert raised.value.message == "because"
    assert raised.value.retry_after_s == 2.5


@pytest.mark.parametrize(
    "error", [StoreFull("secret"), UsageError("secret"), InvariantError("secret"), ValueError("secret")]
)
def test_our_own_trouble_is_told_without_detail(error: Exception) -> None:
    data = TABLE.encode_error(error)
    assert b"secret" not in data
    with pytest.raises(RemoteError) as raised:
        TABLE.decode_reply(ListMembers(), data)
    assert type(raised.value) is RemoteError


@pytest.mark.parametrize("pause", [math.nan, math.inf, -math.inf, -1.0, 1e9])
def test_an_absurd_pause_is_made_plausible(pause: float) -> None:
    with pytest.raises(Refused) as raised:
        TABLE.decode_reply(ListMembers(), TABLE.encode_error(Refused("no", retry_after_s=pause)))
    assert 0 <= raised.value.retry_after_s <= 86_400


@pytest.mark.parametrize(
    "text", ["two\nlines", "\x1b[2Jcleared", "a\u202etrojan", "lone \udc80 surrogate", "\0", "x" * 9000]
)
def test_enc_13_messages_of_errors_are_one_printable_line(text: str) -> None:
    sent = TABLE.encode_error(Refused(text))
    foreign = msgpack.packb(
        [1, {"code": "refused", "message": text[:512], "retry_after_s": 0.0}], unicode_errors="replace"
    )
    for data in (sent, foreign):
        with pytest.raises(Refused) as raised:
            TABLE.decode_reply(ListMembers(), data)
        assert raised.value.message.isprintable()
        assert 0 < len(raised.value.message) <= 512


# -- the table itself


def test_names_are_unique_and_follow_the_pattern() -> None:
    calls = [call.name for call in CALLS]
    assert len(set(calls)) == len(calls)
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)?/[1-9]\d*", name) for name in calls)
    topics = registry.topic_names(SWARM)
    streams = [registry.protocol_id(SWARM, stream.name, stream.version) for stream in STREAMS]
    assert len(set(topics)) == len(topics)
    assert len(set(streams)) == len(streams), "topics are names of their own: one may be called as a stream is"
    assert all(re.fullmatch(rf"/edgenet/{SWARM}/[a-z]+/[1-9]\d*", name) for name in (*topics, *streams))
    bodies = {call.query for call in CALLS} | {topic.body for topic in TOPICS} | {stream.body for stream in MESSAGES}
    assert len(bodies) == len(CALLS) + len(TOPICS) + len(MESSAGES)
    # A stream protocol of the same name carries each.
    assert {stream.name for stream in MESSAGES} <= {f"{stream.name}/{stream.version}" for stream in STREAMS}


def test_limits_fit_into_what_carries_them() -> None:
    assert all(0 < call.bytes_max <= registry.FRAME_BYTES_MAX for call in CALLS)
    assert all(0 < call.reply_bytes_max <= registry.FRAME_BYTES_MAX for call in CALLS)
    assert all(0 < topic.bytes_max <= registry.GOSSIP_BYTES_MAX for topic in TOPICS)
    assert all(0 < stream.bytes_max <= registry.FRAME_BYTES_MAX for stream in MESSAGES)
    assert {call.channel for call in CALLS} <= {stream.name for stream in STREAMS}
    assert [stream.name for stream in STREAMS if not stream.scoped] == ["hello"]


@pytest.mark.parametrize(
    "kind",
    [*(call.query for call in CALLS), *(topic.body for topic in TOPICS), *(stream.body for stream in MESSAGES)],
    ids=lambda kind: str(kind.__name__),
)
def test_nothing_registered_is_an_orphan(kind: type) -> None:
    """Some core makes it, and some core takes it."""
    rooms = [PACKAGE / room for room in ("committee", "identity", "market", "memory", "raft", "tasks")]
    lines = [line.strip() for room in rooms for path in room.rglob("*.py") for line in path.read_text().splitlines()]
    use = re.compile(rf"\b{kind.__name__}\(")
    assert any(use.search(line) and line.startswith("case ") for line in lines), "nobody takes it"
    assert any(use.search(line) and not line.startswith(("case ", "class ")) for line in lines), "nobody sends it"


def test_a_table_with_a_double_is_refused() -> None:
    for calls, topics in (((*CALLS, CALLS[0]), TOPICS), (CALLS, (*TOPICS, TOPICS[0]))):
        with pytest.raises(InvariantError):
            WireTable(calls, topics)
    with pytest.raises(InvariantError):
        WireTable(CALLS, TOPICS, (*MESSAGES, MESSAGES[0]))
    with pytest.raises(InvariantError):
        TABLE.encode_message(WireError("a", "b"))
    with pytest.raises(InvariantError):
        TABLE.encode_call(WireError("a", "b"))
    with pytest.raises(InvariantError):
        TABLE.encode_gossip(WireError("a", "b"), SWARM)


def test_rpc_11_calls_are_open_on_their_own_stream_only() -> None:
    for call in CALLS:
        query = SAMPLES[call.name]
        data = TABLE.encode_call(query)
        for channel in CHANNELS:
            if channel == call.channel:
                assert TABLE.decode_call(channel, data) == query
            else:
                with pytest.raises(Malformed):
                    TABLE.decode_call(channel, data)
    with pytest.raises(Malformed):
        TABLE.decode_call("rpc", encode(["task.run/2", {}]))


def test_what_we_send_is_held_to_the_limits_too() -> None:
    body = Presence(SignedRecord(bytes(20_000), bytes(64)), [], 0, 0, "")
    with pytest.raises(TooLarge):
        TABLE.encode_gossip(body, SWARM)
    with pytest.raises(TooLarge):
        TABLE.encode_call(Stop("t" * 300, 0))
    with pytest.raises(TooLarge):
        TABLE.encode_reply(Run, RunResult(bytes(1 << 20), 0))
