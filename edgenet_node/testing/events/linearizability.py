"""Is a history of concurrent operations linearizable?

Wing and Gong's search with Lowe's memory of seen configurations ("Testing for linearizability", Concurrency and
Computation 2017), on one object at a time: linearizability is local (Herlihy and Wing, TOPLAS 1990, theorem 1), so a
map is checked key by key. An operation whose outcome nobody heard may take effect at any time after its call, or never:
it is taken to return at the end of time, with whatever answer it would have got.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

Step = Callable[[Any, Any], tuple[Any, Any]]
"""`step(state, asked) -> (state afterwards, answer)`. States must be hashable."""

CONFIGURATIONS_MAX = 200_000
"""Remembered of one object: some 50 MB. A history that needs more is reported as undecided."""

Verdict = Literal["linearizable", "not linearizable", "undecided"]


class Operation(Struct, frozen=True):
    """`returned` is infinite when nobody heard the answer; then `answer` means nothing. `name`: for who has a name."""

    client: str
    called: float
    returned: float
    asked: Any
    answer: Any = None
    name: str = ""


class _Entry:
    """A call or a return, in a doubly linked list. A call knows its return."""

    __slots__ = ("after", "back", "before", "number", "operation")

    def __init__(self, number: int, operation: Operation, back: _Entry | None) -> None:
        self.number = number
        self.operation = operation
        self.back = back
        self.before: _Entry = self
        self.after: _Entry | None = None


def _link(operations: Sequence[Operation]) -> _Entry:
    moments: list[tuple[float, int, int, _Entry]] = []
    for number, operation in enumerate(operations):
        back = _Entry(number, operation, None)
        # At one moment, returns come after calls: operations that touch in one point overlap.
        moments.append((operation.called, 0, number, _Entry(number, operation, back)))
        moments.append((operation.returned, 1, number, back))
    moments.sort(key=lambda one: one[:3])
    head = _Entry(-1, operations[0], None)
    last = head
    for *_, entry in moments:
        last.after, entry.before = entry, last
        last = entry
    return head


def _lift(call: _Entry) -> None:
    """Take a call and its return out of the list."""
    back = call.back
    assert back is not None
    for entry in (call, back):
        entry.before.after = entry.after
        if entry.after is not None:
            entry.after.before = entry.before


def _unlift(call: _Entry) -> None:
    back = call.back
    assert back is not None
    for entry in (back, call):
        entry.before.after = entry
        if entry.after is not None:
            entry.after.before = entry


def check(
    operations: Sequence[Operation], initial: Any, step: Step, configurations_max: int = CONFIGURATIONS_MAX
) -> Verdict:
    """Whether some order of the operations of one object, each at a moment between its call and its return, gives
    every answer."""
    if not operations:
        return "linearizable"
    head = _link(operations)
    state, done = initial, 0
    seen: set[tuple[int, Any]] = set()
    chosen: list[tuple[_Entry, Any]] = []
    entry = head.after
    while head.after is not None:
        assert entry is not None
        if entry.back is not None:
            following, answer = step(state, entry.operation.asked)
            mark = done | 1 << entry.number
            fits = entry.operation.returned == math.inf or answer == entry.operation.answer
            if fits and (mark, following) not in seen:
                if len(seen) >= configurations_max:
                    return "undecided"
                seen.add((mark, following))
                chosen.append((entry, state))
                state, done = following, mark
                _lift(entry)
                entry = head.after
            else:
                entry = entry.after
        elif entry.operation.returned == math.inf:
            return "linearizable"  # only operations that may never have happened are left
        else:
            # Somebody heard an answer, and nothing that may come before it explains it: take the last choice back.
            if not chosen:
                return "not linearizable"
            entry, state = chosen.pop()
            done &= ~(1 << entry.number)
            _unlift(entry)
            entry = entry.after
    return "linearizable"


def explains(order: Iterable[Operation], initial: Any, step: Step) -> bool:
    """Whether this very order gives every answer and keeps to real time. Who knows in what order things happened need
    not search; when it does not explain the history, another one still may."""
    state, latest = initial, -math.inf
    for operation in order:
        if operation.returned < latest:
            return False  # it had returned before something in front of it was called
        latest = max(latest, operation.called)
        state, answer = step(state, operation.asked)
        if operation.returned != math.inf and answer != operation.answer:
            return False
    return True


def of_each(operations: Iterable[Operation], key: Callable[[Operation], Any]) -> dict[Any, list[Operation]]:
    """Object by object."""
    objects: dict[Any, list[Operation]] = {}
    for operation in operations:
        objects.setdefault(key(operation), []).append(operation)
    return objects
