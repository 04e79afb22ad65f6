"""A world: hosts, a network between them, a journal, and what a subsystem plugs into it."""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from ...errors import EdgenetError, Unreachable
from .host import Host, HostPlan
from .loop import Loop, Script
from .network import Network
from .report import Journal, Report

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_of(name: str) -> str:
    """A peer id for a name of the world, of the form that real ones have."""
    digest = hashlib.sha256(name.encode()).digest() + hashlib.sha256(name.encode()[::-1]).digest()
    return "12D3KooW" + "".join(_BASE58[byte % 58] for byte in digest[:44])


class World:
    """One run's hosts. The lists are for invariants: called at every start, end, step, release to the network, event,
    and for whatever becomes durable."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = Loop()
        self.journal = Journal(self.loop)
        self.network = Network(self.loop, random.Random(self.rng.getrandbits(64)))
        self.hosts: dict[str, Host] = {}
        self.names: dict[str, str] = {}
        self.on_start: list[Callable[[Host], None]] = []
        self.on_end: list[Callable[[Host], None]] = []
        self.on_step: list[Callable[[Host, Any, Any, list[Any]], None]] = []
        self.on_send: list[Callable[[Host, str, Any], None]] = []
        self.on_event: list[Callable[[Host, Any], None]] = []
        self.on_durable: list[Callable[[Host, str, Any], None]] = []
        self.expected: Callable[[Host, str, Exception], bool] = lambda _host, _part, _error: False
        """Whether a crash of a core is what the faults of this run ask for."""

    def add(self, plan: HostPlan) -> Host:
        peer = peer_of(plan.name)
        host = Host(self, plan, len(self.hosts) + 1, peer, self.rng.getrandbits(64))
        self.hosts[plan.name] = host
        self.names[peer] = plan.name
        self.network.attach(host)
        return host

    def core_crashed(self, host: Host, part: str, error: Exception) -> None:
        if self.expected(host, part, error):
            return
        text = "".join(traceback.format_exception(error, limit=-5))
        self.journal.violate("no core crashes", f"{host.name} {part}: {error!r}\n{text}")

    def node_seconds(self) -> float:
        return sum(
            host.lived_s + (self.loop.now - host.started if host.running else 0.0) for host in self.hosts.values()
        )

    def asked(self, host: Host, query: Any, timeout_s: float = 10.0) -> Generator[float, None, Any]:
        """For scripts: `value = yield from world.asked(host, query)`; raises the error of the answer."""
        found: list[tuple[Any, Exception | None]] = []
        host.outside(query, timeout_s, lambda value, error: found.append((value, error)))
        waited = 0.0
        while not found:
            yield 0.01
            waited += 0.01
            if waited > timeout_s + 1.0:
                raise Unreachable("no answer")
        value, error = found[0]
        if error is not None:
            raise error
        return value


class Strike(Struct, frozen=True):
    """What a fault is given: the run, a random source of its own, until when it has to be over."""

    run: Any
    rng: random.Random
    window_s: float


class FaultKind(Struct, frozen=True):
    """`probability` that a run meets it; `strike` is a script."""

    name: str
    probability: float
    strike: Callable[[Strike], Script]


class Run(Protocol):
    """A run of a subsystem: it has built its hosts in `world`, and its activities and invariants are under way."""

    world: World

    def begin(self) -> None:
        """Start the hosts and the activities."""
        ...

    def make_peace(self) -> None:
        """The faults are over: heal what is broken, start what is down."""
        ...

    def settled(self) -> bool:
        """Whether everything that was promised has come true; asked a few times a simulated second."""
        ...

    def judge(self, *, settled: bool) -> None:
        """After peace: the invariants that look at the whole."""
        ...


class Scenario(Struct, frozen=True):
    """What a subsystem plugs in. `build(seed, nodes)` with nodes 0 for a number of its own choice. Faults strike for
    `window_s` simulated seconds; after that there is peace, and everything promised must come true in `settle_s`."""

    name: str
    build: Callable[[int, int], Run]
    faults: Sequence[FaultKind]
    window_s: float = 20.0
    settle_s: float = 60.0
    nodes_min: int = 1
    nodes_max: int = 32

    def play(self, seed: int, *, nodes: int = 0, window_s: float = 0.0) -> Report:
        return play(self, seed, nodes=nodes, window_s=window_s)


LOOK_S = 0.25
"""How often a run is asked whether it has settled, in simulated seconds."""


def play(scenario: Scenario, seed: int, *, nodes: int = 0, window_s: float = 0.0) -> Report:
    """Run one seed to its end. It ends early at the first violation: what follows it is noise."""
    began = time.perf_counter()
    run = scenario.build(seed, nodes)
    world, window = run.world, window_s or scenario.window_s
    loop, journal = world.loop, world.journal
    journal.stop_at_violation = True
    rng = random.Random(world.rng.getrandbits(64))
    try:
        run.begin()
        for kind in scenario.faults:
            own = random.Random(rng.getrandbits(64))
            if own.random() < kind.probability:
                loop.spawn(kind.strike(Strike(run, own, window)))
        if not loop.run(window):
            run.make_peace()
            journal.note("", "peace")
            run.judge(settled=_wait(loop, run, window + scenario.settle_s))
    except EdgenetError as error:
        journal.violate("the run ends", "".join(traceback.format_exception(error, limit=-6)))
    return Report(
        seed=seed,
        violations=tuple(journal.violations),
        bound_exceeded=0,
        faults=dict(sorted(journal.faults.items())),
        nodes=len(world.hosts),
        steps=journal.steps,
        simulated_s=loop.now,
        node_seconds=world.node_seconds(),
        wall_s=time.perf_counter() - began,
        digest=journal.digest,
        trace=journal.lines(),
    )


def _wait(loop: Loop, run: Run, until: float) -> bool:
    while loop.now < until:
        if loop.run(loop.now + LOOK_S):
            return False
        if run.settled():
            return True
    return False
