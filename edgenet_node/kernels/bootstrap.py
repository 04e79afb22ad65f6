"""What must be decided before numpy is imported: BLAS threads and the BLAS core type.

OpenBLAS reads its environment once, when the library is loaded, so the daemon and every worker call `apply` as their
first statement. This module therefore imports neither numpy nor anything that does.

Two facts drive it. A worker process owns one core, and two workers with two BLAS threads each lose up to 100x on small
products, so every BLAS gets one thread, and so does the tokeniser. The OpenBLAS in the numpy wheels takes CPUs that it
does not know for a Haswell and then uses half of their vector width, so where the four AVX-512 families that its
SkylakeX kernels need are there, that core type is named explicitly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",  # the tokenizers library would start a thread per core
}
CORETYPE_VARIABLE = "OPENBLAS_CORETYPE"
SKYLAKEX_FLAGS = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
CPUINFO_BYTES_MAX = 64 * 1024  # the first processor's flags are within the first 4 KiB; big machines list hundreds


def configure_blas(environ: Mapping[str, str], cpuinfo_text: str) -> dict[str, str]:
    """The variables to add to `environ`: one thread always, the core type where the CPU has it.

    Threads are forced, because the worker pool is what uses the cores. The core type is left alone if the owner has
    set it (also to an empty value) or if any of `SKYLAKEX_FLAGS` is missing from the first processor's flags.
    """
    settings = dict(ONE_THREAD)
    if CORETYPE_VARIABLE not in environ and cpu_flags(cpuinfo_text) >= SKYLAKEX_FLAGS:
        settings[CORETYPE_VARIABLE] = "SkylakeX"
    return settings


def cpu_flags(cpuinfo_text: str) -> frozenset[str]:
    """The first `flags` line of /proc/cpuinfo as a set; empty where there is none (another CPU, another system)."""
    for line in cpuinfo_text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def apply(environ: MutableMapping[str, str] | None = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Put `configure_blas`'s answer into the environment (of this process by default) and return what was set.

    Without a readable `cpuinfo` only the threads are set. Has no effect on a numpy that is already loaded.
    """
    target = os.environ if environ is None else environ
    try:
        with cpuinfo.open("rb") as stream:
            text = stream.read(CPUINFO_BYTES_MAX).decode("ascii", "replace")
    except OSError:
        text = ""
    settings = configure_blas(target, text)
    target.update(settings)
    return settings
