"""How this implementation reads what a vector holds: one function for each context.

Each takes the vector and returns `(value, bytes)`: what was read, as vectors write it, and what it encodes to again
(None where there is no way back). It raises what the node would raise.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from edgenet_node.adapters.libp2p_network import frames, messages
from edgenet_node.committee.chain import Chain
from edgenet_node.committee.record import STATE_BYTES_MAX, Record, Whole
from edgenet_node.committee.state import COMMAND_BYTES_MAX
from edgenet_node.crypto import fingerprints, session, signing
from edgenet_node.crypto.fingerprints import Genesis
from edgenet_node.effects import Now
from edgenet_node.errors import EdgenetError, Malformed
from edgenet_node.identity.keys import Identity
from edgenet_node.identity.records import RecordBook
from edgenet_node.memory import segment
from edgenet_node.memory.grants import open_grant
from edgenet_node.messages.raft import CommittedEntry
from edgenet_node.raft.algorithm.confchange import decode_change, encode_change
from edgenet_node.raft.sessions import session_key
from edgenet_node.tasks.handlers import Environment, pack_items, unpack_items
from edgenet_node.tasks.handlers.embedding import DIMENSION, EmbeddingHandler
from edgenet_node.wire import registry
from edgenet_node.wire.codec import decode, decode_canonical, encode
from edgenet_node.wire.committee import (
    AuthorRow,
    CommitteeSet,
    Head,
    HeadReply,
    Link,
    MemberRow,
    ParameterRow,
    RegistryCommand,
    SignedCommand,
)
from edgenet_node.wire.hello import RECORD_BYTES_MAX, PeerRecord, SignedRecord
from edgenet_node.wire.index import GRANT_BYTES_MAX, IndexGrant, SignedGrant
from edgenet_node.wire.raft import ENTRY_BYTES_MAX, ChangeContext, Command, Entry, EntryKind

from ..wire.samples import SAMPLES
from .corpus import Vector, jsonable

TABLE: Final = registry.WireTable()
CALLS: Final = {call.name: call for call in registry.CALLS}
SWARM: Final = "b0" * 21
"""A topic needs one; the vectors that name a topic name theirs."""

SIGNED: Final[dict[str, tuple[Any, int]]] = {
    "PeerRecord": (PeerRecord, RECORD_BYTES_MAX),
    "IndexGrant": (IndexGrant, GRANT_BYTES_MAX),
    "RegistryCommand": (RegistryCommand, COMMAND_BYTES_MAX),
}

CANONICAL: Final[dict[str, Any]] = {
    one.__name__: one for one in (SignedCommand, CommitteeSet, Link, Head, MemberRow, ParameterRow, AuthorRow, Whole)
}

LOGGED: Final[dict[str, Any]] = {"Command": Command, "ChangeContext": ChangeContext}
CHANGES: Final = {"ConfChange": EntryKind.CONF_CHANGE, "ConfChangeV2": EntryKind.CONF_CHANGE_V2}

Read = tuple[Any, bytes | None]


class Carried(EdgenetError):
    """Holds the error that an answer or a frame was read as."""

    def __init__(self, error: EdgenetError) -> None:
        super().__init__(error.message)
        self.error = error


def builtins(value: Any) -> Any:
    """A struct as plain values, bytes as bytes."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def read_call(vector: Vector) -> Read:
    query = TABLE.decode_call(CALLS[vector.tail].channel, vector.data)
    return [vector.tail, jsonable(builtins(query))], TABLE.encode_call(query)


def read_reply(vector: Vector) -> Read:
    call = CALLS[vector.tail]
    query = SAMPLES[vector.tail]  # the table asks the query for its type alone
    try:
        value = TABLE.decode_reply(query, vector.data)
    except EdgenetError as error:
        if "raises" in vector.more:
            raise Carried(error) from error
        raise
    return [0, jsonable(builtins(value))], TABLE.encode_reply(call.query, value)


def read_gossip(vector: Vector) -> Read:
    name, _, version = vector.tail.partition("/")
    topic = vector.more.get("topic", registry.protocol_id(SWARM, name, int(version)))
    body = TABLE.decode_gossip(topic, vector.data)
    found, data = TABLE.encode_gossip(body, topic.split("/")[2])
    assert found == topic
    return jsonable(builtins(body)), data


def read_message(vector: Vector) -> Read:
    body = TABLE.decode_message(vector.tail, vector.data)
    found, data = TABLE.encode_message(body)
    assert found == vector.tail
    return jsonable(builtins(body)), data


