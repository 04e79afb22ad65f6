"""Naive float64 oracles of the sentence encoder: one function per mechanism, written to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[np.float32]]

HEADS = 12
LAYERS = 6


def gelu(x: npt.ArrayLike) -> F64:
    """`x/2 (1 + erf(x / sqrt 2))`, as `x/2 erfc(-x / sqrt 2)` to keep the left tail (Hendrycks and Gimpel 2016)."""
    values = np.asarray(x, np.float64)
    flat = [0.5 * v * math.erfc(-v / math.sqrt(2.0)) for v in values.ravel().tolist()]
    return np.array(flat, np.float64).reshape(values.shape)


def softmax(scores: F64) -> F64:
    """`exp(s_i) / sum_j exp(s_j)` over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    quotient: F64 = powers / powers.sum(axis=-1, keepdims=True)
    return quotient


def layer_norm(x: F64, gain: F64, shift: F64) -> F64:
    """`(x - mean) / sqrt(variance + 1e-12) * gain + shift` over the last axis (Ba, Kiros and Hinton 2016)."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    normed: F64 = (x - mean) / np.sqrt(variance + 1e-12) * gain + shift
    return normed


def attention(query: F64, key: F64, value: F64) -> F64:
    """`softmax(Q K^T / sqrt d) V` for one head, each (L, d) (Vaswani et al. 2017)."""
    return softmax(query @ key.T / math.sqrt(query.shape[1])) @ value


def encode(tensors: Tensors, ids: Sequence[int]) -> F64:
    """The unit vector (384,) of one sequence of word pieces, from the published tensors (BERT, torch layout)."""

    def get(name: str) -> F64:
        return tensors[name].astype(np.float64)

    def linear(x: F64, name: str) -> F64:
        return x @ get(name + ".weight").T + get(name + ".bias")

    def norm(x: F64, name: str) -> F64:
        return layer_norm(x, get(name + ".weight"), get(name + ".bias"))

    words = tensors["embeddings.word_embeddings.weight"][list(ids)].astype(np.float64)
    positions = get("embeddings.position_embeddings.weight")[: len(ids)]
    x = norm(words + positions + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        projected = [linear(x, at + f"attention.self.{name}") for name in ("query", "key", "value")]
        heads = zip(*(np.split(part, HEADS, axis=1) for part in projected), strict=True)
        mixed = np.concatenate([attention(q, k, v) for q, k, v in heads], axis=1)
        x = norm(x + linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
        hidden = gelu(linear(x, at + "intermediate.dense"))
        x = norm(x + linear(hidden, at + "output.dense"), at + "output.LayerNorm")
    mean = x.mean(axis=0)
    unit: F64 = mean / np.linalg.norm(mean)
    return unit
