"""A small deterministic world for the two cores: nodes, disks, lossy calls, crashes, liars. No threads, no clock."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgenet_node.crypto.fingerprints import peer_id
from edgenet_node.crypto.signing import public_key, sign
from edgenet_node.effects import (
    Ask,
    Call,
    Cancel,
    Compute,
    Delete,
    Done,
    Envelope,
    Event,
    Now,
    Progress,
    Put,
    Reply,
    Row,
    Tell,
    Tick,
    Transfer,
)
from edgenet_node.errors import (
    ComputeFailed,
    EdgenetError,
    Malformed,
    NotFound,
    RemoteError,
    TimedOut,
    Unreachable,
)
from edgenet_node.memory import search_worker
from edgenet_node.memory.holder import REMOTE as HOLDER_REMOTE
from edgenet_node.memory.holder import HolderCore
from edgenet_node.memory.ingest import Embedder
from edgenet_node.memory.inner import FUNCTIONS, SearchOwn
from edgenet_node.memory.owner import ACCEPTS, IndexesCore
from edgenet_node.memory.settings import IndexSettings
from edgenet_node.messages.artifacts import PinArtifact, PutArtifact, ReleaseArtifact, Stored
from edgenet_node.messages.network import GetPeers, GetSwarm, PeerDown, PeerUp, SwarmInfo
from edgenet_node.messages.tasks import Submit, TaskOutcome, TaskView, Verified
from edgenet_node.messages.trust import GetStandings, Outcome
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.index import Drop, Dropped, GetManifest, Held, Hits, Hold, Manifest, SearchSegments

from .oracle import DIMENSION, PlainContext, vector_of

SWARM = "5a" * 21
MODEL = "signs"
ANSWERS: dict[type, Any] = {Hold: Held, Drop: Dropped, SearchSegments: Hits, GetManifest: Manifest}
Lie = Callable[[SearchSegments, Hits], Hits]
OnReply = Callable[[Any, Exception | None], None]


class Key:
    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self.public = public_key(seed)

    def sign(self, domain: bytes, message: bytes) -> bytes:
        return sign(self._seed, domain, message)


def embedder() -> Embedder:
    return Embedder(
        kind="embedding",
        model=MODEL,
        dimension=DIMENSION,
        spec=b"spec",
        item=str.encode,
        vectors=_vectors,
    )


def _vectors(output: bytes, count: int) -> bytes:
    if len(output) != 4 * DIMENSION * count:
        raise Malformed("embeddings of another number of items")
    return output


class Node:
    """One node: its disk outlives its incarnations."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.key = Key(hashlib.sha256(f"node {number}".encode()).digest())
        self.peer = peer_id(self.key.public)
        self.rows: dict[str, dict[tuple[str, str], bytes]] = {"indexes": {}, "holder": {}}
        self.folder = world.folder / f"node{number}"
        self.folder.mkdir()
        self.pins: dict[str, set[str]] = {}
        self.context = PlainContext()
        self.parts: dict[str, Any] = {}
        self.incarnation = 0
        self.operations: dict[tuple[str, Any], int] = {}
        self.lie: Lie | None = None
        self.embeds = True
        self.submitted: dict[str, tuple[bytes, ...]] = {}

    @property
    def up(self) -> bool:
        return bool(self.parts)

    def start(self) -> None:
        self.incarnation += 1
        world, settings = self.world, self.world.settings
        entropy = random.Random(world.rng.random())
        indexes = IndexesCore(settings, self.key, embedder(), entropy.randbytes, random.Random(world.rng.random()))
        self.parts = {"indexes": indexes, "holder": HolderCore(settings, self.key)}
        for name, core in self.parts.items():
            rows = [Row(table, key, value) for (table, key), value in sorted(self.rows[name].items())]
            self.perform(name, core.restore(rows, world.now))
        for other in world.nodes:
            if other is not self and other.up and world.connected(self, other):
                world.introduce(self, other)

    def crash(self) -> None:
        self.incarnation += 1
        self.parts, self.operations, self.pins = {}, {}, {}
        self.context = PlainContext()
        for other in self.world.nodes:
            if other is not self and other.up:
                other.tell(PeerDown(self.peer))

    def tell(self, event: Any) -> None:
        for name in self.parts:
            if name == "indexes" or isinstance(event, PeerUp):
                self.step(name, Envelope(event))

    def step(self, name: str, envelope: Envelope[Any]) -> None:
        core = self.parts.get(name)
        if core is None:
            return
        ticked = isinstance(envelope.body, Tick)
        self.perform(name, core.step(envelope, self.world.now))
        wake = core.wake_at()
        if ticked:
            assert wake > self.world.now.mono, f"a tick of {name} did not advance its wake-up"
        if wake < math.inf:
            self.world.tick_at(self, name, wake)

    def perform(self, name: str, effects: list[Any]) -> None:
        """Saves first, then the rest in order."""
        for effect in effects:
            if isinstance(effect, Put):
                self.rows[name][effect.table, effect.key] = effect.value
            elif isinstance(effect, Delete):
                self.rows[name].pop((effect.table, effect.key), None)
        for effect in effects:
            match effect:
                case Put() | Delete() | Progress():
                    pass
                case Reply():
                    self.world.answer(effect)
                case Tell():
                    assert isinstance(effect.body, Outcome)
                    self.world.outcomes.append(effect.body)
                case Event():
                    self.world.blames.append(effect.body)
                case Cancel():
                    self.operations.pop((name, effect.tag), None)
                case Ask() | Call() | Transfer() | Compute():
                    self.world.operate(self, name, effect)
                case _:
                    raise AssertionError(effect)

    # Its adapters.

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def serve(self, query: Any) -> Any:
        match query:
            case GetSwarm():
                return SwarmInfo(SWARM, "founded", "")
            case GetStandings() | GetPeers():
                return ()
            case PutArtifact():
                digest = hashlib.sha256(query.data).hexdigest()
                self.path(digest).write_bytes(query.data)
                return self.serve(PinArtifact(digest, query.pin))
            case PinArtifact():
                if not self.path(query.digest).exists():
                    raise NotFound("no such artifact")
                self.pins.setdefault(query.digest, set()).add(query.pin)
                return Stored(query.digest, self.path(query.digest).stat().st_size, str(self.path(query.digest)))
            case ReleaseArtifact():
                self.pins.get(query.digest, set()).discard(query.pin)
                if not self.pins.get(query.digest):
                    self.path(query.digest).unlink(missing_ok=True)
                return None
            case Submit():
                return self.embed(query)
            case _:
                raise AssertionError(query)

    def embed(self, query: Submit) -> TaskOutcome:
        if query.key:
            assert self.submitted.setdefault(query.key, query.items) == query.items, "one key, two tasks"
        state: Any = ("done" if self.embeds else "failed") if query.wait else "queued"
        view = TaskView(
            f"t_{query.key or 'query'}", query.kind, state, 0, 0, 0, len(query.items), 0, 0, 0, {}, Verified()
        )
        done = state == "done"
        return TaskOutcome(view, b"".join(vector_of(item.decode()) for item in query.items) if done else b"")

    def compute(self, fn: str, args: Any) -> Any:
        function = getattr(search_worker, FUNCTIONS[fn].partition(":")[2])
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(args))  # as an executor hands it over
        try:
            return function(self.context, *plain)
        except (EdgenetError, OSError, ValueError) as error:
            raise ComputeFailed(f"{type(error).__name__}: {error}") from error


