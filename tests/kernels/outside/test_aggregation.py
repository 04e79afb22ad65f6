"""Aggregation beside scipy, scikit-learn and networkx."""

from __future__ import annotations

import numpy as np
import pytest

from edgenet_node.kernels import aggregation

RNG = np.random.default_rng(7)
UPDATES = RNG.standard_normal((15, 400)).astype(np.float32)


def test_trimmed_mean_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    np.testing.assert_allclose(
        aggregation.trimmed_mean(UPDATES, 3), stats.trim_mean(UPDATES.astype(np.float64), 0.2, axis=0), atol=1e-6
    )


def test_distances_and_neighbours_are_scikit_learn_s() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    neighbours = pytest.importorskip("sklearn.neighbors")
    wide = UPDATES.astype(np.float64)
    theirs = pairwise.euclidean_distances(wide, squared=True)
    np.testing.assert_allclose(aggregation.squared_distances(UPDATES), theirs, atol=1e-9)
    nearest = neighbours.NearestNeighbors(n_neighbors=12).fit(wide).kneighbors(wide, return_distance=False)
    mixed = wide[nearest].mean(axis=1)
    np.testing.assert_allclose(aggregation.nearest_neighbour_mixing(UPDATES, 3), mixed, atol=1e-5)
    np.testing.assert_allclose(aggregation.nearest_neighbour_average(UPDATES, 3), mixed[0], atol=1e-5)


def test_geometric_median_is_what_scipy_minimises_to() -> None:
    optimise = pytest.importorskip("scipy.optimize")
    rows = RNG.standard_normal((9, 4)).astype(np.float32)

    def total(z: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float(np.linalg.norm(rows - z, axis=1).sum())

    best = optimise.minimize(total, rows.mean(axis=0).astype(np.float64), method="BFGS", options={"gtol": 1e-9})
    found = aggregation.geometric_median(rows)
    np.testing.assert_allclose(found, best.x, atol=1e-4)
    assert total(found.astype(np.float64)) <= best.fun * (1 + 1e-7)


def test_outlier_deviation_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    updates = RNG.standard_t(2, (11, 3000)).astype(np.float32)
    wide = updates.astype(np.float64)
    deviation = stats.median_abs_deviation(wide, axis=0, scale=1 / 1.4826)
    beyond = np.abs(wide - np.median(wide, axis=0)) > 3 * deviation
    np.testing.assert_allclose(
        aggregation.outlier_shares(updates, np.ones(updates.shape, np.bool_)), beyond.mean(axis=1)
    )


def test_gossip_contracts_on_networkx_s_graphs() -> None:
    networkx = pytest.importorskip("networkx")
    for graph in (
        networkx.petersen_graph(),
        networkx.barbell_graph(5, 2),
        networkx.random_regular_graph(4, 20, seed=1),
    ):
        weights = aggregation.metropolis_weights(networkx.to_numpy_array(graph) > 0)
        degrees = dict(graph.degree())
        for a, b in graph.edges():
            assert weights[a, b] == pytest.approx(1 / (1 + max(degrees[a], degrees[b])))
        second = np.sort(np.abs(np.linalg.eigvalsh(weights)))[-2]
        assert second < 1 - 1e-3
