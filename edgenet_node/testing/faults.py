"""What goes wrong in a simulated swarm. Each fault is seeded, counted by its kind, and over when its task is.

A `FaultKind` strikes a run with some probability. Other subsystems add theirs to the list of their scenario.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence

import trio
from msgspec import Struct

from .inline_executor import Crash, Delay
from .network import Link
from .swarm import Swarm


class Roles(Struct, frozen=True):
    """Who is who in a run. `owners` submit tasks and keep indexes; `members` are all of the swarm, `owners` too;
    `executors` may be broken for good, as nobody's work is theirs; `strangers` are of another swarm."""

    members: tuple[str, ...]
    owners: tuple[str, ...]
    executors: tuple[str, ...]
    strangers: tuple[str, ...] = ()


class Strike(Struct, frozen=True):
    """What a fault is given: the swarm, a random source of its own, who is who, and until when to be over."""

    swarm: Swarm
    rng: random.Random
    roles: Roles
    window_s: float


class FaultKind(Struct, frozen=True):
    """`probability` that a run meets it."""

    name: str
    probability: float
    strike: Callable[[Strike], Awaitable[None]]


def bad_link(rng: random.Random) -> Link:
    """Loss, delay and duplication for a whole run."""
    return Link(
        delay_min_s=rng.choice((0.001, 0.005, 0.02)),
        delay_max_s=rng.choice((0.02, 0.08, 0.25)),
        loss=rng.choice((0.0, 0.01, 0.03, 0.08)),
        duplicate=rng.choice((0.0, 0.1, 0.3)),
    )


def _moments(strike: Strike, most: int) -> list[float]:
    """One to `most` times within the first three quarters of the window."""
    return sorted(strike.rng.uniform(0.5, strike.window_s * 0.75) for _ in range(strike.rng.randint(1, most)))


def _mostly_owners(strike: Strike) -> tuple[str, ...]:
    """To choose from: an owner's node has the most to lose."""
    return strike.roles.members + 2 * strike.roles.owners


async def _until(moment: float) -> None:
    await trio.sleep(max(0.0, moment - trio.current_time()))


async def partition(strike: Strike) -> None:
    swarm, rng = strike.swarm, strike.rng
    for moment in _moments(strike, 2):
        await _until(moment)
        names = list(strike.roles.members)
        rng.shuffle(names)
        cut = rng.randint(1, len(names) - 1)
        swarm.counted("partition")
        swarm.monitor.note("", f"partition {sorted(names[:cut])} from {sorted(names[cut:])}")
        swarm.world.partition([swarm.peers[one] for one in names[:cut]], [swarm.peers[one] for one in names[cut:]])
        await trio.sleep(rng.uniform(1.0, strike.window_s / 4))
        swarm.world.heal()
        swarm.monitor.note("", "healed")


async def crash(strike: Strike) -> None:
    """Power loss: commits on their way reach the disk or not; the node comes back with what its disk has."""
    for moment in _moments(strike, 3):
        await _until(moment)
        await _down(strike, "crash", strike.rng.choice(strike.roles.members))


async def owner_crash(strike: Strike) -> None:
    for moment in _moments(strike, 2):
        await _until(moment)
        await _down(strike, "crash", strike.rng.choice(strike.roles.owners))


async def stop(strike: Strike) -> None:
    """A graceful restart, as for an upgrade."""
    await _until(_moments(strike, 1)[0])
    await _down(strike, "stop", strike.rng.choice(strike.roles.members))


async def _down(strike: Strike, kind: str, name: str) -> None:
    swarm = strike.swarm
    if not swarm.running(name):
        return
    swarm.counted(kind)
    await (swarm.crash(name) if kind == "crash" else swarm.stop(name))
    await trio.sleep(strike.rng.choice((0.05, 1.0, 5.0)) * strike.rng.uniform(0.5, 1.5))
    await swarm.restart(name)


