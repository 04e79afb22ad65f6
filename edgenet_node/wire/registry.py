"""The one table of what travels: calls, one-way messages, gossip topics, stream protocols, with their types and limits.

Names are `/edgenet/<swarm>/<name>/<version>`; `hello` alone is `/edgenet/hello/1`, because it is spoken before the
swarm is known. A call frame is MessagePack `[kind, body]`, an answer `[0, body]` or `[1, {code, message,
retry_after_s}]`; a one-way message and a gossip payload are the body alone. `protocols/README.md` is held against this
table by a test.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ..errors import (
    Cancelled,
    Conflict,
    EdgenetError,
    InvalidResult,
    InvariantError,
    LocalError,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    RemoteError,
    TimedOut,
    TooLarge,
    WrongSwarm,
)
from . import auction, committee, hello, index, peers, raft, task
from .codec import Wire, decode, encode

FRAME_BYTES_MAX = 1024 * 1024
"""One call or answer. Larger data travels as artifacts."""

GOSSIP_BYTES_MAX = 64 * 1024
"""One gossip payload; above about 1 MiB py-libp2p loses messages silently, and latency grows long before."""

Channel = Literal["hello", "rpc"]


class CallKind(Struct, frozen=True):
    """One request type and its answer. `bytes_max` bounds the whole request payload, `reply_bytes_max` the answer's."""

    name: str
    channel: Channel
    query: type
    reply: Any
    bytes_max: int
    reply_bytes_max: int


class MessageStream(Struct, frozen=True):
    """A stream of one-way messages, and the one type that it carries. Its name is that of its stream protocol."""

    name: str
    body: type
    bytes_max: int


class TopicKind(Struct, frozen=True):
    """One gossip topic and the type it carries."""

    name: str
    version: int
    body: type
    bytes_max: int


class StreamKind(Struct, frozen=True):
    """A stream protocol of the transport itself; its framing is in `protocols/<name>/spec.md`."""

    name: str
    version: int
    scoped: bool


STREAMS = (
    StreamKind("hello", 1, scoped=False),
    StreamKind("rpc", 1, scoped=True),
    StreamKind("blob", 1, scoped=True),
    StreamKind("raft", 1, scoped=True),
)

