"""Which messages count as the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgenet_node.effects import Done, Tick
from edgenet_node.errors import LocalError
from edgenet_node.runtime.poison import KEYS_MAX, Poison

from .toys import Add, Memo, Note


@pytest.mark.parametrize(
    "body",
    [
        Note("x"),
        Done("tag", value=np.arange(4)),
        Done(("a", 1), error=ValueError("no")),
        Done("tag", value={1, 2}),
        Note("\ud800"),
    ],
)
def test_the_second_crash_on_the_same_message_quarantines_it(body: Any) -> None:
    poison = Poison("toy")
    assert not poison.crashed_on(body)
    assert poison.screen(body) is None
    assert poison.crashed_on(body)
    assert isinstance(poison.screen(body), LocalError)


def test_others_pass() -> None:
    poison = Poison("toy")
    for _ in range(2):
        poison.crashed_on(Note("x"))
    assert poison.screen(Note("y")) is None
    assert poison.screen(Memo("x")) is None, "the type is part of the key"
    assert poison.screen(Add(1)) is None
    for _ in range(9):
        assert not poison.crashed_on(Tick())


def test_a_poisoned_completion_becomes_a_failure() -> None:
    poison = Poison("toy")
    for _ in range(2):
        poison.crashed_on(Done("tag", 7))
    assert isinstance(poison.screen_done(Done("tag", 7)).error, LocalError)
    assert poison.screen_done(Done("tag", 7)).tag == "tag"
    assert poison.screen_done(Done("tag", 8)) == Done("tag", 8)
    assert poison.screen_done(Done("other", 7)) == Done("other", 7)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    poison = Poison("toy")
    for number in range(KEYS_MAX + 1):
        for _ in range(2):
            poison.crashed_on(Add(number))
    assert poison.screen(Add(0)) is None
    assert poison.screen(Add(1)) is not None
    for number in range(10_000):
        poison.crashed_on(Note(str(number)))
    assert not poison.crashed_on(Note("0")), "its first crash was forgotten"