class World:
    """Everything that happens, by time. `loss` is the share of calls that vanish, on the way there or back."""

    def __init__(self, folder: Path, nodes: int, seed: int, settings: IndexSettings, loss: float = 0.0) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.settings = settings
        self.loss = loss
        self.now = Now(0.0, 1_700_000_000.0)
        self.outcomes: list[Outcome] = []
        self.blames: list[Any] = []
        self.calls: list[tuple[str, str, Any]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._replies: dict[int, OnReply] = {}
        self._ticks: set[tuple[str, int, str, float]] = set()
        self._cut: set[frozenset[str]] = set()
        self.nodes = [Node(self, number) for number in range(nodes)]
        for node in self.nodes:
            node.start()
        self.run(0.5)

    # Time.

    def at(self, mono: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(mono, self.now.mono), self._count, what))

    def later(self, what: Callable[[], None], most_s: float = 0.02) -> None:
        self.at(self.now.mono + self.rng.random() * most_s, what)

    def tick_at(self, node: Node, name: str, wake: float) -> None:
        key = (node.peer, node.incarnation, name, wake)
        if key in self._ticks:
            return
        self._ticks.add(key)

        def tick() -> None:
            self._ticks.discard(key)
            core = node.parts.get(name)
            if node.incarnation == key[1] and core is not None and core.wake_at() <= self.now.mono:
                node.step(name, Envelope(Tick()))

        self.at(wake, tick)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let things happen for a while, or until the condition holds."""
        end = self.now.mono + seconds
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            mono, _, what = heapq.heappop(self._events)
            self.now = Now(mono, 1_700_000_000.0 + mono)
            what()
        if until is not None and until():
            return True
        self.now = Now(end, 1_700_000_000.0 + end)
        return False

    # Who hears whom.

    def connected(self, a: Node, b: Node) -> bool:
        return frozenset((a.peer, b.peer)) not in self._cut

    def introduce(self, a: Node, b: Node) -> None:
        a.tell(PeerUp(b.peer))
        b.tell(PeerUp(a.peer))

    def cut(self, a: Node, b: Node) -> None:
        self._cut.add(frozenset((a.peer, b.peer)))
        a.tell(PeerDown(b.peer))
        b.tell(PeerDown(a.peer))

    def heal(self) -> None:
        healed, self._cut = self._cut, set()
        for a in self.nodes:
            for b in self.nodes:
                if a.peer < b.peer and frozenset((a.peer, b.peer)) in healed and a.up and b.up:
                    self.introduce(a, b)

    def node(self, peer: str) -> Node:
        return next(node for node in self.nodes if node.peer == peer)

    # Requests and operations.

    def request(self, node: Node, query: Any, sender: str = "", on_reply: OnReply | None = None) -> list[Any]:
        """The list fills with (value, error) when the answer comes."""
        box: list[Any] = []
        self._count += 1
        self._replies[self._count] = on_reply or (lambda value, error: box.append((value, error)))
        part = "holder" if type(query) in HOLDER_REMOTE else "indexes"
        assert part == "holder" or type(query) in ACCEPTS
        node.step(part, Envelope(query, self._count, sender))
        return box

    def ask(self, node: Node, query: Any, seconds: float = 120.0) -> Any:
        """The answer, or its error raised."""
        box = self.request(node, query)
        assert self.run(seconds, lambda: bool(box)), f"no answer to {type(query).__name__}"
        value, error = box[0]
        if error is not None:
            raise error
        return value

    def answer(self, reply: Reply) -> None:
        on_reply = self._replies.pop(reply.to, None)
        assert on_reply is not None, "an answer that nobody waits for, or a second one"
        on_reply(reply.value, reply.error)

    def operate(self, node: Node, name: str, effect: Any) -> None:
        incarnation = node.incarnation
        self._count += 1
        serial = self._count
        key = (name, effect.tag)
        assert key not in node.operations, f"tag {effect.tag} is in use"
        node.operations[key] = serial

        def complete(value: Any, error: Exception | None) -> None:
            if node.incarnation == incarnation and node.operations.get(key) == serial:
                del node.operations[key]
                node.step(name, Envelope(Done(effect.tag, value, error)))

        def here(work: Callable[[], Any], most_s: float = 0.02) -> None:
            """What this incarnation does itself dies with it."""
            self.later(lambda: self.local(work, complete) if node.incarnation == incarnation else None, most_s)

        self.at(self.now.mono + effect.timeout_s, lambda: complete(None, TimedOut("deadline")))
        match effect:
            case Ask(query=SearchOwn()):
                self.request(node, effect.query, on_reply=complete)
            case Ask():
                here(lambda: node.serve(effect.query))
            case Compute():
                here(lambda: node.compute(effect.fn, effect.args), 0.005)
            case Call():
                self.calls.append((node.peer, effect.peer, effect.query))
                self.call(node, effect, complete)
            case Transfer():
                here(lambda: self.transfer(node, effect), 0.2)

    def local(self, work: Callable[[], Any], complete: OnReply) -> None:
        try:
            value = work()
        except EdgenetError as error:
            complete(None, error)
        else:
            complete(value, None)

    def transfer(self, node: Node, effect: Transfer) -> int:
        source = self.node(effect.peer)
        if not source.up or not self.connected(node, source):
            raise Unreachable("no connection")
        if not source.path(effect.digest).exists():
            raise NotFound("the peer does not have it")
        data = source.path(effect.digest).read_bytes()
        if len(data) > effect.size_max:
            raise Malformed("larger than announced")
        node.path(effect.digest).write_bytes(data)
        return len(data)

    def call(self, node: Node, effect: Call, complete: OnReply) -> None:
        target = self.node(effect.peer)
        query = decode(encode(effect.query), type(effect.query), bytes_max=1 << 20)

        def arrive() -> None:
            if not target.up or not self.connected(node, target):
                complete(None, Unreachable("no connection"))
                return
            if self.rng.random() >= self.loss:
                self.request(target, query, node.peer, back)

        def back(value: Any, error: Exception | None) -> None:
            if error is not None:
                error = error if not isinstance(error, NotFound) else RemoteError(error.message)
            elif target.lie is not None and isinstance(query, SearchSegments):
                value = target.lie(query, value)
            if error is None:
                value = decode(encode(value), ANSWERS[type(query)], bytes_max=1 << 20)
            if self.rng.random() >= self.loss:
                self.later(lambda: complete(value, error))

        self.later(arrive)
