"""What `KERNELS` says about one kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional, named."""

Example = Callable[[np.random.Generator], Arguments]
"""Makes small arguments, of the types and layouts of real calls."""


class Kernel(Struct, frozen=True):
    """`shapes` in words, arguments first. `reference`: its float64 oracle in `kernels.reference`. `compiled`: the
    function of the same signature in `kernels.compiled` that the extra `[fast]` brings, as "module:function" below
    that package; empty where numpy wins or ties. `test`, `benchmark`: files that name its id."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: str
    dtype: str
    test: str
    benchmark: str
    compiled: str = ""
