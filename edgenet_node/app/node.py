"""One daemon: adapters and runtime, wired, started and stopped in order."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import psutil
import structlog
import trio

from .. import __version__
from ..adapters.artifact_desk import ArtifactDesk
from ..adapters.artifact_files import ArtifactFiles
from ..adapters.data_dir import DataDir, RunInfo
from ..adapters.libp2p_network.network import Libp2pNetwork
from ..adapters.process_executor.pool import ProcessExecutor
from ..config import Config, worker_count
from ..errors import LocalError
from ..gateway.node_view import NodeFacts, NodeView
from ..identity.keys import Identity
from ..memory.inner import FUNCTIONS as SEARCH_FUNCTIONS
from ..messages import network as network_messages
from ..ports.network import Channel, NetworkListener, Verdict
from ..ports.store import RowStore
from ..runtime.clock import SystemClock
from ..runtime.lag import LagMonitor
from ..runtime.node import Runtime
from ..tasks.handlers import Environment
from ..tasks.registry import load
from ..wire.registry import WireTable, topic_names
from .limits import Injected, capabilities, executor_settings, models, network_settings
from .parts import parts
from .services import services

log = structlog.get_logger("edgenet_node")


class Ear:
    """The transport is made before the runtime that listens to it; this stands between them."""

    def __init__(self) -> None:
        self.listener: NetworkListener | None = None

    def _heard(self) -> NetworkListener:
        if self.listener is None:
            raise LocalError("the transport was started before the runtime")
        return self.listener

    def on_connected(self, peer: str, outbound: bool) -> None:
        self._heard().on_connected(peer, outbound)

    def on_disconnected(self, peer: str) -> None:
        self._heard().on_disconnected(peer)

    def on_gossip(self, topic: str, author: str, data: bytes) -> Verdict:
        return self._heard().on_gossip(topic, author, data)

    async def on_call(self, channel: Channel, peer: str, request: bytes) -> bytes:
        return await self._heard().on_call(channel, peer, request)

    def on_message(self, stream: str, peer: str, data: bytes) -> None:
        self._heard().on_message(stream, peer, data)

    def on_blame(self, peer: str, reason: str) -> None:
        self._heard().on_blame(peer, reason)


class Door(Protocol):
    """What the owner comes in by: `gateway.server.Gateway`, or nothing in a benchmark."""

    async def serve(self, node: NodeView, *, task_status: trio.TaskStatus[None]) -> None: ...


class Node:
    """Adapters and runtime of one daemon, wired. `run` until `stop`."""

    def __init__(
        self, config: Config, folder: DataDir, store: RowStore, files: ArtifactFiles, identity: Identity
    ) -> None:
        self._config = config
        self._folder = folder
        self._store = store
        self._started = time.monotonic()
        self._state = "starting"
        layout = folder.layout
        self.identity = identity
        self.registry = load(Environment(layout.cache))
        self.workers = worker_count(config, os.cpu_count() or 1)
        clock, rng = SystemClock(), random.Random(os.urandom(16))
        ear = Ear()
        self.network = Libp2pNetwork(self.identity.reveal_seed(), network_settings(config), ear, files, clock, rng)
        functions = {**self.registry.functions(), **SEARCH_FUNCTIONS}
        self.executor = ProcessExecutor(
            functions, executor_settings(config, self.workers, layout.cache), clock, rng=rng
        )
        made = Injected(
            config=config,
            identity=self.identity,
            registry=self.registry,
            workers=self.workers,
            capabilities=capabilities(self.registry, config),
            founds=not (config.network.bootstrap or config.network.static_peers),
            rng=rng,
        )
        self.runtime = Runtime(
            parts(made),
            store=store,
            network=self.network,
            executor=self.executor,
            clock=clock,
            rng=rng,
            wire=WireTable(),
            services=services(self.network, ArtifactDesk(files), self._join),
        )
        ear.listener = self.runtime.listener
        self._lag = LagMonitor()
        self.runtime.bus.listen(network_messages.SwarmAdopted, _say_adopted)

    def _join(self, body: network_messages.SetSwarm) -> None:
        self.runtime.set_swarm(body.swarm)
        for topic in topic_names(body.swarm):
            self.network.subscribe(topic)

    def facts(self) -> NodeFacts:
        config, stats = self._config, self.executor.stats()
        return NodeFacts(
            state=self._state,
            version=__version__,
            peer_id=self.identity.peer_id,
            pi_key=self.identity.pi_key.hex(),
            short_id=self.identity.short_id,
            uptime_s=time.monotonic() - self._started,
            loop_lag_ms=self._lag.snapshot().p99_ms,
            rss_bytes=psutil.Process().memory_info().rss,
            workers={
                "workers": stats.workers,
                "busy": stats.busy,
                "queued": stats.queued,
                "restarts": stats.restarts,
                "stolen": stats.stolen,
                "completed": stats.completed,
            },
            limits={
                "workers": self.workers,
                "worker_memory_bytes": config.workers.memory_bytes_max,
                "worker_nice": config.workers.nice,
                "artifact_bytes": config.artifacts.budget_bytes,
                "peers": config.network.peers_max,
                "chunks": config.tasks.chunks_max,
                "jobs": config.tasks.jobs_max,
            },
            counters=self.network.counters(),
        )

    def view(self, stop: Callable[[], None]) -> NodeView:
        return NodeView(
            bus=self.runtime.bus,
            facts=self.facts,
            models=lambda: models(self.registry, self._config),
            present=lambda kind, output: self.registry.get(kind).result(output),
            stop=stop,
        )

    def stop(self) -> None:
        """Drain and stop within the configured grace."""
        self._state = "draining"
        self.runtime.request_stop(self._config.node.grace_s)

    async def run(self, gateway: Door, api: str, on_ready: Callable[[dict[str, Any]], None]) -> None:
        """Start order: workers, cores, transport, door. The reverse at the end, whatever happened."""
        async with trio.open_nursery() as outer:
            await outer.start(self.executor.serve)
            async with trio.open_nursery() as inner:
                inner.start_soon(self._lag.run)
                await inner.start(self._run_runtime, inner.cancel_scope)
                await inner.start(self.network.run)
                await inner.start(gateway.serve, self.view(self.stop))
                self._state = "ready"
                self._folder.announce(RunInfo(os.getpid(), api, self.identity.peer_id, __version__))
                on_ready(
                    {
                        "state": "ready",
                        "peer_id": self.identity.peer_id,
                        "addresses": list(self.network.addresses()),
                        "api": api,
                    }
                )
            outer.cancel_scope.cancel()

    async def _run_runtime(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        """The runtime's end is the node's end: what serves it goes with it."""
        try:
            await self.runtime.run(task_status=task_status)
        finally:
            scope.cancel()


def _say_adopted(event: network_messages.SwarmAdopted) -> None:
    log.warning("adopted the swarm of the first peer reached", swarm=event.swarm, peer=event.peer)
