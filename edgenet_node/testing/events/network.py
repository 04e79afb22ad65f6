"""What is between nodes: links that lose, delay, double and reorder, and that break in one direction or in both.

Bodies travel as they are: they are immutable. Whether they would survive the wire is checked where a world asks for it
(`Network.wire`), by encoding and decoding every body.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from ...errors import EdgenetError, TimedOut, Unreachable
from .loop import Loop, Timer

Answered = Callable[[Any, "Exception | None"], None]


class LinkPlan(Struct, frozen=True):
    """One direction between two nodes. A stream keeps order and loses nothing while its connection lasts; with
    `reorder` it does not, as if every message had a connection of its own. `loss`, `duplicate`, `reorder` and `slow`
    are probabilities of each message; a slow one takes `slow_s` more."""

    delay_min_s: float = 0.0005
    delay_max_s: float = 0.003
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.5


class Endpoint(Protocol):
    """A node, as the network sees it. `life` changes when it starts: what was for an earlier life is lost."""

    peer: str
    life: int
    running: bool

    def hear(self, sender: str, body: Any) -> None: ...

    def serve(self, sender: str, query: Any, answer: Answered) -> None: ...

    def lost(self, peer: str) -> None:
        """The connection to a peer broke."""
        ...


class _Exchange:
    """A call under way."""

    __slots__ = ("answered", "callee", "caller", "life", "timer")

    def __init__(self, caller: str, callee: str, life: int, answered: Answered) -> None:
        self.caller = caller
        self.callee = callee
        self.life = life
        self.answered: Answered | None = answered
        self.timer: Timer | None = None


class Network:
    """All nodes and links. Callers that are no node of the world (clients, operators) need no endpoint."""

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._nodes: dict[str, Endpoint] = {}
        self._links: dict[tuple[str, str], LinkPlan] = {}
        self._cut: set[tuple[str, str]] = set()
        self._free_at: dict[tuple[str, str], float] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._exchanges: dict[_Exchange, None] = {}
        self.default = LinkPlan()
        self.wire: Callable[[Any], Any] | None = None
        self.sent = self.lost = self.doubled = self.reordered = 0

    # ---- shape

    def attach(self, node: Endpoint) -> None:
        self._nodes[node.peer] = node

    def set_link(self, one: str, other: str, plan: LinkPlan | None) -> None:
        """From `one` to `other`; None: as the default."""
        if plan is None:
            self._links.pop((one, other), None)
        else:
            self._links[one, other] = plan

    def cut(self, one: str, other: str) -> None:
        """Nothing from `one` reaches `other`; the other way may work."""
        self._cut.add((one, other))

    def mend(self, one: str, other: str) -> None:
        self._cut.discard((one, other))

    def mend_all(self) -> None:
        self._cut.clear()
        self._links.clear()

    def is_cut(self, one: str, other: str) -> bool:
        return (one, other) in self._cut

    def disconnect(self, one: str, other: str) -> None:
        """The connection breaks: what is under way in both directions is lost, calls fail, both ends are told. The next
        message opens a new one."""
        for way in ((one, other), (other, one)):
            self._epochs[way] = self._epochs.get(way, 0) + 1
        for exchange in list(self._exchanges):
            if {exchange.caller, exchange.callee} == {one, other}:
                self._settle(exchange, None, Unreachable("the connection broke"))
        for node, peer in ((one, other), (other, one)):
            if node in self._nodes and self._nodes[node].running:
                self._nodes[node].lost(peer)

    def down(self, peer: str) -> None:
        """A node went down: its own calls are forgotten, those to it fail when their callers notice."""
        for exchange in list(self._exchanges):
            if exchange.caller == peer:
                self._forget(exchange)
            elif exchange.callee == peer:
                self._loop.after(self._rng.uniform(0.001, 0.1), self._refuse, exchange)

    # ---- traffic

    def send(self, sender: str, peer: str, body: Any) -> None:
        """One way, at most once unless the link doubles it."""
        node = self._nodes.get(peer)
        if node is None or not node.running:
            self.lost += 1
            return
        self._carry(sender, peer, self._deliver, (sender, node, node.life, body), ordered=True)

    def publish(self, sender: str, body: Any) -> None:
        """To every node but the sender."""
        for peer in self._nodes:
            if peer != sender:
                self.send(sender, peer, body)

    def call(self, caller: str, callee: str, query: Any, timeout_s: float, answered: Answered) -> Any:
        """Calls `answered(value, error)` once, unless it is dropped (`drop`). The returned exchange is for `drop`."""
        life = self._nodes[caller].life if caller in self._nodes else 0
        exchange = _Exchange(caller, callee, life, answered)
        exchange.timer = self._loop.after(timeout_s, self._expire, exchange)
        self._exchanges[exchange] = None
        node = self._nodes.get(callee)
        if node is None or not node.running:
            self._loop.after(self._rng.uniform(0.0005, 0.01), self._refuse, exchange)
        else:
            self._carry(caller, callee, self._ask, (exchange, node, node.life, query), ordered=False)
        return exchange

    def drop(self, exchange: Any) -> None:
        """The caller lost interest."""
        self._forget(exchange)

    # ---- carriage

    def _carry(self, one: str, other: str, act: Callable[[Any], None], load: Any, *, ordered: bool) -> None:
        way = (one, other)
        link = self._links.get(way, self.default)
        rng = self._rng.random
        self.sent += 1
        if way in self._cut or (link.loss and rng() < link.loss):
            self.lost += 1
            return
        due = self._loop.now + link.delay_min_s + (link.delay_max_s - link.delay_min_s) * rng()
        if link.slow and rng() < link.slow:
            due += link.slow_s * rng()
        if ordered:
            if link.reorder and rng() < link.reorder:
                self.reordered += 1
            else:
                due = max(due, self._free_at.get(way, 0.0))
                self._free_at[way] = due
        epoch = self._epochs.get(way, 0)
        self._loop.at(due, self._arrive, (way, epoch, act, load))
        if link.duplicate and ordered and rng() < link.duplicate:
            self.doubled += 1
            self._loop.at(due + rng() * 10 * link.delay_max_s, self._arrive, (way, epoch, act, load))

    def _arrive(self, parcel: Any) -> None:
        way, epoch, act, load = parcel
        if way in self._cut or self._epochs.get(way, 0) != epoch:
            self.lost += 1
            return
        act(load)

    def _deliver(self, load: Any) -> None:
        sender, node, life, body = load
        if node.running and node.life == life:
            node.hear(sender, body if self.wire is None else self.wire(body))

    def _ask(self, load: Any) -> None:
        exchange, node, life, query = load
        if not node.running or node.life != life:
            return
        asked = query if self.wire is None else self.wire(query)

        def answer(value: Any, error: Exception | None) -> None:
            # Errors travel as code and text; what is no error of ours would not.
            if exchange.answered is not None:
                told = error if error is None or isinstance(error, EdgenetError) else EdgenetError("local")
                self._carry(exchange.callee, exchange.caller, self._reply, (exchange, value, told), ordered=False)

        node.serve(exchange.caller, asked, answer)

    def _reply(self, load: Any) -> None:
        exchange, value, error = load
        self._settle(exchange, value if self.wire is None or value is None else self.wire(value), error)

    def _refuse(self, exchange: _Exchange) -> None:
        self._settle(exchange, None, Unreachable("not connected"))

    def _expire(self, exchange: _Exchange) -> None:
        self._settle(exchange, None, TimedOut("no answer within the deadline"))

    def _settle(self, exchange: _Exchange, value: Any, error: Exception | None) -> None:
        answered = exchange.answered
        if answered is not None:
            self._forget(exchange)
            answered(value, error)

    def _forget(self, exchange: _Exchange) -> None:
        exchange.answered = None
        self._exchanges.pop(exchange, None)
        if exchange.timer is not None:
            self._loop.drop(exchange.timer)
