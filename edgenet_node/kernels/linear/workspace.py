"""Scratch memory of the dense kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Workspace:
    """Named float32 buffers of one caller: each grows to the largest request seen and is reused, so that a kernel
    called again with shapes it knows allocates no array. Not to be shared between threads; contents do not survive
    from call to call."""

    __slots__ = ("_flat", "_views")

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}
        self._views: dict[str, Array] = {}

    def floats(self, name: str, *shape: int) -> Array:
        """The buffer `name` as a C-contiguous array of `shape`, contents undefined."""
        view = self._views.get(name)
        if view is None or view.shape != shape:
            size = int(np.prod(shape, dtype=np.int64))
            flat = self._flat.get(name)
            if flat is None or flat.size < size:
                flat = self._flat[name] = np.empty(size, np.float32)
            view = self._views[name] = flat[:size].reshape(shape)
        return view

    def share(self, count: int) -> Array:
        """`count` times 1 / `count`: a product with it is a mean. Not to be written."""
        view = self._views.get("share")
        if view is None or view.size != count:
            view = self._views["share"] = np.full(count, 1.0 / max(1, count), np.float32)
        return view

    def ones(self, count: int) -> Array:
        """`count` ones: a product with them is a sum. Not to be written."""
        view = self._views.get("ones")
        if view is None or view.size != count:
            view = self._views["ones"] = np.ones(count, np.float32)
        return view
