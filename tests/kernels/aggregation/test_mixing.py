"""`aggregation.cap_norms/1`, `aggregation.bucketing/1`, `aggregation.nearest_neighbour_mixing/1`,
`aggregation.nearest_neighbour_average/1`, `aggregation.metropolis_weights/1`, `aggregation.outlier_shares/1`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgenet_node.kernels import aggregation
from edgenet_node.kernels.reference import aggregation as oracle

Array = npt.NDArray[np.float32]
ROWS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 10), st.integers(0, 20)), elements=st.floats(-1000, 1000, width=32)
)


@settings(max_examples=60)
@given(ROWS, st.sampled_from([1e-3, 1.0, 500.0]))
def test_capped_rows(updates: Array, limit: float) -> None:
    found = aggregation.cap_norms(updates, limit)
    np.testing.assert_allclose(found, oracle.cap_norms(updates, limit), rtol=1e-5, atol=1e-9)
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    assert (lengths <= limit * (1 + 1e-6)).all()
    small = np.linalg.norm(updates.astype(np.float64), axis=1) <= limit
    np.testing.assert_array_equal(found[small], updates[small])


def test_rows_whose_squares_overflow_are_capped() -> None:
    found = aggregation.cap_norms(np.full((1, 10_000), 3e38, np.float32), 1.0)
    assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(1.0, rel=1e-5)


@settings(max_examples=40)
@given(ROWS, st.integers(1, 5), st.integers(0, 2**32))
def test_buckets(updates: Array, size: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(updates))
    found = aggregation.bucketing(updates, order, size)
    np.testing.assert_allclose(found, oracle.bucketing(updates, order.tolist(), size), atol=1e-3)
    if len(updates) % size == 0:
        np.testing.assert_allclose(found.mean(axis=0), updates.mean(axis=0), atol=1e-3)


def test_buckets_lower_the_variance_by_their_size(rng: np.random.Generator) -> None:
    updates = rng.standard_normal((60, 2000)).astype(np.float32)
    found = aggregation.bucketing(updates, rng.permutation(60), 3)
    assert found.var() * 3 == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("count", "f"), [(1, 0), (2, 0), (9, 4), (15, 3)])
def test_neighbours_agree_with_the_oracles(rng: np.random.Generator, count: int, f: int) -> None:
    updates = rng.standard_normal((count, 5000)).astype(np.float32)
    mixed = aggregation.nearest_neighbour_mixing(updates, f)
    np.testing.assert_allclose(mixed, oracle.nearest_neighbour_mixing(updates, f), atol=1e-5)
    own = aggregation.nearest_neighbour_average(updates, f)
    np.testing.assert_allclose(own, oracle.nearest_neighbour_average(updates, f), atol=1e-5)
    np.testing.assert_allclose(own, mixed[0], atol=1e-5)


def test_neighbours_need_an_honest_majority() -> None:
    for rule in (aggregation.nearest_neighbour_mixing, aggregation.nearest_neighbour_average):
        with pytest.raises(ValueError, match="honest majority"):
            rule(np.zeros((4, 3), np.float32), 2)


def test_mixing_shrinks_what_a_liar_can_do_to_the_trimmed_mean(rng: np.random.Generator) -> None:
    """Allouah et al. 2023, theorem 2: after mixing, the error is of the order f/n of the honest variance. Non-iid rows
    in two camps with one liar copying the smaller camp (mimic): the plain trimmed mean favours it more."""
    camps = np.where(np.arange(20)[:, None] < 12, 1.0, -1.0) * np.ones((20, 400))
    honest = camps + 0.5 * rng.standard_normal((20, 400))
    updates = np.vstack([honest, np.tile(honest[19], (4, 1))]).astype(np.float32)
    variance = np.square(honest - honest.mean(axis=0)).sum(axis=1).mean()
    mixed = aggregation.nearest_neighbour_mixing(updates, 4)
    for rule in (lambda u: aggregation.trimmed_mean(u, 4), aggregation.geometric_median, aggregation.median):
        error = np.square(rule(mixed) - honest.mean(axis=0)).sum()
        bound = 8 * 4 / (24 - 4) * (1 + (1 + 4 / (24 - 8)) ** 2) * variance
        assert error <= bound
    raw = np.square(aggregation.median(updates) - honest.mean(axis=0)).sum()
    assert np.square(aggregation.median(mixed) - honest.mean(axis=0)).sum() < raw


def test_gossip_by_nearest_neighbours_reaches_agreement(rng: np.random.Generator) -> None:
    """MoNNA: honest nodes that average their n - f nearest contract although f rows tell each of them the opposite."""
    honest = rng.standard_normal((11, 50)).astype(np.float32)
    before = aggregation.consensus_distance(honest)
    box = np.abs(honest).max() + 1e-6
    for _ in range(15):
        following = []
        for i in range(11):
            rows = np.vstack([honest[i : i + 1], np.delete(honest, i, axis=0), np.tile(-20 * honest[i], (2, 1))])
            following.append(aggregation.nearest_neighbour_average(rows, 2))
        honest = np.array(following)
    assert aggregation.consensus_distance(honest) < 0.1 * before
    assert np.abs(honest).max() <= box


def graph(name: str, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    links = np.zeros((count, count), np.bool_)
    if name == "ring":
        links[np.arange(count), (np.arange(count) + 1) % count] = True
    elif name == "star":
        links[0] = True
    elif name == "full":
        links[...] = True
    else:
        links = rng.random((count, count)) < 0.3
        links[np.arange(count - 1), np.arange(1, count)] = True
    return links | links.T


@pytest.mark.parametrize("name", ["ring", "star", "full", "random"])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_metropolis_weights_are_doubly_stochastic_and_contract(rng: np.random.Generator, name: str, count: int) -> None:
    links = graph(name, count, rng)
    weights = aggregation.metropolis_weights(links)
    np.testing.assert_allclose(weights, oracle.metropolis_weights(links))
    assert (weights >= 0).all()
    assert (weights.diagonal() > 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_array_equal(weights, weights.T)
    eigenvalues = np.sort(np.abs(np.linalg.eigvalsh(weights)))
    second = float(eigenvalues[-2]) if count > 1 else 0.0
    assert second < 1 - 1e-6
    values = rng.standard_normal((count, 40)).astype(np.float32)
    start, mean = aggregation.consensus_distance(values), values.mean(axis=0)
    for steps in range(1, 6):
        values = aggregation.gossip_step(weights, values)
        np.testing.assert_allclose(values.mean(axis=0), mean, atol=1e-5)
        assert aggregation.consensus_distance(values) <= second**steps * start * (1 + 1e-4) + 1e-5


def test_separate_graphs_do_not_agree() -> None:
    links = np.kron(np.eye(2, dtype=np.bool_), np.ones((3, 3), np.bool_))
    eigenvalues = np.linalg.eigvalsh(aggregation.metropolis_weights(links))
    assert np.sum(np.abs(eigenvalues - 1) < 1e-12) == 2


def test_worker_momentum_is_the_closed_form(rng: np.random.Generator) -> None:
    gradients = rng.standard_normal((10, 30)).astype(np.float32)
    momentum = np.zeros(30, np.float32)
    for gradient in gradients:
        momentum = aggregation.worker_momentum(momentum, gradient, 0.9, out=momentum)
    wanted = sum(0.1 * 0.9 ** (9 - i) * g.astype(np.float64) for i, g in enumerate(gradients))
    np.testing.assert_allclose(momentum, wanted, atol=1e-6)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(0, 20), st.integers(0, 2**32))
def test_outlier_shares_agree_with_the_oracle(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    updates = np.round(rng.standard_normal((count, width)) * 4).astype(np.float32)
    sent = rng.random((count, width)) < 0.7
    np.testing.assert_allclose(aggregation.outlier_shares(updates, sent), oracle.outlier_shares(updates, sent))


def test_sparse_zeros_are_not_values(rng: np.random.Generator) -> None:
    """Honest top-k updates: against zeros the MAD is 0 or tiny and every sent value is an outlier; on the common
    support none is, and a flipped one is found."""
    from edgenet_node.kernels.aggregation.outliers import SHARE_MAX

    signal = 3 * rng.standard_normal(2000)
    updates = (signal + 0.3 * rng.standard_normal((12, 2000))).astype(np.float32)
    updates[11] *= -1
    sent = np.abs(updates) >= np.quantile(np.abs(updates), 0.7, axis=1, keepdims=True)
    sparse = np.where(sent, updates, 0).astype(np.float32)
    shares = aggregation.outlier_shares(sparse, sent)
    assert (shares[:11] < SHARE_MAX).all()
    assert shares[11] > 0.5


def test_admission_scores() -> None:
    scores, admitted = aggregation.admission_scores(
        lengths=np.array([1.0, 101, 1, 1, 101, 101, 1, 1, np.nan]),
        samples=np.array([5, 5, 0, 5, 0, 0, 5, 5, 5]),
        reputation_gaps=np.array([0.1, 0.1, 0.1, 0.3, 0.1, 0.3, 0, 0, 0]),
        signed=np.array([True] * 6 + [False, True, True]),
        consistent=np.array([True] * 7 + [False, True]),
    )
    np.testing.assert_allclose(scores, [1, 0.5, 0.7, 0.8, 0.35, 0.28, 0, 0, 0.5])
    assert admitted.tolist() == [True, True, True, True, False, False, False, False, True]
