"""What must hold in every run of a swarm. Violations go to the monitor, with what contradicts them.

What owners see for themselves (right results, exact searches, nothing accepted is lost) is in `owners`; what holds for
any core (durable before released, no crash) in `monitor`.
"""

from __future__ import annotations

import random
from typing import Any

import trio
from msgspec import Struct

from ..effects import Compute, Done, Event, Reply, Tell
from ..errors import EdgenetError
from ..messages.market import LeaseEnded, LeaseGranted
from ..messages.memory import GetIndex
from ..messages.network import GetPeers, GetSwarm, PeerUp, SetSwarm
from ..messages.tasks import GetServingStats, GetTaskStats
from ..messages.trust import Outcome, StandingChanged
from ..runtime.bus import SERVICES_RUNNING_MAX
from ..wire.task import Run as RunChunk
from ..wire.task import RunResult
from .monitor import Step
from .network import PUBLISHING_MAX
from .owners import Shelf, Shelves, search
from .simulation import Run

SAMPLE_S = 2.0
"""How often queues are looked at, in simulated seconds."""

BARRED_GRACE_S = 3.0
"""Chunks to a peer that was just condemned may still be on their way."""


class OneSwarm:
    """Everybody ends in the first one's swarm and knows everybody; strangers are never let in, on either side."""

    def begin(self, run: Run) -> None:
        members, strangers = set(run.roles.members), set(run.roles.strangers)
        swarms: dict[str, str] = {}

        def hear(step: Step) -> None:
            if step.part != "membership":
                return
            for effect in step.effects:
                if isinstance(effect, Event) and isinstance(effect.body, PeerUp):
                    name = run.swarm.names[effect.body.peer]
                    if (name in members) != (step.node in members):
                        run.monitor.violate("strangers stay out", f"{step.node} let {name} in")
                elif isinstance(effect, Tell) and isinstance(effect.body, SetSwarm):
                    if swarms.setdefault(step.node, effect.body.swarm) != effect.body.swarm:
                        run.monitor.violate("one swarm for life", f"{step.node} joined a second one")
                    if step.node in strangers:
                        run.monitor.note(step.node, "has a swarm of its own")

        run.monitor.listen(hear)

    async def check(self, run: Run) -> None:
        if not await run.comes_true(lambda: self._together(run), run.settle_s):
            run.monitor.violate("all end in one swarm", await self._gaps(run))

    async def _together(self, run: Run) -> bool:
        return not await self._gaps(run)

    async def _gaps(self, run: Run) -> str:
        """Who misses whom; empty if nobody does."""
        members = run.roles.members
        try:
            swarms = {name: (await run.swarm.ask(name, GetSwarm())).swarm for name in members}
            if len(set(swarms.values())) != 1 or not swarms[members[0]]:
                return f"swarms {swarms}"
            for name in members:
                seen = {view.peer for view in await run.swarm.ask(name, GetPeers()) if view.state == "member"}
                missing = [other for other in members if other != name and run.swarm.peers[other] not in seen]
                if missing:
                    return f"{name} misses {missing}"
        except EdgenetError as error:
            return f"no answer: {error}"
        return ""


class Indexes:
    """In peace, all that was accepted is searchable and held twice, and every search is exact, also a reader's."""

    async def check(self, run: Run) -> None:
        for shelf in run.shared(Shelves).all:
            why = ["nothing looked at"]
            if not await run.comes_true(lambda shelf=shelf, why=why: self._settled(run, shelf, why), run.settle_s):  # type: ignore[misc]
                run.monitor.violate("indexes settle", f"{shelf.name}: {why[0]}")
                continue
            await self._search_all(run, shelf)

    def begin(self, run: Run) -> None:
        del run

    async def _settled(self, run: Run, shelf: Shelf, why: list[str]) -> bool:
        try:
            view = await run.swarm.ask(shelf.owner, GetIndex(shelf.name))
        except EdgenetError as error:
            why[0] = str(error)
            return False
        held = min((len(segment.holders) for segment in view.segments), default=99)
        why[0] = f"{view.pending} pending, {view.documents} of {len(shelf.documents)} documents, held {held} times"
        if view.pending == 0 and view.documents != len(shelf.documents):
            return False
        return view.pending == 0 and held >= min(2, len(run.roles.members) - 1)

    async def _search_all(self, run: Run, shelf: Shelf) -> None:
        rng = random.Random(run.rng.getrandbits(32))
        readers = [shelf.owner, *(name for name in run.roles.members if name != shelf.owner)][:3]
        await trio.sleep(12.0)  # what a reader knows of the index is at most this old
        for reader in (shelf.owner, *readers):
            complete = False
            for _ in range(5):
                complete = complete or await search(run, rng, shelf, reader, settled=True)
            if not complete:
                run.monitor.violate("searches are complete in peace", f"{reader} in {shelf.name}")


class _Granted(Struct):
    units: int
    buyer: str
    expires_mono: float
    spent: int = 0


