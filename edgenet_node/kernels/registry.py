"""`KERNELS`: what this node can compute, by id with version.

A version changes when results change by more than rounding or when shapes change: peers announce ids, and two peers
that share one may check each other by `verify.agreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from . import reference, search, transformer, verify


class Kernel(Struct, frozen=True):
    """`shapes` in words, arguments first. `reference`: its oracle. `test`, `benchmark`: files that name its id."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: str
    dtype: str
    backends: tuple[str, ...]
    test: str
    benchmark: str


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "encoder.minilm_l6/1": Kernel(
            function=transformer.forward,
            reference=reference.encode,
            shapes="ids (t,) int32, groups -> (n, 384)",
            dtype="float32",
            backends=("numpy",),
            test="tests/kernels/test_encoder.py",
            benchmark="scripts/bench_encoder.py",
        ),
        "search.top_k/1": Kernel(
            function=search.top_k,
            reference=reference.top_k,
            shapes="(n, d), (q, d), k -> (q, k), (q, k) int64",
            dtype="float32",
            backends=("numpy",),
            test="tests/kernels/test_search.py",
            benchmark="scripts/bench_search.py",
        ),
        "search.merge_top_k/1": Kernel(
            function=search.merge_top_k,
            reference=reference.merge_top_k,
            shapes="parts of (k,), (k,) -> k pairs",
            dtype="float32",
            backends=("python",),
            test="tests/kernels/test_search.py",
            benchmark="scripts/bench_search.py",
        ),
        "search.normalise/1": Kernel(
            function=search.normalise,
            reference=reference.normalise,
            shapes="(n, d) -> (n, d)",
            dtype="float32",
            backends=("numpy",),
            test="tests/kernels/test_search.py",
            benchmark="scripts/bench_search.py",
        ),
        "verify.agreement/1": Kernel(
            function=verify.agreement,
            reference=reference.agrees,
            shapes="(n, d), (n, d) -> (n,) bool",
            dtype="float32",
            backends=("numpy",),
            test="tests/kernels/test_verify.py",
            benchmark="scripts/bench_search.py",
        ),
    }
)
