"""Diagonal Fisher information: how sharply the model's own predictions depend on each weight.

`F_j = E_x E_{y ~ p(y|x)} [(d log p(y|x) / d theta_j)^2]` (Martens 2020, "New insights and perspectives on the natural
gradient method", section 5). The label is the model's, not the data's: with observed labels the same formula is the
"empirical Fisher", which vanishes where the model fits and explodes where it is wrong, and measures another thing
(Kunstner et al. 2019). Where the sum over labels has a closed form it is taken here; elsewhere labels are drawn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .lora import Adapter, Gradients
from .workspace import Array


def probabilities(logits: Array) -> Array:
    """Softmax along the last axis, stable. (n, c) -> (n, c)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def softmax_layer(x: Array, logits: Array) -> Array:
    """Exact, for weights (d, c) of a layer `logits = x W`: `F_jk = mean_n x_j^2 p_k (1 - p_k)`.

    x (n, d), logits (n, c) -> (d, c). One product, O(n d c): a million weights over 1,000 inputs are a second at most.
    """
    p = probabilities(logits)
    fisher: Array = np.square(x).T @ (p * (1.0 - p))
    fisher /= np.float32(max(1, x.shape[0]))
    return fisher


def softmax_adapter(x: Array, logits: Array, adapter: Adapter) -> Gradients:
    """Exact, for the factors of an adapter whose output is the `logits` (n, c) of a softmax; x (n, d).

    With score e_y - p by the logits: `F_down[a, i] = s^2 mean x_i^2 Var_{k~p}(up[a, k])`, since the score along row a
    is `up[a, y] - E up[a, .]`, and `F_up[a, k] = s^2 mean (x.down_a)^2 p_k (1 - p_k)`. O(n r (d + c)).
    """
    p = probabilities(logits)
    # The variance is shifted by each row's mean, which changes nothing but the digits lost to subtraction.
    up = (adapter.up - adapter.up.mean(axis=1, keepdims=True)).astype(np.float64)
    variance = np.maximum(p @ np.square(up).T - np.square(p @ up.T), 0.0).astype(np.float32)
    return _factors(x, variance, p * (1.0 - p), adapter, 1.0)


def gaussian_adapter(x: Array, adapter: Adapter, noise_variance: float) -> Gradients:
    """Exact, for an adapter whose output is the mean of a Gaussian of `noise_variance`; x (n, d).

    `F_down[a, i] = s^2 / v mean x_i^2 |up_a|^2`, `F_up[a, k] = s^2 / v mean (x.down_a)^2`. O(n r d + r e).
    """
    count, outputs = x.shape[0], adapter.up.shape[1]
    energy = np.broadcast_to(np.square(adapter.up).sum(axis=1), (count, adapter.rank))
    ones = np.broadcast_to(np.float32(1.0), (count, outputs))
    return _factors(x, energy, ones, adapter, noise_variance)


def _factors(x: Array, along_rows: Array, along_outputs: Array, adapter: Adapter, noise_variance: float) -> Gradients:
    factor = np.float32(adapter.scale**2 / noise_variance / max(1, x.shape[0]))
    hidden = x @ adapter.down.T
    return Gradients(
        down=factor * (along_rows.T @ np.square(x)),
        up=factor * (np.square(hidden).T @ along_outputs),
    )


def sample_labels(logits: Array, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """A label for each row, drawn from the model's own softmax (inverse transform). (n, c) -> (n,).

    For models without a closed form: `squared_mean` of the gradients of log p at these labels is unbiased for F.
    """
    cumulative = np.cumsum(probabilities(logits).astype(np.float64), axis=1)
    draws = generator.random(logits.shape[0]) * cumulative[:, -1]
    labels: npt.NDArray[np.intp] = np.minimum((cumulative <= draws[:, None]).sum(axis=1), logits.shape[1] - 1)
    return labels


def squared_mean(gradients: Array) -> Array:
    """`mean_n g^2` of per-example gradients (n, p) -> (p,); the gradient must be taken for each example apart."""
    squares: Array = np.einsum("np,np->p", gradients, gradients) / np.float32(max(1, gradients.shape[0]))
    return squares
