"""Random inputs for the attention kernels, and what "equal to the oracle" means."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from edgenet_node.kernels.attention.workspace import Array

EPSILON = float(np.finfo(np.float32).eps)


class Inputs(NamedTuple):
    """One random problem."""

    query: Array
    key: Array
    value: Array
    gate: Array | None


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def gate_of(rng: np.random.Generator, kind: str, queries: int, keys: int) -> Array | None:
    """None, one logit a key, or one an edge; a third of the logits infinite, and sometimes whole rows blocked."""
    if kind == "none":
        return None
    gate = normal(rng, keys) * 3 if kind == "keys" else normal(rng, queries, keys) * 3
    gate[rng.random(gate.shape) < 0.2] = -np.inf
    gate[rng.random(gate.shape) < 0.15] = np.inf
    if kind == "edges" and queries:
        gate[rng.integers(queries)] = -np.inf
    return gate


def strided(x: Array, layout: str) -> Array:
    """The same numbers, C-contiguous, Fortran-ordered, or as every other row and column of something larger."""
    if layout == "C":
        return x
    if layout == "F":
        return np.asfortranarray(x)
    wide = np.full((2 * x.shape[0] + 1, 2 * x.shape[1] + 1), np.nan, np.float32)
    wide[1::2, 1::2] = x
    return wide[1::2, 1::2]


@st.composite
def problems(draw: st.DrawFn, square: bool = False, gates: tuple[str, ...] = ("none", "keys", "edges")) -> Inputs:
    """Shapes from 0 keys and 1 feature up, three memory layouts, scores from vanishing to far beyond exp's range."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries = draw(st.integers(0, 40))
    keys = queries if square else draw(st.integers(0, 70))
    width, depth = 2 * draw(st.integers(1, 9)), draw(st.integers(1, 12))
    score_scale = draw(st.sampled_from([1e-12, 1.0, 1.0, 8.0, 1e4]))
    value_scale = draw(st.sampled_from([1e-20, 1.0, 1.0, 1e25]))
    layout = draw(st.sampled_from(["C", "C", "F", "strided"]))
    return Inputs(
        query=strided(normal(rng, queries, width) * np.float32(score_scale), layout),
        key=strided(normal(rng, keys, width), layout),
        value=strided(normal(rng, keys, depth) * np.float32(value_scale), layout),
        gate=gate_of(rng, draw(st.sampled_from(gates)), queries, keys),
    )


def score_bound(query: npt.NDArray[Any], key: npt.NDArray[Any]) -> float:
    """The largest that the products inside of a score can sum to, in magnitude."""
    if not query.size or not key.size:
        return 0.0
    scores = np.abs(query).astype(np.float64) @ np.abs(key).astype(np.float64).T
    return float(scores.max() / np.sqrt(query.shape[1]))


def close(got: Array, wanted: npt.NDArray[np.float64], value: npt.NDArray[Any], bound: float) -> None:
    """Within the error that float32 scores up to `bound` allow: each carries an error of a few eps times its size into
    the logarithm of a weight, and weights of error e change an average of values by at most 2 e max|v|."""
    assert got.dtype == np.float32
    size = float(np.abs(value).max(initial=0.0))
    tolerance = (32 + 4 * bound) * EPSILON
    np.testing.assert_allclose(got, wanted, rtol=0, atol=min(tolerance, 2.0) * size)


# What a warm kernel may allocate: numpy's own buffers for a broadcast step, 8192 elements for each of three operands
# however large the arrays are, and the views and numbers of a call. Every array in the tests of this is larger.
STEP_BYTES = 3 * 8192 * 4 + 12 * 1024


def allocated(call: Callable[[], Any]) -> int:
    """Peak of memory in bytes that `call` takes beyond what it found, once warm; numpy reports its arrays here."""
    call()
    call()
    tracemalloc.start()
    try:
        call()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before
