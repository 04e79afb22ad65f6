"""The plain, slow truth: what a search over some documents must give; and texts whose vectors make arithmetic exact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from edgenet_node.wire.index import Hit

T = TypeVar("T")

DIMENSION = 16
"""Components are +-1/4: unit length, and every dot product is a multiple of 1/16, exact in float32 and full of ties."""

Documents = Mapping[str, tuple[str, dict[str, str]]]


def vector_of(text: str) -> bytes:
    bits = hashlib.sha256(text.encode()).digest()
    signs = [1 if bits[at] & 1 else -1 for at in range(DIMENSION)]
    return np.asarray([sign * 0.25 for sign in signs], "<f4").tobytes()


def brute_force(documents: Documents, query: bytes, k: int, where: Mapping[str, str]) -> list[Hit]:
    """By (score, id) over all documents that pass the filter, one by one in float64."""
    wanted = np.frombuffer(query, "<f4").astype(np.float64)
    hits = []
    for name, (text, metadata) in documents.items():
        if all(metadata.get(key) == value for key, value in where.items()):
            own = np.frombuffer(vector_of(text), "<f4").astype(np.float64)
            norm = float(np.linalg.norm(own) * np.linalg.norm(wanted))
            hits.append(Hit(name, float(own @ wanted) / norm if norm else 0.0, text, dict(sorted(metadata.items()))))
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]


class PlainContext:
    """What a worker hands to functions, without a worker."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def resident(self, name: str, load: Callable[[], T], *, size_bytes: int = 0) -> T:
        if name not in self._kept:
            self._kept[name] = load()
        kept: T = self._kept[name]
        return kept
