"""Scratch memory of the attention kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Workspace:
    """Named buffers of one caller: each grows to the largest request seen and is reused, so that a kernel called again
    with shapes it knows allocates no array. (numpy's own buffers for a broadcast step remain: 8192 elements an operand,
    whatever the size.) Not to be shared between threads. `bytes_held` is what it keeps alive.

    Two kernels may share one workspace, one call after another; contents do not survive from call to call.
    """

    __slots__ = ("_flat", "_views")

    def __init__(self) -> None:
        self._flat: dict[str, npt.NDArray[Any]] = {}
        self._views: dict[str, npt.NDArray[Any]] = {}

    @property
    def bytes_held(self) -> int:
        """Size of all buffers, in bytes."""
        return sum(flat.nbytes for flat in self._flat.values())

    def floats(self, name: str, shape: tuple[int, ...]) -> Array:
        """The float32 buffer `name` as a C-contiguous array of `shape`, contents undefined."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            view = self._reshaped(name, shape, np.float32)
        return view

    def flags(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Likewise of booleans."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            view = self._reshaped(name, shape, np.bool_)
        return view

    def indices(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Likewise of indices."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            view = self._reshaped(name, shape, np.intp)
        return view

    def ones(self, count: int) -> Array:
        """`count` ones: a product with them sums columns faster than a reduction does. Not to be written."""
        view = self._views.get("ones")
        if view is None or view.size != count:
            flat = self._flat.get("ones")
            if flat is None or flat.size < count:
                flat = self._flat["ones"] = np.ones(count, np.float32)
            view = self._views["ones"] = flat[:count]
        return view

    def steps(self, count: int) -> Array:
        """0, 1, ..., count - 1, exact below 2^24. Not to be written."""
        view = self._views.get("steps")
        if view is None or view.size != count:
            flat = self._flat.get("steps")
            if flat is None or flat.size < count:
                flat = self._flat["steps"] = np.arange(count, dtype=np.float32)
            view = self._views["steps"] = flat[:count]
        return view

    def _reshaped(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        size = 1
        for extent in shape:
            size *= extent
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype)
        view = self._views[name] = flat[:size].reshape(shape)
        return view
