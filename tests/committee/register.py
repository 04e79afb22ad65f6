"""One parameter of the registry as a register that clients read and write, each value written once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgenet_node.testing.events.linearizability import Operation, Verdict, check

Asked = tuple[str, int]
"""`("write", value)` or `("read", 0)`. A write answers 0, a read the value."""


def register(state: int, asked: Asked) -> tuple[int, int]:
    kind, value = asked
    return (value, 0) if kind == "write" else (state, state)


def verdict(operations: Sequence[Operation], initial: int) -> Verdict:
    """Whether the history is linearizable. A write that nobody heard of and whose value nobody read is left out: in an
    order that has it, no read stands between it and the next write, so the order without it is right too. This keeps
    the search small."""
    read = {one.answer for one in operations if one.asked[0] == "read"}
    kept = [one for one in operations if one.returned < math.inf or one.asked[1] in read]
    return check(kept, initial, register)
