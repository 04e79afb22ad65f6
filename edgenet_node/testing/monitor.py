"""What happened in a simulation: a readable trace, a digest of every step, and what must never happen.

`Monitor.watch` wraps the core of a part, so that every step of every node passes by here. Invariants subscribe to the
steps. Two are built in, since they hold for any core: nothing is released before the saves that it follows are durable
(the store's own count is the witness, not the outbox's), and no core crashes unless a fault says so.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import trio
from msgspec import Struct, structs

from ..effects import Ask, Call, Cancel, Compute, Core, Delete, Done, Early, Envelope, Now, Part, Put, Reply, Transfer
from ..runtime import Runtime
from .events.report import TRACE_MAX, VIOLATIONS_MAX, Violation
from .store import MemoryStore

OPERATIONS = (Ask, Call, Transfer, Compute)


class ToldToCrash(Exception):
    """Of a core, by a fault."""


class Step(Struct, frozen=True):
    """One step of one core: `part` of `node` took `body` and returned `effects`."""

    node: str
    part: str
    sender: str
    body: Any
    effects: Sequence[Any]
    now: Now


class Monitor:
    def __init__(self) -> None:
        self.trace: deque[str] = deque(maxlen=TRACE_MAX)
        self.violations: list[Violation] = []
        self.steps = 0
        self._to_crash: set[tuple[str, str]] = set()
        self._digest = blake2b(digest_size=16)
        self._hearers: list[Callable[[Step], None]] = []

    def note(self, node: str, text: str) -> None:
        """A line of the trace."""
        line = f"{trio.current_time():10.4f}  {node:4s}  {text}"
        self.trace.append(line)
        self._digest.update(line.encode())

    def violate(self, invariant: str, text: str) -> None:
        self.note("!!", f"{invariant}: {text}")
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(trio.current_time(), invariant, text))

    def listen(self, hearer: Callable[[Step], None]) -> None:
        """Call `hearer` after every step of every core."""
        self._hearers.append(hearer)

    @property
    def digest(self) -> str:
        """Equal for two runs only if they took the same steps at the same times."""
        return self._digest.hexdigest()

    def watch(self, node: str, parts: Sequence[Part], store: MemoryStore) -> tuple[tuple[Part, ...], Ledger]:
        """The parts with watched cores, and the ledger to be shown the runtime that drives them."""
        ledger = Ledger(self, node, store)

        def watched(part: Part) -> Part:
            return structs.replace(part, make=lambda: Watched(part.make(), self, node, part.name, ledger))

        return tuple(watched(part) for part in parts), ledger

    def stepped(self, step: Step) -> None:
        self.steps += 1
        line = f"{step.now.mono:.6f} {step.node} {step.part} {type(step.body).__name__} {len(step.effects)}\n"
        self._digest.update(line.encode())
        for hearer in self._hearers:
            hearer(step)

    def crash_next(self, node: str, part: str) -> None:
        """The next message that this core takes is one that it cannot stand."""
        self._to_crash.add((node, part))

    def crash_if_told(self, node: str, part: str, body: Any) -> None:
        if (node, part) in self._to_crash:
            self._to_crash.discard((node, part))
            self.note(node, f"{part} crashes on {type(body).__name__}, as told")
            raise ToldToCrash

    def crashed(self, node: str, part: str, body: Any, error: Exception) -> None:
        text = "".join(traceback.format_exception(error, limit=-4))
        self.violate("no core crashes", f"{node} {part} on {type(body).__name__}: {error!r}\n{text}")


class _Account:
    """Saves of one incarnation of one core: `emitted` so far, those before it on the same store in `base`."""

    __slots__ = ("base", "emitted", "operations")

    def __init__(self, base: int) -> None:
        self.base = base
        self.emitted = 0
        self.operations: dict[Any, int] = {}


class Ledger:
    """What one life of one node has promised to save before it answers."""

    def __init__(self, monitor: Monitor, node: str, store: MemoryStore) -> None:
        self._monitor = monitor
        self._node = node
        self._store = store
        self._accounts: dict[str, _Account] = {}
        self._replies: dict[int, tuple[str, int]] = {}

    def attach(self, runtime: Runtime) -> None:
        """See every reply at the moment in which its asker gets it."""
        answer = runtime.bus.answer

        def spy(owner: Any, ask_id: int, value: Any, error: Exception | None) -> None:
            promised = self._replies.pop(ask_id, None)
            if promised is not None:
                self._check(*promised, f"reply {type(value if error is None else error).__name__}")
            answer(owner, ask_id, value, error)

        runtime.bus.answer = spy  # type: ignore[method-assign]

    def begin(self, part: str) -> None:
        self._accounts[part] = _Account(self._store.durable_saves.get(part, 0))

    def enter(self, part: str, body: Any, effects: Sequence[Any]) -> None:
        account = self._accounts[part]
        if isinstance(body, Done):
            needs = account.operations.pop(body.tag, 0)
            self._check(part, needs, f"operation {body.tag!r}"[:120])
        account.emitted += sum(1 for effect in effects if isinstance(effect, Put | Delete))
        needs = account.base + account.emitted
        for effect in effects:
            if isinstance(effect, Reply):
                self._replies[effect.to] = part, needs
            elif isinstance(effect, OPERATIONS):
                account.operations[effect.tag] = needs
            elif isinstance(effect, Cancel):
                account.operations.pop(effect.tag, None)
            elif isinstance(effect, Early) and isinstance(effect.effect, OPERATIONS):
                account.operations[effect.effect.tag] = 0

    def _check(self, part: str, needs: int, what: str) -> None:
        saved = self._store.durable_saves.get(part, 0)
        if saved < needs:
            text = f"{self._node} {part}: {what} was released with {needs - saved} saves not durable"
            self._monitor.violate("nothing is released before it is durable", text)


class Watched:
    """A `Core` that is looked at."""

    def __init__(self, core: Core, monitor: Monitor, node: str, part: str, ledger: Ledger) -> None:
        self._core = core
        self._monitor = monitor
        self._node = node
        self._part = part
        self._ledger = ledger
        ledger.begin(part)

    def restore(self, rows: Sequence[Any], now: Now) -> list[Any]:
        return self._taken(None, "", lambda: self._core.restore(rows, now), now)

    def step(self, e: Envelope[Any], now: Now) -> list[Any]:
        self._monitor.crash_if_told(self._node, self._part, e.body)
        return self._taken(e.body, e.sender, lambda: self._core.step(e, now), now)

    def wake_at(self) -> float:
        return self._core.wake_at()

    def _taken(self, body: Any, sender: str, act: Callable[[], list[Any]], now: Now) -> list[Any]:
        try:
            effects = act()
        except Exception as error:
            self._monitor.crashed(self._node, self._part, body, error)
            raise
        self._ledger.enter(self._part, body, effects)
        self._monitor.stepped(Step(self._node, self._part, sender, body, effects, now))
        return effects
