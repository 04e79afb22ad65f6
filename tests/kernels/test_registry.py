"""No kernel without a reference, a test and a benchmark row; no compiled version that is another function."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgenet_node.kernels import reference
from edgenet_node.kernels.backends import load_compiled
from edgenet_node.kernels.registry import KERNELS
from edgenet_node.kernels.registry.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
COMPILED = sorted(name for name, kernel in KERNELS.items() if kernel.compiled)


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_whole(name: str) -> None:
    kernel = KERNELS[name]
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+/[1-9][0-9]*", name)
    module = inspect.getmodule(kernel.reference)
    assert module is not None
    assert module.__name__.startswith(f"{reference.__name__}.")
    assert kernel.reference.__doc__
    assert kernel.function.__doc__
    assert f"`{name}`" in (ROOT / kernel.test).read_text(encoding="utf-8")
    assert f'"{name}"' in (ROOT / kernel.benchmark).read_text(encoding="utf-8")


def test_ids_of_one_kernel_share_no_function() -> None:
    functions = [kernel.function for kernel in KERNELS.values()]
    assert len(set(functions)) == len(functions)


@pytest.mark.parametrize("name", COMPILED)
def test_each_compiled_version_is_there_with_the_arguments_of_the_numpy_one(name: str) -> None:
    """Read, not imported: so that it holds where numba is absent too."""
    target, _, function = KERNELS[name].compiled.partition(":")
    file = (ROOT / "edgenet_node/kernels/compiled").joinpath(*target.split(".")).with_suffix(".py")
    found = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert len(found) == 1
    arguments = found[0].args
    ours = inspect.signature(KERNELS[name].function).parameters.values()
    positional = [one.name for one in ours if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [one.arg for one in arguments.args] == positional
    assert [one.arg for one in arguments.kwonlyargs] == [one.name for one in ours if one.kind is one.KEYWORD_ONLY]


@pytest.mark.parametrize("name", COMPILED)
def test_each_compiled_version_has_an_example_to_be_warmed_with(name: str) -> None:
    assert name in EXAMPLES


def test_examples_are_of_kernels() -> None:
    assert set(EXAMPLES) <= set(KERNELS)


@pytest.mark.parametrize("name", COMPILED)
def test_the_backends_agree_and_their_defaults_are_the_same(name: str) -> None:
    pytest.importorskip("numba")
    kernel, compiled = KERNELS[name], load_compiled(KERNELS[name].compiled)
    defaults = {key: one.default for key, one in inspect.signature(kernel.function).parameters.items()}
    assert {key: one.default for key, one in inspect.signature(compiled).parameters.items()} == defaults
    for seed in range(3):
        results = []
        for function in (kernel.function, compiled):
            positional, named = EXAMPLES[name](np.random.default_rng(seed))
            results.append(function(*positional, **named))
        assert_close(*results)


def assert_close(ours: Any, theirs: Any) -> None:
    """Arrays, numbers and what is made of them: exact where they are whole numbers, else to float32's rounding."""
    if isinstance(ours, tuple | list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
        return
    if ours is None:
        assert theirs is None
        return
    left, right = np.asarray(ours), np.asarray(theirs)
    assert left.shape == right.shape
    assert left.dtype.kind == right.dtype.kind
    if left.dtype.kind == "f":
        scale = float(np.abs(left[np.isfinite(left)]).max(initial=1e-30))
        np.testing.assert_allclose(right, left, rtol=2e-4, atol=1e-5 * scale)
    else:
        np.testing.assert_array_equal(right, left)
