"""`attention.linear/1`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgenet_node.kernels.reference.attention as oracle
from edgenet_node.errors import UsageError
from edgenet_node.kernels.attention.linear import BLOCK, directions, linear, positive_features
from edgenet_node.kernels.attention.workspace import Workspace

from .cases import EPSILON, STEP_BYTES, Inputs, allocated, normal, problems

SHARED = Workspace()


@settings(max_examples=100)
@given(case=problems(gates=("none", "keys")), features=st.integers(1, 40), seed=st.integers(0, 99))
def test_linear_is_the_reference(case: Inputs, features: int, seed: int) -> None:
    omega = directions(case.query.shape[1], features, np.random.default_rng(seed))
    got = linear(case.query, case.key, case.value, omega, gate=case.gate, workspace=SHARED)
    wanted = oracle.linear(case.query, case.key, case.value, omega, gate=case.gate)
    fourth = case.query.shape[1] ** -0.25
    # Exponents are sums of products of this size; each carries a few eps times its size.
    reach = float(np.abs(omega).max()) * fourth
    exponents = (
        sum(reach * float(np.abs(x).sum(axis=1).max(initial=0)) for x in (case.query, case.key))
        + 0.5 * float((case.key.astype(np.float64) ** 2).sum(axis=1).max(initial=0)) * fourth**2
    )
    tolerance = min(2.0, (64 + 8 * exponents) * EPSILON)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * float(np.abs(case.value).max(initial=0)))


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize(("queries", "keys"), [(2 * BLOCK + 7, BLOCK + 1), (1, 2 * BLOCK), (BLOCK, BLOCK)])
def test_blocks_join(queries: int, keys: int, scale: float) -> None:
    """Both ways: with a scale of 6 the exponents spread too far for the short one."""
    rng = np.random.default_rng(queries)
    q, k, v = (
        normal(rng, queries, 16) * np.float32(scale),
        normal(rng, keys, 16) * np.float32(scale),
        normal(rng, keys, 3),
    )
    omega, gate = directions(16, 20, rng), normal(rng, keys)
    wanted = oracle.linear(q, k, v, omega, gate=gate)
    np.testing.assert_allclose(linear(q, k, v, omega, gate=gate), wanted, atol=2e-5 * scale**2)


@pytest.mark.parametrize("shift", [0.0, 3.0, 10.0, 30.0, 100.0])
def test_the_short_and_the_long_way_meet(shift: float) -> None:
    """Keys moved together along a direction that queries do not have: their norms drop out of the weights, and take
    the sums from moderate to far outside of float32's range."""
    rng = np.random.default_rng(17)
    q, k, v = normal(rng, 30, 8), normal(rng, 40, 8), normal(rng, 40, 3)
    q[:, 7] = k[:, 7] = 0
    omega = directions(8, 32, rng)
    omega[:, 7] = 0
    plain = linear(q, k, v, omega)
    k[:, 7] = shift
    np.testing.assert_allclose(linear(q, k, v, omega), plain, atol=1e-5 * (1 + shift**2 / 10))


def test_features_are_positive_and_their_products_unbiased() -> None:
    """E[phi(x).phi(y)] = exp(x.y): the mean over 4000 independent draws lies within 4.5 standard errors for all 20
    pairs, with fewer than, as many as and more features than dimensions."""
    rng = np.random.default_rng(11)
    x, y = 0.3 * rng.standard_normal((4, 6)), 0.3 * rng.standard_normal((5, 6))
    wanted = np.exp(x @ y.T)
    for features in (3, 6, 16):
        draws = np.empty((4000, 4, 5))
        for draw in draws:
            omega = directions(6, features, rng)
            left, right = positive_features(x, omega), positive_features(y, omega)
            assert left.min() > 0
            assert right.min() > 0
            draw[:] = left @ right.T
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        assert np.all(np.abs(draws.mean(axis=0) - wanted) < 4.5 * error)
        assert np.all(error < 0.05 * wanted)  # the sample is large enough to see a bias of a fifth


def test_orthogonal_directions_beat_independent_ones() -> None:
    rng = np.random.default_rng(12)
    x, y = 0.6 * rng.standard_normal((8, 8)), 0.6 * rng.standard_normal((8, 8))
    wanted = np.exp(x @ y.T)

    def error(orthogonal: bool) -> float:
        squares = []
        for _ in range(800):
            omega = directions(8, 8, rng) if orthogonal else normal(rng, 8, 8)
            squares.append(((positive_features(x, omega) @ positive_features(y, omega).T - wanted) / wanted) ** 2)
        return float(np.mean(squares))

    assert error(orthogonal=True) < error(orthogonal=False)


