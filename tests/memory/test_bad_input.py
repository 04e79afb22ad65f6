"""Bad input, one by one: what owners type, what peers send. Nothing changes, and the error says what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgenet_node.effects import Done, Envelope, Now, Reply, Row
from edgenet_node.errors import (
    ConfigError,
    Conflict,
    CorruptData,
    EdgenetError,
    InvalidResult,
    InvariantError,
    Malformed,
    NotFound,
    Overloaded,
    Refused,
    UsageError,
    WrongSwarm,
)
from edgenet_node.memory.grants import DOMAIN
from edgenet_node.memory.holder import HolderCore
from edgenet_node.memory.inner import BUILD
from edgenet_node.memory.rows import Document as Saved
from edgenet_node.memory.settings import IndexSettings
from edgenet_node.messages.memory import (
    AddDocuments,
    CreateIndex,
    DeleteIndex,
    Document,
    GetIndex,
    RemoveDocuments,
    SearchIndex,
    ShareIndex,
)
from edgenet_node.messages.network import Blame
from edgenet_node.wire.codec import encode
from edgenet_node.wire.index import Drop, Hold, IndexGrant, SearchSegments, SegmentAt, SignedGrant

from .oracle import DIMENSION, vector_of
from .test_swarm import SETTINGS, wait_for_replicas
from .world import SWARM, Node, World

VECTOR = vector_of("question")
MANY = tuple(Document(f"d{at}", "text") for at in range(5000))
OWNER_MISTAKES: dict[str, tuple[Any, type[EdgenetError]]] = {
    "a name with a slash": (CreateIndex("a/b"), UsageError),
    "an empty name": (CreateIndex(""), UsageError),
    "a long name": (CreateIndex("x" * 65), UsageError),
    "a name twice": (CreateIndex("notes"), Conflict),
    "a reader that is no peer id": (CreateIndex("other", ("bob!",)), UsageError),
    "too many readers": (ShareIndex("notes", tuple(f"reader{at}" for at in range(300))), UsageError),
    "sharing what is not there": (ShareIndex("other", ()), NotFound),
    "looking at what is not there": (GetIndex("other"), NotFound),
    "deleting what is not there": (DeleteIndex("other"), NotFound),
    "removing from what is not there": (RemoveDocuments("other", ("a",)), NotFound),
    "adding to what is not there": (AddDocuments("other", (Document("a", "b"),)), NotFound),
    "a document without id": (AddDocuments("notes", (Document("", "text"),)), UsageError),
    "a long id": (AddDocuments("notes", (Document("x" * 257, "text"),)), UsageError),
    "a document without text": (AddDocuments("notes", (Document("a", " \n"),)), UsageError),
    "a long text": (AddDocuments("notes", (Document("a", "x" * 8193),)), UsageError),
    "text that is not Unicode": (AddDocuments("notes", (Document("a", "\ud800"),)), UsageError),
    "too many metadata": (AddDocuments("notes", (Document("a", "b", {f"k{n}": "" for n in range(17)}),)), UsageError),
    "an empty key": (AddDocuments("notes", (Document("a", "b", {"": "x"}),)), UsageError),
    "a long key": (AddDocuments("notes", (Document("a", "b", {"k" * 65: "x"}),)), UsageError),
    "a long value": (AddDocuments("notes", (Document("a", "b", {"k": "x" * 257}),)), UsageError),
    "too many documents": (AddDocuments("notes", MANY), UsageError),
    "too many keys in all": (
        AddDocuments("notes", tuple(Document(f"d{n}", "b", {f"k{n}": "x"}) for n in range(65))),
        UsageError,
    ),
    "nothing to search for": (SearchIndex("notes"), UsageError),
    "text and vector": (SearchIndex("notes", text="a", vector=VECTOR), UsageError),
    "no hits": (SearchIndex("notes", text="a", k=0), UsageError),
    "too many hits": (SearchIndex("notes", text="a", k=257), UsageError),
    "a long question": (SearchIndex("notes", text="x" * 8193), UsageError),
    "a vector of another dimension": (SearchIndex("notes", vector=VECTOR + bytes(4)), UsageError),
    "a vector of odd bytes": (SearchIndex("notes", vector=VECTOR[:-1]), UsageError),
    "a vector that is not a number": (SearchIndex("notes", vector=np.full(16, np.nan, "<f4").tobytes()), UsageError),
    "too many conditions": (SearchIndex("notes", text="a", where={f"k{n}": "" for n in range(17)}), UsageError),
    "a long condition": (SearchIndex("notes", text="a", where={"k": "x" * 513}), UsageError),
    "an index that is not there": (SearchIndex("other", text="a"), NotFound),
    "an owner that is no peer id": (SearchIndex("notes", text="a", owner="x" * 200), UsageError),
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One node with one index of one document."""
    world = World(tmp_path_factory.mktemp("world"), 1, 1, msgspec.structs.replace(SETTINGS, pending_batches_max=2))
    world.ask(world.nodes[0], CreateIndex("notes"))
    world.ask(world.nodes[0], AddDocuments("notes", (Document("a", "text"),)))
    return world


