"""`sequence.poincare_distance/1`, `sequence.hyperbolic/1`, `sequence.einstein_midpoint/1`, `sequence.exp_map/1`,
`sequence.log_map/1`: oracles, the axioms of a metric, the geometry behind the midpoint."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.kernels.attention import hyperbolic
from edgenet_node.kernels.attention.workspace import Workspace
from edgenet_node.kernels.reference import sequence as reference

Array = npt.NDArray[np.float32]
CURVATURES = st.sampled_from([0.25, 1.0, 3.0])


def ball(rng: np.random.Generator, count: int, width: int, curvature: float, reach: float = 0.9) -> Array:
    """Points at all radii up to `reach` of the ball's."""
    directions = rng.standard_normal((count, width))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    points: Array = (directions * rng.uniform(0, reach, (count, 1)) / np.sqrt(curvature)).astype(np.float32)
    return points


@st.composite
def clouds(draw: st.DrawFn) -> tuple[Array, Array, Array, float]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    curvature, width = draw(CURVATURES), draw(st.integers(1, 9))
    reach = draw(st.sampled_from([1e-4, 0.5, 0.999]))
    sizes = draw(st.tuples(st.integers(0, 7), st.integers(0, 9)))
    query, key, value = (
        ball(rng, n, w, curvature, reach) for n, w in zip((*sizes, sizes[1]), (width, width, 3), strict=True)
    )
    if draw(st.booleans()):  # not contiguous
        query, key, value = (np.repeat(part, 2, axis=1)[:, ::2] for part in (query, key, value))
    return query, key, value, curvature


@given(clouds())
def test_distance_is_its_definition(cloud: tuple[Array, Array, Array, float]) -> None:
    query, key, _, curvature = cloud
    got = hyperbolic.distance(query, key, curvature)
    np.testing.assert_allclose(got, reference.distance(query, key, curvature), rtol=1e-5, atol=1e-6)


@given(clouds())
def test_distance_is_a_metric(cloud: tuple[Array, Array, Array, float]) -> None:
    one, other, _, curvature = cloud
    points = np.concatenate([one, other])
    away = hyperbolic.distance(points, points, curvature).astype(np.float64)
    assert (away >= 0).all()
    np.testing.assert_allclose(away, away.T, rtol=1e-5, atol=1e-6)
    # What float64 leaves of |x|^2 + |x|^2 - 2 x.x, divided by the square of 1 - c |x|^2 (0.002 here) and rooted.
    np.testing.assert_allclose(np.diag(away), 0.0, atol=1e-4)
    through = away[:, :, None] + away[None, :, :]
    assert (away[:, None, :] <= through * (1 + 1e-5) + 1e-4).all()


def test_distance_by_mobius_addition() -> None:
    rng = np.random.default_rng(3)
    x, y = ball(rng, 20, 4, 2.0), ball(rng, 20, 4, 2.0)
    moved = np.linalg.norm(hyperbolic.mobius_add(-x.astype(np.float64), y, 2.0), axis=1)
    by_addition = 2 / np.sqrt(2.0) * np.arctanh(np.sqrt(2.0) * moved)
    np.testing.assert_allclose(np.diag(hyperbolic.distance(x, y, 2.0)), by_addition, rtol=1e-5)


def test_flat_limit_is_euclidean() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((6, 5), np.float32), rng.standard_normal((7, 5), np.float32)
    flat = 2 * np.linalg.norm(x[:, None] - y[None], axis=2)
    np.testing.assert_allclose(hyperbolic.distance(x, y, 1e-8), flat, rtol=1e-5)


def test_mobius_translation_is_an_isometry() -> None:
    rng = np.random.default_rng(5)
    x, y, by = ball(rng, 8, 3, 1.0, 0.7), ball(rng, 8, 3, 1.0, 0.7), ball(rng, 1, 3, 1.0, 0.7)
    there, beyond = (hyperbolic.mobius_add(by, part).astype(np.float32) for part in (x, y))
    np.testing.assert_allclose(hyperbolic.distance(there, beyond), hyperbolic.distance(x, y), rtol=1e-4)


@given(clouds(), st.sampled_from([0.05, 1.0, 4.0]), st.sampled_from(["none", "keys", "edges", "closed"]))
def test_attention_is_its_reference(cloud: tuple[Array, Array, Array, float], temperature: float, kind: str) -> None:
    query, key, value, curvature = cloud
    rng = np.random.default_rng(6)
    shape = (len(key),) if kind in ("keys", "closed") else (len(query), len(key))
    gate = None if kind == "none" else rng.choice([-np.inf, -1.0, 0.5, np.inf], shape).astype(np.float32)
    if kind == "closed":
        gate = np.full(shape, -np.inf, np.float32)
    got = hyperbolic.hyperbolic(query, key, value, curvature, temperature, gate=gate)
    wanted = reference.hyperbolic(query, key, value, curvature, temperature, gate)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-5 / temperature)
    assert (curvature * (got.astype(np.float64) ** 2).sum(axis=1) < 1).all()


