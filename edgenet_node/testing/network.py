"""The network in memory: any number of nodes in one process, with delay, loss, duplication, partition, disconnection.

A partition or a lost frame is silence: the connection stays, and only deadlines end calls. A crash or a disconnection
is noticed at once. Gossip reaches every node that is connected, over any number of hops, through members of the same
swarm that admitted one another; it may come twice. Everything random comes from one seeded source.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import trio
from msgspec import Struct

from ..errors import InvariantError, NotFound, Overloaded, Refused, TimedOut, TooLarge, Unreachable
from ..ports.network import Channel, Connection, NetworkListener
from ..ports.store import ArtifactStore
from .lanes import Lanes

CHUNK_BYTES = 256 * 1024
"""As `ports.store.ArtifactStore` says."""

GOSSIP_BYTES_MAX = 64 * 1024
FRAME_BYTES_MAX = 1024 * 1024
PUBLISHING_MAX = 1024
"""Notices of one node under way at once."""

DIAL_S = 0.25
REDIAL_S = 1.0
REDIAL_MAX_S = 30.0
DIALS_MAX = 8
"""Of a peer that is not kept, before it is forgotten."""

ADMISSION_WAIT_S = 5.0
REFUSED_S = 60.0
"""How long a refused peer is neither dialled nor accepted."""


class Link(Struct, frozen=True):
    """One way between two nodes. `loss` and `duplicate` are probabilities, the latter for gossip alone."""

    delay_min_s: float = 0.001
    delay_max_s: float = 0.01
    loss: float = 0.0
    duplicate: float = 0.0
    bytes_per_s: float = 40e6


class _Exchange:
    """One call under way, as its caller sees it."""

    __slots__ = ("answer", "done", "error", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.answer = b""
        self.error: Exception | None = None
        self.done = trio.Event()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


class FakeNode:
    """One node's `ports.network.Network`. `attach` a listener before anything is received."""

    def __init__(self, fabric: FakeNetwork, peer: str, number: int, artifacts: ArtifactStore | None) -> None:
        self.peer_id = peer
        self.artifacts = artifacts
        self.listener: NetworkListener | None = None
        self.swarm = ""
        self.alive = True
        self.links: dict[str, Connection] = {}
        self.admitted: set[str] = set()
        self.refused: dict[str, tuple[float, str]] = {}
        self.kept: set[str] = set()
        self.known: dict[str, tuple[str, ...]] = {}
        self.dialling: set[str] = set()
        self.exchanges: set[_Exchange] = set()
        self.publishing = 0
        self.serving: set[trio.CancelScope] = set()
        self.admission = trio.Condition()
        self.lanes = Lanes(fabric, self)
        self._fabric = fabric
        self._address = f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/4001/p2p/{peer}"

    def attach(self, listener: NetworkListener) -> None:
        self.listener = listener

    # ---- ports.network.Network

    def addresses(self) -> Sequence[str]:
        return (self._address,)

    def connections(self) -> Sequence[Connection]:
        return tuple(
            Connection(
                peer=link.peer,
                address=link.address,
                outbound=link.outbound,
                since_mono=link.since_mono,
                admitted=link.peer in self.admitted,
                rtt_s=2 * self._fabric.link(self.peer_id, link.peer).delay_min_s,
            )
            for link in self.links.values()
        )

    def publish(self, topic: str, data: bytes) -> None:
        if len(data) > GOSSIP_BYTES_MAX:
            raise TooLarge(f"{len(data)} bytes of gossip, at most {GOSSIP_BYTES_MAX}")
        if self.publishing >= PUBLISHING_MAX:
            raise Overloaded("the gossip queue is full", retry_after_s=0.1)
        self._fabric.gossip(self, topic, data)

    async def call(self, channel: Channel, peer: str, request: bytes, *, timeout_s: float) -> bytes:
        if len(request) > FRAME_BYTES_MAX:
            raise TooLarge(f"{len(request)} bytes in a call, at most {FRAME_BYTES_MAX}")
        await trio.lowlevel.checkpoint()
        if peer not in self.links:
            raise Unreachable(f"not connected to {peer}")
        exchange = _Exchange(peer)
        self.exchanges.add(exchange)
        try:
            self._fabric.carry(self, channel, exchange, request)
            with trio.move_on_after(timeout_s):
                await exchange.done.wait()
        finally:
            self.exchanges.discard(exchange)
        if not exchange.done.is_set():
            raise TimedOut(f"{peer} did not answer within {timeout_s:g} s")
        if exchange.error is not None:
            raise exchange.error
        return exchange.answer

    async def fetch(self, peer: str, digest: str, *, size_max: int, timeout_s: float) -> int:
        await trio.lowlevel.checkpoint()
        if peer not in self.links:
            raise Unreachable(f"not connected to {peer}")
        with trio.move_on_after(timeout_s):
            return await self._fabric.transfer(self, peer, digest, size_max)
        raise TimedOut(f"{peer} did not deliver {digest[:12]} within {timeout_s:g} s")

    def send(self, stream: str, peer: str, data: bytes) -> None:
        self.lanes.send(stream, peer, data)

    def set_swarm(self, swarm: str) -> None:
        if self.swarm not in ("", swarm):
            raise InvariantError("a node has one swarm for life")
        self.swarm = swarm

    def admit(self, peer: str) -> None:
        self.refused.pop(peer, None)
        self.admitted.add(peer)
        self._fabric.spawn(self._tell_admission)

    def refuse(self, peer: str, reason: str) -> None:
        self.admitted.discard(peer)
        self.refused[peer] = (trio.current_time() + REFUSED_S, reason)
        self._fabric.spawn(self._tell_admission)
        self._fabric.disconnect(self.peer_id, peer, Refused(reason, peer=self.peer_id))

    def pardon(self, peer: str) -> None:
        self.refused.pop(peer, None)

    def learn(self, peer: str, addresses: Sequence[str], *, keep: bool) -> None:
        self.known[peer] = tuple(addresses)
        if keep:
            self.kept.add(peer)
        self._fabric.dial(self, peer)

    # ---- for the fabric

    def refuses(self, peer: str) -> bool:
        until, _ = self.refused.get(peer, (0.0, ""))
        return until > trio.current_time()

    async def answer(self, channel: Channel, peer: str, request: bytes) -> bytes:
        """Runs at the called node; silence for ever if it dies meanwhile."""
        if channel == "rpc" and not await self.decided(peer):
            _, reason = self.refused.get(peer, (0.0, "not admitted"))
            raise Refused(reason, peer=self.peer_id)
        if self.listener is None:
            raise Unreachable(f"{self.peer_id} does not listen")
        return await self.listener.on_call(channel, peer, request)

    async def decided(self, peer: str) -> bool:
        """Whether this node admits the peer, once it has decided or waited long enough."""
        if peer not in self.admitted:
            with trio.move_on_after(ADMISSION_WAIT_S):
                async with self.admission:
                    while peer not in self.admitted and not self.refuses(peer):
                        await self.admission.wait()
        return peer in self.admitted

    def hear(self, stream: str, peer: str, data: bytes) -> None:
        if self.alive and self.listener is not None:
            self.listener.on_message(stream, peer, data)

    async def _tell_admission(self) -> None:
        async with self.admission:
            self.admission.notify_all()


