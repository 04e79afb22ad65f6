"""Scratch memory of the learning kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Workspace:
    """Named float32 buffers of one caller: each grows to the largest request seen and is reused, so that a kernel
    called again with shapes it knows allocates no array. Not to be shared between threads. Contents do not survive from
    call to call."""

    __slots__ = ("_flat", "_vectors", "_views")

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}
        self._views: dict[str, Array] = {}
        self._vectors: dict[int, Array] = {}

    @property
    def bytes_held(self) -> int:
        """Size of all buffers, in bytes."""
        return sum(flat.nbytes for flat in self._flat.values()) + sum(v.nbytes for v in self._vectors.values())

    def vector(self, size: int) -> Array:
        """`size` floats, one buffer for each size: the hidden layer of one input, whose sizes are a few ranks."""
        vector = self._vectors.get(size)
        if vector is None:
            vector = self._vectors[size] = np.empty(size, np.float32)
        return vector

    def matrix(self, name: str, rows: int, columns: int) -> Array:
        """The buffer `name` as a C-contiguous (rows, columns)."""
        view = self._views.get(name)
        if view is None or view.shape != (rows, columns):
            flat = self._flat.get(name)
            if flat is None or flat.size < rows * columns:
                flat = self._flat[name] = np.empty(rows * columns, np.float32)
            view = self._views[name] = flat[: rows * columns].reshape(rows, columns)
        return view
