"""A simulated swarm of whole nodes: the parts list of the daemon over fake network, store, artifacts and executor.

`Plan` says what a node is, `Swarm` builds and drives its lives. Nothing here judges: what must hold is in `invariants`,
what goes wrong in `faults`, what owners do in `owners`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import trio
from msgspec import Struct

from .. import config as configuration
from ..adapters.artifact_desk import ArtifactDesk
from ..app.limits import Injected, capabilities
from ..app.parts import parts
from ..app.services import services
from ..crypto.hashing import sha256
from ..effects import Part, Query
from ..errors import Cancelled, EdgenetError, LocalError, NotFound, Overloaded, TimedOut
from ..identity.keys import Identity
from ..memory.inner import FUNCTIONS as SEARCH_FUNCTIONS
from ..messages.network import SetSwarm
from ..runtime import Runtime
from ..tasks.handlers.echo import EchoHandler
from ..tasks.registry import Registry
from ..wire.registry import WireTable
from .artifacts import MemoryArtifacts
from .hash_embedding import FUNCTION, HashEmbedding, embed, falsify, texts_of
from .inline_executor import Fault, InlineExecutor
from .monitor import Monitor
from .network import Link
from .store import MemoryStore
from .world import Ports, World, WorldNode

R = TypeVar("R")

ASK_AGAIN_S = 0.4
"""Pause of an owner whose node could not answer."""

BURY_S = 0.25
"""At most this long the connections of a process that failed are still there."""

OTHER_COMPUTATION_S = 0.0005
"""What a search or the building of a segment takes."""

TRANSIENT = (Overloaded, Cancelled, TimedOut, LocalError)
"""What an owner tries again, unless it is one of `FINAL`."""

FINAL = (NotFound,)


class LiePlan(Struct, frozen=True):
    """Lies about each embedding with probability `share`, once it has done `honest_items` for others rightly."""

    honest_items: int = 0
    share: float = 1.0


class Plan(Struct, frozen=True):
    """One node. `bootstrap` names nodes to join through, none to found a swarm. `parts`: what is in it; other
    subsystems put theirs here."""

    name: str
    bootstrap: tuple[str, ...] = ()
    workers: int = 2
    model: bool = True
    seconds_per_item: float = 0.01
    lie: LiePlan | None = None
    config: configuration.Config = configuration.Config()
    parts: Callable[[Injected], Sequence[Part]] = parts


class Swarm:
    """`await nursery.start(swarm.run)`, then `start`. Nodes are called by the names of their plans."""

    def __init__(self, seed: int, plans: Sequence[Plan], monitor: Monitor, folder: Path, link: Link) -> None:
        self.rng = random.Random(f"owners of {seed}")
        self.monitor = monitor
        self.folder = folder
        self.plans = {plan.name: plan for plan in plans}
        self.identities = {plan.name: Identity(sha256(f"simulated node {seed} {plan.name}".encode())) for plan in plans}
        self.peers = {name: identity.peer_id for name, identity in self.identities.items()}
        self.names = {peer: name for name, peer in self.peers.items()}
        self.slowness = dict.fromkeys(self.plans, 1.0)
        self.failures_expected: set[str] = set()
        self.lies: set[bytes] = set()
        self.faults: dict[str, int] = {}
        self.node_seconds = 0.0
        self._served = dict.fromkeys(self.plans, 0)
        self._broken: dict[str, Fault] = {}
        self._executors: dict[str, InlineExecutor] = {}
        self._born: dict[str, float] = {}
        self.world = World(
            seed,
            self._build,
            link=link,
            make_store=lambda rng: MemoryStore(delay_s=lambda: rng.uniform(0.0005, 0.005)),
            make_artifacts=self._artifacts,
            skew_max_s=2.0,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.world.run)
            nursery.start_soon(self._bury)
            task_status.started()

    # ---- nodes

    async def start(self, name: str) -> None:
        self._begins(name)
        await self.world.start(self.peers[name])

    async def crash(self, name: str) -> None:
        self.monitor.note(name, "power loss")
        self._ends(name)
        await self.world.crash(self.peers[name])

    async def stop(self, name: str) -> None:
        self.monitor.note(name, "stops")
        await self.world.stop(self.peers[name])
        self._ends(name)

    async def restart(self, name: str) -> None:
        """On what its disk has; nothing happens when it runs, or somebody else is starting it."""
        if self.node(name).running or name in self._born:
            return
        self._begins(name)
        await self.world.restart(self.peers[name])

    def end(self) -> None:
        """Settle the account of seconds lived."""
        for name in list(self._born):
            self._ends(name)

    def node(self, name: str) -> WorldNode:
        return self.world.nodes[self.peers[name]]

    def running(self, name: str) -> bool:
        node = self.world.nodes.get(self.peers[name])
        return node is not None and node.running and node.runtime.started

    def alive(self) -> list[str]:
        return [name for name in self.plans if self.running(name)]

    def store(self, name: str) -> MemoryStore:
        return self.node(name).ports.store

    # ---- faults that outlive a node's lives

    def counted(self, kind: str) -> None:
        """A fault of this kind struck."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def break_executor(self, name: str, fault: Fault) -> None:
        """From now on, every embedding there ends like this."""
        self._broken[name] = fault
        if name in self._executors:
            self._executors[name].sometimes(FUNCTION, 1.0, fault, random.Random(0))

    # ---- what owners ask

    async def ask(self, name: str, query: Query[R], timeout_s: float = 30.0) -> R:
        """The answer of this node. `Cancelled` while it is down."""
        if not self.running(name):
            raise Cancelled("the node is down")
        return await self.node(name).runtime.bus.ask(query, timeout_s)

    async def insist(self, name: str, query: Query[R], *, timeout_s: float = 30.0, within_s: float = 600.0) -> R:
        """As an owner does: again after a pause, until there is an answer that is more than "not now"."""
        give_up = trio.current_time() + within_s
        while True:
            try:
                return await self.ask(name, query, timeout_s)
            except FINAL:
                raise
            except TRANSIENT as error:
                if type(error).code in {"usage", "conflict"} or trio.current_time() > give_up:
                    raise
                pause_s = max(ASK_AGAIN_S, min(error.retry_after_s, 5.0))
            await trio.sleep(pause_s * self.rng.uniform(0.8, 1.2))

    # ---- building

    def _build(self, ports: Ports) -> Runtime:
        name = self.names[ports.peer]
        plan = self.plans[name]
        registry = Registry([EchoHandler(), HashEmbedding(present=plan.model)])
        made = Injected(
            config=plan.config,
            identity=self.identities[name],
            registry=registry,
            workers=plan.workers,
            capabilities=capabilities(registry, plan.config),
            founds=not plan.bootstrap,
            rng=ports.rng,
            entropy=ports.entropy,
        )
        runtime: Runtime

        def join(body: SetSwarm) -> None:
            runtime.set_swarm(body.swarm)

        watched, ledger = self.monitor.watch(name, plan.parts(made), ports.store)
        runtime = Runtime(
            watched,
            store=ports.store,
            network=ports.network,
            executor=self._executor(plan, registry, ports.rng),
            clock=ports.clock,
            rng=ports.rng,
            wire=WireTable(),
            services=services(ports.network, ArtifactDesk(ports.artifacts), join),
        )
        ledger.attach(runtime)
        for other in plan.bootstrap:
            ports.network.learn(self.peers[other], (), keep=True)
        return runtime

    def _executor(self, plan: Plan, registry: Registry, rng: random.Random) -> InlineExecutor:
        def cost_s(fn: str, args: Sequence[Any]) -> float:
            if fn != FUNCTION:
                return OTHER_COMPUTATION_S
            spread = rng.uniform(0.8, 1.25)
            return plan.seconds_per_item * spread * self.slowness[plan.name] * max(1, len(texts_of(args[1])))

        def lying(context: object, spec: bytes, data: bytes) -> bytes:
            return self._lie(plan, embed(context, spec, data), texts_of(data), rng)

        functions: dict[str, Any] = {**registry.functions(), **SEARCH_FUNCTIONS}
        if plan.lie is not None:
            functions[FUNCTION] = lying
        executor = InlineExecutor(functions, workers=plan.workers, cost_s=cost_s)
        if plan.name in self._broken:
            executor.sometimes(FUNCTION, 1.0, self._broken[plan.name], random.Random(0))
        self._executors[plan.name] = executor
        return executor

    def _lie(self, plan: Plan, output: bytes, texts: Sequence[bytes], rng: random.Random) -> bytes:
        if plan.lie is None:
            return output
        before = self._served[plan.name]
        self._served[plan.name] += len(texts)
        chosen = [
            at for at in range(len(texts)) if before + at >= plan.lie.honest_items and rng.random() < plan.lie.share
        ]
        if not chosen:
            return output
        self.counted("lie")
        self.lies.update(texts[at] for at in chosen)
        return falsify(output, chosen, rng)

    def _artifacts(self, peer: str) -> MemoryArtifacts:
        folder = self.folder / self.names[peer]
        folder.mkdir(parents=True, exist_ok=True)
        return MemoryArtifacts(folder=folder)

    # ---- lives

    def _begins(self, name: str) -> None:
        self._born[name] = trio.current_time()
        self.monitor.note(name, "starts")

    def _ends(self, name: str) -> None:
        self.node_seconds += trio.current_time() - self._born.pop(name, trio.current_time())

    async def _bury(self) -> None:
        """A process that failed is gone: its connections break. It was to be expected, or it is a violation."""
        while True:
            await trio.sleep(BURY_S)
            for peer, node in list(self.world.nodes.items()):
                if node.failure is not None and not node.crashed:
                    name = self.names[peer]
                    text = f"{type(node.failure).__name__}: {node.failure}"
                    if name in self.failures_expected:
                        self.monitor.note(name, f"failed as told: {text}")
                    else:
                        self.monitor.violate("no node fails", f"{name}: {text}")
                    await self.crash(name)


def plainly(error: EdgenetError) -> str:
    return f"{type(error).__name__}: {error.message}"
