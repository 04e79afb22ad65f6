"""What this node thinks of its peers, from its own evidence only."""

from __future__ import annotations

from msgspec import Struct

from ..effects import Query


class Outcome(Struct, frozen=True):
    """Command to `trust`: one chunk came back from `peer` (or did not). `checked` of its `items` were verified,
    `wrong` of those were wrong; `failed` when it gave no usable result at all."""

    peer: str
    kind: str
    items: int
    checked: int
    wrong: int
    failed: bool
    seconds: float


class Standing(Struct, frozen=True):
    """`rate`: share of this peer's items to verify (1.0 for a newcomer). `newcomer`: not enough checked items yet, so
    replicate. `avoided`: give it no work until `avoided_until_wall`. `score`: lower 90 % bound of its success
    probability. `seconds_per_item` is 0 until measured."""

    peer: str
    kind: str
    rate: float
    newcomer: bool
    avoided: bool
    score: float
    seconds_per_item: float = 0.0
    reason: str = ""


class GetStandings(Query[tuple[Standing, ...]], frozen=True):
    """Standings for `kind`; all known peers when `peers` is empty."""

    kind: str
    peers: tuple[str, ...] = ()


class StandingChanged(Struct, frozen=True):
    """Event: a peer crossed a line: it became avoided, or proven."""

    standing: Standing