class FakeNetwork:
    """The fabric between the nodes. `run` it as a task first; all faults are switched here."""

    def __init__(self, seed: int, link: Link | None = None) -> None:
        self.rng = random.Random(seed)
        self.nodes: dict[str, FakeNode] = {}
        self._default = link or Link()
        self._links: dict[tuple[str, str], Link] = {}
        self._cuts: set[frozenset[str]] = set()
        self._numbers = itertools.count(1)
        self._nursery: trio.Nursery | None = None
        self.frames_lost = 0
        self.calls_made = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def spawn(self, task: Callable[..., object], *args: object) -> None:
        if self._nursery is None:
            raise InvariantError("the fake network does not run")
        self._nursery.start_soon(task, *args)  # type: ignore[arg-type]

    # ---- who is there

    def node(self, peer: str, artifacts: ArtifactStore | None = None) -> FakeNode:
        """A new node, or a new life of a crashed one."""
        if peer in self.nodes and self.nodes[peer].alive:
            raise InvariantError(f"{peer} is there already")
        node = FakeNode(self, peer, next(self._numbers), artifacts)
        self.nodes[peer] = node
        for other in self.nodes.values():
            if peer in other.kept and other.alive:
                self.dial(other, peer)
        return node

    def crash(self, peer: str) -> None:
        """It falls silent in the middle of whatever it does; the others notice broken connections."""
        node = self.nodes[peer]
        node.alive = False
        node.listener = None
        for scope in node.serving:
            scope.cancel()
        for other in list(node.links):
            self.disconnect(peer, other)

    def connect(self, dialler: str, listener: str) -> None:
        """At once. Nothing happens if they are connected, or one refuses the other."""
        a, b = self.nodes[dialler], self.nodes[listener]
        if dialler in b.links or dialler == listener or not (a.alive and b.alive):
            return
        if a.refuses(listener) or b.refuses(dialler):
            return
        now = trio.current_time()
        for one, other, outbound in ((a, b, True), (b, a, False)):
            one.links[other.peer_id] = Connection(other.peer_id, other.addresses()[0], outbound, now, admitted=False)
        for one, other, outbound in ((a, b, True), (b, a, False)):
            if one.listener is not None:
                one.listener.on_connected(other.peer_id, outbound)

    def mesh(self) -> None:
        """Connect everybody with everybody."""
        for a, b in itertools.combinations(sorted(self.nodes), 2):
            self.connect(a, b)

    def disconnect(self, a: str, b: str, reason: Exception | None = None) -> None:
        """The connection breaks; both notice, and open calls between them end with `reason` or `Unreachable`."""
        for one, other in ((a, b), (b, a)):
            node = self.nodes[one]
            if node.links.pop(other, None) is None:
                continue
            node.lanes.broke(other)
            for exchange in list(node.exchanges):
                if exchange.peer == other:
                    exchange.fail(reason or Unreachable(f"the connection to {other} broke"))
            if node.listener is not None:
                node.listener.on_disconnected(other)
            if node.alive and (other in node.kept or other in node.known):
                self.dial(node, other)

    def dial(self, node: FakeNode, peer: str) -> None:
        if peer not in node.dialling and peer not in node.links:
            node.dialling.add(peer)
            self.spawn(self._dial, node, peer)

    # ---- faults

    def set_link(self, sender: str, receiver: str, link: Link) -> None:
        """For one direction; the default of the constructor holds otherwise."""
        self._links[sender, receiver] = link

    def set_default(self, link: Link) -> None:
        self._default = link

    def link(self, sender: str, receiver: str) -> Link:
        return self._links.get((sender, receiver), self._default)

    def partition(self, *groups: Iterable[str]) -> None:
        """Silence between nodes of different groups; nodes in no group hear everybody."""
        self._cuts.clear()
        for one, other in itertools.combinations([sorted(group) for group in groups], 2):
            self._cuts.update(frozenset(pair) for pair in itertools.product(one, other))

    def heal(self) -> None:
        self._cuts.clear()

    def is_cut(self, a: str, b: str) -> bool:
        return frozenset((a, b)) in self._cuts

    # ---- traffic

    def carry(self, caller: FakeNode, channel: Channel, exchange: _Exchange, request: bytes) -> None:
        self.calls_made += 1
        self.spawn(self._carry, caller, channel, exchange, request)

    def gossip(self, author: FakeNode, topic: str, data: bytes) -> None:
        for peer in self._reached_from(author):
            link = self.link(author.peer_id, peer)
            for _ in range(1 + (self.rng.random() < link.duplicate)):
                author.publishing += 1
                self.spawn(self._deliver, author, peer, topic, data)

    async def transfer(self, receiver: FakeNode, peer: str, digest: str, size_max: int) -> int:
        await self._travel(receiver.peer_id, peer, 64)
        source = self.nodes[peer]
        size = source.artifacts.size(digest) if source.artifacts is not None else -1
        await self._travel(peer, receiver.peer_id, 64)
        if size < 0:
            raise NotFound(f"{peer} has no artifact {digest[:12]}")
        if size > size_max:
            raise TooLarge(f"artifact of {size} bytes, at most {size_max}", peer=peer)
        if receiver.artifacts is None or source.artifacts is None:
            raise InvariantError("this node has no artifact store")
        writer = await receiver.artifacts.begin(digest, size)
        while writer.received < size:
            index, skip = divmod(writer.received, CHUNK_BYTES)
            chunk = await source.artifacts.read_chunk(digest, index)
            await self._travel(peer, receiver.peer_id, len(chunk))
            if peer not in receiver.links:
                raise Unreachable(f"the connection to {peer} broke")
            await writer.write(chunk[skip:])
        await writer.finish()
        return size

    async def _carry(self, caller: FakeNode, channel: Channel, exchange: _Exchange, request: bytes) -> None:
        target = self.nodes[exchange.peer]
        if not await self._arrives(caller.peer_id, target.peer_id, len(request)):
            return
        error: Exception | None = None
        answer = b""
        with trio.CancelScope() as scope:
            target.serving.add(scope)
            try:
                answer = await target.answer(channel, caller.peer_id, request)
            except (Refused, Unreachable) as caught:
                error = caught
            finally:
                target.serving.discard(scope)
        if not target.alive or not await self._arrives(target.peer_id, caller.peer_id, len(answer)):
            return
        if caller.alive and not exchange.done.is_set():
            exchange.answer, exchange.error = answer, error
            exchange.done.set()

    async def _deliver(self, author: FakeNode, peer: str, topic: str, data: bytes) -> None:
        try:
            arrived = await self._arrives(author.peer_id, peer, len(data))
        finally:
            author.publishing -= 1
        target = self.nodes[peer]
        if arrived and target.alive and target.listener is not None:
            target.listener.on_gossip(topic, author.peer_id, data)

    async def _arrives(self, sender: str, receiver: str, size: int) -> bool:
        """Take the time it takes; False when it is lost on the way or the way is cut at either end of it."""
        link = self.link(sender, receiver)
        lost = self.rng.random() < link.loss or self.is_cut(sender, receiver)
        await trio.sleep(self.rng.uniform(link.delay_min_s, link.delay_max_s) + size / link.bytes_per_s)
        lost = lost or self.is_cut(sender, receiver)
        self.frames_lost += lost
        return not lost

    async def _travel(self, sender: str, receiver: str, size: int) -> None:
        if not await self._arrives(sender, receiver, size):
            await trio.sleep_forever()

    def _reached_from(self, author: FakeNode) -> list[str]:
        """Breadth first over connections between members of the author's swarm that admitted one another."""
        reached = {author.peer_id}
        level = deque([author])
        while level:
            node = level.popleft()
            for peer in sorted(node.links):
                if peer not in reached and self._meshed(node, self.nodes[peer]):
                    reached.add(peer)
                    level.append(self.nodes[peer])
        return sorted(reached - {author.peer_id})

    def _meshed(self, a: FakeNode, b: FakeNode) -> bool:
        return (
            a.swarm == b.swarm != ""
            and a.peer_id in b.admitted
            and b.peer_id in a.admitted
            and not self.is_cut(a.peer_id, b.peer_id)
        )

    async def _dial(self, node: FakeNode, peer: str) -> None:
        """For ever if it is kept; otherwise some times with growing pauses, and then forget it, as the adapter does."""
        pause_s, failures = REDIAL_S, 0
        try:
            while node.alive and peer not in node.links:
                await trio.sleep(DIAL_S)
                target = self.nodes.get(peer)
                if target is not None and target.alive and not self.is_cut(node.peer_id, peer):
                    self.connect(node.peer_id, peer)
                if peer in node.links:
                    return
                failures += 1
                if peer not in node.kept:
                    if failures >= DIALS_MAX:
                        node.known.pop(peer, None)
                        return
                    pause_s = min(2 * pause_s, REDIAL_MAX_S)
                await trio.sleep(pause_s)
        finally:
            node.dialling.discard(peer)
