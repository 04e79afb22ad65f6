"""A seeded world: any number of whole nodes in one process, over fake networks, stores and executors.

With `seed_scheduler`, a `MockClock(autojump_threshold=0)` and no threads, a run is a function of its seed. What a node
consists of is the business of `build`, so the same world serves two toy cores and the whole daemon.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import trio
from msgspec import Struct

from ..errors import EdgenetError, InvariantError, TimedOut
from ..ports.clock import Clock
from ..runtime import Runtime
from .artifacts import MemoryArtifacts
from .clock import TrioClock
from .network import FakeNetwork, FakeNode, Link
from .store import MemoryStore

POLL_S = 0.01
"""How often `until` looks, in simulated seconds."""


async def until(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> float:
    """Let simulated time pass until the condition holds; the seconds it took. `TimedOut` if it never does."""
    start = trio.current_time()
    while not condition():
        if trio.current_time() - start > timeout_s:
            raise TimedOut(f"it did not come true within {timeout_s:g} simulated seconds")
        await trio.sleep(POLL_S)
    return trio.current_time() - start


class Ports(Struct, frozen=True):
    """What `build` makes a node of. `life` counts from 1. `rng` and `entropy` are the node's own; both are seeded."""

    peer: str
    life: int
    network: FakeNode
    store: MemoryStore
    artifacts: MemoryArtifacts
    clock: Clock
    rng: random.Random
    entropy: Callable[[int], bytes]


class WorldNode:
    """One node through its lives. `runtime` is that of the present life; `failure` is what ended the last one."""

    def __init__(self, peer: str, ports: Ports, runtime: Runtime) -> None:
        self.peer = peer
        self.ports = ports
        self.runtime = runtime
        self.running = False
        self.crashed = False
        self.failure: EdgenetError | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


class World:
    """`async with trio.open_nursery() as nursery: await nursery.start(world.run)`, then start nodes."""

    def __init__(
        self,
        seed: int,
        build: Callable[[Ports], Runtime],
        *,
        link: Link | None = None,
        make_store: Callable[[random.Random], MemoryStore] = lambda _rng: MemoryStore(),
        make_artifacts: Callable[[str], MemoryArtifacts] = lambda _peer: MemoryArtifacts(),
        skew_max_s: float = 0.0,
    ) -> None:
        self.rng = random.Random(seed)
        self.network = FakeNetwork(self.rng.getrandbits(32), link)
        self.nodes: dict[str, WorldNode] = {}
        self._build = build
        self._make_store = make_store
        self._make_artifacts = make_artifacts
        self._skew_max_s = skew_max_s
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.network.run)
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # ---- nodes

    async def start(self, *peers: str) -> None:
        """First lives. Returns when each one's cores are restored."""
        for peer in peers:
            store = self._make_store(random.Random(self.rng.getrandbits(32)))
            await self._begin(peer, 1, store, self._make_artifacts(peer))

    async def restart(self, peer: str) -> None:
        """The next life of a node that crashed, stopped or failed, on what its disk still holds."""
        node = self.nodes[peer]
        if node.running:
            raise InvariantError(f"{peer} still runs")
        await self._begin(peer, node.ports.life + 1, node.ports.store, node.ports.artifacts)

    async def crash(self, peer: str) -> None:
        """Power loss: silence in the middle of whatever it does; commits under way survive or not, as the seed says."""
        node = self.nodes[peer]
        node.crashed = True
        self.network.crash(peer)
        survived = node.ports.store.crash(self.rng)
        node.scope.cancel()
        await node.ended.wait()
        node.ports = _replaced(node.ports, survived)

    async def stop(self, peer: str, *, grace_s: float = 10.0) -> None:
        """A graceful stop; the store is closed and reopened for the next life."""
        node = self.nodes[peer]
        node.runtime.request_stop(grace_s)
        await node.ended.wait()
        self.network.crash(peer)
        node.ports = _replaced(node.ports, node.ports.store.clone())

    def runtime(self, peer: str) -> Runtime:
        return self.nodes[peer].runtime

    def store(self, peer: str) -> MemoryStore:
        return self.nodes[peer].ports.store

    # ---- what happens to them

    def partition(self, *groups: Iterable[str]) -> None:
        self.network.partition(*groups)

    def heal(self) -> None:
        self.network.heal()

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 60.0) -> float:
        """Simulated seconds until it held. `TimedOut` if it does not; the failure of a node that failed meanwhile."""

        def checked() -> bool:
            for node in self.nodes.values():
                if node.failure is not None:
                    raise node.failure
            return condition()

        return await until(checked, timeout_s=timeout_s)

    # ---- lives

    async def _begin(self, peer: str, life: int, store: MemoryStore, artifacts: MemoryArtifacts) -> None:
        if self._nursery is None:
            raise InvariantError("the world does not run")
        entropy = random.Random(self.rng.getrandbits(64))
        ports = Ports(
            peer=peer,
            life=life,
            network=self.network.node(peer, artifacts),
            store=store,
            artifacts=artifacts,
            clock=TrioClock(skew_s=self.rng.uniform(-self._skew_max_s, self._skew_max_s)),
            rng=random.Random(self.rng.getrandbits(64)),
            entropy=entropy.randbytes,
        )
        node = WorldNode(peer, ports, self._build(ports))
        self.nodes[peer] = node
        ports.network.attach(node.runtime.listener)
        await self._nursery.start(self._live, node)
        if node.failure is not None:
            raise node.failure

    async def _live(self, node: WorldNode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        node.running = True
        try:
            with node.scope:
                await node.runtime.run(task_status=task_status)
        except EdgenetError as failure:
            if not node.crashed:
                node.failure = failure
            if not node.runtime.started:
                task_status.started()
        finally:
            node.running = False
            node.ended.set()


def _replaced(ports: Ports, store: MemoryStore) -> Ports:
    return Ports(
        peer=ports.peer,
        life=ports.life,
        network=ports.network,
        store=store,
        artifacts=ports.artifacts.restarted(),
        clock=ports.clock,
        rng=ports.rng,
        entropy=ports.entropy,
    )
