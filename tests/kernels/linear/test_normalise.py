"""`linear.softmax/1`, `linear.rms_norm/1`, `linear.layer_norm/1`, `linear.cosine/1`."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels import linear
from edgenet_node.kernels.linear import Workspace
from edgenet_node.kernels.reference import linear as reference

from .variants import BACKENDS, variant

Array = npt.NDArray[np.float32]


@st.composite
def rows(draw: st.DrawFn) -> Array:
    """(n, d), of many magnitudes, transposed or strided at times."""
    n, d = draw(st.integers(0, 6)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = (rng.standard_normal((n, d)) * 10.0 ** rng.integers(-8, 9, (n, 1))).astype(np.float32)
    layout = draw(st.sampled_from(["plain", "columns", "strided"]))
    if layout == "columns":
        return np.asfortranarray(values)
    return np.repeat(values, 2, axis=1)[:, ::2] if layout == "strided" else values


def close(got: Array, wanted: npt.NDArray[np.float64], scale: Any = 1.0) -> None:
    assert got.dtype == np.float32
    assert np.all(np.abs(got - wanted) <= 4e-6 * np.asarray(scale) + 1e-6 * np.abs(wanted))


@given(rows())
def test_softmax(x: Array) -> None:
    got = linear.softmax(x)
    # The result depends on differences of scores, each of which has an error of |x| 2^-24.
    close(got, reference.softmax_rows(x), np.abs(x).max(axis=1, keepdims=True, initial=1.0))
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-5)
    assert np.all(got >= 0)
    inplace = x.copy()
    np.testing.assert_array_equal(linear.softmax(inplace, out=inplace), got)


def test_softmax_does_not_overflow_and_knows_no_shift() -> None:
    x = np.array([[1000, 1001, 999], [-1e38, 3e38, 0], [-np.inf, 0, 0]], np.float32)
    with np.errstate(over="ignore"):
        got = linear.softmax(x)
    np.testing.assert_allclose(got, reference.softmax_rows(x), atol=1e-7)
    np.testing.assert_allclose(got[0], linear.softmax(x[:1] - 1000)[0], rtol=1e-6)
    bad = np.array([[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf], [1, 1]], np.float32)
    assert np.isnan(linear.softmax(bad)).all(axis=1).tolist() == [True, True, True, False]


@pytest.mark.parametrize("backend", BACKENDS)
@given(x=rows(), seed=st.integers(0, 2**32))
def test_norms(x: Array, seed: int, backend: str) -> None:
    rms_norm, layer_norm = (variant(f"linear.{name}/1", backend) for name in ("rms_norm", "layer_norm"))
    rng = np.random.default_rng(seed)
    gain, shift = rng.standard_normal((2, x.shape[1])).astype(np.float32)
    close(rms_norm(x, gain), reference.rms_norm(x, gain), np.abs(gain))
    # Where all entries are nearly alike the distances to the mean are rounding; eps decides there.
    spread = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    wanted = reference.layer_norm_rows(x, gain, shift)
    deviation = np.sqrt(x.astype(float).var(axis=1, keepdims=True) + 1e-5)
    close(layer_norm(x, gain, shift), wanted, (1 + spread / deviation) * np.abs(gain) + np.abs(shift))
    one = np.ones(x.shape[1], np.float32)
    cases: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (rms_norm, {}),
        (layer_norm, {"shift": 0 * one}),
    ]
    for function, named in cases:
        inplace = np.ascontiguousarray(x)
        wanted_again = function(inplace.copy(), one, **named)
        np.testing.assert_array_equal(function(inplace, one, **named, out=inplace), wanted_again)


@given(rows(), st.integers(0, 2**32))
def test_cosine(x: Array, seed: int) -> None:
    other = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
    close(linear.cosine(x, other), reference.cosine(x, other))
    close(linear.cosine(x, x), np.ones(len(x)))
    close(linear.cosine(x, -x), -np.ones(len(x)))


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e25, 1e37])
def test_cosine_of_extremes_and_of_nothing(scale: float) -> None:
    a = np.array([[1, 2, 3], [0, 0, 0], [1, 0, 0]], np.float32) * np.float32(scale)
    b = np.array([[3, 2, 1], [1, 1, 1], [0, 0, 0]], np.float32) * np.float32(scale)
    np.testing.assert_allclose(linear.cosine(a, b), [10 / 14, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("function", [linear.softmax, linear.rms_norm, linear.layer_norm])
def test_nothing_is_allocated_with_out_and_workspace(function: Callable[..., Any]) -> None:
    x, workspace = np.ones((512, 512), np.float32), Workspace()
    parts = {"softmax": 0, "rms_norm": 1, "layer_norm": 2}[function.__name__]
    args, out = [np.ones(512, np.float32)] * parts, np.empty_like(x)
    function(x, *args, out=out, workspace=workspace)
    tracemalloc.start()
    function(x, *args, out=out, workspace=workspace)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 1024  # numpy's iterator has 32 KiB of its own; an array here has 1024
