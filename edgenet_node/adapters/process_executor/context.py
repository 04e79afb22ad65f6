"""What a registered function sees besides its arguments."""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ...kernels.backends import Backends

T = TypeVar("T")
Function = Callable[..., Any]
"""`fn(context, *args) -> value`"""

NAME_CHARS_MAX: Final = 200
_TARGET: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_target(text: str) -> bool:
    """Whether `text` reads "package.module:attr"."""
    return _TARGET.fullmatch(text) is not None


def load_function(target: str) -> Function:
    """Import what "package.module:attr" names. `TypeError` if not callable, and whatever the import raises."""
    module_name, _, attribute = target.partition(":")
    found = vars(importlib.import_module(module_name)).get(attribute)
    if not callable(found):
        raise TypeError(f"{target} is not a function")
    function: Function = found
    return function


class Residents:
    """Named objects that outlive a task: least recently used go first, by count and by declared bytes."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, tuple[object, int]] = OrderedDict()
        self._bytes = 0
        self.loads = 0

    def names(self) -> list[str]:
        return list(self._kept)

    def get(self, name: str, load: Callable[[], T], size_bytes: int) -> T:
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise ValueError(f"the name of a resident has 1 to {NAME_CHARS_MAX} characters")
        if size_bytes < 0:
            raise ValueError("size_bytes is negative")
        if name in self._kept:
            self._kept.move_to_end(name)
            kept: Any = self._kept[name][0]
            found: T = kept
            return found
        # Make room first: old and new together may not fit the memory limit.
        stem = name.partition("@")[0]
        for other in [other for other in self._kept if other.partition("@")[0] == stem]:
            self._drop(other)
        while self._kept and (len(self._kept) >= self._count_max or self._bytes + size_bytes > self._bytes_max):
            self._drop(next(iter(self._kept)))
        loaded = load()
        self.loads += 1
        if size_bytes <= self._bytes_max:
            self._kept[name] = (loaded, size_bytes)
            self._bytes += size_bytes
        return loaded

    def _drop(self, name: str) -> None:
        self._bytes -= self._kept.pop(name)[1]


class WorkerContext:
    """Handed to each call. Array arguments are read-only views that are valid during the call: copy what is to stay."""

    def __init__(self, residents: Residents, stop_asked: Callable[[], bool], backends: Backends | None = None) -> None:
        self._residents = residents
        self._backends = Backends() if backends is None else backends
        self.should_stop = stop_asked
        """True once nobody waits for this result any more; look at it every few milliseconds and return."""

    def kernel(self, name: str) -> Function:
        """The function of a kernel by its id in `kernels.registry`, as this worker's backend has it: compiled ones are
        loaded and warmed at their first use. Outside of workers it is always the numpy one. `NotFound` for an id that
        does not exist."""
        return self._backends.function(name)

    def resident(self, name: str, load: Callable[[], T], *, size_bytes: int = 0) -> T:
        """The object `name`, loaded at its first use in this worker and again after a crash or eviction.

        A name may end in "@version"; a new version replaces the one before. Loaders map content-addressed files
        read-only (`numpy.load(..., mmap_mode="r")`), so that all workers share one copy which no memory limit counts.
        `size_bytes` declares what the object takes; above the limit it is loaded for this call only. Loader errors
        pass through; `ValueError` for an unusable name or size."""
        return self._residents.get(name, load, size_bytes)
