"""Rows of the dense kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels import linear, verify
from edgenet_node.kernels.backends import load_compiled

from .case import Case, Factory, Roofline, Run

ROWS, WIDTH = 1024, 384
VECTOR = 1 << 20


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def steps(function: Callable[..., Any], vectors: int) -> Factory:
    """A step over (ROWS, WIDTH) with gains and shifts, into memory that is there."""

    def make() -> Run:
        x, more, out, workspace = data(ROWS, WIDTH), data(vectors, WIDTH), np.empty((ROWS, WIDTH), np.float32), None
        workspace = linear.Workspace()
        return lambda: function(x, *more, out=out, workspace=workspace)

    return make


def compiled(name: str, vectors: int) -> Factory:
    return steps(load_compiled(f"linear:{name}"), vectors)


def torch_step(name: str, vectors: int) -> Factory:
    def make() -> Run:
        import torch

        x, more = torch.from_numpy(data(ROWS, WIDTH)), torch.from_numpy(data(vectors, WIDTH))
        functions: dict[str, Run] = {
            "softmax": lambda: torch.softmax(x, 1),
            "gelu": lambda: torch.nn.functional.gelu(x),
            "silu": lambda: torch.nn.functional.silu(x),
            "rms_norm": lambda: torch.nn.functional.rms_norm(x, (WIDTH,), more[0]),
            "layer_norm": lambda: torch.nn.functional.layer_norm(x, (WIDTH,), more[0], more[1]),
        }
        return functions[name]

    return make


def product(tile: tuple[int, int, int] | None) -> Factory:
    def make() -> Run:
        a, b = data(768, 768), data(768, 768)
        out, workspace = np.empty((768, 768), np.float32), linear.Workspace()
        return lambda: linear.matmul(a, b, tile=tile, out=out, workspace=workspace)

    return make


def torch_product() -> Run:
    import torch

    a, b = torch.from_numpy(data(768, 768)), torch.from_numpy(data(768, 768))
    return lambda: torch.matmul(a, b)


def inner(function: Callable[..., Any]) -> Factory:
    def make() -> Run:
        a, b = data(VECTOR), data(VECTOR)[::-1].copy()
        return lambda: function(a, b)

    return make


def torch_inner() -> Run:
    import torch

    a, b = torch.from_numpy(data(VECTOR)), torch.from_numpy(data(VECTOR))
    return lambda: torch.dot(a, b)


def segment(function: Callable[..., Any]) -> Factory:
    def make() -> Run:
        x = data(4096, 256)
        return lambda: function(x)

    return make


def sigmoid() -> Run:
    x, out = data(VECTOR), np.empty(VECTOR, np.float32)
    return lambda: linear.vector_op("sigmoid", x, out=out)


def torch_sigmoid() -> Run:
    import torch

    x = torch.from_numpy(data(VECTOR))
    return lambda: torch.sigmoid(x)


def silu() -> Run:
    x, out = data(ROWS, WIDTH), np.empty((ROWS, WIDTH), np.float32)
    return lambda: linear.silu(x, out=out)


def cosines() -> Run:
    a, b, out, workspace = data(ROWS, WIDTH), data(ROWS, WIDTH), np.empty(ROWS, np.float32), linear.Workspace()
    return lambda: linear.cosine(a, b, out=out, workspace=workspace)


def torch_cosines() -> Run:
    import torch

    a, b = torch.from_numpy(data(ROWS, WIDTH)), torch.from_numpy(data(ROWS, WIDTH))
    return lambda: torch.nn.functional.cosine_similarity(a, b)


def freivalds() -> Run:
    a, b = data(256, 256), data(256, 256)
    claimed, signs = a @ b, np.sign(data(256, 16)).astype(np.float64)
    return lambda: verify.freivalds(a, b, claimed, signs)


def _passes(count: int) -> Callable[[Roofline], float]:
    """The floor of a step that reads and writes (ROWS, WIDTH) once and takes `count` exponentials an element."""
    return lambda machine: machine.exp_us(count * ROWS * WIDTH) + machine.copy_us(2 * 4 * ROWS * WIDTH) * (count == 0)


STEP = f"({ROWS}, {WIDTH})"
CASES: list[Case] = [
    Case(
        "linear.matmul/1", "768 cubed, BLAS", product(None), torch=torch_product,
        limit_us=lambda machine: machine.flops_us(2 * 768**3), seed_target="10+ TFLOPS (a GPU figure)",
    ),
    Case(
        "linear.matmul/1", "768 cubed, tiles of 256", product((256, 256, 256)), torch=torch_product,
        limit_us=lambda machine: machine.flops_us(2 * 768**3), seed_target="10+ TFLOPS (a GPU figure)",
    ),
    Case(
        "linear.dot/1", "1M", inner(linear.dot), torch=torch_inner,
        limit_us=lambda machine: machine.read_us(8 * VECTOR), seed_target="4x",
    ),
    Case(
        "linear.dot_partial/1", "1M", inner(linear.dot_partial), inner(load_compiled("linear:dot_partial")),
        limit_us=lambda machine: machine.read_us(8 * VECTOR),
    ),
    Case(
        "linear.reduce/1", "(4096, 256)", segment(linear.summarise),
        limit_us=lambda machine: machine.read_us(4 * 4096 * 256),
    ),
    Case(
        "linear.moments/1", "(4096, 256)", segment(linear.moments),
        limit_us=lambda machine: machine.read_us(4 * 4096 * 256),
    ),
    Case(
        "linear.vector_op/1", "sigmoid, 1M", sigmoid, torch=torch_sigmoid,
        limit_us=lambda machine: machine.exp_us(VECTOR),
    ),
    Case("linear.silu/1", STEP, silu, torch=torch_step("silu", 0), limit_us=_passes(1)),
    Case(
        "linear.gelu/1", STEP, steps(linear.gelu, 0), compiled("gelu", 0), torch=torch_step("gelu", 0),
        limit_us=_passes(1),
    ),
    Case("linear.softmax/1", STEP, steps(linear.softmax, 0), torch=torch_step("softmax", 0), limit_us=_passes(1)),
    Case(
        "linear.rms_norm/1", STEP, steps(linear.rms_norm, 1), compiled("rms_norm", 1),
        torch=torch_step("rms_norm", 1), limit_us=_passes(0),
    ),
    Case(
        "linear.layer_norm/1", STEP, steps(linear.layer_norm, 2), compiled("layer_norm", 2),
        torch=torch_step("layer_norm", 2), limit_us=_passes(0),
    ),
    Case("linear.cosine/1", STEP, cosines, torch=torch_cosines, limit_us=_passes(0)),
    Case(
        "verify.freivalds/1", "256 cubed, 16 signs", freivalds,
        limit_us=lambda machine: machine.flops_us(2 * 256**3), seed_target="below the product (the limit here)",
    ),
]  # fmt: skip