CALLS = (
    CallKind("hello/1", "hello", hello.Hello, hello.Welcome, 16 * 1024, 128 * 1024),
    CallKind("peers.list/1", "rpc", peers.ListMembers, peers.Members, 256, 512 * 1024),
    CallKind("auction.offer/1", "rpc", auction.Offer, auction.OfferReceipt, 1024, 256),
    CallKind("auction.release/1", "rpc", auction.Release, auction.Released, 256, 256),
    CallKind("task.run/1", "rpc", task.Run, task.RunResult, 600 * 1024, FRAME_BYTES_MAX - 1024),
    CallKind("task.stop/1", "rpc", task.Stop, task.Stopped, 256, 256),
    CallKind("index.hold/1", "rpc", index.Hold, index.Held, 512 * 1024, 256),
    CallKind("index.drop/1", "rpc", index.Drop, index.Dropped, 64 * 1024, 256),
    CallKind("index.search/1", "rpc", index.SearchSegments, index.Hits, 64 * 1024, FRAME_BYTES_MAX - 1024),
    CallKind("index.manifest/1", "rpc", index.GetManifest, index.Manifest, 1024, 512 * 1024),
    CallKind("raft.snapshot/1", "rpc", raft.FetchSnapshot, raft.SnapshotChunk, 256, FRAME_BYTES_MAX // 2 + 1024),
    CallKind("raft.roster/1", "rpc", raft.GetRoster, raft.RosterReply, 64, 8 * 1024),
    CallKind("raft.submit/1", "rpc", raft.SubmitCommand, raft.CommandResult, 65 * 1024, 256),
    CallKind("committee.head/1", "rpc", committee.GetHead, committee.HeadReply, 64, 128 * 1024),
    CallKind("committee.rows/1", "rpc", committee.GetRows, committee.Rows, 256, 640 * 1024),
    CallKind("committee.sign/1", "rpc", committee.GetSignature, committee.MemberSignature, 256, 256),
    CallKind("committee.prepare/1", "rpc", committee.PrepareToJoin, committee.Prepared, FRAME_BYTES_MAX - 1024, 64),
    CallKind("committee.change/1", "rpc", committee.RequestChange, committee.ChangeStarted, 2 * 1024, 64),
)

MESSAGES = (MessageStream("raft/1", raft.RaftFrame, raft.FRAME_BYTES_MAX),)

TOPICS = (
    TopicKind("presence", 1, peers.Presence, 16 * 1024),
    TopicKind("auction", 1, auction.Announce, 1024),
    TopicKind("raft", 1, committee.Notice, GOSSIP_BYTES_MAX),
)


_REMOTE_ERRORS: dict[str, type[EdgenetError]] = {
    error.code: error
    for error in (Cancelled, Conflict, InvalidResult, Malformed, NotFound, Overloaded, Refused, TimedOut, TooLarge)
}
_REMOTE_ERRORS[WrongSwarm.code] = WrongSwarm

ERROR_BYTES_MAX = 4096
"""An answer that is an error: 512 characters of up to four bytes, and room."""

_MESSAGE_CHARS_MAX = 512
_RETRY_AFTER_S_MAX = 86_400.0

_TOPIC_ID: Final = re.compile(r"/edgenet/[0-9a-f]{42}/([a-z][a-z0-9_.\-]{0,31})/([1-9][0-9]{0,3})")


class WireError(Wire, frozen=True):
    """An answer that is an error. `code` as in `edgenet_node.errors`; `message` is one line for people."""

    code: Annotated[str, Meta(max_length=32)]
    message: Annotated[str, Meta(max_length=_MESSAGE_CHARS_MAX)]
    retry_after_s: Annotated[float, Meta(ge=0, le=_RETRY_AFTER_S_MAX)] = 0.0


_HEAD = tuple[Annotated[str, Meta(max_length=64)], msgspec.Raw]
_ANSWER = tuple[Annotated[int, Meta(ge=0, le=1)], msgspec.Raw]


def protocol_id(swarm: str, name: str, version: int) -> str:
    """`/edgenet/<swarm>/<name>/<version>`."""
    return f"/edgenet/{swarm}/{name}/{version}"


def topic_names(swarm: str) -> tuple[str, ...]:
    """All gossip topics of a swarm."""
    return tuple(protocol_id(swarm, topic.name, topic.version) for topic in TOPICS)


class WireTable:
    """Encodes and decodes by the table. Holds no state but indexes over it."""

    def __init__(
        self,
        calls: tuple[CallKind, ...] = CALLS,
        topics: tuple[TopicKind, ...] = TOPICS,
        messages: tuple[MessageStream, ...] = MESSAGES,
    ) -> None:
        self._by_query = {kind.query: kind for kind in calls}
        self._by_name = {kind.name: kind for kind in calls}
        self._topic_by_body = {topic.body: topic for topic in topics}
        self._topic_by_name = {(topic.name, str(topic.version)): topic for topic in topics}
        self._message_by_body = {message.body: message for message in messages}
        self._message_by_name = {message.name: message for message in messages}
        if len(self._message_by_body) != len(messages) or len(self._message_by_name) != len(messages):
            raise InvariantError("a one-way message is registered twice")
        if len(self._by_query) != len(calls) or len(self._by_name) != len(calls):
            raise InvariantError("a call is registered twice")
        if len(self._topic_by_body) != len(topics) or len(self._topic_by_name) != len(topics):
            raise InvariantError("a topic is registered twice")

    def channel(self, query: Any) -> Channel:
        return self._call_of(type(query)).channel

    def encode_call(self, query: Any) -> bytes:
        """`TooLarge` when our own message exceeds its limit."""
        kind = self._call_of(type(query))
        data = encode([kind.name, query])
        _check_size(kind.name, data, kind.bytes_max)
        return data

    def decode_call(self, channel: Channel, data: bytes) -> Any:
        """`Malformed` or `TooLarge` for anything but a registered call of this channel."""
        name, body = decode(data, _HEAD, bytes_max=FRAME_BYTES_MAX)
        kind = self._by_name.get(name)
        if kind is None or kind.channel != channel:
            raise Malformed(f"no call {name!a} on {channel}")
        _check_size(kind.name, data, kind.bytes_max)
        return decode(bytes(body), kind.query, bytes_max=kind.bytes_max)

    def encode_reply(self, query_type: type, value: Any) -> bytes:
        kind = self._call_of(query_type)
        data = encode([0, value])
        _check_size(f"answer to {kind.name}", data, kind.reply_bytes_max)
        return data

    def encode_error(self, error: Exception) -> bytes:
        """Our own failures are told without detail: what happened inside is nobody's business."""
        if isinstance(error, EdgenetError) and error.code in _REMOTE_ERRORS:
            after_s = error.retry_after_s if error.retry_after_s > 0 else 0.0
            body = WireError(error.code, one_line(error.message), min(after_s, _RETRY_AFTER_S_MAX))
        elif isinstance(error, LocalError):
            body = WireError(LocalError.code, "the peer could not do it", 1.0)
        else:
            body = WireError(EdgenetError.code, "the peer failed", 1.0)
        return encode([1, body])

    def decode_reply(self, query: Any, data: bytes) -> Any:
        """The answer to `query`; raises the error that it carries, or `Malformed`."""
        kind = self._call_of(type(query))
        status, body = decode(data, _ANSWER, bytes_max=FRAME_BYTES_MAX)
        if status == 0:
            _check_size(f"answer to {kind.name}", data, kind.reply_bytes_max)
            return decode(bytes(body), kind.reply, bytes_max=kind.reply_bytes_max)
        error = decode(bytes(body), WireError, bytes_max=ERROR_BYTES_MAX)
        known = _REMOTE_ERRORS.get(error.code, RemoteError)
        raise known(one_line(error.message), retry_after_s=error.retry_after_s)

    def encode_message(self, body: Any) -> tuple[str, bytes]:
        """The name of its stream, `raft/1`, and the frame. `TooLarge` when ours exceeds its limit."""
        message = self._message_by_body.get(type(body))
        if message is None:
            raise InvariantError(f"no stream carries {type(body).__name__}")
        data = encode(body)
        _check_size(message.name, data, message.bytes_max)
        return message.name, data

    def decode_message(self, stream: str, data: bytes) -> Any:
        """`Malformed` or `TooLarge`."""
        message = self._message_by_name.get(stream)
        if message is None:
            raise Malformed(f"no messages on {stream[:96]!a}")
        return decode(data, message.body, bytes_max=message.bytes_max)

    def encode_gossip(self, body: Any, swarm: str) -> tuple[str, bytes]:
        topic = self._topic_by_body.get(type(body))
        if topic is None:
            raise InvariantError(f"no topic is registered for {type(body).__name__}")
        data = encode(body)
        _check_size(topic.name, data, topic.bytes_max)
        return protocol_id(swarm, topic.name, topic.version), data

    def decode_gossip(self, topic_id: str, data: bytes) -> Any:
        """`Malformed` or `TooLarge`. Which swarm's topics arrive is the transport's business: it joins one swarm's."""
        named = _TOPIC_ID.fullmatch(topic_id)
        topic = self._topic_by_name.get((named[1], named[2])) if named else None
        if topic is None:
            raise Malformed(f"no topic {topic_id[:96]!a}")
        return decode(data, topic.body, bytes_max=topic.bytes_max)

    def _call_of(self, query_type: type) -> CallKind:
        kind = self._by_query.get(query_type)
        if kind is None:
            raise InvariantError(f"no call is registered for {query_type.__name__}")
        return kind


def _check_size(what: str, data: bytes, bytes_max: int) -> None:
    if len(data) > bytes_max:
        raise TooLarge(f"{what}: {len(data)} bytes, at most {bytes_max}")


def one_line(text: str) -> str:
    """What is shown to people: an error's text may quote anything, and a peer's is the peer's own choice."""
    return "".join(character if character.isprintable() else " " for character in text[:_MESSAGE_CHARS_MAX])
