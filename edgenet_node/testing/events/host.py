"""One node: its parts, its bus, its disks, its clock; how it starts, crashes and fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ...effects import Envelope, Now, Part
from ...errors import InvariantError, NotFound, Overloaded, StoreFull, TimedOut, Unreachable
from ...messages.network import PeerDisconnected
from .clock import ClockPlan, NodeClock
from .disk import Disk, DiskPlan
from .driver import RETRY_AFTER_S, Driver
from .loop import Loop, Timer
from .network import Answered

if TYPE_CHECKING:
    from .world import World

SERVE_TIMEOUT_S = 60.0
"""Of a call of a peer at this end: by then its caller has given up."""

REFUSED_PAUSE_S = 1.0
"""Before a core whose saves a full disk refused is built again."""

MakeParts = Callable[["Host"], Sequence[Part]]


class HostPlan(Struct, frozen=True):
    """`parts` makes the parts of each life, with fresh cores. `disks`: which part shares which disk, by name; one of
    its own for parts not named. `slower`: plans of disks that are not like `disk`. `cpu_max_s`: until the machine gets
    to a batch."""

    name: str
    parts: MakeParts
    disks: dict[str, str] = {}
    clock: ClockPlan = ClockPlan()
    disk: DiskPlan = DiskPlan()
    slower: dict[str, DiskPlan] = {}
    cpu_max_s: float = 0.0004


class _Promise:
    __slots__ = ("answered", "driver", "outside", "timer")

    def __init__(self, driver: Driver, answered: Answered, *, outside: bool) -> None:
        self.driver = driver
        self.answered = answered
        self.outside = outside
        self.timer: Timer | None = None


class Host:
    """`life` counts starts. Rows survive a crash, nothing else does."""

    def __init__(self, world: World, plan: HostPlan, number: int, peer: str, seed: int) -> None:
        self.world = world
        self.plan = plan
        self.name = plan.name
        self.number = number
        self.peer = peer
        self.loop: Loop = world.loop
        self.rng = random.Random(seed)
        self.life = 0
        self.running = False
        self.started = 0.0
        self.lived_s = 0.0
        self.clock = NodeClock(plan.clock, 0.0, 0.0)
        self.drivers: dict[str, Driver] = {}
        self.failure = ""
        self._cpu_max_s = plan.cpu_max_s
        self._disks: dict[str, Disk] = {}
        self._thaw_at = 0.0
        self._owners: dict[type, Driver] = {}
        self._hearers: dict[type, list[str]] = {}
        self._remote: frozenset[type] = frozenset()
        self._promises: dict[int, _Promise] = {}
        self._last_id = 0

    # ---- life

    def start(self) -> bool:
        """Build every core from its rows. False when the node failed at once."""
        if self.running:
            raise InvariantError(f"{self.name} runs already")
        self.life += 1
        self.running = True
        self.failure = ""
        self.started = self.loop.now
        self.clock = NodeClock(self.plan.clock, self.loop.now, self.rng.uniform(0.0, 1e5))
        self.drivers.clear()
        self._owners.clear()
        self._hearers.clear()
        parts = self.plan.parts(self)
        self._remote = frozenset(kind for part in parts for kind in part.remote)
        for part in parts:
            self._install(part)
        self.world.journal.note(self.name, "starts, life %d", self.life)
        for begun in self.world.on_start:
            begun(self)
        return all(self._begin(driver) for driver in list(self.drivers.values()))

    def _install(self, part: Part) -> Driver:
        driver = self.drivers[part.name] = Driver(self, part, part.make())
        for kind in part.accepts:
            self._owners[kind] = driver
        for kind in part.hears:
            hearers = self._hearers.setdefault(kind, [])
            if part.name not in hearers:
                hearers.append(part.name)
        return driver

    def _begin(self, driver: Driver) -> bool:
        try:
            driver.begin()
        except Exception as error:  # noqa: BLE001 - every exception of a core is its crash, judged by the world
            self.crashed(driver, error)
            return False
        return True

    def crash(self, why: str = "crashes") -> None:
        """Power loss: what its disks had not synced is lost from some point on."""
        if not self.running:
            return
        lost, torn = self._down()
        self.world.journal.note(self.name, "%s; %d transactions lost%s", why, lost, ", the first torn" if torn else "")
        if lost:
            self.world.journal.faults["lost unsynced tail"] += 1
        if torn:
            self.world.journal.faults["torn write"] += 1

    def _down(self) -> tuple[int, bool]:
        for ended in self.world.on_end:
            ended(self)
        self.running = False
        self.lived_s += self.loop.now - self.started
        self._thaw_at = 0.0
        for driver in self.drivers.values():
            driver.close()
        self.world.network.down(self.peer)
        promises, self._promises = self._promises, {}
        for promise in promises.values():
            if promise.timer is not None:
                self.loop.drop(promise.timer)
            if promise.outside:
                promise.answered(None, Unreachable("the node went down"))
        found = [disk.crash() for disk in self._disks.values()]
        return sum(lost for lost, _ in found), any(torn for _, torn in found)

    def fail(self, why: str) -> None:
        """The node ends by itself: the first failed fsync, a broken invariant of a part that stops at it."""
        if self.running:
            self.failure = why
            self._down()
            self.world.journal.note(self.name, "ends: %s", why)

    def crashed(self, driver: Driver, error: Exception) -> None:
        """A core raised. The world says whether that was to be expected; the node ends either way."""
        self.world.core_crashed(self, driver.part.name, error)
        self.fail(f"{driver.part.name}: {type(error).__name__}: {error}")

    def refused(self, driver: Driver, error: StoreFull) -> None:
        """A full disk: what the core had stepped is taken back, and it is built again from its rows."""
        self.world.journal.note(self.name, "%s: the disk is full", driver.part.name)
        driver.close()
        for ask_id, promise in list(self._promises.items()):
            if promise.driver is driver:
                self._settle(ask_id, promise, None, error)
        self.loop.after(self.rng.uniform(0.5, 1.0) * REFUSED_PAUSE_S, self._rebuild, (driver, self.life))

    def _rebuild(self, argument: Any) -> None:
        old, life = argument
        if life == self.life and self.running:
            self._begin(self._install(old.part))

    # ---- time and disks

    def now(self) -> Now:
        return self.clock.show(self.loop.now)

    def pause_s(self) -> float:
        return self._cpu_max_s * self.rng.random()

    def freeze(self, for_s: float) -> None:
        """The process stands still (a long collection, a paused machine); its disk and its clock go on."""
        self._thaw_at = max(self._thaw_at, self.loop.now + for_s)

    def frozen_for(self) -> float:
        return self._thaw_at - self.loop.now

    def disk_of(self, part: str) -> Disk:
        name = self.plan.disks.get(part, part)
        disk = self._disks.get(name)
        if disk is None:
            rng = random.Random(self.rng.getrandbits(64))
            plan = self.plan.slower.get(name, self.plan.disk)
            disk = self._disks[name] = Disk(self.loop, rng, plan, self._durable)
        return disk

    @property
    def disks(self) -> list[Disk]:
        return list(self._disks.values())

    def _durable(self, part: str, saves: Any) -> None:
        for hear in self.world.on_durable:
            hear(self, part, saves)

    # ---- the bus

    def stepped(self, driver: Driver, envelope: Envelope[Any], effects: list[Any]) -> None:
        world = self.world
        world.journal.stepped(self.number, type(envelope.body), len(effects))
        for hear in world.on_step:
            hear(self, driver, envelope, effects)

    def owner(self, kind: type) -> Driver:
        try:
            return self._owners[kind]
        except KeyError:
            raise InvariantError(f"no part of {self.name} accepts {kind.__name__}") from None

    def waits(self, ask_id: int) -> bool:
        return ask_id in self._promises

    def ask(self, query: Any, timeout_s: float, answered: Answered, *, sender: str = "", outside: bool = False) -> int:
        """Its id for `withdraw`; 0 when it was refused at once."""
        driver = self._owners.get(type(query))
        if driver is None:
            answered(None, NotFound(f"nobody here accepts {type(query).__name__}"))
            return 0
        self._last_id = ask_id = self._last_id + 1
        promise = self._promises[ask_id] = _Promise(driver, answered, outside=outside)
        if driver.closed or not driver.offer(Envelope(query, ask_id, sender)):
            del self._promises[ask_id]
            answered(None, Overloaded(f"{driver.part.name} is busy", retry_after_s=RETRY_AFTER_S))
            return 0
        promise.timer = self.loop.after(timeout_s, self._expire, ask_id)
        return ask_id

    def outside(self, query: Any, timeout_s: float, answered: Answered) -> None:
        """As an operator or a gateway of this node asks. Told also when the node goes down."""
        if not self.running:
            answered(None, Unreachable("the node is down"))
        else:
            self.ask(query, timeout_s, answered, outside=True)

    def withdraw(self, ask_id: int) -> None:
        promise = self._promises.pop(ask_id, None)
        if promise is not None and promise.timer is not None:
            self.loop.drop(promise.timer)

    def answer(self, driver: Driver, ask_id: int, value: Any, error: Exception | None) -> None:
        promise = self._promises.get(ask_id)
        if promise is not None and promise.driver is driver:
            self._settle(ask_id, promise, value, error)

    def tell(self, body: Any, sender: str = "") -> None:
        driver = self._owners.get(type(body))
        if driver is not None and not driver.closed:
            driver.offer(Envelope(body, 0, sender))

    def announce(self, body: Any) -> None:
        names = self._hearers.get(type(body))
        if names:
            envelope = Envelope(body)
            for name in names:
                driver = self.drivers[name]
                if not driver.closed:
                    driver.offer(envelope)
        for hear in self.world.on_event:
            hear(self, body)

    def _expire(self, ask_id: int) -> None:
        promise = self._promises.get(ask_id)
        if promise is not None:
            self._settle(ask_id, promise, None, TimedOut("no answer within the deadline"))

    def _settle(self, ask_id: int, promise: _Promise, value: Any, error: Exception | None) -> None:
        self.withdraw(ask_id)
        promise.answered(value, error)

    # ---- the network's side

    def hear(self, sender: str, body: Any) -> None:
        if type(body) in self._remote:
            self.tell(body, sender)

    def serve(self, sender: str, query: Any, answer: Answered) -> None:
        if type(query) not in self._remote:
            answer(None, NotFound("not served here"))
        else:
            self.ask(query, SERVE_TIMEOUT_S, answer, sender=sender)

    def lost(self, peer: str) -> None:
        self.announce(PeerDisconnected(peer))

    def send(self, driver: Driver, peer: str, body: Any) -> None:
        for hear in self.world.on_send:
            hear(self, peer, body)
        self.world.network.send(self.peer, peer, body)

    def publish(self, body: Any) -> None:
        self.world.network.publish(self.peer, body)

    def call(self, peer: str, query: Any, timeout_s: float, answered: Answered) -> Any:
        return self.world.network.call(self.peer, peer, query, timeout_s, answered)

    def drop_call(self, exchange: Any) -> None:
        self.world.network.drop(exchange)
