"""The clock port: the only place that time comes from."""

from __future__ import annotations

from typing import Protocol

from ..effects import Now


class Clock(Protocol):
    def now(self) -> Now: ...
