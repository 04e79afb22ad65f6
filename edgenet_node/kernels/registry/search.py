"""Table of the search and verification kernels."""

from __future__ import annotations

from collections.abc import Mapping

from .. import reference, search, verify
from .kernel import Kernel

TABLE: Mapping[str, Kernel] = {
    "search.top_k/1": Kernel(
        function=search.top_k,
        reference=reference.top_k,
        shapes="(n, d), (q, d), k -> (q, k), (q, k) int64",
        dtype="float32",
        test="tests/kernels/test_search.py",
        benchmark="scripts/bench_search.py",
    ),
    "search.merge_top_k/1": Kernel(
        function=search.merge_top_k,
        reference=reference.merge_top_k,
        shapes="parts of (k,), (k,) -> k pairs",
        dtype="float32",
        test="tests/kernels/test_search.py",
        benchmark="scripts/bench_search.py",
    ),
    "search.normalise/1": Kernel(
        function=search.normalise,
        reference=reference.normalise,
        shapes="(n, d) -> (n, d)",
        dtype="float32",
        test="tests/kernels/test_search.py",
        benchmark="scripts/bench_search.py",
    ),
    "verify.agreement/1": Kernel(
        function=verify.agreement,
        reference=reference.agrees,
        shapes="(n, d), (n, d) -> (n,) bool",
        dtype="float32",
        test="tests/kernels/test_verify.py",
        benchmark="scripts/bench_search.py",
    ),
}
