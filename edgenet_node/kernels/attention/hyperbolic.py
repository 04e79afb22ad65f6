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

    One product of width d + 2: with a = 1 / (1 - c |x|^2), `[-4 c a y, 2 c a |y|^2, 2 c a] . [a x, a, a |x|^2]` is the
    argument of arccosh less 1.
    """
    left = _lifted("left", y, curvature, -4.0 * curvature, workspace)
    right = _lifted("right", x, curvature, 1.0, workspace, square=-1)
    np.multiply(left[:, -2:], 2.0 * curvature, out=left[:, -2:])
    excess = np.matmul(left, right.T, out=_doubles("excess", out.shape, workspace))
    np.maximum(excess, 0.0, out=excess)
    root = workspace.floats("root", out.shape)
    np.copyto(out, excess, casting="same_kind")
    np.add(out, np.float32(2.0), out=root)
    np.multiply(root, out, out=root)
    np.sqrt(root, out=root)
    np.add(root, out, out=root)
    np.log1p(root, out=out)  # arccosh(1 + u) = log1p(u + sqrt(u (u + 2))): exact near zero
    if curvature != 1.0:
        np.multiply(out, np.float32(1.0 / math.sqrt(curvature)), out=out)


def _lifted(name: str, x: Array, curvature: float, factor: float, workspace: Workspace, square: int = -2) -> F64:
    """(n, d + 2) float64: `[factor x, |x|^2, 1] / (1 - c |x|^2)`; `square` -1 swaps the last two columns."""
    count, width = x.shape
    lifted = _doubles(name, (count, width + 2), workspace)
    points, squares, rest = lifted[:, :width], lifted[:, square], lifted[:, -3 - square]
    np.copyto(points, x)
    np.vecdot(points, points, out=squares)
    np.multiply(squares, -curvature, out=rest)
    np.add(rest, 1.0, out=rest)
    np.maximum(rest, RIM, out=rest)
    np.reciprocal(rest, out=rest)
    np.multiply(squares, rest, out=squares)
    scale = _doubles("scale", (count, 1), workspace)
    np.multiply(rest[:, None], factor, out=scale)
    np.multiply(points, scale, out=points)
    return lifted


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
    return _midpoint(np.ascontiguousarray(weights.T), points, curvature, out, Workspace())


def _midpoint(weights: Array, points: Array, curvature: float, out: Array, workspace: Workspace) -> Array:
    """As `einstein_midpoint` for transposed weights (n, m). The root of 1 - c |k|^2 needs the float64 sums."""
    count, width = points.shape
    lifted = _lifted("right", points, curvature, 2.0, workspace)[:, : width + 1]
    factors = lifted[:, width]
    np.multiply(factors, 2.0 * curvature, out=factors)
    np.add(factors, 1.0, out=factors)  # (1 + c |v|^2) / (1 - c |v|^2) = 2 c |v|^2 / (1 - c |v|^2) + 1
    wide = _doubles("excess", (count, weights.shape[1]), workspace)
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
