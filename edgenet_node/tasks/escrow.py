"""The seam where escrow is taken: what a task has promised and what it owes, in micro-rUv.

`award` is called when executors with leases are given to a task: a ledger would lock `price x units` here and refuse
the task when the balance does not cover it. `charge` is called for each chunk that an executor delivered in good faith,
also for a replica; `void` for what a liar delivered. `settle` is called once, at the end of a task, with nothing more
to come: a ledger would pay here and release the rest. Until there is a ledger this is bookkeeping, shown as
`TaskView.price`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..messages.market import LeaseView


class Settlement(Struct, frozen=True):
    """What a finished task owes to each peer."""

    owed: dict[str, int]
    total: int


class Account:
    def __init__(self) -> None:
        self._owed: dict[str, int] = {}
        self.reserved = 0

    def award(self, leases: Sequence[LeaseView], units: int) -> None:
        """`units` are still to be done under these leases, at most at the highest of their prices."""
        self.reserved = max(self.reserved, units * max((lease.price for lease in leases), default=0))

    def charge(self, peer: str, price: int, units: int) -> None:
        if price and units:
            self._owed[peer] = self._owed.get(peer, 0) + price * units

    def void(self, peer: str) -> None:
        self._owed.pop(peer, None)

    @property
    def total(self) -> int:
        return sum(self._owed.values())

    def settle(self) -> Settlement:
        self.reserved = 0
        return Settlement(dict(self._owed), self.total)
