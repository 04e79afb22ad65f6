"""Clients of the replicated map: each keeps some operations under way, tries again until it is answered, and writes
down what it saw.

A client outside asks any node, and when it gets no answer the next one, with the same session and sequence. A resident
one asks the node that it lives on; when that goes down, it does not learn what came of its operations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ...errors import InvariantError
from ...messages.raft import Propose
from ...wire.codec import encode
from ...wire.raft import SubmitCommand
from ..events.host import Host
from ..events.linearizability import Operation
from ..events.world import World, peer_of
from .register import CONSUMER, MapCommand, MapOutcome, MapRead

if TYPE_CHECKING:
    from .committee import Acknowledged

TRY_S = 3.0
"""A client waits so long for one answer: longer than a leader needs to commit, shorter than an election and a half."""

PAUSE_S = 0.15
"""Before the next try, half of it to all of it."""


class Load(Struct, frozen=True):
    """`think_s`: mean pause between two operations of one slot. `slots` operations of a client are under way at once.
    Shares of reads and of swaps; the rest writes. The first `readers` of the clients only read."""

    clients: int = 3
    readers: int = 0
    slots: int = 2
    keys: int = 4
    think_s: float = 0.4
    reads: float = 0.35
    swaps: float = 0.25
    resident: float = 0.3


class History:
    """What all clients of a run saw."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.open = 0
        self.tries = 0
        self._value = 0

    def new_value(self) -> int:
        self._value += 1
        return self._value


def step(state: int, asked: Any) -> tuple[int, Any]:
    """The map's specification, of one key."""
    match asked:
        case ("read", _):
            return state, state
        case ("write", _, value):
            return value, None
        case ("swap", _, expected, value):
            return (value, True) if state == expected else (state, False)
    raise InvariantError(f"{asked!r} is no operation of a map")


def in_log_order(operations: list[Operation], executed: Mapping[str, int]) -> list[Operation]:
    """Operations of one key as the log explains them, if it does: what changed the value by its index, and after each
    of those, by time, what saw its value. Values are unique; what was never executed is left out."""
    changes: list[tuple[int, Operation]] = []
    seers: dict[int, list[Operation]] = {}
    for one in operations:
        match one.asked:
            case ("read", _):
                if one.returned != math.inf:
                    seers.setdefault(one.answer, []).append(one)
            case ("write", *_) if one.name in executed:
                changes.append((executed[one.name], one))
            case ("swap", *_) if one.name in executed:
                changes.append((executed[one.name], one))
    order: list[Operation] = []
    state = 0
    seen = sorted(seers.get(0, []), key=_called)
    for _, one in sorted(changes, key=lambda change: change[0]):
        following, _answer = step(state, one.asked)
        if following == state:
            seen.append(one)
            continue
        order += [*sorted(seen, key=_called), one]
        state, seen = following, seers.get(following, [])
    return [*order, *sorted(seen, key=_called)]


def _called(operation: Operation) -> float:
    return operation.called


class Client:
    """One session after another: a new one only when an operation was given up. `home`: of a resident client."""

    def __init__(
        self,
        world: World,
        name: str,
        hosts: list[Host],
        home: Host | None,
        load: Load,
        history: History,
        acknowledged: Acknowledged,
        seed: int,
    ) -> None:
        self.world = world
        self.name = name
        self.peer = peer_of(name)
        self.load = load
        self.history = history
        self.acknowledged = acknowledged
        self.rng = random.Random(seed)
        self.hosts = hosts
        self.home = home
        self.session = self.rng.randbytes(16)
        self.sequence = 0
        self.busy: set[int] = set()
        self.seen: dict[str, int] = {}
        self.stopping = False
        self.host = self.rng.choice(hosts)

    def begin(self) -> None:
        for _ in range(self.load.slots):
            self.pause(self.rng.uniform(0.0, 2 * self.load.think_s))

    def pause(self, for_s: float) -> None:
        self.world.loop.after(for_s, self._go)

    def _go(self, _argument: Any) -> None:
        if self.stopping:
            return
        if self.home is not None and not self.home.running:
            self.pause(PAUSE_S)
            return
        _Attempt(self).begin()

    def turn(self) -> None:
        """This one does not answer: ask another one, or the same once more."""
        self.host = self.rng.choice(self.hosts)

    def renew(self) -> None:
        self.session = self.rng.randbytes(16)
        self.sequence = 0
        self.busy = set()