@pytest.mark.parametrize(("query", "error"), OWNER_MISTAKES.values(), ids=OWNER_MISTAKES.keys())
def test_what_an_owner_asks_wrongly_is_refused(quiet: World, query: Any, error: type[EdgenetError]) -> None:
    before = dict(quiet.nodes[0].rows["indexes"])
    with pytest.raises(error):
        quiet.ask(quiet.nodes[0], query)
    assert quiet.nodes[0].rows["indexes"] == before
    assert not quiet.nodes[0].operations


def test_what_does_not_fit_waits_outside(quiet: World) -> None:
    owner = quiet.nodes[0]
    boxes = [quiet.request(owner, AddDocuments("notes", (Document(f"n{at}", "text"),))) for at in range(3)]
    assert isinstance(boxes[2][0][1], Overloaded)
    assert boxes[2][0][1].retry_after_s > 0
    assert quiet.run(10.0, lambda: all(boxes))
    assert boxes[0][0][1] is None
    assert boxes[1][0][1] is None


# What peers send to a holder.


def grant_of(owner: Node, readers: tuple[str, ...] = (), version: int = 1, swarm: str = SWARM) -> SignedGrant:
    body = encode(IndexGrant(owner.key.public, "notes", swarm, version, list(readers)))
    return SignedGrant(body, owner.key.sign(DOMAIN, body))


def hold_of(owner: Node, data: bytes, rows: int = 1, **changes: Any) -> Hold:
    digest = hashlib.sha256(data).hexdigest()
    owner.path(digest).write_bytes(data)
    hold = Hold(grant_of(owner), digest, len(data), rows, 0, [], owner.peer)
    return msgspec.structs.replace(hold, **changes)


def segment(owner: Node, name: str = "a") -> bytes:
    documents = encode([Saved(name, "text", {})])
    data: bytes = owner.compute(BUILD, [vector_of("text"), documents, DIMENSION, "m", bytes(16)])
    return data


def send(world: World, holder: Node, query: Any, sender: Node) -> Any:
    box = world.request(holder, query, sender.peer)
    assert world.run(30.0, lambda: bool(box))
    value, error = box[0]
    if error is not None:
        raise error
    return value


@pytest.fixture
def pair(tmp_path: Path) -> World:
    settings = msgspec.structs.replace(SETTINGS, held_owner_segments_max=2, held_bytes_max=5000)
    return World(tmp_path, 3, 1, settings)


def test_a_hold_needs_the_owner_its_signature_and_this_swarm(pair: World) -> None:
    owner, other, holder = pair.nodes
    data = segment(owner)
    with pytest.raises(Refused, match="only the owner"):
        send(pair, holder, hold_of(owner, data), other)
    with pytest.raises(WrongSwarm):
        send(pair, holder, hold_of(owner, data, grant=grant_of(owner, swarm="11" * 21)), owner)
    forged = SignedGrant(grant_of(owner).body, grant_of(other).signature)
    with pytest.raises(Malformed):
        send(pair, holder, hold_of(owner, data, grant=forged), owner)
    with pytest.raises(Malformed):
        send(pair, holder, hold_of(owner, data, grant=SignedGrant(b"\x80", bytes(64))), owner)
    with pytest.raises(Malformed):
        send(pair, holder, hold_of(owner, data, deleted=[1]), owner)
    with pytest.raises(Malformed):
        send(pair, holder, hold_of(owner, data, rows=0), owner)
    assert not holder.rows["holder"]
    assert send(pair, holder, hold_of(owner, data), owner).version == 0
    with pytest.raises(Refused, match="only the owner"):
        send(pair, holder, Drop(grant_of(owner), [hold_of(owner, data).digest]), other)
    with pytest.raises(Malformed, match="cannot change"):
        send(pair, holder, hold_of(owner, data, rows=2, version=1), owner)


def test_a_segment_that_does_not_validate_is_let_go_and_its_owner_blamed(pair: World) -> None:
    owner, _, holder = pair.nodes
    good = segment(owner)
    for data, rows in ((b"no segment at all", 1), (good[:-1], 1), (good, 2)):
        with pytest.raises(InvalidResult):
            send(pair, holder, hold_of(owner, data, rows), owner)
    with pytest.raises(InvalidResult):
        send(pair, holder, hold_of(owner, good, size=len(good) + 1), owner)
    pair.run(1.0)
    assert [blame.peer for blame in pair.blames if isinstance(blame, Blame)] == [owner.peer] * 4
    assert not holder.rows["holder"]
    assert not any(holder.pins.values())


