"""`sequence.hopfield/1`, `sequence.hierarchical_hopfield/1`: oracles, Ramsauer's theorems, energy, groups."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.attention import hopfield
from edgenet_node.kernels.attention.workspace import Workspace
from edgenet_node.kernels.reference import sequence as reference

Array = npt.NDArray[np.float32]


def unit(rng: np.random.Generator, count: int, width: int) -> Array:
    rows = rng.standard_normal((count, width))
    unit_rows: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit_rows


@given(
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.integers(0, 5),
    st.integers(1, 8),
    st.sampled_from([0.1, 4.0, 300.0]),
    st.integers(1, 3),
    st.booleans(),
)
def test_updates_are_their_reference(
    seed: int, count: int, asked: int, width: int, beta: float, steps: int, gated: bool
) -> None:
    rng = np.random.default_rng(seed)
    patterns, state = unit(rng, count, width), np.repeat(unit(rng, asked, width), 2, axis=1)[:, ::2]
    gate = rng.choice([-np.inf, 0.0, 2.0, np.inf], count).astype(np.float32) if gated else None
    got = hopfield.hopfield(patterns, state, beta, steps=steps, gate=gate)
    wanted = reference.hopfield(patterns, state, beta, steps, gate)
    # A relative error of 1e-7 in the scores is beta 1e-7 in the logarithm of a weight, and grows by each update.
    np.testing.assert_allclose(got, wanted, atol=1e-5 + 2e-6 * beta * steps)


@given(st.integers(0, 2**32), st.sampled_from([32.0, 64.0, 256.0]), st.floats(0.0, 0.3))
def test_retrieval_error_is_within_the_theorem(seed: int, beta: float, noise: float) -> None:
    """Ramsauer et al. 2020, theorem 5 (appendix A.1.5): |f(xi) - x_i| <= 2 (N - 1) M exp(-beta (D_i - 2 max(|xi - x_i|,
    |x_i* - x_i|) M)), with the separation D_i and the largest norm M. The fixed point x_i* is iterated in float64."""
    rng = np.random.default_rng(seed)
    patterns = unit(rng, 40, 64)
    known = patterns.astype(np.float64)
    overlaps = known @ known.T
    largest = float(np.linalg.norm(known, axis=1).max())
    push = rng.standard_normal((40, 64))
    state = (known + noise * push / np.linalg.norm(push, axis=1, keepdims=True)).astype(np.float32)
    fixed = reference.hopfield(known, known, beta, 50)
    found = hopfield.hopfield(patterns, state, beta)
    for i in range(40):
        separation = overlaps[i, i] - np.delete(overlaps[i], i).max()
        off = max(np.linalg.norm(state[i] - known[i]), np.linalg.norm(fixed[i] - known[i]))
        bound = 2 * 39 * largest * np.exp(-beta * (separation - 2 * off * largest))
        assert np.linalg.norm(found[i] - known[i]) <= bound + 1e-6


def test_one_update_finds_separated_patterns_from_noise() -> None:
    rng = np.random.default_rng(1)
    patterns = unit(rng, 1000, 64)
    noisy = patterns + (0.05 * rng.standard_normal((1000, 64))).astype(np.float32)  # as long as 0.4 of a pattern
    found = hopfield.hopfield(patterns, noisy, 64.0)
    similar = np.vecdot(found, patterns) / np.linalg.norm(found, axis=1)
    assert (similar > 0.999).mean() > 0.99
    clean = hopfield.hopfield(patterns, patterns, 64.0)
    assert (np.vecdot(clean, patterns) / np.linalg.norm(clean, axis=1)).min() > 0.999


def test_capacity_beyond_the_classical_network() -> None:
    """A classical network of 16 neurons holds about 0.14 * 16 = 2 patterns; this one holds 256 (2^(d / 2))."""
    rng = np.random.default_rng(2)
    patterns = rng.choice([-1.0, 1.0], (256, 16)).astype(np.float32)
    patterns = np.unique(patterns, axis=0)
    found = hopfield.hopfield(patterns, patterns, 8.0)
    np.testing.assert_allclose(found, patterns, atol=1e-4)


@given(st.integers(0, 2**32), st.sampled_from([0.5, 4.0, 40.0]))
def test_energy_never_rises(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    patterns, state = unit(rng, 12, 6), unit(rng, 5, 6)
    before = hopfield.energy(patterns, state, beta)
    assert (before >= -1e-9).all()
    for _ in range(4):
        state = hopfield.hopfield(patterns, state, beta)
        after = hopfield.energy(patterns, state, beta)
        assert (after <= before + 1e-6).all()
        before = after


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 2))
def test_hierarchy_is_its_reference_and_flat_with_all_groups(seed: int, top: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    patterns, state = unit(rng, 30, 8), unit(rng, 1, 8)[0]
    labels = rng.integers(0, 6, 30)
    memory, order = hopfield.groups(patterns, labels)
    np.testing.assert_array_equal(memory.patterns, patterns[order])
    got = hopfield.hierarchical_hopfield(memory, state, 8.0, top=top, steps=steps)
    np.testing.assert_allclose(
        got, reference.hierarchical_hopfield(patterns, labels, state, 8.0, top, steps), atol=1e-5
    )
    every = hopfield.hierarchical_hopfield(memory, state, 8.0, top=6, steps=steps)
    np.testing.assert_allclose(every, hopfield.hopfield(patterns, state[None], 8.0, steps=steps)[0], atol=1e-5)


def test_group_score_is_a_lower_bound_of_its_log_sum_exp() -> None:
    rng = np.random.default_rng(3)
    patterns, state = unit(rng, 40, 8), unit(rng, 1, 8)[0]
    memory, _ = hopfield.groups(patterns, rng.integers(0, 5, 40))
    for group in range(5):
        rows = memory.patterns[memory.starts[group] : memory.starts[group + 1]]
        exact = np.log(np.exp(8.0 * (rows @ state)).sum())
        assert 8.0 * memory.centres[group] @ state + memory.logs[group] <= exact + 1e-5


def test_blocked_patterns_are_not_recalled() -> None:
    rng = np.random.default_rng(4)
    patterns = unit(rng, 10, 16)
    gate = np.full(10, np.inf, np.float32)
    gate[3] = -np.inf
    found = hopfield.hopfield(patterns, patterns[3:4], 64.0, gate=gate)
    others = np.delete(patterns, 3, axis=0)
    np.testing.assert_allclose(found, hopfield.hopfield(others, patterns[3:4], 64.0), atol=1e-5)
    assert not hopfield.hopfield(patterns, patterns[:1], 4.0, gate=np.full(10, -np.inf, np.float32)).any()


@pytest.mark.parametrize("beta", [8.0, 500.0])
def test_nothing_is_allocated(beta: float) -> None:
    rng = np.random.default_rng(5)
    patterns, state = unit(rng, 1000, 64), unit(rng, 500, 64)
    workspace, out = Workspace(), np.empty_like(state)
    for _ in range(3):
        hopfield.hopfield(patterns, state, beta, steps=2, out=out, workspace=workspace)
    tracemalloc.start()
    hopfield.hopfield(patterns, state, beta, steps=2, out=out, workspace=workspace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes  # numpy buffers a broadcast in pieces of at most 70 kB, whatever the size
