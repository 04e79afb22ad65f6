"""Naive float64 oracles of hyperbolic, Hopfield and selective state space kernels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .attention import sigmoid

F64 = npt.NDArray[np.float64]


def distance(x: npt.ArrayLike, y: npt.ArrayLike, curvature: float) -> F64:
    """`2 arcsinh(sqrt(t)) / sqrt c` with `t = c |x - y|^2 / ((1 - c |x|^2)(1 - c |y|^2))`: the distance of Ganea et al.
    2018, section 2, in a form that keeps its digits at the rim."""
    one, other = np.asarray(x, np.float64), np.asarray(y, np.float64)
    out = np.zeros((len(one), len(other)))
    for i, p in enumerate(one):
        for j, q in enumerate(other):
            rest = max(1 - curvature * float(p @ p), 1e-9) * max(1 - curvature * float(q @ q), 1e-9)
            out[i, j] = 2 * math.asinh(math.sqrt(curvature * float((p - q) @ (p - q)) / rest)) / math.sqrt(curvature)
    return out


def mobius_add(x: F64, y: F64, curvature: float) -> F64:
    """`x (+) y` of two points (d,) (Ungar 2010)."""
    xy, xx, yy = (curvature * float(v) for v in (x @ y, x @ x, y @ y))
    moved: F64 = ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)
    return moved


def exp_map(base: npt.ArrayLike, tangent: npt.ArrayLike, curvature: float) -> F64:
    """`x (+) tanh(sqrt c l |v| / 2) v / (sqrt c |v|)`, l = 2 / (1 - c |x|^2), for one point and tangent (d,)."""
    x, v = np.asarray(base, np.float64), np.asarray(tangent, np.float64)
    length, root = math.sqrt(float(v @ v)), math.sqrt(curvature)
    if length == 0:
        return x
    factor = 2 / (1 - curvature * float(x @ x))
    return mobius_add(x, math.tanh(root * factor * length / 2) * v / (root * length), curvature)


def log_map(base: npt.ArrayLike, point: npt.ArrayLike, curvature: float) -> F64:
    """`2 / (sqrt c l) artanh(sqrt c |w|) w / |w|`, w = -x (+) y, for one base and point (d,)."""
    x = np.asarray(base, np.float64)
    w = mobius_add(-x, np.asarray(point, np.float64), curvature)
    length, root = math.sqrt(float(w @ w)), math.sqrt(curvature)
    if length == 0:
        return np.zeros_like(x)
    factor = 2 / (1 - curvature * float(x @ x))
    return 2 / (root * factor) * math.atanh(root * length) * w / length


def einstein_midpoint(weights: npt.ArrayLike, points: npt.ArrayLike, curvature: float) -> F64:
    """`sum w g k / sum w g` in Klein coordinates k = 2 v / (1 + c |v|^2) with Lorentz factors 1 / sqrt(1 - c |k|^2),
    and back by m = k / (1 + sqrt(1 - c |k|^2)) (Gulcehre et al. 2019, eq. 4); rows without weight give the origin."""
    ball, shares = np.asarray(points, np.float64), np.asarray(weights, np.float64)
    squares = curvature * (ball**2).sum(axis=1)
    klein = 2 * ball / (1 + squares)[:, None]
    gamma = (1 + squares) / np.maximum(1 - squares, 1e-9)
    out = np.zeros((len(shares), ball.shape[1]))
    for row, share in enumerate(shares):
        if share.sum() > 0:
            k = (share * gamma) @ klein / (share @ gamma)
            out[row] = k / (1 + math.sqrt(max(1 - curvature * float(k @ k), 0.0)))
    return out


def hyperbolic(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    curvature: float,
    temperature: float,
    gate: npt.ArrayLike | None = None,
) -> F64:
    """`softmax_j(-d(q_i, k_j) / tau + log sigma(g_ij))`, values at their Einstein midpoint (Gulcehre et al. 2019)."""
    scores = -distance(query, key, curvature) / temperature
    shares = np.ones_like(scores) if gate is None else np.broadcast_to(sigmoid(gate), scores.shape)
    weights = np.zeros_like(scores)
    for row in range(len(scores)):
        open_ = shares[row] > 0
        if open_.any():
            logs = scores[row, open_] + np.log(shares[row, open_])
            weights[row, open_] = np.exp(logs - logs.max())
    return einstein_midpoint(weights, value, curvature)


def hopfield(
    patterns: npt.ArrayLike, state: npt.ArrayLike, beta: float, steps: int, gate: npt.ArrayLike | None = None
) -> F64:
    """`xi <- X^T softmax(beta X xi + log sigma(g))`, `steps` times for each state (Ramsauer et al. 2020, eq. 3)."""
    known, asked = np.asarray(patterns, np.float64), np.array(state, np.float64)
    shares = np.broadcast_to(np.ones(1) if gate is None else sigmoid(gate), (len(asked), len(known)))
    for row in range(len(asked)):
        open_ = shares[row] > 0
        for _ in range(steps):
            if not open_.any():
                asked[row] = 0.0
                break
            logs = beta * (known[open_] @ asked[row]) + np.log(shares[row, open_])
            powers = np.exp(logs - logs.max())
            asked[row] = powers @ known[open_] / powers.sum()
    return asked


def hierarchical_hopfield(
    patterns: npt.ArrayLike, labels: npt.ArrayLike, state: npt.ArrayLike, beta: float, top: int, steps: int
) -> F64:
    """`hopfield` over the patterns of the `top` groups of the highest `beta mean.xi + log(size)`; one state (d,)."""
    known, asked, label = np.asarray(patterns, np.float64), np.asarray(state, np.float64), np.asarray(labels)
    scores = {
        int(group): beta * float(known[label == group].mean(axis=0) @ asked) + math.log((label == group).sum())
        for group in np.unique(label)
    }
    chosen = sorted(scores, key=scores.__getitem__, reverse=True)[:top]
    found: F64 = hopfield(known[np.isin(label, chosen)], asked[None, :], beta, steps)[0]
    return found


def selective_scan(
    x: npt.ArrayLike,
    delta: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    c: npt.ArrayLike,
    skip: npt.ArrayLike,
    state: npt.ArrayLike,
    gate: npt.ArrayLike | None = None,
) -> tuple[F64, F64]:
    """`h <- exp(delta A) h + delta B x sigma(g)`, `y = C h + D x`, one step, state and channel at a time (Gu and Dao
    2023, algorithm 2). Layouts as in `kernels.attention.selective.selective_scan`."""
    inputs, sizes, rates, write, read, direct = (np.asarray(part, np.float64) for part in (x, delta, a, b, c, skip))
    held = np.array(state, np.float64)
    shares = np.ones(len(inputs)) if gate is None else sigmoid(gate)
    out = np.zeros_like(inputs)
    for step in range(len(inputs)):
        for channel in range(inputs.shape[1]):
            size, value = sizes[step, channel], inputs[step, channel]
            for n in range(len(rates)):
                kept = math.exp(size * rates[n, channel]) * held[n, channel]
                held[n, channel] = kept + size * write[step, n] * value * shares[step]
                out[step, channel] += read[step, n] * held[n, channel]
            out[step, channel] += direct[channel] * value
    return out, held


def mamba(x: npt.ArrayLike, tensors: dict[str, F64]) -> F64:
    """One block from an empty memory, one step at a time (Gu and Dao 2023, figure 3); `tensors`: `Block`'s."""
    rows = np.asarray(x, np.float64)
    taps, channels = tensors["taps"].shape
    states = len(tensors["a"])
    rank = tensors["steps"].shape[0]
    both = rows @ tensors["expand"]
    mixed = np.zeros((len(rows), channels))
    for step in range(len(rows)):
        mixed[step] = tensors["taps_bias"]
        for tap in range(taps):
            earlier = step - (taps - 1) + tap
            if earlier >= 0:
                mixed[step] += tensors["taps"][tap] * both[earlier, :channels]
    mixed = mixed * sigmoid(mixed)
    chosen = mixed @ tensors["select"]
    delta = np.logaddexp(0.0, chosen[:, :rank] @ tensors["steps"] + tensors["steps_bias"])
    scanned, _ = selective_scan(
        mixed,
        delta,
        tensors["a"],
        chosen[:, rank : rank + states],
        chosen[:, rank + states :],
        tensors["skip"],
        np.zeros((states, channels)),
    )
    through = both[:, channels:]
    out: F64 = (scanned * through * sigmoid(through)) @ tensors["contract"]
    return out
