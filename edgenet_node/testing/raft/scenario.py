"""The scenario `raft`: committees of every size under a random subset of everything that goes wrong."""

from __future__ import annotations

import random

from msgspec import structs

from ...raft.settings import RaftSettings
from ..events.disk import DiskPlan
from ..events.network import LinkPlan
from ..events.world import Scenario
from . import faults
from .clients import Load
from .committee import Committee, Shape
from .register import CONSUMER

SETTINGS = RaftSettings(consumers=(CONSUMER,), snapshot_timeout_s=5.0, snapshot_give_s=2.0)
"""The daemon's defaults (a WAN), with less patience for what a run of some twenty seconds must see the end of."""

SIZES = (1, 3, 3, 3, 4, 5, 5, 7)


def shape(rng: random.Random, nodes: int) -> Shape:
    voters = nodes or rng.choice(SIZES)
    entries = rng.choice((20, 60, 200, 20_000))
    settings = structs.replace(
        SETTINGS,
        snapshot_entries=entries,
        keep_entries=rng.choice((0, 5, 20)) if entries < 20_000 else 5000,
        inflight_max=rng.choice((2, 8, 64)),
        message_bytes_max=rng.choice((300, 4096, 256 * 1024)),
        delete_max=rng.choice((5, 4096)),
    )
    return Shape(
        voters=voters,
        spares=rng.choice((0, 1, 1, 2)),
        grown=rng.random() < 0.3,
        settings=settings,
        load=Load(
            clients=rng.choice((2, 3, 4)),
            slots=rng.choice((1, 2, 3)),
            keys=rng.choice((1, 2, 5)),
            think_s=rng.choice((0.2, 0.5, 1.0)),
            resident=rng.choice((0.0, 0.5)),
        ),
        link=LinkPlan(delay_max_s=rng.choice((0.002, 0.02, 0.08))),
        disk=DiskPlan(
            sync_max_s=rng.choice((0.002, 0.01, 0.05)),
            stall=rng.choice((0.0, 0.0, 0.01)),
            stall_s=rng.choice((0.2, 2.0)),
        ),
        consumer_disk=DiskPlan(sync_max_s=rng.choice((0.005, 0.05, 0.5))),
        wire=rng.random() < 0.1,
        drift_max=rng.choice((0.0, 1e-4, 0.2)),
        skew_max_s=rng.choice((0.0, 3600.0)),
    )


def build(seed: int, nodes: int) -> Committee:
    return Committee(seed, shape(random.Random(seed), nodes))


RAFT = Scenario(name="raft", build=build, faults=faults.ALL, window_s=20.0, settle_s=60.0, nodes_min=1, nodes_max=7)
