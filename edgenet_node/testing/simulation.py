"""Seeded runs of a scenario: nodes, faults, owners, invariants. The same seed takes the same steps at the same times.

A `Scenario` is a table of what a subsystem plugs in; `play` runs one seed of it to a `Report`. A run has two halves:
faults and owners at once for `window_s` simulated seconds, then peace, in which everything promised must come true
within `settle_s`. A seed that fails prints its trace; `scripts/simulate` replays it.
"""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
import trio
from msgspec import Struct
from trio.testing import MockClock

from .determinism import seed_scheduler
from .events.report import Report
from .faults import FaultKind, Roles, Strike, bad_link
from .monitor import Monitor
from .network import Link
from .swarm import Plan, Swarm

T = TypeVar("T")

LOOK_S = 1.0
"""How often a condition is looked at while it is waited for, in simulated seconds."""


class Cast(Struct, frozen=True):
    """The nodes of a run, in the order in which they start, and who is who."""

    plans: tuple[Plan, ...]
    roles: Roles


class Run:
    """One run: what faults, owners and invariants share."""

    def __init__(self, swarm: Swarm, cast: Cast, window_s: float, settle_s: float, rng: random.Random) -> None:
        self.swarm = swarm
        self.monitor = swarm.monitor
        self.roles = cast.roles
        self.window_s = window_s
        self.settle_s = settle_s
        self.rng = rng
        self.bound_exceeded = 0
        self._shared: dict[type, Any] = {}

    def shared(self, kind: type[T]) -> T:
        """The one `kind()` of this run: what activities leave for invariants."""
        if kind not in self._shared:
            self._shared[kind] = kind()
        found: T = self._shared[kind]
        return found

    async def comes_true(self, condition: Callable[[], Awaitable[bool]], within_s: float) -> bool:
        """Whether the condition holds at some moment within simulated `within_s`."""
        with trio.move_on_after(within_s):
            while not await condition():  # noqa: ASYNC110 - simulated time: looking costs nothing
                await trio.sleep(LOOK_S)
            return True
        return False


class Invariant(Protocol):
    """`begin` may listen to the monitor; `check` looks at the swarm in peace. Both report through the monitor."""

    def begin(self, run: Run) -> None: ...

    async def check(self, run: Run) -> None: ...


Activity = Callable[[Run, random.Random], Awaitable[None]]


class Scenario(Struct, frozen=True):
    """`cast(rng, nodes)` with nodes 0 for a number of its own choice. `activities` begin when the nodes have started,
    and must end in peace."""

    name: str
    cast: Callable[[random.Random, int], Cast]
    faults: Sequence[FaultKind]
    activities: Sequence[Activity]
    invariants: Callable[[], Sequence[Invariant]]
    window_s: float = 24.0
    settle_s: float = 600.0
    link: Callable[[random.Random], Link] = bad_link
    nodes_min: int = 4
    nodes_max: int = 32

    def play(self, seed: int, *, nodes: int = 0, window_s: float = 0.0) -> Report:
        return play(self, seed, nodes=nodes, window_s=window_s)


def play(scenario: Scenario, seed: int, *, nodes: int = 0, window_s: float = 0.0) -> Report:
    """Run one seed to its end."""
    seed_scheduler(seed)
    began = time.perf_counter()
    monitor = Monitor()
    with tempfile.TemporaryDirectory(prefix="edgenet-sim-") as folder, _logs_to(monitor):
        stage = _Stage(scenario, seed, nodes, window_s or scenario.window_s, monitor, Path(folder))
        trio.run(stage.play, clock=MockClock(autojump_threshold=0))
    swarm, run = stage.swarm, stage.run
    return Report(
        seed=seed,
        violations=tuple(monitor.violations),
        bound_exceeded=run.bound_exceeded,
        faults=dict(sorted(swarm.faults.items())),
        nodes=len(swarm.plans),
        steps=monitor.steps,
        simulated_s=stage.simulated_s,
        node_seconds=swarm.node_seconds,
        wall_s=time.perf_counter() - began,
        digest=monitor.digest,
        trace=tuple(monitor.trace),
    )


class _Stage:
    """One run of a scenario."""

    def __init__(
        self, scenario: Scenario, seed: int, nodes: int, window_s: float, monitor: Monitor, folder: Path
    ) -> None:
        rng = random.Random(seed)
        cast = scenario.cast(rng, nodes)
        self.scenario = scenario
        self.plans = cast.plans
        self.swarm = Swarm(seed, cast.plans, monitor, folder, scenario.link(rng))
        self.run = Run(self.swarm, cast, window_s, scenario.settle_s, rng)
        self.simulated_s = 0.0

    async def play(self) -> None:
        run, swarm = self.run, self.swarm
        invariants = self.scenario.invariants()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(swarm.run)
                for invariant in invariants:
                    invariant.begin(run)
                for plan in self.plans:
                    await swarm.start(plan.name)
                    await trio.sleep(run.rng.choice((0.0, 0.05, 1.0)))
                await self._act()
                for invariant in invariants:
                    await invariant.check(run)
                nursery.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - whatever ends a run early is its finding
            run.monitor.violate("the run ends", "".join(traceback.format_exception(error, limit=-6)))
        swarm.end()
        self.simulated_s = trio.current_time()

    async def _act(self) -> None:
        run = self.run
        faults_over = trio.Event()
        async with trio.open_nursery() as acts:
            for activity in self.scenario.activities:
                acts.start_soon(activity, run, random.Random(run.rng.getrandbits(32)))
            acts.start_soon(self._trouble, faults_over)
            await faults_over.wait()
            await self._make_peace()
            acts.cancel_scope.deadline = trio.current_time() + run.settle_s
        if acts.cancel_scope.cancelled_caught:
            run.monitor.violate("owners are served", f"not within {run.settle_s:g} s of peace")

    async def _trouble(self, over: trio.Event) -> None:
        run = self.run
        async with trio.open_nursery() as faults:
            for kind in self.scenario.faults:
                rng = random.Random(run.rng.getrandbits(32))
                if rng.random() < kind.probability:
                    faults.start_soon(kind.strike, Strike(self.swarm, rng, run.roles, run.window_s))
        await trio.sleep(max(0.0, run.window_s - trio.current_time()))
        over.set()

    async def _make_peace(self) -> None:
        swarm = self.swarm
        swarm.world.network.set_default(Link())
        swarm.world.heal()
        for name in swarm.plans:
            await swarm.restart(name)
        swarm.monitor.note("", "peace")


@contextmanager
def _logs_to(monitor: Monitor) -> Iterator[None]:
    """Warnings of the nodes become lines of the trace; nothing is written."""

    def write(_logger: Any, _level: str, event: Any) -> Any:
        event.pop("exc_info", None)
        monitor.note("log", ", ".join(f"{key}={value}" for key, value in event.items())[:300])
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[write],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
