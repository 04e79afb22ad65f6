"""Hyperbolic attention: keys count by their distance in the Poincare ball, and values meet at their Einstein midpoint.

Points x lie in the ball c |x|^2 < 1 of curvature -c. Distances near its rim are differences of nearly equal numbers
divided by their squares: they are taken in float64 from the float32 coordinates, everything after them in float32.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .gate import score_bias
from .softmax import powers, powers_safe
from .workspace import Array, Workspace

F64 = npt.NDArray[np.float64]

RIM = 1e-9  # least 1 - c |x|^2 that counts: no float32 point inside of the unit ball has less than 6e-8
NORM_MAX = 1.0 - 1e-5  # of what `project` returns, in units of 1 / sqrt c
TINY = 1e-30  # a zero vector's direction is zero


def distance(
    x: Array, y: Array, curvature: float = 1.0, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """`arccosh(1 + 2 c |x - y|^2 / ((1 - c |x|^2) (1 - c |y|^2))) / sqrt c` of every pair.

    Nickel and Kiela 2017, eq. 1. x (n, d), y (m, d) in the ball of curvature -c, c > 0 -> (n, m) float32. Tends to
    `2 |x - y|` as c tends to 0. Relative error about 1e-6. Points on or beyond the rim count as 1e-9 within it.
    O(n m d).
    """
    workspace = Workspace() if workspace is None else workspace
    out = np.empty((x.shape[0], y.shape[0]), np.float32) if out is None else out
    _distances(y, x, curvature, out, workspace)
    return out


def _distances(x: Array, y: Array, curvature: float, out: Array, workspace: Workspace) -> None:
    """`distance(y, x)` into `out` (rows of y, rows of x).

    One product of width d + 2 in float64, `[-2 y, |y|^2, 1] . [x, 1, |x|^2]`, is |x - y|^2, where digits cancel; what
    follows only multiplies, so float32 serves.
    """
    width = x.shape[1]
    left, right = (
        _doubles("left", (y.shape[0], width + 2), workspace),
        _doubles("right", (x.shape[0], width + 2), workspace),
    )
    near, far = workspace.floats("near", (y.shape[0], 1)), workspace.floats("far", (x.shape[0], 1))
    _lift(y, curvature, left[:, :width], left[:, width], near[:, 0], workspace)
    _lift(x, curvature, right[:, :width], right[:, width + 1], far[:, 0], workspace)
    np.multiply(left[:, :width], -2.0, out=left[:, :width])
    left[:, width + 1] = 1.0
    right[:, width] = 1.0
    squares = np.matmul(left, right.T, out=_doubles("squares", out.shape, workspace))
    np.maximum(squares, 0.0, out=squares)
    root = workspace.floats("root", out.shape)
    np.copyto(out, squares, casting="same_kind")
    np.multiply(near, np.float32(2.0 * curvature), out=near)
    np.multiply(out, near, out=out)
    np.multiply(out, far[:, 0], out=out)
    np.add(out, np.float32(2.0), out=root)
    np.multiply(root, out, out=root)
    np.sqrt(root, out=root)
    np.add(root, out, out=root)
    np.log1p(root, out=out)  # arccosh(1 + u) = log1p(u + sqrt(u (u + 2))): exact near zero
    if curvature != 1.0:
        np.multiply(out, np.float32(1.0 / math.sqrt(curvature)), out=out)


def _lift(x: Array, curvature: float, points: F64, squares: F64, factors: Array, workspace: Workspace) -> None:
    """`points` (n, d) = x and `squares` (n,) = |x|^2 in float64; `factors` (n,) = 1 / (1 - c |x|^2) in float32."""
    np.copyto(points, x)
    np.vecdot(points, points, out=squares)
    rest = _doubles("rest", (1, x.shape[0]), workspace)[0]
    np.multiply(squares, -curvature, out=rest)
    np.add(rest, 1.0, out=rest)
    np.maximum(rest, RIM, out=rest)
    np.reciprocal(rest, out=rest)
    np.copyto(factors, rest, casting="same_kind")


def _doubles(name: str, shape: tuple[int, int], workspace: Workspace) -> F64:
    view: F64 = workspace.floats(name, (shape[0], 2 * shape[1])).view(np.float64)
    return view


def hyperbolic(
    query: Array,
    key: Array,
    value: Array,
    curvature: float = 1.0,
    temperature: float = 1.0,
    *,
    gate: Array | None = None,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """Weights `softmax_j(-d_c(q_i, k_j) / tau)`, values at their midpoint (Gulcehre et al. 2019, eqs. 2 and 4).

    query (n_q, d), key (n_k, d), value (n_k, d_v), all points of the ball -> points (n_q, d_v), float32. The midpoint
    is Einstein's, in Klein coordinates `sum w g k / sum w g`, brought back to the ball; with the conformal factor
    l = 2 / (1 - c |v|^2) that is `k = sum w l v / sum w (l - 1)`, then `k / (1 + sqrt(1 - c |k|^2))`. `gate`: see
    `gate`. A query that may see no key gets the origin. O(n_q n_k (d + d_v)).
    """
    workspace = Workspace() if workspace is None else workspace
    queries, keys = query.shape[0], key.shape[0]
    out = np.empty((queries, value.shape[1]), np.float32) if out is None else out
    bias = None if gate is None else score_bias(gate, None, queries, keys, workspace)
    scores = workspace.floats("scores", (keys, queries))
    sums = workspace.floats("sums", (queries,))
    _scores(query, key, curvature, temperature, bias, scores, workspace)
    if not powers(scores, sums, workspace):
        _scores(query, key, curvature, temperature, bias, scores, workspace)
        powers_safe(scores, sums, workspace)
    return _midpoint(scores, value, curvature, out, workspace)


def _scores(
    query: Array, key: Array, curvature: float, temperature: float, bias: Array | None, out: Array, workspace: Workspace
) -> None:
    _distances(query, key, curvature, out, workspace)
    np.multiply(out, np.float32(-1.0 / temperature), out=out)
    if bias is not None:
        np.add(out, bias, out=out)


def einstein_midpoint(weights: Array, points: Array, curvature: float = 1.0, *, out: Array | None = None) -> Array:
    """The Einstein midpoints of `points` (n, d) under `weights` (m, n), at least 0: (m, d) points of the ball.

    Formula as in `hyperbolic`; weights need not sum to 1; rows without weight give the origin (Ungar 2010).
    """
    out = np.empty((weights.shape[0], points.shape[1]), np.float32) if out is None else out
    return _midpoint(weights.T.copy(), points, curvature, out, Workspace())


def _midpoint(weights: Array, points: Array, curvature: float, out: Array, workspace: Workspace) -> Array:
    """As `einstein_midpoint` for transposed weights (n, m), which are overwritten.

    The root of 1 - c |k|^2 needs float64 sums; their rounded weights may be any, as long as both sums share them.
    """
    count, width = points.shape
    lifted = _doubles("right", (count, width + 1), workspace)
    factors = workspace.floats("far", (count, 1))
    _lift(points, curvature, lifted[:, :width], lifted[:, width], factors[:, 0], workspace)
    np.multiply(lifted[:, width], 0.5 * curvature, out=lifted[:, width])
    np.add(lifted[:, width], 0.5, out=lifted[:, width])  # l v and l - 1 are 2 f v and 2 f (1 + c |v|^2) / 2
    np.multiply(weights, factors, out=weights)
    wide = _doubles("squares", (count, weights.shape[1]), workspace)
    np.copyto(wide, weights)
    sums = np.matmul(wide.T, lifted, out=_doubles("left", (weights.shape[1], width + 1), workspace))
    total, klein = sums[:, width], sums[:, :width]
    # With k = klein / total, k / (1 + sqrt(1 - c |k|^2)) is klein / (total + sqrt(total^2 - c |klein|^2)).
    inner, outer = _doubles("inner", (2, total.size), workspace)
    np.vecdot(klein, klein, out=inner)
    np.multiply(inner, -curvature, out=inner)
    np.multiply(total, total, out=outer)
    np.add(inner, outer, out=inner)
    np.maximum(inner, 0.0, out=inner)
    np.sqrt(inner, out=inner)
    np.add(inner, total, out=inner)
    np.maximum(inner, TINY, out=inner)
    np.divide(klein, inner[:, None], out=out, casting="same_kind")
    return out


def project(x: Array, curvature: float = 1.0) -> Array:
    """`x` (..., d), pulled back to `NORM_MAX / sqrt c` where it lies beyond; a new array."""
    norms = np.sqrt(np.vecdot(x, x, dtype=np.float64))[..., None]
    limit = NORM_MAX / math.sqrt(curvature)
    inside: Array = (x * np.where(norms > limit, limit / np.maximum(norms, TINY), 1.0)).astype(np.float32)
    return inside


def mobius_add(x: npt.ArrayLike, y: npt.ArrayLike, curvature: float = 1.0) -> F64:
    """`((1 + 2c x.y + c |y|^2) x + (1 - c |x|^2) y) / (1 + 2c x.y + c^2 |x|^2 |y|^2)` (Ungar 2010); float64."""
    one, other = np.asarray(x, np.float64), np.asarray(y, np.float64)
    both = 2.0 * curvature * np.vecdot(one, other)[..., None]
    first = curvature * np.vecdot(one, one)[..., None]
    second = curvature * np.vecdot(other, other)[..., None]
    moved: F64 = ((1.0 + both + second) * one + (1.0 - first) * other) / np.maximum(1.0 + both + first * second, TINY)
    return moved


def exp_map(base: Array, tangent: Array, curvature: float = 1.0) -> Array:
    """`x (+) tanh(sqrt c l_x |v| / 2) v / (sqrt c |v|)` (Ganea et al. 2018, eq. 12), projected: where the geodesic from
    `base` (..., d) with velocity `tangent` (..., d) is after time 1; l_x = 2 / (1 - c |x|^2)."""
    root = math.sqrt(curvature)
    x, v = np.asarray(base, np.float64), np.asarray(tangent, np.float64)
    length = np.maximum(np.sqrt(np.vecdot(v, v)), TINY)[..., None]
    half = 1.0 / np.maximum(1.0 - curvature * np.vecdot(x, x), RIM)[..., None]
    step = np.tanh(root * half * length) * v / (root * length)
    return project(mobius_add(x, step, curvature).astype(np.float32), curvature)


def log_map(base: Array, point: Array, curvature: float = 1.0) -> Array:
    """`2 / (sqrt c l_x) artanh(sqrt c |w|) w / |w|`, w = -x (+) y (Ganea et al. 2018, eq. 12): inverse of `exp_map`."""
    root = math.sqrt(curvature)
    x = np.asarray(base, np.float64)
    w = mobius_add(-x, point, curvature)
    length = np.maximum(np.sqrt(np.vecdot(w, w)), TINY)[..., None]
    half = 1.0 / np.maximum(1.0 - curvature * np.vecdot(x, x), RIM)[..., None]
    tangent: Array = (np.arctanh(np.minimum(root * length, 1.0 - RIM)) * w / (root * half * length)).astype(np.float32)
    return tangent
