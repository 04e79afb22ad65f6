"""Scratch memory of the compression kernels, owned by the caller."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Values handled at a time: 64 KiB of float32, so that a tile and its codes stay in a 1 MiB second-level cache while
# the few microseconds that numpy takes to start a loop stay below a tenth of the work.
TILE = 16384


class Workspace:
    """Grows to the largest block seen and is reused. Not to be shared between threads."""

    def __init__(self) -> None:
        self._values = 0
        self._rotation = 0
        self.reserve(TILE)

    def reserve(self, values: int) -> None:
        """Room for tiles of `values` float32 numbers; a block longer than `TILE` is one tile."""
        if values <= self._values:
            return
        self._values = values
        self.tile = np.empty(values, np.float32)
        self.factors = np.empty(values, np.float32)  # one per block of the tile
        self.bytes = np.empty(values + 1, np.uint8)
        self.pairs = np.empty((2, values // 2 + 1), np.uint16)

    def rotation(self, values: int) -> npt.NDArray[np.float32]:
        """Two buffers of `values` numbers, for the passes of a rotation."""
        if values > self._rotation:
            self._rotation = values
            self._buffers = np.empty((2, values), np.float32)
        return self._buffers[:, :values]