class _Attempt:
    """One operation, until it is answered or given up."""

    def __init__(self, client: Client) -> None:
        self.client = client
        load, rng = client.load, client.rng
        key = f"k{rng.randrange(load.keys)}"
        kind = rng.random()
        self.name = ""
        self.sequence = 0
        self.session = client.session
        self.busy = client.busy
        self.life = client.home.life if client.home is not None else 0
        self.index = 0
        self.called = client.world.loop.now
        if kind < load.reads:
            self.asked: tuple[Any, ...] = ("read", key)
            return
        client.sequence += 1
        self.sequence = client.sequence
        self.busy.add(self.sequence)
        value = client.history.new_value()
        self.name = f"{client.name}.{value}"
        if kind < load.reads + load.swaps:
            self.asked = ("swap", key, client.seen.get(key, 0), value)
        else:
            self.asked = ("write", key, value)

    def begin(self) -> None:
        self.client.history.open += 1
        self._try()

    def _try(self, _argument: Any = None) -> None:
        client = self.client
        client.history.tries += 1
        if self.asked[0] == "read":
            self._ask(MapRead(self.asked[1]), self._read)
        elif self.index:
            self._ask(MapOutcome(self.name, self.index), self._outcome)
        else:
            act, key, *rest = self.asked
            expected, value = rest if act == "swap" else (0, rest[0])
            command = encode(MapCommand(self.name, act, key, value, expected))
            kind = Propose if client.home is not None else SubmitCommand
            self._ask(kind(CONSUMER, self.session, self.sequence, min(self.busy), command), self._committed)

    def _ask(self, query: Any, answered: Callable[[Any], None]) -> None:
        client = self.client

        def told(value: Any, error: Exception | None) -> None:
            if error is None:
                answered(value)
            else:
                self._missed(query)

        if type(query) is Propose and client.home is not None:
            client.home.outside(query, TRY_S, told)
        else:
            client.world.network.call(client.peer, client.host.peer, query, TRY_S, told)

    def _missed(self, query: Any) -> None:
        client = self.client
        home = client.home
        if type(query) is Propose and home is not None and (home.life != self.life or not home.running):
            self._give_up()
            return
        client.turn()
        client.world.loop.after(PAUSE_S * client.rng.uniform(0.5, 1.0), self._try)

    def _give_up(self) -> None:
        """The process that asked is gone, and with it what it knew: its operation happened, or not."""
        client = self.client
        if client.session == self.session:
            client.renew()
        self._record(math.inf, None)

    def _read(self, value: Any) -> None:
        self.client.seen[self.asked[1]] = value
        self._record(self.client.world.loop.now, value)

    def _committed(self, result: Any) -> None:
        self.client.acknowledged(self.client.name, self.name, result.index, result.term, duplicate=result.duplicate)
        self.index = result.index
        if self.asked[0] == "swap":
            self._try()
        else:
            self.client.seen[self.asked[1]] = self.asked[2]
            self._record(self.client.world.loop.now, None)

    def _outcome(self, swapped: Any) -> None:
        self._record(self.client.world.loop.now, swapped)

    def _record(self, returned: float, answer: Any) -> None:
        client = self.client
        self.busy.discard(self.sequence)
        client.history.open -= 1
        client.history.operations.append(Operation(client.name, self.called, returned, self.asked, answer, self.name))
        client.world.journal.note(client.name, _said, self.asked, answer, self.called, returned)
        client.pause(client.rng.expovariate(1.0 / client.load.think_s))


def _said(asked: Any, answer: Any, called: float, returned: float) -> str:
    outcome = "unknown" if returned == math.inf else repr(answer)
    return f"{' '.join(map(str, asked))} -> {outcome} (asked at {called:.4f})"