def read_entry(vector: Vector) -> Read:
    if vector.tail in CHANGES:
        change = decode_change(Entry(1, 1, CHANGES[vector.tail], vector.data))
        return jsonable(builtins(change)), encode_change(change)
    value = decode(vector.data, LOGGED[vector.tail], bytes_max=ENTRY_BYTES_MAX)
    return jsonable(builtins(value)), encode(value)


def read_command_session(vector: Vector) -> Read:
    return session_key(vector.more["peer"], vector.data).hex(), None


def read_signed(vector: Vector) -> Read:
    kind, bytes_max = SIGNED[vector.tail]
    value = decode_canonical(vector.data, kind, bytes_max=bytes_max)
    return jsonable(builtins(value)), encode(value)


def read_canonical(vector: Vector) -> Read:
    value = decode_canonical(vector.data, CANONICAL[vector.tail], bytes_max=STATE_BYTES_MAX)
    return jsonable(builtins(value)), encode(value)


def read_chain(vector: Vector) -> Read:
    """An answer to a follower that knows the genesis alone."""
    answer = decode(vector.data, HeadReply, bytes_max=128 * 1024)
    chain = Chain(vector.more["swarm"], bytes.fromhex(vector.more["public"]))
    chain.extend(answer.links)
    taken = answer.head is not None and (answer.head.head.epoch, answer.head.head.number) == chain.office
    if answer.head is not None and taken and not chain.head_proven(answer.head.head, answer.head.certificate):
        raise Malformed("a head that its certificate does not prove")
    index = answer.head.head.index if answer.head is not None and taken else None
    return {"epoch": chain.tip.epoch, "number": chain.tip.number, "head": index}, encode(answer)


def read_registry(vector: Vector) -> Read:
    """A log of a committee of one; the error is that of its last command."""
    swarm, founder = vector.more["swarm"], bytes.fromhex(vector.more["public"])
    log = decode(vector.data, list[bytes], bytes_max=STATE_BYTES_MAX)
    record, refused, last = Record(swarm, founder, ()), [], ""
    for index, command in enumerate(log, 2):
        applied = record.take(CommittedEntry(index, 1, EntryKind.NORMAL, command), 0).applied
        last = "" if applied is None else applied.refused
        if last:
            refused.append(index)
    if vector.error and last:
        raise Malformed(last)
    state = record.state
    rows = {key: state.rows[key].hex() for key in sorted(state.rows)}
    value = {"rows": rows, "history": state.history.hex(), "root": state.root().hex(), "refused": refused}
    return value, encode(log)


def read_record(vector: Vector) -> Read:
    signed = decode(vector.data, SignedRecord, bytes_max=16 * 1024)
    entry = RecordBook(8).take(signed, vector.more["swarm"])
    if entry is None:
        raise Malformed("not believed")
    if "peer" in vector.more:
        assert entry.peer == vector.more["peer"]
    return jsonable(builtins(signed)), encode(signed)


def read_grant(vector: Vector) -> Read:
    signed = decode(vector.data, SignedGrant, bytes_max=64 * 1024)
    open_grant(signed, vector.more["swarm"])
    return jsonable(builtins(signed)), encode(signed)


def read_frames(vector: Vector) -> Read:
    decoder = frames.FrameDecoder(registry.FRAME_BYTES_MAX)
    decoder.feed(vector.data)
    found = []
    while frame := decoder.next():
        found.append(frame)
    again = b"".join(frames.encode(frame.kind, frame.id, frame.payload) for frame in found)
    rest = vector.more.get("rest", 0)
    assert len(again) + rest == len(vector.data)
    return [[frame.kind, frame.id, frame.payload.hex()] for frame in found], again + vector.data[len(again) :]


def read_message_frames(vector: Vector) -> Read:
    decoder = frames.FrameDecoder(registry.FRAME_BYTES_MAX, frames.MESSAGE)
    decoder.feed(vector.data)
    found = [messages.message_of(frame) for frame in iter(decoder.next, None)]
    again = b"".join(frames.encode(frames.MESSAGE, 0, payload) for payload in found)
    rest = vector.more.get("rest", 0)
    assert len(again) + rest == len(vector.data)
    return [payload.hex() for payload in found], again + vector.data[len(again) :]


def read_error_frame(vector: Vector) -> Read:
    error = frames.decode_error(vector.data, "peer")
    if vector.error:
        raise error
    assert error.retry_after_s == vector.more["retry_after_s"]
    raise Carried(error)


