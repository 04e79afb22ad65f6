"""The dense kernels against torch and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgenet_node.kernels import linear
from edgenet_node.kernels.linear import join_moments, join_summaries, moments, summarise

torch = pytest.importorskip("torch")
special = pytest.importorskip("scipy.special")
stats = pytest.importorskip("scipy.stats")

X = np.random.default_rng(1).standard_normal((65, 129), np.float32) * 4
Y = np.random.default_rng(2).standard_normal((65, 129), np.float32)
GAIN, SHIFT = Y[0], Y[1]


def of_torch(function: Callable[..., Any], *parts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = function(*map(torch.from_numpy, parts)).numpy()
    return found


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_products() -> None:
    wide = np.ascontiguousarray(Y.T)
    theirs = of_torch(lambda a, b: a.double() @ b.double(), X, wide)
    np.testing.assert_allclose(linear.matmul(X, wide, tile=(16, 50, 20)), theirs, atol=1e-3)
    ours = linear.join_dots([linear.dot_partial(X[0], Y[0])])
    assert ours == pytest.approx(float(of_torch(lambda a, b: a.double() @ b.double(), X[0], Y[0])), rel=1e-13)


def test_activations() -> None:
    functional = torch.nn.functional
    close(linear.gelu(X), of_torch(functional.gelu, X))
    close(linear.silu(X), of_torch(functional.silu, X))
    close(linear.silu(X), X * special.expit(X))
    close(linear.vector_op("sigmoid", X[0], out=np.empty(129, np.float32)), special.expit(X[0]))
    close(linear.vector_op("relu", X[0], out=np.empty(129, np.float32)), of_torch(torch.relu, X[0]))


def test_normalisations() -> None:
    functional = torch.nn.functional
    close(linear.softmax(X), special.softmax(X, axis=1))
    close(linear.rms_norm(X, GAIN), of_torch(lambda x, g: functional.rms_norm(x, (129,), g, eps=1e-6), X, GAIN))
    close(
        linear.layer_norm(X, GAIN, SHIFT),
        of_torch(lambda x, g, s: functional.layer_norm(x, (129,), g, s, eps=1e-5), X, GAIN, SHIFT),
    )
    close(linear.cosine(X, Y), of_torch(functional.cosine_similarity, X, Y))


def test_summaries_of_unequal_segments() -> None:
    parts = (X[:3], X[3:50], X[50:])
    described = stats.describe(X.astype(np.float64), ddof=0)
    whole = join_moments([moments(part) for part in parts])
    np.testing.assert_allclose(whole.mean, described.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.variance(), described.variance, rtol=1e-12)
    summary = join_summaries([summarise(part) for part in parts])
    np.testing.assert_allclose(summary.mean, described.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(np.stack([summary.low, summary.high]), np.stack(described.minmax))
