"""What `scripts/simulate --subsystem` plays. A later subsystem adds its line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .events.report import Report
from .main_job import SWARM
from .raft.scenario import RAFT


class Subsystem(Protocol):
    """A scenario of either world: whole nodes in trio's mock time (`simulation`), or cores in `events`."""

    @property
    def name(self) -> str: ...

    @property
    def nodes_min(self) -> int: ...

    @property
    def nodes_max(self) -> int: ...

    def play(self, seed: int, *, nodes: int = 0, window_s: float = 0.0) -> Report:
        """One seed; 0: as the scenario or the seed says."""
        ...


SUBSYSTEMS: Mapping[str, Subsystem] = {SWARM.name: SWARM, RAFT.name: RAFT}
