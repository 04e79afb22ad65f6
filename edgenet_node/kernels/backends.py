"""Which function computes a kernel on this machine: the numpy one, or the compiled one of the extra `[fast]`.

Decided once for each kernel id, at its first use in a process, and kept: a worker that never runs a compiled kernel
never loads numba (0.4 s, 60 MB), and one that does pays for compiling or for reading the cache before its first real
call. Only workers choose (`WorkerContext.kernel`); in the node's own process every kernel is the numpy one.

There is no rung above: no GPU is looked for, and the pure Python rung below numpy is `kernels.reference`, for tests.

Results agree between backends within the tolerance that each kernel's tests state, never to the bit: see the package.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, MutableMapping
from importlib import util
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import ConfigError, NotFound

if TYPE_CHECKING:
    from .registry import Kernel

Choice = Literal["auto", "numpy", "fast"]
"""`auto`: compiled where there is such a version and it loads. `fast`: the same, but its absence is an error."""

CACHE_VARIABLE: Final = "NUMBA_CACHE_DIR"
ONE_THREAD: Final = {"NUMBA_NUM_THREADS": "1"}  # the worker pool is what uses the cores
REMEDY: Final = "pip install 'edgenet-node[fast]', or set [workers] backend to auto or numpy"
EXAMPLE_SEED: Final = 9


def installed() -> bool:
    """Whether numba could be imported. Looks, does not load: a few microseconds."""
    return util.find_spec("numba") is not None


def check(choice: Choice) -> None:
    """`ConfigError` if `choice` cannot be had here; called where the node starts."""
    if choice == "fast" and not installed():
        raise ConfigError(f"the backend fast needs numba, which is not installed: {REMEDY}")


class Backends:
    """Functions by kernel id. `cache_folder`: where compiled code is kept between processes; private to the owner, as
    it is code that will be run. Left to numba where it is empty; an owner's NUMBA_CACHE_DIR stands. The environment is
    only written before numba is first loaded here, which reads it once."""

    def __init__(
        self,
        choice: Choice = "numpy",
        cache_folder: str = "",
        *,
        kernels: Mapping[str, Kernel] | None = None,
        environ: MutableMapping[str, str] | None = None,
    ) -> None:
        self._choice = choice
        self._cache_folder = cache_folder
        self._kernels = kernels
        self._environ = os.environ if environ is None else environ
        self._chosen: dict[str, Callable[..., Any]] = {}
        self.declined: dict[str, str] = {}
        """Under `auto`: kernels whose compiled version did not load, and why."""

    def function(self, name: str) -> Callable[..., Any]:
        """The function of kernel `name`. `NotFound` for an id that this node does not have; `ConfigError` under `fast`
        if the compiled one does not load."""
        chosen = self._chosen.get(name)
        if chosen is None:
            chosen = self._chosen[name] = self._choose(name)
        return chosen

    def _choose(self, name: str) -> Callable[..., Any]:
        kernel = self._table().get(name)
        if kernel is None:
            raise NotFound(f"there is no kernel {name!r} here")
        if self._choice == "numpy" or not kernel.compiled:
            return kernel.function
        check(self._choice)
        if not installed():
            self.declined[name] = "numba is not installed"
            return kernel.function
        self._prepare()
        try:
            compiled = load_compiled(kernel.compiled)
            warm(name, compiled)
        except Exception as error:  # foreign code: an old llvmlite, a full disk, an unknown CPU
            why = f"{type(error).__name__}: {error}"[:300]
            if self._choice == "fast":
                raise ConfigError(f"the compiled version of {name} does not load ({why}): {REMEDY}") from error
            self.declined[name] = why
            return kernel.function
        return compiled

    def _table(self) -> Mapping[str, Kernel]:
        if self._kernels is None:
            from .registry import KERNELS  # all families, 0.1 s: not before one is used

            self._kernels = KERNELS
        return self._kernels

    def _prepare(self) -> None:
        self._environ.update(ONE_THREAD)
        if self._cache_folder:
            self._environ.setdefault(CACHE_VARIABLE, self._cache_folder)


def load_compiled(target: str) -> Callable[..., Any]:
    """What "module:function" below `kernels.compiled` names. `ImportError` without numba, `TypeError` if it is not a
    function."""
    module, _, attribute = target.partition(":")
    found = vars(importlib.import_module(f"{__package__}.compiled.{module}")).get(attribute)
    if not callable(found):
        raise TypeError(f"{target} is not a function")
    compiled: Callable[..., Any] = found
    return compiled


def warm(name: str, function: Callable[..., Any]) -> None:
    """Call it on its small example, so that what is compiled or read from the cache is so before the first task."""
    import numpy as np

    from .registry.examples import EXAMPLES

    example = EXAMPLES.get(name)
    if example is not None:
        positional, named = example(np.random.default_rng(EXAMPLE_SEED))
        function(*positional, **named)