class Leases:
    """A seller computes only under a lease that it gave to this buyer, never more units than it covers."""

    def __init__(self) -> None:
        self._leases: dict[tuple[str, bytes], _Granted] = {}
        self._runs: dict[tuple[str, Any], _Granted] = {}

    def begin(self, run: Run) -> None:
        run.monitor.listen(lambda step: self._hear(run, step) if step.part == "serving" else None)

    async def check(self, run: Run) -> None:
        del run

    def _hear(self, run: Run, step: Step) -> None:
        match step.body:
            case None:
                for table in (self._leases, self._runs):
                    for key in [key for key in table if key[0] == step.node]:
                        del table[key]
            case LeaseGranted():
                granted = step.body
                self._leases[step.node, granted.lease] = _Granted(granted.units, granted.buyer, granted.expires_mono)
            case LeaseEnded(lease):
                self._leases.pop((step.node, lease), None)
            case RunChunk():
                self._accepted(run, step, step.body)
            case Done(tag):
                self._answered(run, step, self._runs.pop((step.node, tag), None))

    def _accepted(self, run: Run, step: Step, chunk: RunChunk) -> None:
        for effect in step.effects:
            if isinstance(effect, Compute):
                lease = self._leases.get((step.node, chunk.lease))
                if lease is None or lease.buyer != step.sender or lease.expires_mono <= step.now.mono:
                    run.monitor.violate("work needs a lease", f"{step.node} computes for {step.sender} without one")
                else:
                    self._runs[step.node, effect.tag] = lease

    def _answered(self, run: Run, step: Step, lease: _Granted | None) -> None:
        results = [effect.value for effect in step.effects if isinstance(effect, Reply)]
        if lease is not None and results and isinstance(results[0], RunResult):
            lease.spent += results[0].units
            if lease.spent > lease.units:
                text = f"{step.node} did {lease.spent} units under a lease of {lease.units}"
                run.monitor.violate("leases are not overspent", text)


class Barred:
    """Whoever returned a wrong result to a node gets no work of that kind from it any more."""

    def begin(self, run: Run) -> None:
        barred: dict[tuple[str, str, str], float] = {}

        def hear(step: Step) -> None:
            if step.part == "trust" and isinstance(step.body, Outcome | None):
                if step.body is None:  # a new life knows what was durable
                    for key in [key for key in barred if key[0] == step.node]:
                        del barred[key]
                for effect in step.effects:
                    if isinstance(effect, Event) and isinstance(effect.body, StandingChanged):
                        standing = effect.body.standing
                        if standing.avoided and "wrong" in standing.reason:
                            barred.setdefault((step.node, standing.peer, standing.kind), step.now.mono)
            elif step.part == "serving" and isinstance(step.body, RunChunk):
                key = (run.swarm.names[step.sender], run.swarm.peers[step.node], step.body.kind)
                if barred.get(key, step.now.mono) + BARRED_GRACE_S < step.now.mono:
                    text = f"{key[0]} gives {step.node} more {key[2]} after a wrong result"
                    run.monitor.violate("liars get no more work", text)

        run.monitor.listen(hear)

    async def check(self, run: Run) -> None:
        del run


class Bounded:
    """No queue is beyond its limit at any time that is looked at; in peace nothing is left running."""

    def begin(self, run: Run) -> None:
        run.swarm.world.network.spawn(self._sample, run)

    async def check(self, run: Run) -> None:
        if not await run.comes_true(lambda: self._idle(run), run.settle_s):
            run.monitor.violate("nothing is left running", "chunks or tasks run on in peace")

    async def _idle(self, run: Run) -> bool:
        for name in run.roles.members:
            try:
                serving = await run.swarm.ask(name, GetServingStats())
                own = await run.swarm.ask(name, GetTaskStats())
            except EdgenetError:
                return False
            if serving.running or own.running or own.waiting:
                return False
        return True

    async def _sample(self, run: Run) -> None:
        while True:
            await trio.sleep(SAMPLE_S)
            for name in run.swarm.alive():
                self._look(run, name)

    def _look(self, run: Run, name: str) -> None:
        node = run.swarm.node(name)
        counters = node.runtime.bus.counters()
        limits = {part: actor.part.limits for part, actor in node.runtime.bus.actors.items()}
        excess = [
            f"{part.name} {part}"
            for part in counters.parts.values()
            if part.mailbox > limits[part.name].mailbox_max + part.operations_running + part.operations_queued
            or part.asks_open > limits[part.name].mailbox_max
            or part.operations_running > limits[part.name].operations_max
            or part.operations_queued > limits[part.name].operations_queued_max
            or part.outbox > limits[part.name].outbox_max
        ]
        if counters.services_running > SERVICES_RUNNING_MAX or node.ports.network.publishing > PUBLISHING_MAX:
            excess.append(f"{counters.services_running} services, {node.ports.network.publishing} notices")
        for one in excess:
            run.monitor.violate("queues stay within limits", f"{name}: {one}")
