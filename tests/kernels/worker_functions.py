"""What `test_backends` runs in a worker."""

from __future__ import annotations

import sys
from typing import Any

from edgenet_node.adapters.process_executor.context import WorkerContext


def loaded(context: WorkerContext, prefix: str) -> list[str]:
    """Modules of this worker whose name starts with `prefix`."""
    return sorted(name for name in sys.modules if name.startswith(prefix))


def used(context: WorkerContext, names: list[str]) -> dict[str, Any]:
    """The module of each kernel's function, as this worker's backend has it."""
    return {name: context.kernel(name).__module__ for name in names}
