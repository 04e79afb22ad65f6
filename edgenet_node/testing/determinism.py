"""Reproducible scheduling.

Trio shuffles each batch of runnable tasks with a private random source, and may iterate over sets of tasks, whose order
depends on addresses. Seeding that source and letting trio sort each batch first makes a run with a `MockClock` and
without threads a function of its seed. Both are private to trio, hence the check of its version.
"""

from __future__ import annotations

import trio
from trio._core import _run

from ..errors import InvariantError

TRIO_MINORS = range(30, 36)
"""The 0.x releases whose scheduler was looked at; `pyproject.toml` pins the same."""


def seed_scheduler(seed: int) -> None:
    """Make trio's scheduling reproducible from here on, for the whole process. Call it first in a test."""
    major, minor = (int(part) for part in trio.__version__.split(".")[:2])
    if major != 0 or minor not in TRIO_MINORS:
        raise InvariantError(f"trio {trio.__version__}: its scheduler has not been looked at")
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
