"""`verify.freivalds/1`: no honest product is refused, no wrong one passes more often than the theorem says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.reference import linear as reference
from edgenet_node.kernels.verify import freivalds

Array = npt.NDArray[np.float32]


def signs(rng: np.random.Generator, columns: int, trials: int = 16) -> npt.NDArray[np.float64]:
    drawn: npt.NDArray[np.float64] = rng.integers(0, 2, (columns, trials)).astype(np.float64) * 2.0 - 1.0
    return drawn


def slack(a: Array, b: Array) -> npt.NDArray[np.float64]:
    """As the docstring of the kernel has it."""
    k, u = a.shape[1], 2.0**-24
    lengths = np.sqrt((b.astype(np.float64) ** 2).sum(axis=1))
    most: npt.NDArray[np.float64] = 8 * k * u / (1 - k * u) * (np.abs(a.astype(np.float64)) @ lengths) + 1e-35
    return most


@given(st.integers(0, 40), st.integers(0, 60), st.integers(0, 40), st.integers(-10, 10), st.integers(0, 2**32))
def test_honest_products_pass_in_any_order_of_summation(m: int, k: int, n: int, power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = (rng.standard_normal((m, k)) * 10.0**power).astype(np.float32)
    b = (rng.standard_normal((k, n)) * 10.0 ** rng.integers(-5, 6, (k, 1))).astype(np.float32)
    one_by_one = np.zeros((m, n), np.float32)
    for depth in rng.permutation(k):
        one_by_one += a[:, depth, None] * b[depth]
    for product in (a @ b, one_by_one, (a[:, ::-1] @ b[::-1])):
        assert freivalds(a, b, product, signs(rng, n)).tolist() == [True] * m


def test_constant_data_whose_rounding_drifts_passes() -> None:
    """All errors of a running sum point the same way here: the worst case of the bound, not the usual one."""
    a, b = np.full((4, 4000), 0.1, np.float32), np.full((4000, 32), 0.1, np.float32)
    running = np.zeros((4, 32), np.float32)
    for depth in range(4000):
        running += a[:, depth, None] * b[depth]
    assert freivalds(a, b, running, signs(np.random.default_rng(1), 32)).all()


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32))
def test_one_entry_that_is_off_condemns_its_row_alone(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    wrong = a @ b
    row, column = rng.integers(m), rng.integers(n)
    wrong[row, column] += np.float32(2.1 * slack(a, b)[row] + 1e-6)
    verdict = freivalds(a, b, wrong, signs(rng, n))
    assert verdict.tolist() == reference.is_product(a, b, wrong, (1.05 * slack(a, b)).tolist())
    assert verdict.tolist() == [i != row for i in range(m)]


def test_each_column_of_signs_misses_at_most_half_of_the_wrong_rows() -> None:
    """Errors of one size at two entries cancel under half of the signs: the theorem's bound is reached, not passed."""
    rng = np.random.default_rng(7)
    m, trials = 4000, 3
    a, b = rng.standard_normal((m, 8)).astype(np.float32), rng.standard_normal((8, 16)).astype(np.float32)
    wrong = a @ b
    wrong[:, 3] += 1
    wrong[:, 9] -= 1
    for count in range(1, trials + 1):
        # The signs are the same for all rows of one call: draw afresh for each few.
        missed = np.concatenate(
            [freivalds(a[i : i + 4], b, wrong[i : i + 4], signs(rng, 16, count)) for i in range(0, m, 4)]
        ).mean()
        deviation = (0.25 / (m / 4)) ** 0.5
        assert abs(missed - 0.5**count) < 5 * deviation


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(bad: float) -> None:
    a = np.ones((3, 2), np.float32)
    claimed = a @ a[:2, :2]
    claimed[1, 0] = bad
    assert freivalds(a, a[:2, :2], claimed, signs(np.random.default_rng(1), 2)).tolist() == [True, False, True]
