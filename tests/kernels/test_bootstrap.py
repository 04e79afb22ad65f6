"""The BLAS environment is decided by the CPU's flags and never against the owner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgenet_node.kernels import bootstrap

FULL = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512bw avx512dq avx512vl fma\nbugs\t\t:\n"
THREADS = bootstrap.ONE_THREAD


def test_a_cpu_with_all_four_families_gets_the_core_type() -> None:
    assert bootstrap.configure_blas({}, FULL) == THREADS | {"OPENBLAS_CORETYPE": "SkylakeX"}


@pytest.mark.parametrize("missing", sorted(bootstrap.SKYLAKEX_FLAGS))
def test_one_missing_family_is_enough_to_leave_it(missing: str) -> None:
    assert bootstrap.configure_blas({}, FULL.replace(f" {missing} ", " ")) == THREADS


@pytest.mark.parametrize(
    "text", ["", "flags", "flags:", "Features\t: fp asimd\n", "\x00\xff: avx512f", FULL.replace("flags", "vmx flags")]
)
def test_other_cpus_and_noise_get_threads_only(text: str) -> None:
    assert bootstrap.configure_blas({}, text) == THREADS


@pytest.mark.parametrize("chosen", ["Haswell", ""])
def test_the_owners_core_type_stands(chosen: str) -> None:
    assert bootstrap.configure_blas({"OPENBLAS_CORETYPE": chosen}, FULL) == THREADS


def test_apply_writes_only_what_it_returns(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(FULL)
    environ = {"OMP_NUM_THREADS": "8", "HOME": "/h"}
    settings = bootstrap.apply(environ, cpuinfo)
    assert environ == {"HOME": "/h"} | settings
    assert settings["OMP_NUM_THREADS"] == "1"


def test_apply_without_cpuinfo_sets_threads(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    assert bootstrap.apply(environ, tmp_path / "none") == THREADS == environ


def test_importing_it_does_not_load_numpy() -> None:
    code = (
        "import sys; import edgenet_node.kernels.bootstrap; print(any(m.split('.')[0] == 'numpy' for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"
