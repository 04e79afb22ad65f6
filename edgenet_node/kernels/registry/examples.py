"""Small random arguments for each kernel that has a compiled version.

Two readers: a worker calls the compiled version on them once, so that compiling is not part of a task, and a tidy test
holds the backends against each other on them. Types and layouts are those of real calls: numba compiles one version
for each combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional, named."""

Example = Callable[[np.random.Generator], Arguments]

EXAMPLES: Mapping[str, Example] = {}
