"""Scratch memory of the aggregation kernels, owned by the caller."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Coordinates handled at a time. 25 rows of them are 400 KiB of float32 or 800 KiB of float64: about a second-level
# cache.
TILE = 4096


class Workspace:
    """Room for updates of up to `peers` rows; grows, and is reused. Not to be shared between threads."""

    def __init__(self, peers: int = 16) -> None:
        self._peers = 0
        self._matrices: dict[str, npt.NDArray[np.float32]] = {}
        self.reserve(peers)

    def matrix(self, name: str, rows: int, width: int) -> npt.NDArray[np.float32]:
        """A (rows, width) float32 matrix that is kept under this name, for what comes between two rules."""
        kept = self._matrices.get(name)
        if kept is None or kept.size < rows * width:
            kept = self._matrices[name] = np.empty(rows * width, np.float32)
        return kept[: rows * width].reshape(rows, width)

    def reserve(self, peers: int) -> None:
        if peers <= self._peers:
            return
        self._peers = peers
        self.columns = np.empty((peers + 1, TILE), np.float32)  # one spare row for the sorting network
        self.wide = np.empty(peers * TILE, np.float64)  # flat, so that fewer rows are contiguous too
        self.products = np.empty((2, peers * peers), np.float64)
        self.weights = np.empty(peers, np.float32)
        self.squares = np.empty(peers, np.float32)