def test_directions_are_orthogonal_in_blocks_with_the_lengths_of_gaussian_vectors() -> None:
    omega = directions(16, 40, np.random.default_rng(1)).astype(np.float64)
    assert omega.shape == (40, 16)
    for start in (0, 16, 32):
        block = omega[start : start + 16]
        products = block @ block.T
        np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-5)
    lengths = np.linalg.norm(directions(16, 4800, np.random.default_rng(2)), axis=1) ** 2
    assert abs(lengths.mean() - 16) < 4.5 * np.sqrt(2 * 16 / 4800)  # chi-squared with 16 degrees: variance 32


def test_more_features_come_closer_to_softmax_by_the_root_of_their_number() -> None:
    """The error falls as 1/sqrt m: 16 times the features, about a quarter of the error."""
    rng = np.random.default_rng(13)
    q, k, v = 0.5 * normal(rng, 30, 16), 0.5 * normal(rng, 50, 16), normal(rng, 50, 8)
    wanted = oracle.scaled_dot(q, k, v)

    def error(features: int) -> float:
        gaps = [linear(q, k, v, directions(16, features, rng)) - wanted for _ in range(20)]
        return float(np.sqrt(np.mean(np.square(gaps))))

    few, many = error(64), error(1024)
    assert few / 8 < many < few / 2
    assert many < 0.1 * float(np.abs(v).max())


@pytest.mark.parametrize("scale", [1e-15, 1e3, 1e15])
def test_no_input_overflows_or_divides_by_zero(scale: float) -> None:
    rng = np.random.default_rng(14)
    q, k, v = normal(rng, 20, 8) * np.float32(scale), normal(rng, 30, 8) * np.float32(scale), normal(rng, 30, 4)
    omega = directions(8, 24, rng)
    with np.errstate(all="raise", under="ignore"):
        for a, b in ((q, k), (-q, k), (q, k / np.float32(scale)), (q / np.float32(scale), k)):
            got = linear(a, b, v, omega)
            assert np.isfinite(got).all()
            assert np.abs(got).max() <= np.abs(v).max() * 1.001


def test_answers_lie_between_the_values_and_a_gate_removes_keys() -> None:
    rng = np.random.default_rng(15)
    q, k, v = normal(rng, 9, 8), normal(rng, 14, 8), normal(rng, 14, 3)
    omega = directions(8, 32, rng)
    plain = linear(q, k, v, omega)
    assert np.all(plain <= v.max(axis=0) + 1e-5)
    assert np.all(plain >= v.min(axis=0) - 1e-5)
    opened = np.full(14, np.inf, np.float32)
    np.testing.assert_array_equal(linear(q, k, v, omega, gate=opened), plain)
    assert not linear(q, k, v, omega, gate=-opened).any()
    opened[5:] = -np.inf
    np.testing.assert_allclose(linear(q, k, v, omega, gate=opened), linear(q, k[:5], v[:5], omega), atol=2e-5)
    with pytest.raises(UsageError, match="one per key"):
        linear(q, k, v, omega, gate=np.zeros((9, 14), np.float32))


def test_permuting_keys_changes_nothing() -> None:
    rng = np.random.default_rng(16)
    q, k, v = normal(rng, 20, 8), normal(rng, 60, 8), normal(rng, 60, 3)
    omega, order = directions(8, 32, rng), rng.permutation(60)
    np.testing.assert_allclose(linear(q, k[order], v[order], omega), linear(q, k, v, omega), atol=1e-5)


def test_memory_grows_linearly_and_a_warm_workspace_allocates_nothing() -> None:
    rng = np.random.default_rng(0)
    omega = directions(16, 32, rng)
    held = []
    for count in (2000, 8000):
        q, k, v = (normal(rng, count, 16) for _ in range(3))
        out, workspace, gate = np.empty((count, 16), np.float32), Workspace(), normal(rng, count)
        call = lambda q=q, k=k, v=v, gate=gate, out=out, workspace=workspace: linear(  # noqa: E731
            q, k, v, omega, gate=gate, out=out, workspace=workspace
        )
        assert allocated(call) < STEP_BYTES
        held.append(workspace.bytes_held)
    assert held[1] <= 4 * held[0]
