"""No kernel without a reference, a test and a benchmark row."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from edgenet_node.kernels import reference
from edgenet_node.kernels.registry import KERNELS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_whole(name: str) -> None:
    kernel = KERNELS[name]
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+/[1-9][0-9]*", name)
    assert inspect.getmodule(kernel.reference) is reference
    assert kernel.reference.__doc__
    assert kernel.function.__doc__
    assert f"`{name}`" in (ROOT / kernel.test).read_text(encoding="utf-8")
    assert f'"{name}"' in (ROOT / kernel.benchmark).read_text(encoding="utf-8")
    assert kernel.backends


def test_ids_of_one_kernel_share_no_function() -> None:
    functions = [kernel.function for kernel in KERNELS.values()]
    assert len(set(functions)) == len(functions)
