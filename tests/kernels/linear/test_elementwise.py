"""`linear.vector_op/1`, `linear.silu/1`, `linear.gelu/1`: ranges are one call, activations keep their stated digits."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgenet_node.errors import UsageError
from edgenet_node.kernels import linear
from edgenet_node.kernels.linear import Workspace
from edgenet_node.kernels.linear.elementwise import BLOCK, Operation
from edgenet_node.kernels.reference import gelu
from edgenet_node.kernels.reference import linear as reference

from .variants import BACKENDS, variant

Array = npt.NDArray[np.float32]
VALUES = st.floats(-1e4, 1e4, width=32) | st.floats(-20, 20, width=32)
EXTREME = np.array([0, -0.0, 1e-38, -1e-38, 88, -88, 104, -104, 3e38, -3e38, np.inf, -np.inf], np.float32)


@pytest.mark.parametrize("operation", get_args(Operation))
@given(data=st.data(), size=st.integers(0, 40))
def test_ranges_in_any_order_are_one_call(operation: Operation, data: st.DataObject, size: int) -> None:
    x, y = (data.draw(arrays(np.float32, size, elements=VALUES)) for _ in range(2))
    second = y if operation in ("add", "multiply") else None
    bounds = [0, *sorted(data.draw(st.lists(st.integers(0, size), max_size=4))), size]
    ranges = data.draw(st.permutations(list(itertools.pairwise(bounds))))
    out = np.full(size, 9, np.float32)
    for start, stop in ranges:
        linear.vector_op(operation, x, second, start=start, stop=stop, out=out)
    whole = linear.vector_op(operation, x[::-1], None if second is None else y[::-1], out=np.empty(size, np.float32))
    np.testing.assert_array_equal(out, whole[::-1])
    np.testing.assert_allclose(out, reference.vector_op(operation, x, second), rtol=3e-7, atol=1e-37)


def test_what_is_outside_the_range_stays() -> None:
    out = np.full(4, 7, np.float32)
    linear.vector_op("relu", np.array([-1, -1, 1, 1], np.float32), start=1, stop=3, out=out)
    assert out.tolist() == [7, 0, 1, 7]


def test_a_sum_of_one_vector_is_refused() -> None:
    with pytest.raises(UsageError, match="add takes two vectors"):
        linear.vector_op("add", np.zeros(2, np.float32), out=np.zeros(2, np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_activations_across_blocks(size: int, backend: str) -> None:
    activation = variant("linear.gelu/1", backend)
    x = np.linspace(-30, 30, size, dtype=np.float32)
    np.testing.assert_allclose(linear.silu(x), reference.silu(x), rtol=4e-7, atol=3e-37)
    some = slice(None, None, max(1, size // 3000))
    error = np.abs(activation(x)[some] - gelu(x[some])) / np.maximum(1.0, np.abs(x[some]))
    assert error.max() < 3e-7


@pytest.mark.parametrize("backend", BACKENDS)
@given(x=arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 7)), elements=VALUES))
def test_activations_of_any_layout(x: Array, backend: str) -> None:
    activation = variant("linear.gelu/1", backend)
    turned = x.T
    np.testing.assert_allclose(linear.silu(turned), reference.silu(turned), rtol=4e-7, atol=3e-37)
    error = np.abs(activation(turned) - gelu(turned)) / np.maximum(1.0, np.abs(turned))
    assert error.max(initial=0.0) < 3e-7
    inplace = x.copy()
    activation(inplace, out=inplace)
    np.testing.assert_array_equal(inplace, activation(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_extremes_have_their_limits(backend: str) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            variant("linear.gelu/1", backend)(EXTREME[:-2]), gelu(EXTREME[:-2]), rtol=3e-7, atol=3e-7
        )
        sigmoid = linear.vector_op("sigmoid", EXTREME, out=np.empty_like(EXTREME))
        np.testing.assert_allclose(sigmoid, reference.vector_op("sigmoid", EXTREME), rtol=3e-7, atol=1e-37)
        assert np.isnan(linear.silu(np.array([np.nan], np.float32))).all()
        np.testing.assert_allclose(linear.silu(EXTREME[:-1]), reference.silu(EXTREME[:-1]), rtol=4e-7, atol=3e-37)


@pytest.mark.parametrize("function", [linear.silu, linear.gelu])
def test_nothing_is_allocated_with_out_and_workspace(function: Callable[..., Any]) -> None:
    x, workspace = np.ones((64, 512), np.float32), Workspace()
    out = np.empty_like(x)
    named = {"out": out, **({"workspace": workspace} if function is linear.gelu else {})}
    function(x, **named)
    tracemalloc.start()
    function(x, **named)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8192
