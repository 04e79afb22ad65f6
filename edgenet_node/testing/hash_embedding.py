"""The `embedding` kind without a model: unit vectors drawn from the hash of the text, for simulations.

Kind, model name, wire format and verification are those of the real handler; only what computes is replaced. Two
texts have almost orthogonal vectors, so every wrong, lost, doubled or swapped item shows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crypto.hashing import sha256
from ..tasks.handlers import Environment
from ..tasks.handlers.embedding import DIMENSION, EmbeddingHandler, pack_output
from ..tasks.settings import Rng
from ..wire.codec import decode
from ..wire.task import INPUT_BYTES_MAX

FUNCTION = "embedding.run"
"""As the real handler names it."""

TEXTS_KEPT = 4096
"""Vectors remembered: the same text is embedded and checked many times in one run."""


@functools.lru_cache(TEXTS_KEPT)
def true_vector(text: bytes) -> NDArray[np.float32]:
    """(384,), unit length, read-only: a function of the text alone."""
    seed = int.from_bytes(sha256(text)[:8], "little")
    raw = np.random.Generator(np.random.PCG64(seed)).standard_normal(DIMENSION)
    vector = (raw / np.linalg.norm(raw)).astype("<f4")
    vector.setflags(write=False)
    return vector


def true_vectors(texts: Sequence[bytes]) -> NDArray[np.float32]:
    """(n, 384)"""
    return np.stack([true_vector(text) for text in texts])


def texts_of(data: bytes) -> list[bytes]:
    """The items of a chunk's input."""
    items: list[bytes] = decode(bytes(data), list[bytes], bytes_max=INPUT_BYTES_MAX)
    return items


def embed(context: object, spec: bytes, data: bytes) -> bytes:
    """The output of a chunk."""
    texts = texts_of(data)
    return pack_output(true_vectors(texts).tobytes(), [1 + len(text) // 4 for text in texts])


class HashEmbedding(EmbeddingHandler):
    """`present`: whether this node has the "model"."""

    functions: Mapping[str, str] = {FUNCTION: f"{__name__}:embed"}

    def __init__(self, *, present: bool = True) -> None:
        super().__init__(Environment(Path()))
        self._present = present

    def unavailable(self) -> str:
        return "" if self._present else "the model is not installed"

    def args(self, spec: bytes, data: bytes) -> tuple[Any, ...]:
        return spec, data


def falsify(output: bytes, chosen: Sequence[int], rng: Rng) -> bytes:
    """A chunk's output with wrong vectors for the `chosen` items: unit length, as the form demands."""
    changed = bytearray(output)
    width = 4 * DIMENSION
    for item in chosen:
        start = 16 + width * item
        vector, cut = output[start : start + width], 4 * (1 + rng.randrange(DIMENSION - 1))
        changed[start : start + width] = vector[cut:] + vector[:cut]
    return bytes(changed)
