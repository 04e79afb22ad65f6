"""Parameters of the whole swarm that its committee sets: whole numbers with bounds and a unit, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from ..errors import UsageError


class Parameter(Struct, frozen=True):
    """`choices` names the values of a choice, counted from 0; empty for a number."""

    default: int
    least: int
    most: int
    unit: str
    meaning: str
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> int:
        """What a person types. `UsageError` says what would do."""
        if self.choices:
            if text not in self.choices:
                raise UsageError(f"{text!r} is none of {', '.join(self.choices)}")
            return self.choices.index(text)
        try:
            value = int(text)
        except ValueError as error:
            raise UsageError(f"{text!r} is no whole number ({self.unit})") from error
        if not self.least <= value <= self.most:
            raise UsageError(f"{value} is not within {self.least} to {self.most} {self.unit}")
        return value

    def show(self, value: int) -> str:
        return self.choices[value] if self.choices else str(value)


OPEN, LISTED = 0, 1

PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "admission": Parameter(
            OPEN, 0, 1, "", "who may connect: everybody not banned, or only those admitted by name", ("open", "listed")
        ),
        "members_max": Parameter(4096, 1, 16_000, "members", "registered at once; further ones are refused"),
        "head_interval_ms": Parameter(1000, 50, 600_000, "ms", "least time between two certified heads"),
    }
)
