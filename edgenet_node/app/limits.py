"""Settings of the configuration file to the limits of each part and adapter."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from .. import __version__
from ..adapters.artifact_files import ArtifactLimits
from ..adapters.libp2p_network.limits import NetworkSettings
from ..adapters.process_executor.settings import ExecutorSettings
from ..committee.settings import CommitteeSettings
from ..config import Config
from ..errors import InvalidResult
from ..gateway.node_view import ModelView
from ..gateway.settings import GatewaySettings
from ..identity.keys import Identity
from ..identity.settings import MembershipSettings
from ..kernels import backends
from ..market.settings import MarketSettings
from ..memory.ingest import Embedder
from ..memory.settings import IndexSettings
from ..raft.settings import RaftSettings
from ..tasks.registry import Registry
from ..tasks.settings import JobsSettings, ServingSettings
from ..trust.core import TrustSettings
from ..wire.peers import Capability


class Injected(Struct, frozen=True):
    """What cores are made of, besides their settings. In simulation `rng` and `entropy` are seeded."""

    config: Config
    identity: Identity
    registry: Registry
    workers: int
    capabilities: tuple[Capability, ...]
    founds: bool
    rng: random.Random
    entropy: Callable[[int], bytes] = os.urandom


def membership_settings(node: Injected) -> MembershipSettings:
    return MembershipSettings(
        __version__,
        node.capabilities,
        node.workers,
        presence_interval_s=node.config.network.presence_interval_s,
        chosen=frozenset(
            address.rpartition("/p2p/")[2]
            for address in (*node.config.network.bootstrap, *node.config.network.static_peers)
        ),
    )


LAN_TICK_S = 0.015
"""Elections after 150 to 300 ms, heartbeats every 30 ms."""


def raft_settings(config: Config) -> RaftSettings:
    consumers = ("registry",)
    if config.committee.profile == "lan":
        return RaftSettings(tick_s=LAN_TICK_S, consumers=consumers)
    return RaftSettings(consumers=consumers)


def committee_settings(config: Config) -> CommitteeSettings:
    section = config.committee
    return CommitteeSettings(
        serves=section.serve,
        certified_by_min=section.certified_by_min,
        accepted_epochs=section.accepted_epochs,
    )


def trust_settings(config: Config) -> TrustSettings:
    section = config.verification
    return TrustSettings(newcomer_items=section.newcomer_items, rate_min=section.rate_min, avoid_s=section.avoid_s)


def market_settings(config: Config) -> MarketSettings:
    section = config.market
    return MarketSettings(
        bid_window_s=section.bid_window_s,
        lease_s=section.lease_s,
        lease_units_max=section.lease_units_max,
        reserve=section.reserve_micro_ruv,
    )


def jobs_settings(node: Injected) -> JobsSettings:
    section = node.config.tasks
    return JobsSettings(
        workers=node.workers, self_share=section.self_share, live_max=section.jobs_max, history_max=section.history_max
    )


def serving_settings(node: Injected) -> ServingSettings:
    config = node.config
    return ServingSettings(
        workers=node.workers,
        chunks_max=config.tasks.chunks_max,
        run_timeout_s_max=config.workers.task_time_max_s,
        lie=config.faults.lie,
    )


def index_settings(config: Config) -> IndexSettings:
    section = config.index
    return IndexSettings(
        replicas=section.replicas,
        segment_rows_max=section.segment_rows_max,
        repair_after_s=section.repair_after_s,
        held_bytes_max=section.held_bytes_max,
    )


def embedder(registry: Registry) -> Embedder:
    """The vocabulary of the embedding handler, for indexes: subsystems do not import one another."""
    from ..tasks.handlers import embedding

    def vectors(output: bytes, count: int) -> bytes:
        found = embedding.read_vectors(output)
        if len(found) != count:
            raise InvalidResult(f"{len(found)} vectors for {count} texts")
        return bytes(found.tobytes())

    parsed = registry.get("embedding").parse({"text": "x"})
    return Embedder(
        kind="embedding",
        model=embedding.MODEL,
        dimension=embedding.DIMENSION,
        spec=parsed.spec,
        item=lambda text: text.encode(),
        vectors=vectors,
    )


def capabilities(registry: Registry, config: Config) -> tuple[Capability, ...]:
    """What this node announces: the kinds that it can compute now."""
    price = config.market.price_micro_ruv
    return tuple(Capability(one.kind, one.model, price) for one in registry if not one.unavailable())


def models(registry: Registry, config: Config) -> tuple[ModelView, ...]:
    rows = [
        ModelView(one.kind, one.model, not (reason := one.unavailable()), config.market.price_micro_ruv, reason)
        for one in registry
    ]
    return (*rows, *(ModelView(one.name, "", False, 0, one.reason) for one in registry.broken))


def network_settings(config: Config) -> NetworkSettings:
    section = config.network
    return NetworkSettings(
        listen=section.listen,
        announce=section.announce,
        bootstrap=(*section.bootstrap, *section.static_peers),
        peers_max=section.peers_max,
        streams_per_peer_max=section.streams_per_peer_max,
        publish_rate_per_s=section.publish_rate_per_s,
        publish_queue_max=section.publish_queue_max,
        dial_timeout_s=section.dial_timeout_s,
        admission_wait_s=section.admission_wait_s,
    )


def executor_settings(config: Config, workers: int, cache: Path) -> ExecutorSettings:
    """`ConfigError` if the kernels' backend that is asked for is not installed. `cache`: the node's cache folder."""
    section = config.workers
    backends.check(section.backend)
    return ExecutorSettings(
        workers=workers,
        queued_max=section.queue_max,
        nice=section.nice,
        memory_bytes_max=section.memory_bytes_max,
        backend=section.backend,
        kernel_cache=str(cache / "kernels"),
    )


def artifact_limits(config: Config) -> ArtifactLimits:
    section = config.artifacts
    return ArtifactLimits(
        budget_bytes=section.budget_bytes,
        artifact_bytes_max=section.artifact_bytes_max,
        partials_max=section.partials_max,
        partial_age_s=section.partial_age_s,
    )


def gateway_settings(config: Config) -> GatewaySettings:
    section = config.api
    return GatewaySettings(
        host=section.host,
        port=section.port,
        body_bytes_max=section.body_bytes_max,
        requests_max=section.requests_max,
    )
