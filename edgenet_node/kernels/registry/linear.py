"""Table of the dense kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import linear, verify
from ..reference import encoder as encoder_oracle
from ..reference import linear as oracle
from .kernel import Example, Kernel


def _row(
    function: Callable[..., Any], reference: Callable[..., Any], shapes: str, test: str, compiled: str = ""
) -> Kernel:
    return Kernel(
        function=function,
        reference=reference,
        shapes=shapes,
        dtype="float32",
        test=f"tests/kernels/linear/{test}.py",
        benchmark="scripts/bench_kernels/linear.py",
        compiled=compiled,
    )


TABLE: Mapping[str, Kernel] = {
    "linear.matmul/1": _row(linear.matmul, oracle.matmul, "(m, k), (k, n) -> (m, n)", "test_products"),
    "linear.dot/1": _row(linear.dot, oracle.dot, "(n,), (n,) -> number", "test_products"),
    "linear.dot_partial/1": _row(
        linear.dot_partial,
        oracle.dot_segments,
        "(n,), (n,) -> (2,) float64, high and low",
        "test_products",
        "linear:dot_partial",
    ),
    "linear.reduce/1": _row(linear.summarise, oracle.summary, "(n, d) -> sums and extremes (d,)", "test_summaries"),
    "linear.moments/1": _row(linear.moments, oracle.moments, "(n, d) -> mean, squares (d,) float64", "test_summaries"),
    "linear.vector_op/1": _row(linear.vector_op, oracle.vector_op, "(n,), (n,) -> (n,)", "test_elementwise"),
    "linear.silu/1": _row(linear.silu, oracle.silu, "any -> same", "test_elementwise"),
    "linear.gelu/1": _row(linear.gelu, encoder_oracle.gelu, "any -> same", "test_elementwise", "linear:gelu"),
    "linear.softmax/1": _row(linear.softmax, oracle.softmax_rows, "(n, d) -> (n, d)", "test_normalise"),
    "linear.rms_norm/1": _row(
        linear.rms_norm, oracle.rms_norm, "(n, d), gain (d,) -> (n, d)", "test_normalise", "linear:rms_norm"
    ),
    "linear.layer_norm/1": _row(
        linear.layer_norm,
        oracle.layer_norm_rows,
        "(n, d), gain, shift (d,) -> (n, d)",
        "test_normalise",
        "linear:layer_norm",
    ),
    "linear.cosine/1": _row(linear.cosine, oracle.cosine, "(n, d), (n, d) -> (n,)", "test_normalise"),
    "verify.freivalds/1": _row(
        verify.freivalds, oracle.is_product, "(m, k), (k, n), (m, n), signs (n, t) -> (m,) bool", "test_freivalds"
    ),
}


def _rows(gains: int) -> Example:
    """A matrix, and as many vectors as wide as it is."""
    return lambda rng: ((floats(rng, 5, 37), *(floats(rng, 37) for _ in range(gains))), {})


def floats(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


EXAMPLES: Mapping[str, Example] = {
    "linear.dot_partial/1": lambda rng: ((floats(rng, 99), floats(rng, 99)), {}),
    "linear.gelu/1": _rows(0),
    "linear.rms_norm/1": _rows(1),
    "linear.layer_norm/1": _rows(2),
}