def test_an_open_gate_changes_nothing_and_keys_may_be_permuted() -> None:
    rng = np.random.default_rng(7)
    query, key, value = ball(rng, 5, 4, 1.0), ball(rng, 9, 4, 1.0), ball(rng, 9, 4, 1.0)
    plain = hyperbolic.hyperbolic(query, key, value)
    np.testing.assert_allclose(
        hyperbolic.hyperbolic(query, key, value, gate=np.full(9, np.inf, np.float32)), plain, rtol=1e-6
    )
    order = rng.permutation(9)
    np.testing.assert_allclose(hyperbolic.hyperbolic(query, key[order], value[order]), plain, rtol=1e-4, atol=1e-6)


@given(clouds())
def test_midpoint_is_its_reference(cloud: tuple[Array, Array, Array, float]) -> None:
    _, _, points, curvature = cloud
    weights = np.random.default_rng(8).random((4, len(points)), np.float32)
    weights[0] = 0.0
    got = hyperbolic.einstein_midpoint(weights, points, curvature)
    np.testing.assert_allclose(got, reference.einstein_midpoint(weights, points, curvature), rtol=1e-4, atol=1e-6)
    assert not got[0].any()


def test_midpoint_is_the_centroid_of_the_hyperboloid() -> None:
    rng = np.random.default_rng(9)
    points, weights = ball(rng, 6, 3, 1.0).astype(np.float64), rng.random((1, 6))
    squares = (points**2).sum(axis=1, keepdims=True)
    lifted = np.concatenate([1 + squares, 2 * points], axis=1) / (1 - squares)
    total = weights @ lifted
    centroid = total / np.sqrt(total[:, :1] ** 2 - (total[:, 1:] ** 2).sum(axis=1, keepdims=True))
    wanted = centroid[:, 1:] / (1 + centroid[:, :1])
    got = hyperbolic.einstein_midpoint(weights.astype(np.float32), points.astype(np.float32))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_midpoint_of_two_points_is_halfway() -> None:
    points = ball(np.random.default_rng(10), 2, 3, 1.0)
    middle = hyperbolic.einstein_midpoint(np.ones((1, 2), np.float32), points)
    away = hyperbolic.distance(middle, points)[0]
    np.testing.assert_allclose(away, hyperbolic.distance(points[:1], points[1:])[0, 0] / 2, rtol=1e-5)


@given(st.integers(0, 2**32), CURVATURES)
def test_maps_are_their_references_and_inverse(seed: int, curvature: float) -> None:
    rng = np.random.default_rng(seed)
    base = ball(rng, 5, 4, curvature, 0.7)
    tangent = (0.3 * rng.standard_normal((5, 4))).astype(np.float32)
    tangent[0] = 0.0
    there = hyperbolic.exp_map(base, tangent, curvature)
    back = hyperbolic.log_map(base, there, curvature)
    for row in range(5):
        np.testing.assert_allclose(there[row], reference.exp_map(base[row], tangent[row], curvature), atol=2e-5)
        np.testing.assert_allclose(back[row], reference.log_map(base[row], there[row], curvature), rtol=1e-4, atol=1e-5)
    factor = 2 / (1 - curvature * (base.astype(np.float64) ** 2).sum(axis=1))
    lengths = factor * np.linalg.norm(tangent, axis=1)
    near = lengths * np.sqrt(curvature) < 6  # beyond, `project` holds points back from the rim
    np.testing.assert_allclose(back[near], tangent[near], rtol=5e-3, atol=1e-3)
    walked = np.diag(hyperbolic.distance(base, there, curvature))
    np.testing.assert_allclose(walked[near], lengths[near], rtol=5e-3, atol=1e-3)  # a geodesic has its speed's length


def test_project_keeps_the_inside_and_pulls_back_the_outside() -> None:
    points = np.array([[0.1, 0.2], [3.0, 4.0], [0.0, 0.0]], np.float32)
    inside = hyperbolic.project(points, 1.0)
    np.testing.assert_array_equal(inside[[0, 2]], points[[0, 2]])
    np.testing.assert_allclose(inside[1], [0.6, 0.8], rtol=1e-4)
    assert np.linalg.norm(inside[1].astype(np.float64)) < 1


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_nothing_is_allocated_and_no_input_written(temperature: float) -> None:
    rng = np.random.default_rng(11)
    query, key, value = arrays = [ball(rng, 1024, 64, 1.0) for _ in range(3)]
    kept = [part.copy() for part in arrays]
    workspace, out = Workspace(), np.empty((1024, 64), np.float32)
    for _ in range(3):
        hyperbolic.hyperbolic(query, key, value, 1.0, temperature, out=out, workspace=workspace)
    tracemalloc.start()
    hyperbolic.hyperbolic(query, key, value, 1.0, temperature, out=out, workspace=workspace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes  # numpy casts and broadcasts in pieces of at most 200 kB, whatever the size
    for part, before in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(part, before)