def test_budgets_bound_what_an_owner_can_leave_here(pair: World) -> None:
    owner, other, holder = pair.nodes
    for name in "ab":
        send(pair, holder, hold_of(owner, segment(owner, name)), owner)
    with pytest.raises(Refused, match="for you"):
        send(pair, holder, hold_of(owner, segment(owner, "c")), owner)
    with pytest.raises(Refused, match="as many"):
        send(pair, holder, hold_of(other, segment(other), size=4500), other)
    send(pair, holder, Drop(grant_of(owner), [hold_of(owner, segment(owner, "a")).digest]), owner)
    assert send(pair, holder, hold_of(owner, segment(owner, "c")), owner).version == 0


def test_deletions_and_readers_only_move_forward(pair: World) -> None:
    owner, reader, holder = pair.nodes
    hold = hold_of(owner, segment(owner))

    def search(sender: Node, version: int) -> Any:
        at = [SegmentAt(hold.digest, version)]
        return send(pair, holder, SearchSegments(owner.key.public, "notes", at, VECTOR, 3, {}), sender)

    send(pair, holder, hold, owner)
    assert len(search(owner, 0).hits) == 1
    assert search(owner, 1).missing == [hold.digest]
    with pytest.raises(Refused):
        search(reader, 0)
    newer = msgspec.structs.replace(hold, version=2, deleted=[0], grant=grant_of(owner, (reader.peer,), 2))
    assert send(pair, holder, newer, owner).version == 2
    assert send(pair, holder, hold, owner).version == 2
    assert (search(reader, 0).hits, search(reader, 0).rows) == ([], 0)
    holder.crash()
    holder.start()
    pair.run(1.0)
    assert (search(reader, 2).hits, search(reader, 2).missing) == ([], [])


def test_searches_that_no_honest_peer_sends_are_malformed(pair: World) -> None:
    owner, _, holder = pair.nodes
    hold = hold_of(owner, segment(owner))
    send(pair, holder, hold, owner)
    at = SegmentAt(hold.digest, 0)
    good = SearchSegments(owner.key.public, "notes", [at], VECTOR, 3, {})
    nan = np.full(DIMENSION, np.inf, "<f4").tobytes()
    for bad in ({"segments": [at, at]}, {"vector": VECTOR[:-4]}, {"vector": VECTOR[:-1]}, {"vector": nan}):
        with pytest.raises(Malformed):
            send(pair, holder, msgspec.structs.replace(good, **bad), owner)
    unknown = msgspec.structs.replace(good, name="other")
    assert send(pair, holder, unknown, owner).missing == [hold.digest]


def test_a_digest_of_ours_held_for_another_stays_ours(tmp_path: Path) -> None:
    """A stranger who knows the name of our segment has us hold it, and drop it: our own copy stays pinned."""
    world = World(tmp_path, 3, 2, SETTINGS)
    owner, stranger, _ = world.nodes
    world.ask(owner, CreateIndex("notes"))
    world.ask(owner, AddDocuments("notes", (Document("a", "text"),)))
    wait_for_replicas(world, owner)
    digest = world.ask(owner, GetIndex("notes")).segments[0].digest
    data = owner.path(digest).read_bytes()
    send(world, owner, hold_of(stranger, data), stranger)
    send(world, owner, Drop(grant_of(stranger), [digest]), stranger)
    world.run(1.0)
    assert owner.pins[digest] == {"index"}


def test_a_holder_that_has_just_started_asks_for_patience(pair: World) -> None:
    owner, _, holder = pair.nodes
    core = HolderCore(SETTINGS, holder.key)
    now = Now(0.0, 0.0)
    core.restore([], now)
    reply = core.step(Envelope(hold_of(owner, segment(owner)), 7, owner.peer), now)[0]
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, Overloaded)
    assert reply.error.retry_after_s > 0


def test_unknown_messages_and_completions_are_errors_of_ours(pair: World) -> None:
    now = Now(0.0, 0.0)
    for core in pair.nodes[0].parts.values():
        with pytest.raises(InvariantError):
            core.step(Envelope(object(), 1), now)
        with pytest.raises(InvariantError):
            core.step(Envelope(Done("nobody's")), now)


@pytest.mark.parametrize(
    "row",
    [
        Row("index", "notes", b"\xc1"),
        Row("index", "notes", encode({"readers": []})),
        Row("segment", "nobody/0000000001", b"\x80"),
        Row("batch", "notes", b""),
    ],
    ids=["not MessagePack", "fields missing", "of no index", "no number"],
)
def test_saved_rows_that_cannot_be_read_are_named(pair: World, row: Row) -> None:
    node = pair.nodes[0]
    node.crash()
    node.rows["indexes"] = {(row.table, row.key): row.value}
    with pytest.raises(CorruptData, match=row.key.partition("/")[0]):
        node.start()


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 0},
        {"segment_rows_min": 9000},
        {"duplicate_rate": 2.0},
        {"balance_slack": 0.5},
        {"hedge_s": 0.0},
        {"text_chars_max": 10**6},
        {"segment_rows_max": 10**6, "merge_rows_max": 10**6},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        IndexSettings(**change)
