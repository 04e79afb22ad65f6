"""`linear.matmul/1`, `linear.dot/1`, `linear.dot_partial/1`: tiles cover exactly, segments join to the last digit."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgenet_node.kernels import linear
from edgenet_node.kernels.linear import Workspace
from edgenet_node.kernels.reference import linear as reference

from .variants import BACKENDS, variant

SIZES = st.integers(0, 9)
UNIT = 2.0**-24
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)


def matrices(seed: int, m: int, k: int, n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.integers(-6, 7)
    return (rng.standard_normal((m, k)) * spread).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)


@given(SIZES, SIZES, SIZES, st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**32))
@example(0, 3, 2, (2, 2, 2), 0)
@example(3, 0, 2, (2, 2, 2), 0)
@example(1, 1, 1, (5, 5, 5), 0)
def test_a_product_by_tiles_is_the_product(m: int, k: int, n: int, tile: tuple[int, int, int], seed: int) -> None:
    a, b = matrices(seed, m, k, n)
    wanted = reference.matmul(a, b)
    allowed = (k * UNIT / (1 - k * UNIT)) * (np.abs(a).astype(float) @ np.abs(b).astype(float)) + 1e-37
    for got in (
        linear.matmul(a, b),
        linear.matmul(a, b, tile=tile),
        linear.matmul(np.asfortranarray(a), b[::-1][::-1], tile=tile, out=np.full((m, n), 7, np.float32)),
    ):
        assert got.shape == (m, n)
        assert got.dtype == np.float32
        assert np.all(np.abs(got - wanted) <= allowed)


@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 70), st.tuples(*[st.integers(1, 20)] * 3))
def test_tiles_cover_each_term_once_and_are_even(
    rows: int, depth: int, columns: int, tile: tuple[int, int, int]
) -> None:
    seen = np.zeros((rows, depth, columns), int)
    cut = linear.tiles(rows, depth, columns, tile)
    for one in cut:
        seen[one.i : one.i_end, one.k : one.k_end, one.j : one.j_end] += 1
        sizes = (one.i_end - one.i, one.k_end - one.k, one.j_end - one.j)
        assert all(size <= most for size, most in zip(sizes, tile, strict=True))
        assert sizes[0] > 0 < sizes[2]
    assert np.all(seen == 1)
    assert len(cut) == math.ceil(rows / tile[0]) * math.ceil(columns / tile[2]) * max(1, math.ceil(depth / tile[1]))
    heights = {one.i_end - one.i for one in cut}
    assert not heights or max(heights) - min(heights) <= 1


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    a=arrays(np.float32, st.integers(0, 200), elements=FLOATS),
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(0, 200)),
)
@example(a=np.array([1e18, 1.0, -1e18], np.float32), seed=0, cuts=[1])
@example(a=np.array([], np.float32), seed=0, cuts=[])
@example(a=np.array([3.0], np.float32), seed=0, cuts=[0, 1])
def test_segments_join_to_the_inner_product_however_they_are_cut(
    a: npt.NDArray[np.float32], seed: int, cuts: list[int], backend: str
) -> None:
    dot_partial = variant("linear.dot_partial/1", backend)
    b = np.random.default_rng(seed).standard_normal(a.size).astype(np.float32)
    wanted = reference.dot(a, b)
    mass = math.fsum(np.abs(a.astype(float) * b).tolist())
    bounds = [0, *sorted(min(cut, a.size) for cut in cuts), a.size]
    parts = [dot_partial(a[i:j], b[i:j]) for i, j in itertools.pairwise(bounds)]
    # Once rounded, plus second order: a float64 sum would be off by 2^-53 times the mass of all terms instead.
    allowed = abs(wanted) * 2.0**-52 + mass * 200 * 2.0**-104
    assert abs(linear.join_dots(parts) - wanted) <= allowed
    assert abs(linear.join_dots([dot_partial(a[::-1], b[::-1])]) - wanted) <= allowed
    assert abs(linear.dot(a, b) - wanted) <= a.size * UNIT / (1 - a.size * UNIT) * mass


def test_what_cancels_in_float64_survives() -> None:
    a = np.array([2.0**60, 1.0, -(2.0**60)], np.float32)
    ones = np.ones(3, np.float32)
    assert float(np.sum(a.astype(np.float64))) == 0.0
    assert linear.join_dots([linear.dot_partial(a, ones)]) == 1.0
    assert linear.join_dots([linear.dot_partial(a[:1], ones[:1]), linear.dot_partial(a[1:], ones[1:])]) == 1.0
    assert linear.join_dots([]) == 0.0


@pytest.mark.parametrize("tile", [None, (256, 256, 256)])
def test_nothing_is_allocated_with_out_and_workspace(tile: tuple[int, int, int] | None) -> None:
    a, b = matrices(1, 512, 512, 512)
    out, workspace = np.empty((512, 512), np.float32), Workspace()
    linear.matmul(a, b, tile=tile, out=out, workspace=workspace)
    tracemalloc.start()
    linear.matmul(a, b, tile=tile, out=out, workspace=workspace)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 1024  # numpy's iterators have 64 KiB of their own; a partial product has 256, the result 1024
