"""Naive oracles of the learning kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .encoder import softmax

F64 = npt.NDArray[np.float64]


def lora_forward(x: npt.ArrayLike, base: npt.ArrayLike, down: npt.ArrayLike, up: npt.ArrayLike) -> F64:
    """`base + x dW` with the dense `dW = down^T up` (Hu et al. 2021, eq. 3)."""
    change = np.asarray(down, np.float64).T @ np.asarray(up, np.float64)
    return np.asarray(base, np.float64) + np.asarray(x, np.float64) @ change


def lora_batched(
    x: npt.ArrayLike,
    base: npt.ArrayLike,
    which: Sequence[int],
    adapters: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
) -> F64:
    """Each row by its own adapter, one after another."""
    rows, bases = np.asarray(x, np.float64), np.asarray(base, np.float64)
    return np.array([lora_forward(rows[i], bases[i], *adapters[use]) for i, use in enumerate(which)]).reshape(
        bases.shape
    )


def lora_gradients(
    x: npt.ArrayLike, grad: npt.ArrayLike, down: npt.ArrayLike, up: npt.ArrayLike, scale: float
) -> tuple[F64, F64]:
    """By the chain rule over every entry: `y_k = ... + s sum_a (sum_i x_i down_ai) up_ak`, `dL/dy = grad`."""
    rows, slopes = np.asarray(x, np.float64), np.asarray(grad, np.float64)
    read, write = np.asarray(down, np.float64), np.asarray(up, np.float64)
    d_read, d_write = np.zeros_like(read), np.zeros_like(write)
    for row, slope in zip(rows, slopes, strict=True):
        for a in range(read.shape[0]):
            d_read[a] += scale * row * sum(slope * write[a])
            d_write[a] += scale * sum(row * read[a]) * slope
    return d_read, d_write


def lora_merge(parts: Sequence[tuple[float, npt.ArrayLike, npt.ArrayLike, float]], rank: int) -> tuple[F64, F64]:
    """The best approximation of `sum w s down^T up` of that rank, dense, by a full SVD (Eckart and Young 1936); and
    the singular values left out. Parts are (w, down, up, s)."""
    total: F64 = sum(
        (w * s * np.asarray(down, np.float64).T @ np.asarray(up, np.float64) for w, down, up, s in parts),
        start=np.zeros((1, 1)),
    )
    left, values, right = np.linalg.svd(total, full_matrices=False)
    best: F64 = (left[:, :rank] * values[:rank]) @ right[:rank]
    return best, values[rank:]


def quantise(matrix: npt.ArrayLike, bits: int, block: int) -> F64:
    """What is left of each block of a row after `scale round(x / scale)`, `scale = max|x| / (2^(bits-1) - 1)`."""
    values = np.asarray(matrix, np.float64)
    result = np.zeros_like(values)
    for row in range(values.shape[0]):
        for first in range(0, values.shape[1], block):
            part = values[row, first : first + block]
            scale = max((abs(float(v)) for v in part), default=0.0) / (2 ** (bits - 1) - 1)
            if scale > 0.0:
                result[row, first : first + block] = [scale * round(float(v) / scale) for v in part]
    return result


def fisher_softmax_layer(x: npt.ArrayLike, logits: npt.ArrayLike) -> F64:
    """`mean_n sum_y p_y (x_j (1{y=k} - p_k))^2`: the definition, label by label (Martens 2020, section 5)."""
    rows, p = np.asarray(x, np.float64), softmax(np.asarray(logits, np.float64))
    total: F64 = np.zeros((rows.shape[1], p.shape[1]))
    for row, chances in zip(rows, p, strict=True):
        for label, chance in enumerate(chances):
            score = -chances.copy()
            score[label] += 1.0
            total += chance * np.outer(row, score) ** 2
    total /= max(1, rows.shape[0])
    return total


def fisher_softmax_adapter(
    x: npt.ArrayLike, logits: npt.ArrayLike, down: npt.ArrayLike, up: npt.ArrayLike, scale: float
) -> tuple[F64, F64]:
    """The definition, label by label, with the gradients of `lora_gradients`."""
    rows, p = np.asarray(x, np.float64), softmax(np.asarray(logits, np.float64))
    totals = np.zeros(np.shape(down)), np.zeros(np.shape(up))
    for row, chances in zip(rows, p, strict=True):
        for label, chance in enumerate(chances):
            score = -chances.copy()
            score[label] += 1.0
            for total, part in zip(totals, lora_gradients(row[None], score[None], down, up, scale), strict=True):
                total += chance * part**2
    return totals[0] / max(1, rows.shape[0]), totals[1] / max(1, rows.shape[0])


def fisher_gaussian_adapter(
    x: npt.ArrayLike, down: npt.ArrayLike, up: npt.ArrayLike, scale: float, noise_variance: float
) -> tuple[F64, F64]:
    """`mean_n sum_k (dy_k / dtheta)^2 / v`: the squared Jacobian, output by output (Martens 2020, section 5)."""
    rows = np.asarray(x, np.float64)
    totals = np.zeros(np.shape(down)), np.zeros(np.shape(up))
    for row in rows:
        for output in np.eye(np.shape(up)[1]):
            for total, part in zip(totals, lora_gradients(row[None], output[None], down, up, scale), strict=True):
                total += part**2 / noise_variance
    return totals[0] / max(1, rows.shape[0]), totals[1] / max(1, rows.shape[0])


def ewc_penalty(weights: npt.ArrayLike, anchor: npt.ArrayLike, fisher: npt.ArrayLike, strength: float) -> float:
    """`strength / 2 sum_j F_j (theta_j - anchor_j)^2` (Kirkpatrick et al. 2017, eq. 3)."""
    triples = zip(np.ravel(weights), np.ravel(anchor), np.ravel(fisher), strict=True)
    return 0.5 * strength * math.fsum(float(f) * (float(w) - float(a)) ** 2 for w, a, f in triples)


def ewc_gradient(weights: npt.ArrayLike, anchor: npt.ArrayLike, fisher: npt.ArrayLike, strength: float) -> F64:
    """`strength F_j (theta_j - anchor_j)`, entry by entry."""
    moved = np.asarray(weights, np.float64) - np.asarray(anchor, np.float64)
    slope: F64 = strength * np.asarray(fisher, np.float64) * moved
    return slope


def sum_tree_refresh(weights: npt.ArrayLike, slots: Sequence[int], changed: Sequence[float]) -> F64:
    """The leaves after the change, in order."""
    leaves = np.array(weights, np.float64)
    for slot, weight in zip(slots, changed, strict=True):
        leaves[slot] = weight
    return leaves


def sum_tree_find(weights: npt.ArrayLike, targets: Sequence[float]) -> list[int]:
    """The least leaf whose cumulative sum exceeds the target, by a scan; the last leaf with weight if none does."""
    leaves = [float(w) for w in np.ravel(weights)]
    found = []
    for target in targets:
        passed, place = 0.0, max(i for i, w in enumerate(leaves) if w > 0.0)
        for i, weight in enumerate(leaves):
            passed += weight
            if passed > target:
                place = i
                break
        found.append(place)
    return found


def reservoir(items: int, capacity: int, draws: Sequence[float], choices: Sequence[int]) -> list[int]:
    """Algorithm R (Vitter 1985): item n takes a random slot with probability capacity / (n + 1). `draws` (items,) in
    [0, 1) decide whether, `choices` (items,) in [0, capacity) where. Returns the items held."""
    held = list(range(min(items, capacity)))
    for item in range(capacity, items):
        if draws[item] * (item + 1) < capacity:
            held[choices[item]] = item
    return held


def replay_importance(chosen: Sequence[float], weights: Sequence[float], beta: float) -> list[float]:
    """`(N P)^-beta / max` with P = w / sum w over all N `weights`, for those `chosen` (Schaul et al. 2016, 3.4)."""
    total = math.fsum(weights)
    raw = [(len(weights) * w / total) ** -beta for w in chosen]
    return [r / max(raw) for r in raw]
