"""The numpy and the compiled version of a dense kernel, for tests that hold both to the same claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgenet_node.kernels.backends import load_compiled
from edgenet_node.kernels.registry import KERNELS

BACKENDS = ("numpy", "fast")


def variant(name: str, backend: str) -> Callable[..., Any]:
    """Skips the test where numba is absent."""
    kernel = KERNELS[name]
    if backend == "numpy":
        return kernel.function
    pytest.importorskip("numba")
    return load_compiled(kernel.compiled)
