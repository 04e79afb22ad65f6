"""The backend is chosen once, falls back only where it may, and costs nothing where it is not used."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from edgenet_node.adapters.process_executor.pool import ProcessExecutor
from edgenet_node.adapters.process_executor.settings import ExecutorSettings
from edgenet_node.app.limits import executor_settings
from edgenet_node.config import Config, Workers
from edgenet_node.errors import ConfigError, NotFound
from edgenet_node.kernels import backends, search
from edgenet_node.kernels.backends import Backends
from edgenet_node.kernels.reference import normalise
from edgenet_node.kernels.registry import KERNELS, Kernel
from tests.adapters.executor.support import MonotonicClock

from . import worker_functions

SOME = "search.normalise/1"
FUNCTIONS = {name: f"{worker_functions.__name__}:{name}" for name in ("loaded", "used")}


def other(rows: Any) -> Any:
    """Stands for a compiled version."""
    return normalise(rows)


def with_compiled(target: str) -> dict[str, Kernel]:
    kernel = KERNELS[SOME]
    return {
        SOME: Kernel(kernel.function, kernel.reference, kernel.shapes, kernel.dtype, kernel.test, "", compiled=target)
    }


@pytest.fixture
def pretend_numba(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """numba looks installed; "there:other" resolves to `other`. The targets that were loaded."""
    seen: list[str] = []

    def load(target: str) -> Callable[..., Any]:
        seen.append(target)
        if target != "there:other":
            raise ImportError(f"no {target}")
        return other

    monkeypatch.setattr(backends, "installed", lambda: True)
    monkeypatch.setattr(backends, "load_compiled", load)
    return seen


@pytest.mark.parametrize("choice", ["auto", "fast"])
def test_the_compiled_version_is_loaded_once_and_kept(choice: Any, pretend_numba: list[str]) -> None:
    chosen = Backends(choice, kernels=with_compiled("there:other"), environ={})
    assert [chosen.function(SOME) for _ in range(3)] == [other] * 3
    assert pretend_numba == ["there:other"]
    assert not chosen.declined


def test_numpy_loads_nothing_and_writes_no_environment(pretend_numba: list[str]) -> None:
    environ: dict[str, str] = {}
    chosen = Backends("numpy", "/cache", kernels=with_compiled("there:other"), environ=environ)
    assert chosen.function(SOME) is search.normalise
    assert (pretend_numba, environ) == ([], {})


@pytest.mark.usefixtures("pretend_numba")
def test_a_broken_compiled_version_is_declined_by_auto_and_refused_by_fast() -> None:
    kernels = with_compiled("away:other")
    chosen = Backends("auto", kernels=kernels, environ={})
    assert chosen.function(SOME) is search.normalise
    assert chosen.declined == {SOME: "ImportError: no away:other"}
    with pytest.raises(ConfigError, match=rf"compiled version of {SOME} .*no away:other.*pip install"):
        Backends("fast", kernels=kernels, environ={}).function(SOME)


def test_without_numba_auto_is_numpy_and_fast_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", lambda: False)
    chosen = Backends("auto", kernels=with_compiled("there:other"), environ={})
    assert chosen.function(SOME) is search.normalise
    assert chosen.declined == {SOME: "numba is not installed"}
    for call in (
        lambda: backends.check("fast"),
        lambda: Backends("fast", kernels=with_compiled("there:other"), environ={}).function(SOME),
        lambda: executor_settings(Config(workers=Workers(backend="fast")), 1, Path("/cache")),
    ):
        with pytest.raises(ConfigError, match=r"numba, which is not installed: pip install 'edgenet-node\[fast\]'"):
            call()
    backends.check("auto")
    backends.check("numpy")


def test_a_kernel_that_is_only_numpy_is_so_under_every_choice() -> None:
    assert not KERNELS[SOME].compiled
    for choice in ("auto", "numpy", "fast"):
        environ: dict[str, str] = {}
        assert Backends(choice, "/cache", environ=environ).function(SOME) is search.normalise
        assert environ == {}


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(NotFound, match=r"search\.nothing/1"):
        Backends().function("search.nothing/1")


@pytest.mark.usefixtures("pretend_numba")
@pytest.mark.parametrize(
    ("environ", "folder", "wanted"),
    [
        ({}, "/cache", {"NUMBA_CACHE_DIR": "/cache", "NUMBA_NUM_THREADS": "1"}),
        ({"NUMBA_CACHE_DIR": "/own"}, "/cache", {"NUMBA_CACHE_DIR": "/own", "NUMBA_NUM_THREADS": "1"}),
        ({}, "", {"NUMBA_NUM_THREADS": "1"}),
    ],
)
def test_compiled_code_goes_to_the_folder_unless_the_owner_chose_one(
    environ: dict[str, str], folder: str, wanted: dict[str, str]
) -> None:
    Backends("auto", folder, kernels=with_compiled("there:other"), environ=environ).function(SOME)
    assert environ == wanted


def test_the_configuration_reaches_the_workers() -> None:
    settings = executor_settings(Config(workers=Workers(backend="numpy")), 2, Path("/data/cache"))
    assert (settings.backend, settings.kernel_cache) == ("numpy", "/data/cache/kernels")
    assert executor_settings(Config(), 2, Path("/data/cache")).backend == "auto"


async def in_worker(settings: ExecutorSettings, *calls: tuple[str, list[Any]]) -> list[Any]:
    executor = ProcessExecutor(FUNCTIONS, settings, MonotonicClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve)
        found = [await executor.run("worker", name, args, timeout_s=120) for name, args in calls]
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("backend", ["numpy", "auto"])
async def test_a_worker_starts_without_numba_and_without_the_families(backend: Any, tmp_path: Path) -> None:
    settings = ExecutorSettings(workers=1, backend=backend, kernel_cache=str(tmp_path))
    loaded, families = await in_worker(settings, ("loaded", ["numba"]), ("loaded", ["edgenet_node.kernels.registry"]))
    assert loaded == families == []


async def test_a_worker_of_numpy_never_loads_numba(tmp_path: Path) -> None:
    settings = ExecutorSettings(workers=1, backend="numpy", kernel_cache=str(tmp_path))
    used, loaded = await in_worker(settings, ("used", [list(KERNELS)]), ("loaded", ["numba"]))
    assert set(used) == set(KERNELS)
    assert not any("compiled" in module for module in used.values())
    assert loaded == []
    assert not os.listdir(tmp_path)  # noqa: PTH208 - nothing waits for this disk


async def test_a_worker_of_fast_uses_what_is_compiled_and_keeps_it_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.delenv(backends.CACHE_VARIABLE, raising=False)  # which would be the owner's choice
    some = [name for name, kernel in KERNELS.items() if kernel.compiled][:1]
    if not some:
        pytest.skip("no kernel has a compiled version")
    settings = ExecutorSettings(workers=1, backend="fast", kernel_cache=str(tmp_path / "kernels"))
    (used,) = await in_worker(settings, ("used", [[*some, SOME]]))
    assert used[some[0]].startswith("edgenet_node.kernels.compiled.")
    assert used[SOME] == search.__name__
    assert glob.glob(f"{tmp_path}/kernels/**/*.nbi", recursive=True)  # noqa: PTH207 - nothing waits for this disk


def test_choosing_imports_neither_numpy_nor_numba() -> None:
    code = (
        "import sys; from edgenet_node.kernels import backends; backends.check('auto'); backends.installed();"
        "print({m.split('.')[0] for m in sys.modules} & {'numpy', 'numba'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "set()"


def test_a_fallback_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", lambda: False)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    function = Backends("auto", kernels=with_compiled("there:other"), environ={}).function(SOME)
    np.testing.assert_allclose(function(rows), normalise(rows), atol=3e-7)
