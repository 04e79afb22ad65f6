"""`verify.agreement/1` and the bound on undetected errors, against their oracles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgenet_node.errors import UsageError
from edgenet_node.kernels import reference, verify

Array = npt.NDArray[np.float32]
SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 8))


@given(data=st.data(), tolerance=st.sampled_from([1e-6, 1e-3, 0.1]))
def test_agreement_is_row_by_row_the_oracle(data: st.DataObject, tolerance: float) -> None:
    shape = data.draw(SHAPES)
    ours = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))
    noise = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1e-9, 1e-2, 0.5, np.nan])))
    with np.errstate(all="ignore"):
        theirs: Array = (ours * (1 + noise)).astype(np.float32)
    got = verify.agreement(ours, theirs, tolerance)
    assert got.tolist() == [reference.agrees(a, b, tolerance) for a, b in zip(ours, theirs, strict=True)]


def test_rounding_agrees_and_lies_do_not() -> None:
    rng = np.random.default_rng(5)
    ours = rng.standard_normal((6, 384)).astype(np.float32)
    theirs = ours * np.float32(1 + 1e-6)
    theirs[1] = -ours[1]
    theirs[2] = ours[2] * 2
    theirs[3] = rng.standard_normal(384)
    theirs[4, 7] = np.inf
    theirs[5] = 0
    assert verify.agreement(ours, theirs, 1e-4).tolist() == [True, False, False, False, False, False]


def test_zero_agrees_with_zero_only_and_other_shapes_with_nothing() -> None:
    zeros = np.zeros((2, 4), np.float32)
    assert verify.agreement(zeros, zeros, 1e-3).all()
    assert not verify.agreement(zeros, zeros[:, :3], 1e-3).any()
    assert not verify.agreement(zeros, np.full((2, 4), 1e-30, np.float32), 1e-3).any()


@given(total=st.integers(0, 60), data=st.data(), confidence=st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_upper_bound_is_the_enumerated_one(total: int, data: st.DataObject, confidence: float) -> None:
    checked = data.draw(st.integers(0, total))
    mismatches = data.draw(st.integers(0, checked))
    assert verify.upper_bound(checked, mismatches, total, confidence) == reference.upper_bound(
        checked, mismatches, total, confidence
    )


def test_upper_bound_at_its_ends() -> None:
    assert verify.upper_bound(0, 0, 1000, 0.95) == 1.0
    assert verify.upper_bound(1000, 3, 1000, 0.95) == 0.003
    assert verify.upper_bound(0, 0, 0, 0.95) == 0.0


@pytest.mark.parametrize(("checked", "mismatches"), [(100, 0), (500, 0), (5000, 3), (50_000, 2500), (50_000, 49_000)])
def test_upper_bound_in_a_large_population_has_the_promised_tail(checked: int, mismatches: int) -> None:
    total, confidence = 100_000, 0.95
    wrong = round(verify.upper_bound(checked, mismatches, total, confidence) * total)
    draws = np.random.default_rng(11).hypergeometric(wrong, total - wrong, checked, size=40_000)
    assert (draws <= mismatches).mean() == pytest.approx(1 - confidence, abs=0.006)


@given(st.integers(1, 400), st.integers(0, 400))
def test_more_checking_without_mismatch_never_raises_the_bound(checked: int, more: int) -> None:
    total = 1000
    assert verify.upper_bound(checked + more, 0, total, 0.95) <= verify.upper_bound(checked, 0, total, 0.95)


@pytest.mark.parametrize(
    "sample",
    [
        (-1, 0, 5, 0.9),
        (6, 0, 5, 0.9),
        (3, 4, 5, 0.9),
        (3, -1, 5, 0.9),
        (3, 0, 5, 1.0),
        (3, 0, 5, 0.0),
        (3, 0, 5, float("nan")),
    ],
)
def test_impossible_samples_are_refused(sample: tuple[int, int, int, float]) -> None:
    with pytest.raises(UsageError, match="no such sample"):
        verify.upper_bound(*sample)