def read_items(vector: Vector) -> Read:
    items = unpack_items(vector.data, vector.more["items"])
    return jsonable(items), pack_items(items)


def read_embeddings(vector: Vector) -> Read:
    count = vector.more["items"]
    EmbeddingHandler(Environment(Path("unused"))).check_output(b"", vector.data, count)
    _, found, dimension, flags = struct.unpack_from("<4sIII", vector.data)
    pieces = struct.unpack_from(f"<{count}H", vector.data, 16 + 4 * DIMENSION * count)
    return {"count": found, "dimension": dimension, "flags": flags, "pieces": list(pieces)}, None


def read_segment(vector: Vector) -> Read:
    found = segment.parse(vector.data)
    documents = [found.document(row) for row in range(found.header.rows)]
    value = {
        "header": jsonable(builtins(found.header)),
        "ids": [one.id for one in documents],
        "texts": [one.text for one in documents],
        "metadata": [one.metadata for one in documents],
    }
    again = segment.build(found.vectors.copy(), documents, model=found.header.model, salt=found.header.salt)
    return value, again


def read_names(vector: Vector) -> Read:
    public = vector.data
    peer = fingerprints.peer_id(public)
    value = {"peer_id": peer, "pi_key": fingerprints.pi_key(public).hex(), "short_id": fingerprints.short_id(public)}
    return value, fingerprints.public_from_peer_id(peer)


def read_peer_id(vector: Vector) -> Read:
    return fingerprints.public_from_peer_id(vector.data.decode()).hex(), None


def read_signature(vector: Vector) -> Read:
    public, signature = bytes.fromhex(vector.more["public"]), bytes.fromhex(vector.more["signature"])
    domain = vector.more["domain"].encode()
    if not signing.verify(public, domain, vector.data, signature):
        raise Malformed("a signature that does not verify")
    return {"signed": signing.framed(domain, vector.data).hex()}, None


def read_genesis(vector: Vector) -> Read:
    record = Genesis.from_bytes(vector.data)
    return jsonable(builtins(record)) | {"name": record.name}, record.to_bytes()


def read_session_offer(vector: Vector) -> Read:
    """`value` holds the answer, which follows from the responder's key and entropy."""
    now = Now(0.0, vector.more["now_ms"] / 1000)
    peer = bytes.fromhex(vector.more["sender"])
    _, answer = session.accept(_identity(vector, "receiver"), peer, vector.data, _entropy(vector), now)
    return {"answer": answer.hex()}, None


def read_session_answer(vector: Vector) -> Read:
    now = Now(0.0, vector.more["now_ms"] / 1000)
    peer = bytes.fromhex(vector.more["receiver"])
    pending, offer = session.offer(_identity(vector, "sender"), peer, _entropy(vector), now)
    pending.complete(vector.data, now)
    return {"offer": offer.hex()}, None


def _entropy(vector: Vector) -> bytes:
    return bytes.fromhex(vector.more["entropy"])


def _identity(vector: Vector, role: str) -> Identity:
    """The vectors' keys have seeds of equal bytes."""
    public = bytes.fromhex(vector.more[role])
    return next(one for one in (Identity(bytes([n]) * 32) for n in (1, 2, 3)) if one.public == public)


READERS: Final[dict[str, Callable[[Vector], Read]]] = {
    "call": read_call,
    "reply": read_reply,
    "gossip": read_gossip,
    "message": read_message,
    "message-frames": read_message_frames,
    "entry": read_entry,
    "command-session": read_command_session,
    "signed": read_signed,
    "canonical": read_canonical,
    "chain": read_chain,
    "registry": read_registry,
    "record": read_record,
    "grant": read_grant,
    "frames": read_frames,
    "error-frame": read_error_frame,
    "items": read_items,
    "embedding-output": read_embeddings,
    "segment": read_segment,
    "names": read_names,
    "peer-id": read_peer_id,
    "signature": read_signature,
    "genesis": read_genesis,
    "session-offer": read_session_offer,
    "session-answer": read_session_answer,
}

MESSAGEPACK: Final = frozenset(
    {"call", "reply", "gossip", "message", "entry", "signed", "canonical", "record", "grant", "error-frame", "items"}
)
"""Contexts whose bytes are one MessagePack value, which the plain msgpack package reads too."""

TRANSFERS: Final = frozenset({"serve", "fetch"})
"""Contexts that need a stream: `test_blob`."""
