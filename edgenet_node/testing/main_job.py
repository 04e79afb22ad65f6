"""The scenario `swarm`: the main job of the network, under everything that goes wrong.

Five to eight nodes, the first of which founds the swarm; two owners with tasks and indexes; perhaps a liar, a node
without the model, a stranger of another swarm, a buyer that overspends its leases.
"""

from __future__ import annotations

import random

import trio
from msgspec import structs

from ..config import Config
from ..errors import EdgenetError
from ..messages.market import Acquire
from ..tasks.handlers import pack_items
from ..tasks.handlers.embedding import MODEL
from ..wire.registry import WireTable
from ..wire.task import Run as RunChunk
from . import faults, invariants, owners
from .faults import Roles
from .simulation import Cast, Run, Scenario
from .swarm import LiePlan, Plan

CONFIG = Config()
CONFIG = structs.replace(CONFIG, network=structs.replace(CONFIG.network, presence_interval_s=20.0))
"""As in the daemon, but for fewer presences: most of what a quiet swarm does."""

GREEDY_UNITS = 4


def cast(rng: random.Random, nodes: int) -> Cast:
    count = nodes or rng.choice((5, 5, 5, 6, 6, 7, 8))
    names = [f"n{number}" for number in range(count)]
    own = tuple(sorted(rng.sample(names, 2)))
    others = [name for name in names if name not in own]
    liar = rng.choice(others) if rng.random() < 0.6 else ""
    lie = rng.choice((LiePlan(), LiePlan(share=0.3), LiePlan(rng.randint(10, 60), rng.choice((0.05, 0.3, 1.0)))))
    without = rng.choice(own) if rng.random() < 0.25 else ""
    plans = []
    for at, name in enumerate(names):
        # Most know the first node only; some were given two addresses, as prudent owners do.
        bootstrap = () if at == 0 else tuple(dict.fromkeys(("n0", rng.choice(names[:at]))))
        plans.append(
            Plan(
                name,
                bootstrap,
                workers=rng.choice((1, 2, 4)),
                model=name != without,
                seconds_per_item=rng.uniform(0.02, 0.1),
                lie=lie if name == liar else None,
                config=CONFIG,
            )
        )
    strangers: tuple[str, ...] = ()
    if rng.random() < 0.4:
        strangers = ("x0", "x1")
        plans += [Plan("x0", config=CONFIG), Plan("x1", ("x0",), config=CONFIG)]
    return Cast(tuple(plans), Roles(tuple(names), own, tuple(others), strangers))


async def overspending(run: Run, rng: random.Random) -> None:
    """A buyer that pays no attention to what its lease covers."""
    greedy = rng.choice(run.roles.executors)
    await trio.sleep(rng.uniform(1.0, run.window_s / 2))
    try:
        found = await run.swarm.ask(greedy, Acquire("embedding", MODEL, GREEDY_UNITS, 0, 1))
    except EdgenetError:
        return
    network, wire = run.swarm.node(greedy).ports.network, WireTable()
    for lease in found.leases:
        run.swarm.counted("overspending")
        for chunk in range(2 * lease.units // GREEDY_UNITS + 2):
            items = [f"greedy {chunk} {item}".encode() for item in range(GREEDY_UNITS)]
            query = RunChunk(
                lease.lease, "t_greedy", chunk, "embedding", b"", pack_items(items), len(items), GREEDY_UNITS, 10.0
            )
            try:
                answer = await network.call("rpc", lease.peer, wire.encode_call(query), timeout_s=10.0)
                wire.decode_reply(query, answer)
            except EdgenetError as error:
                run.monitor.note(greedy, f"is refused: {error}")


async def trespassing(run: Run, rng: random.Random) -> None:
    """Nodes of another swarm, once they have one, are pointed at this one and try to get in."""
    del rng
    members = run.roles.members
    for at, stranger in enumerate(run.roles.strangers):
        await trio.sleep(run.window_s / 4)
        for name in members[at::2]:
            run.swarm.node(stranger).ports.network.learn(run.swarm.peers[name], (), keep=True)
        run.swarm.counted("stranger")


SWARM = Scenario(
    name="swarm",
    cast=cast,
    faults=faults.ALL,
    activities=(owners.batch_tasks, owners.single_tasks, owners.index_life, overspending, trespassing),
    invariants=lambda: (
        invariants.OneSwarm(),
        invariants.Leases(),
        invariants.Barred(),
        invariants.Bounded(),
        invariants.Indexes(),
    ),
)
