"""What happened in a simulation: the trace, what was violated, and how one seed went."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from .loop import Loop

TRACE_MAX = 4000
"""Lines kept; the oldest go first."""

VIOLATIONS_MAX = 50
"""Kept of one run: the first says what went wrong."""

_DIGEST_MASK = (1 << 61) - 1
_DIGEST_PRIME = 1_099_511_628_211


class Violation(Struct, frozen=True):
    """Simulated seconds, which invariant, and what contradicts it."""

    at_s: float
    invariant: str
    text: str


class Report(Struct, frozen=True):
    """How one seed went. `bound_exceeded` counts results with more wrong items than their stated bound, which may
    happen in one of twenty."""

    seed: int
    violations: tuple[Violation, ...]
    bound_exceeded: int
    faults: dict[str, int]
    nodes: int
    steps: int
    simulated_s: float
    node_seconds: float
    wall_s: float
    digest: str
    trace: tuple[str, ...]

    def story(self, lines_max: int = 60) -> str:
        """For people: what was violated, and what came before it."""
        said = [f"{one.at_s:.3f} s: {one.invariant}: {one.text}" for one in self.violations]
        return "\n".join([f"seed {self.seed}", *said, "--- trace", *self.trace[-lines_max:]])


class Journal:
    """The trace of one run. Lines are made when they are read: most runs are well and nobody reads theirs."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lines: deque[tuple[float, str, str | Callable[..., str], tuple[Any, ...]]] = deque(maxlen=TRACE_MAX)
        self._digest = 0
        self._kinds: dict[type, int] = {}
        self.violations: list[Violation] = []
        self.faults: Counter[str] = Counter()
        self.steps = 0
        self.stop_at_violation = False

    def note(self, node: str, text: str | Callable[..., str], *details: Any) -> None:
        """A line: `text % details`, or `text(*details)`; the details must be immutable."""
        self._lines.append((self._loop.now, node, text, details))

    def count(self, fault: str, node: str, text: str, *details: Any) -> None:
        """A fault struck."""
        self.faults[fault] += 1
        self.note(node, fault + ": " + text, *details)

    def violate(self, invariant: str, text: str) -> None:
        self.note("!!", "%s: %s", invariant, text)
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(self._loop.now, invariant, text))
        if self.stop_at_violation:
            self._loop.stopped = True

    def stepped(self, node: int, kind: type, effects: int) -> None:
        """One step of one core goes into the digest: which node, when, what it took, how many effects it gave."""
        self.steps += 1
        number = self._kinds.setdefault(kind, len(self._kinds) + 1)
        mixed = self._digest ^ (node * 8191 + number * 131 + effects) ^ int(self._loop.now * 1e9)
        self._digest = (mixed * _DIGEST_PRIME) & _DIGEST_MASK

    @property
    def digest(self) -> str:
        """Equal for two runs only if they took the same steps at the same times."""
        return f"{self._digest:016x}"

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{at:10.4f}  {node:4s}  {_say(text, details)}" for at, node, text, details in self._lines)


def _say(text: str | Callable[..., str], details: tuple[Any, ...]) -> str:
    if callable(text):
        return text(*details)
    return text % details if details else text
