"""Adapters by operator: what one operator learns leaves every other operator alone.

An operator that has been adapted few times borrows from the adapter of its category: with n steps of its own, its share
is min(1, n / `STEPS_FULL`). A step teaches both, so that a new operator of a known category does not start from zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct, field

from ...errors import NotFound, Overloaded
from . import adapters, lora
from .lora import Adapter, Loaded
from .workspace import Array

STEPS_FULL = 10  # steps after which an operator no longer borrows from its category
ENTRIES_MAX = 64  # operators and categories together: 64 of rank 16 at 256 x 256 are 2 MiB


class Entry(Struct, frozen=True, eq=False):
    """An adapter and how often it has been stepped."""

    adapter: Adapter
    steps: int = 0


class Bank(Struct, frozen=True, eq=False):
    """Adapters by operator and by category; a new bank shares every entry that did not change."""

    inputs: int
    outputs: int
    rank: int
    operators: Mapping[str, Entry] = field(default_factory=dict)
    categories: Mapping[str, Entry] = field(default_factory=dict)


def select(bank: Bank, operator: str, category: str) -> Loaded:
    """What serves `operator`: its own adapter, blended with its category's while it has had fewer than 10 steps.

    `NotFound` if neither has learnt anything: the base alone is then the answer.
    """
    own, shared = bank.operators.get(operator), bank.categories.get(category)
    if own is None and shared is None:
        raise NotFound(f"no adapter for operator {operator!r} or its category {category!r}")
    if own is None or shared is None:
        entry = own or shared
        assert entry is not None  # noqa: S101 - for the type checker
        return lora.loaded(entry.adapter)
    share = min(1.0, own.steps / STEPS_FULL)
    if share >= 1.0:
        return lora.loaded(own.adapter)
    return lora.loaded(adapters.blend([(share, own.adapter), (1.0 - share, shared.adapter)]))


def learn(
    bank: Bank, operator: str, category: str, x: Array, grad: Array, rate: float, generator: np.random.Generator
) -> Bank:
    """Step the adapters of `operator` and of `category` against `grad` = dL/dy at `x`; every other one is untouched.

    `generator` starts adapters that do not exist yet. `Overloaded` if they would exceed `ENTRIES_MAX`.
    """
    missing = (operator not in bank.operators) + (category not in bank.categories)
    if len(bank.operators) + len(bank.categories) + missing > ENTRIES_MAX:
        raise Overloaded(f"{ENTRIES_MAX} adapters are held already")

    def stepped(entry: Entry | None) -> Entry:
        if entry is None:
            entry = Entry(adapters.start(bank.inputs, bank.outputs, bank.rank, generator))
        gradients = lora.gradients(x, grad, entry.adapter)
        return Entry(adapters.step(entry.adapter, gradients, rate), entry.steps + 1)

    return Bank(
        inputs=bank.inputs,
        outputs=bank.outputs,
        rank=bank.rank,
        operators={**bank.operators, operator: stepped(bank.operators.get(operator))},
        categories={**bank.categories, category: stepped(bank.categories.get(category))},
    )