async def broken_disk(strike: Strike) -> None:
    """A commit fails: the node must stop without acknowledging anything more, and is started again."""
    swarm, name = strike.swarm, strike.rng.choice(strike.roles.members)
    await _until(_moments(strike, 1)[0])
    if not swarm.running(name):
        return
    swarm.counted("broken disk")
    swarm.failures_expected.add(name)
    swarm.monitor.note(name, "the next commit but a few fails")
    swarm.store(name).fsync_fails_after = strike.rng.randint(0, 4)
    with trio.move_on_after(strike.window_s):
        while swarm.running(name):  # noqa: ASYNC110 - simulated time: the poll costs nothing
            await trio.sleep(0.1)
    await trio.sleep(0.5)
    swarm.failures_expected.discard(name)
    if not swarm.running(name):
        await swarm.restart(name)
    else:
        swarm.store(name).fsync_fails_after = -1


async def full_disk(strike: Strike) -> None:
    """No space for rows and artifacts, until somebody makes some."""
    swarm, name = strike.swarm, strike.rng.choice(_mostly_owners(strike))
    await _until(_moments(strike, 1)[0])
    swarm.counted("full disk")
    end = trio.current_time() + strike.rng.uniform(1.0, strike.window_s / 4)
    swarm.monitor.note(name, "the disk is full")
    while trio.current_time() < end:
        swarm.store(name).disk_full = swarm.node(name).ports.artifacts.disk_full = True  # also after a restart
        await trio.sleep(0.25)
    swarm.store(name).disk_full = swarm.node(name).ports.artifacts.disk_full = False
    swarm.monitor.note(name, "the disk has room again")


async def dead_executor(strike: Strike) -> None:
    """It takes work, and never returns any: the computation hangs, or its worker dies."""
    swarm, name = strike.swarm, strike.rng.choice(strike.roles.executors)
    await _until(strike.rng.choice((0.0, strike.window_s * 0.2)))
    hangs = strike.rng.random() < 0.5
    swarm.counted("dead executor")
    swarm.monitor.note(name, "computes nothing any more: " + ("it hangs" if hangs else "workers die"))
    swarm.break_executor(name, Delay(math.inf) if hangs else Crash())


async def straggler(strike: Strike) -> None:
    swarm, name = strike.swarm, strike.rng.choice(strike.roles.executors)
    await _until(strike.rng.uniform(0.0, strike.window_s * 0.5))
    swarm.counted("straggler")
    swarm.slowness[name] = strike.rng.uniform(10.0, 60.0)
    swarm.monitor.note(name, f"is {swarm.slowness[name]:.0f} times slower")


async def broken_link(strike: Strike) -> None:
    """Connections break and are made again."""
    swarm = strike.swarm
    for moment in _moments(strike, 3):
        await _until(moment)
        one, other = strike.rng.sample(strike.roles.members, 2)
        swarm.counted("broken link")
        swarm.monitor.note(one, f"loses its connection to {other}")
        swarm.world.network.disconnect(swarm.peers[one], swarm.peers[other])
        await trio.sleep(strike.rng.uniform(0.1, 2.0))
        if swarm.running(one) and swarm.running(other):
            swarm.world.network.connect(swarm.peers[one], swarm.peers[other])


async def core_crash(strike: Strike) -> None:
    """A core raises on some message: it must be rebuilt from what is saved, and nobody else must notice. Not one whose
    crash ends its node on purpose."""
    swarm = strike.swarm
    for moment in _moments(strike, 3):
        await _until(moment)
        name = strike.rng.choice(_mostly_owners(strike))
        if swarm.running(name):
            swarm.counted("core crash")
            actors = swarm.node(name).runtime.bus.actors
            swarm.monitor.crash_next(name, strike.rng.choice(sorted(a for a in actors if not actors[a].part.fail_stop)))


ALL: Sequence[FaultKind] = (
    FaultKind("partition", 0.45, partition),
    FaultKind("crash", 0.5, crash),
    FaultKind("owner crash", 0.4, owner_crash),
    FaultKind("stop", 0.2, stop),
    FaultKind("broken disk", 0.2, broken_disk),
    FaultKind("full disk", 0.3, full_disk),
    FaultKind("dead executor", 0.3, dead_executor),
    FaultKind("straggler", 0.3, straggler),
    FaultKind("broken link", 0.3, broken_link),
    FaultKind("core crash", 0.3, core_crash),
)
