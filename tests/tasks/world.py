"""A seeded world of one requester and some executors, without I/O: it plays market, trust, network and workers.

The requester runs the real `JobsCore`, every executor the real `ServingCore`. Time is virtual. Every rule that a core
owes to the runtime is checked at every step: unique tags, one reply for each ask, ticks that advance `wake_at`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edgenet_node.effects import (
    Ask,
    Call,
    Cancel,
    Compute,
    Delete,
    Done,
    Effect,
    Envelope,
    Event,
    Now,
    Put,
    Reply,
    Row,
    Tell,
    Tick,
)
from edgenet_node.errors import TimedOut, Unreachable
from edgenet_node.messages.market import Acquire, Declined, DropLease, LeaseGranted, Leases, LeaseView, UseLease
from edgenet_node.messages.network import PeerDown, PeerUp
from edgenet_node.messages.tasks import TaskOutcome
from edgenet_node.messages.trust import GetStandings, Outcome, Standing, StandingChanged
from edgenet_node.tasks.handlers import Handler
from edgenet_node.tasks.handlers.echo import EchoHandler
from edgenet_node.tasks.jobs import JobsCore
from edgenet_node.tasks.registry import Registry
from edgenet_node.tasks.serving import OwnLoad, ServingCore
from edgenet_node.tasks.settings import JobsSettings, ServingSettings
from edgenet_node.wire.codec import decode, encode
from edgenet_node.wire.task import Run, Stop

NODE = "node"
LATENCY_S = 0.002
LEASE_S = 120.0
WALL = 1_700_000_000.0


class NoModel(EchoHandler):
    """The requester cannot compute it itself."""

    def unavailable(self) -> str:
        return "the model is not installed"


@dataclass
class Peer:
    """An executor. `lie(rng, proven)`: whether to falsify an item. `loss`: share of its calls that vanish."""

    name: str
    workers: int = 2
    seconds_per_item: float = 0.01
    loss: float = 0.0
    lie: Callable[[Random, bool], bool] = lambda rng, proven: False
    mute: bool = False
    up: bool = True
    core: ServingCore = None  # type: ignore[assignment]
    busy: list[float] = field(default_factory=list)
    items_done: int = 0
    stopped: int = 0


class Trust:
    """Outcomes in, standings out: newcomer below 16 checked items, then a falling rate."""

    def __init__(self, rate_min: float = 0.05) -> None:
        self.rate_min = rate_min
        self.clean: dict[str, int] = {}
        self.avoided: set[str] = set()
        self.failures: dict[str, int] = {}
        self.paused: dict[str, float] = {}
        self.outcomes: list[Outcome] = []

    def standing(self, peer: str, kind: str, now: float) -> Standing:
        clean = self.clean.get(peer, 0)
        rate = 1.0 if clean < 16 else max(self.rate_min, min(1.0, 8.0 / clean))
        avoided = peer in self.avoided or self.paused.get(peer, 0.0) > now
        return Standing(peer, kind, rate, clean < 16, avoided, 0.5)

    def learn(self, outcome: Outcome, now: float) -> StandingChanged | None:
        self.outcomes.append(outcome)
        before = self.standing(outcome.peer, outcome.kind, now)
        self.failures[outcome.peer] = self.failures.get(outcome.peer, 0) + 1 if outcome.failed else 0
        if outcome.wrong:
            self.clean[outcome.peer] = 0
            self.avoided.add(outcome.peer)
        elif self.failures[outcome.peer] >= 4:
            self.failures[outcome.peer] = 0
            self.paused[outcome.peer] = now + 20.0
        elif not outcome.failed:
            self.clean[outcome.peer] = self.clean.get(outcome.peer, 0) + outcome.checked
        after = self.standing(outcome.peer, outcome.kind, now)
        crossed = (before.newcomer, before.avoided) != (after.newcomer, after.avoided)
        return StandingChanged(after) if crossed else None


class World:
    def __init__(
        self,
        seed: int,
        peers: Sequence[Peer] = (),
        *,
        settings: JobsSettings | None = None,
        handler: Handler | None = None,
        own_seconds_per_item: float = 0.01,
        rate_min: float = 0.05,
    ) -> None:
        self.rng = Random(seed)
        self.settings = settings or JobsSettings()
        self.registry = Registry([handler or EchoHandler()])
        self.peers = {peer.name: peer for peer in peers}
        self.own_seconds_per_item = own_seconds_per_item
        self.trust = Trust(rate_min)
        self.mono = 100.0
        self.rows: dict[tuple[str, str], bytes] = {}
        self.replies: dict[int, Any] = {}
        self.effects: list[Effect] = []
        self.steps = 0
        self.calls = 0
        self.leases: dict[bytes, LeaseView] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._asks = itertools.count(1)
        self._own_busy: list[float] = []
        self._incarnation = 0
        self._in_flight: dict[Any, int] = {}
        for peer in peers:
            self._equip(peer)
        self.core = self._make()
        self._apply(self.core.restore([], self.now()))

    # -- construction

    def _make(self) -> JobsCore:
        entropy = Random(self.rng.getrandbits(32)).randbytes
        return JobsCore(self.settings, self.registry, NODE, Random(self.rng.getrandbits(32)), entropy)

    def _equip(self, peer: Peer) -> None:
        peer.core = ServingCore(ServingSettings(workers=peer.workers), Registry([EchoHandler()]), Random(1))
        peer.core.restore([], self.now())

    def now(self) -> Now:
        return Now(self.mono, WALL + self.mono)

    def at(self, delay_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.mono + delay_s, next(self._serial), do))

    # -- driving the requester

    def ask(self, query: Any) -> int:
        reply_to = next(self._asks)
        self.step(Envelope(query, reply_to))
        return reply_to

    def step(self, envelope: Envelope[Any]) -> list[Effect]:
        self.steps += 1
        effects = self.core.step(envelope, self.now())
        self._apply(effects)
        return effects

    def _apply(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case Put(table, key, value):
                    self.rows[table, key] = value
                case Delete(table, key):
                    self.rows.pop((table, key), None)
                case Reply(to, value, error):
                    assert to not in self.replies, "a second reply to one ask"
                    self.replies[to] = value if error is None else error
                case Cancel(tag):
                    self._in_flight.pop(tag, None)
                case Ask() | Call() | Compute():
                    assert effect.tag not in self._in_flight, f"the tag {effect.tag} is in flight"
                    operation = next(self._serial)
                    self._in_flight[effect.tag] = operation
                    assert 0 < effect.timeout_s < math.inf
                    self._perform(effect, operation)
                    self._expire(effect, operation)
                case Tell(body):
                    self._tell(body)
                case Event():
                    pass
                case _:
                    raise AssertionError(f"unexpected effect {effect}")

    def _expire(self, effect: Ask | Call | Compute, operation: int) -> None:
        self.at(effect.timeout_s, lambda: self._done(effect.tag, operation, error=TimedOut("late")))

    def _done(self, tag: Any, operation: int, value: Any = None, error: Exception | None = None) -> None:
        if self._in_flight.get(tag) == operation:
            del self._in_flight[tag]
            self.step(Envelope(Done(tag, value, error)))

    def _perform(self, effect: Ask | Call | Compute, operation: int) -> None:
        match effect:
            case Ask(tag, Acquire() as query):
                self.at(LATENCY_S, lambda: self._done(tag, operation, self._auction(query)))
            case Ask(tag, GetStandings(kind, peers)):
                standings = tuple(self.trust.standing(peer, kind, self.mono) for peer in peers)
                self.at(0.0, lambda: self._done(tag, operation, standings))
            case Compute(tag, _, _, args):
                count = len(decode(args[-1], list[bytes], bytes_max=2**20))
                delay = self._queue_for(self._own_busy, self.settings.workers, count * self.own_seconds_per_item)
                self.at(delay, lambda: self._done(tag, operation, args[-1]))
            case Call(tag, name, query):
                self.calls += isinstance(query, Run)
                self.at(LATENCY_S, lambda: self._deliver(tag, operation, self.peers[name], query))

    def _queue_for(self, busy: list[float], workers: int, seconds: float) -> float:
        """When a chunk is done that takes `seconds` on the first free of `workers`."""
        while len(busy) < workers:
            busy.append(0.0)
        first = min(range(workers), key=busy.__getitem__)
        busy[first] = max(busy[first], self.mono) + seconds
        return busy[first] - self.mono

    def _tell(self, body: Any) -> None:
        match body:
            case Outcome():
                assert body.peer != NODE
                changed = self.trust.learn(body, self.mono)
                if changed is not None:
                    self.at(0.0, lambda: self._hear(changed))
            case UseLease(lease):
                assert lease in self.leases
            case DropLease() | OwnLoad():
                pass
            case _:
                raise AssertionError(f"unexpected tell {body}")

    def _hear(self, event: Any) -> None:
        self.step(Envelope(event))

    # -- the others

    def _auction(self, query: Acquire) -> Leases:
        leases, declined = [], []
        for peer in self.peers.values():
            if query.only and peer.name not in query.only:
                continue
            reason = "not connected" if not peer.up else ""
            reason = reason or ("excluded" if peer.name in query.exclude else "")
            reason = reason or ("avoided" if self.trust.standing(peer.name, query.kind, self.mono).avoided else "")
            if reason:
                declined.append(Declined(peer.name, reason))
                continue
            lease = self.rng.randbytes(16)
            view = LeaseView(
                lease, peer.name, query.kind, 3, query.units, peer.workers, self.mono + 120.0, 2 * LATENCY_S
            )
            peer.core.step(
                Envelope(LeaseGranted(lease, NODE, query.kind, 3, query.units, self.mono + 120.0)), self.now()
            )
            self.leases[lease] = view
            leases.append(view)
        return Leases(tuple(leases[: query.executors_max]), tuple(declined))

    def _deliver(self, tag: Any, operation: int, peer: Peer, query: Run | Stop) -> None:
        if not peer.up:
            self.at(LATENCY_S, lambda: self._done(tag, operation, error=Unreachable("no connection")))
            return
        if peer.mute or self.rng.random() < peer.loss:
            return
        if isinstance(query, Stop):
            peer.stopped += 1
        reply_to = next(self._asks)
        self._serve(peer, peer.core.step(Envelope(query, reply_to, NODE), self.now()), {reply_to: (tag, operation)})

    def _serve(self, peer: Peer, effects: Sequence[Effect], waiting: dict[int, tuple[Any, int]]) -> None:
        for effect in effects:
            match effect:
                case Reply(to, value, error) if to in waiting:
                    tag, operation = waiting[to]
                    back = self.rng.random() >= peer.loss and peer.up
                    if back:
                        self.at(LATENCY_S, lambda t=tag, o=operation, v=value, e=error: self._done(t, o, v, e))  # type: ignore[misc]
                case Compute(tag, _, _, args):
                    items = decode(args[-1], list[bytes], bytes_max=2**20)
                    delay = self._queue_for(peer.busy, peer.workers, len(items) * peer.seconds_per_item)
                    output = self._compute(peer, items)
                    self.at(delay, lambda t=tag, o=output: self._computed(peer, t, o, waiting))  # type: ignore[misc]
                case _:
                    pass

    def _compute(self, peer: Peer, items: list[bytes]) -> bytes:
        proven = self.trust.clean.get(peer.name, 0) >= 16
        return encode([item + self.rng.randbytes(4) if peer.lie(self.rng, proven) else item for item in items])

    def _computed(self, peer: Peer, tag: Any, output: bytes, waiting: dict[int, tuple[Any, int]]) -> None:
        if peer.up:
            effects = peer.core.step(Envelope(Done(tag, output)), self.now())
            peer.items_done += len(decode(output, list[bytes], bytes_max=2**20)) if effects else 0
            self._serve(peer, effects, waiting)

    def crash(self, name: str) -> None:
        self.peers[name].up = False
        self.step(Envelope(PeerDown(name)))

    def revive(self, name: str) -> None:
        self._equip(self.peers[name])
        self.peers[name].up, self.peers[name].busy = True, []
        self.step(Envelope(PeerUp(name)))

    def restart(self) -> None:
        """The requester dies: what is in flight is lost, saved rows stay."""
        self._in_flight.clear()
        self._own_busy.clear()
        self.core = self._make()
        rows = [Row(table, key, value) for (table, key), value in sorted(self.rows.items())]
        self._apply(self.core.restore(rows, self.now()))

    # -- time

    def run(self, until: Callable[[], bool], *, seconds_max: float = 700.0) -> None:
        """Advance until the condition holds. Fails if it never does."""
        end = self.mono + seconds_max
        while not until():
            wake = self.core.wake_at()
            at = self._queue[0][0] if self._queue else math.inf
            assert min(wake, at) <= end, f"nothing came of it in {seconds_max} s"
            if wake <= at:
                self.mono = max(self.mono, wake)
                self.step(Envelope(Tick()))
                assert self.core.wake_at() > wake, "a tick that does not advance wake_at"
            else:
                at, _, do = heapq.heappop(self._queue)
                self.mono = max(self.mono, at)
                do()

    def finish(self, reply_to: int, *, seconds_max: float = 700.0) -> TaskOutcome:
        self.run(lambda: reply_to in self.replies, seconds_max=seconds_max)
        outcome = self.replies[reply_to]
        assert isinstance(outcome, TaskOutcome), outcome
        return outcome


def numbered(count: int) -> tuple[bytes, ...]:
    return tuple(f"item {number}".encode() for number in range(count))


def unpacked(outcome: TaskOutcome) -> list[bytes]:
    return decode(outcome.output, list[bytes], bytes_max=2**26)
