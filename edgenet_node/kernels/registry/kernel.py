"""What `KERNELS` says about one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct


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
