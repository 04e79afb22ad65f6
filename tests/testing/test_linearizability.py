"""The checker: histories known to be linearizable or not, and a search through all orders as its oracle."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from edgenet_node.testing.events.linearizability import Operation, Verdict, check, explains, of_each
from edgenet_node.testing.raft.clients import in_log_order, step

OPEN = math.inf


def write(value: int, called: float, returned: float = OPEN, name: str = "") -> Operation:
    return Operation("c", called, returned, ("write", "k", value), None, name)


def read(value: int, called: float, returned: float) -> Operation:
    return Operation("c", called, returned, ("read", "k"), value)


def swap(expected: int, value: int, called: float, returned: float = OPEN, *, answer: bool = True) -> Operation:
    return Operation("c", called, returned, ("swap", "k", expected, value), answer)


KNOWN: tuple[tuple[str, list[Operation], Verdict], ...] = (
    ("nothing happened", [], "linearizable"),
    ("one after another", [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)], "linearizable"),
    ("a stale read", [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], "not linearizable"),
    (
        "a read beside a write sees either",
        [write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6)],
        "linearizable",
    ),
    ("but not the old value after the new one", [write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)], "not linearizable"),
    # Herlihy and Wing 1990, figure 1, for a register: two readers disagree about the order of two writes.
    (
        "readers disagree",
        [write(1, 0, 9), write(2, 0, 9), read(1, 1, 2), read(2, 3, 4), read(1, 5, 6)],
        "not linearizable",
    ),
    ("a write nobody heard of may come late", [write(1, 0), read(0, 1, 2), read(1, 3, 4)], "linearizable"),
    ("or never", [write(1, 0), read(0, 1, 2), read(0, 3, 4)], "linearizable"),
    ("but only once", [write(1, 0), read(1, 1, 2), read(0, 3, 4)], "not linearizable"),
    ("not before it was called", [read(1, 0, 1), write(1, 2)], "not linearizable"),
    ("one of two swaps wins", [swap(0, 1, 0, 9), swap(0, 2, 0, 9, answer=False), read(1, 10, 11)], "linearizable"),
    ("not both", [swap(0, 1, 0, 9), swap(0, 2, 0, 9)], "not linearizable"),
    ("a lost update", [swap(0, 1, 0, 1), swap(1, 2, 2, 3), read(1, 4, 5)], "not linearizable"),
    ("touching in one moment is overlapping", [write(1, 0, 1), read(0, 1, 2)], "linearizable"),
)


@pytest.mark.parametrize(("history", "verdict"), [one[1:] for one in KNOWN], ids=[one[0] for one in KNOWN])
def test_known_histories(history: list[Operation], verdict: Verdict) -> None:
    assert check(history, 0, step) == verdict
    assert check(history[::-1], 0, step) == verdict


def by_trying_all(history: list[Operation]) -> Verdict:
    """Every order of what returned, and of each part of what did not."""
    done = [one for one in history if one.returned < OPEN]
    still = [one for one in history if one.returned == OPEN]
    for count in range(len(still) + 1):
        for some in itertools.combinations(still, count):
            if any(explains(order, 0, step) for order in itertools.permutations([*done, *some])):
                return "linearizable"
    return "not linearizable"


def any_history(rng: random.Random) -> list[Operation]:
    found: list[Operation] = []
    for _ in range(rng.randint(1, 5)):
        asked: Any = rng.choice(
            [("read", "k"), ("write", "k", rng.randint(1, 2)), ("swap", "k", rng.randint(0, 2), rng.randint(1, 2))]
        )
        answer = {"read": rng.randint(0, 2), "write": None, "swap": rng.random() < 0.5}[asked[0]]
        called = float(rng.randint(0, 8))
        returned = OPEN if rng.random() < 0.2 else called + rng.randint(1, 5)
        found.append(Operation("c", called, returned, asked, answer))
    return found


def test_it_agrees_with_a_search_through_all_orders() -> None:
    rng = random.Random(1)
    verdicts = []
    for _ in range(1500):
        history = any_history(rng)
        verdicts.append(check(history, 0, step))
        assert verdicts[-1] == by_trying_all(history), history
    assert 400 < verdicts.count("linearizable") < 1100


def test_a_long_history_of_many_clients_is_decided() -> None:
    """Ten clients over a real register, with a delay before and after each effect."""
    rng = random.Random(2)
    moments: list[tuple[float, Any]] = []
    history: list[Operation] = []
    for client in range(10):
        at = 0.0
        for number in range(40):
            asked = ("read", "k") if rng.random() < 0.5 else ("write", "k", 1 + client * 1000 + number)
            called, effect = at, at + rng.uniform(0, 1)
            moments.append((effect, (called, effect + rng.uniform(0, 1), asked)))
            at = effect + 1
    state = 0
    for _, (called, returned, asked) in sorted(moments):
        state, answer = step(state, asked)
        history.append(Operation("c", called, returned, asked, answer))
    assert check(history, 0, step) == "linearizable"
    broken = [*history[:-1], Operation("c", 0.0, 0.5, ("read", "k"), 999_999)]
    assert check(broken, 0, step) == "not linearizable"


def test_too_large_a_search_is_not_called_linearizable() -> None:
    history = [write(number, 0, 100) for number in range(1, 15)] + [read(99, 50, 60)]
    assert check(history, 0, step, configurations_max=1000) == "undecided"


def test_the_order_of_the_log_explains_what_followed_it() -> None:
    history = [write(2, 0, 9, "b"), write(1, 0, 9, "a"), read(1, 1, 2), read(2, 3, 4), write(3, 0, OPEN, "never")]
    order = in_log_order(history, {"a": 5, "b": 7})
    assert [one.asked for one in order] == [("write", "k", 1), ("read", "k"), ("write", "k", 2), ("read", "k")]
    assert explains(order, 0, step)
    assert not explains(in_log_order(history, {"a": 7, "b": 5}), 0, step)


def test_objects_are_taken_apart() -> None:
    history = [Operation("c", 0, 1, ("write", key, 1)) for key in "abab"]
    assert {key: len(found) for key, found in of_each(history, lambda one: one.asked[1]).items()} == {"a": 2, "b": 2}
