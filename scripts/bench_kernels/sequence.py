"""Rows of the hyperbolic, Hopfield and selective state space kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgenet_node.kernels.attention import hopfield, hyperbolic, selective
from edgenet_node.kernels.attention.workspace import Array, Workspace

from .case import Case, Factory, Run


def ball(count: int, width: int = 64) -> Array:
    rows = np.random.default_rng(count + width).standard_normal((count, width), np.float32)
    return hyperbolic.project(0.1 * rows)


def geometry(name: str) -> Factory:
    def build() -> Run:
        query, key, value = ball(100), ball(101)[:100], ball(102)[:100]
        out, square, workspace = np.empty_like(query), np.empty((100, 100), np.float32), Workspace()
        weights = np.random.default_rng(1).random((100, 100), np.float32)
        runs: dict[str, Run] = {
            "hyperbolic": lambda: hyperbolic.hyperbolic(query, key, value, out=out, workspace=workspace),
            "distance": lambda: hyperbolic.distance(query, key, out=square, workspace=workspace),
            "midpoint": lambda: hyperbolic.einstein_midpoint(weights, value, out=out),
            "exp_map": lambda: hyperbolic.exp_map(query, value),
            "log_map": lambda: hyperbolic.log_map(query, value),
        }
        return runs[name]

    return build


def unit(count: int, width: int = 64) -> Array:
    rows = np.random.default_rng(count).standard_normal((count, width), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def memory(queries: int) -> Factory:
    def build() -> Run:
        patterns, state = unit(1000), unit(1001)[:queries].copy()
        out, workspace = np.empty_like(state), Workspace()
        return lambda: hopfield.hopfield(patterns, state, 8.0, out=out, workspace=workspace)

    return build


def memory_torch() -> Run:
    import torch

    patterns, state = torch.from_numpy(unit(1000)), torch.from_numpy(unit(1001)[:1].copy())
    return lambda: torch.softmax(8.0 * state @ patterns.T, dim=1) @ patterns


def levels() -> Run:
    patterns, state, workspace = unit(10_000), unit(1001)[0], Workspace()
    labels = np.random.default_rng(2).integers(0, 100, 10_000)
    groups, _ = hopfield.groups(patterns, labels)
    return lambda: hopfield.hierarchical_hopfield(groups, state, 8.0, workspace=workspace)


STEPS, CHANNELS, STATES = 1024, 64, 16


def parts() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    return {
        "x": rng.standard_normal((STEPS, CHANNELS), np.float32),
        "delta": selective.softplus(rng.standard_normal((STEPS, CHANNELS), np.float32)),
        "a": np.repeat(-np.arange(1.0, STATES + 1, dtype=np.float32)[:, None], CHANNELS, axis=1),
        "b": rng.standard_normal((STEPS, STATES), np.float32),
        "c": rng.standard_normal((STEPS, STATES), np.float32),
    }


def scan(*, fast: bool) -> Factory:
    def build() -> Run:
        function: Callable[..., Any] = selective.selective_scan
        if fast:
            from edgenet_node.kernels.compiled import sequence

            function = sequence.selective_scan
        given, workspace = parts(), Workspace()
        out, state = np.empty((STEPS, CHANNELS), np.float32), np.empty((STATES, CHANNELS), np.float32)
        return lambda: function(**given, out=out, state_out=state, workspace=workspace)

    return build


def scan_torch() -> Run:
    import torch

    given = {name: torch.from_numpy(part) for name, part in parts().items()}
    x, delta, a, b, c = (given[name] for name in ("x", "delta", "a", "b", "c"))

    def run() -> Any:
        decay = torch.exp(delta[:, None, :] * a)
        drive = b[:, :, None] * (delta * x)[:, None, :]
        state, states = torch.zeros_like(a), []
        for step in range(STEPS):
            state = decay[step] * state + drive[step]
            states.append(state)
        return torch.einsum("tn,tnd->td", c, torch.stack(states))

    return run


def block() -> Run:
    weights = selective.initial_block(64, np.random.default_rng(4))
    x, workspace = np.random.default_rng(5).standard_normal((256, 64), np.float32), Workspace()
    blank = selective.blank(weights)
    return lambda: selective.mamba(x, weights, blank, workspace=workspace)


CASES = [
    Case(
        kernel="sequence.hyperbolic/1",
        size="100 x 100, d 64",
        numpy=geometry("hyperbolic"),
        limit_us=lambda machine: machine.flops_us(2 * 2 * 100 * 100 * 131) + machine.exp_us(3 * 100 * 100),
        seed_target="<100 µs",
    ),
    Case(kernel="sequence.poincare_distance/1", size="100 x 100, d 64", numpy=geometry("distance")),
    Case(kernel="sequence.einstein_midpoint/1", size="100 x 100, d 64", numpy=geometry("midpoint")),
    Case(kernel="sequence.exp_map/1", size="100 points, d 64", numpy=geometry("exp_map")),
    Case(kernel="sequence.log_map/1", size="100 points, d 64", numpy=geometry("log_map")),
    Case(
        kernel="sequence.hopfield/1",
        size="1000 patterns, d 64, 1 query",
        numpy=memory(1),
        torch=memory_torch,
        seed_target="exponential storage",
    ),
    Case(kernel="sequence.hopfield/1", size="1000 patterns, d 64, 32 queries", numpy=memory(32)),
    Case(kernel="sequence.hierarchical_hopfield/1", size="10k patterns, 100 groups, top 4", numpy=levels),
    Case(
        kernel="sequence.selective_scan/1",
        size="1024 steps, d 64, 16 states",
        numpy=scan(fast=False),
        fast=scan(fast=True),
        torch=scan_torch,
        limit_us=lambda machine: machine.exp_us(STEPS * CHANNELS * STATES),
        seed_target="O(n)",
        asked_ratio=0.079,
    ),
    Case(kernel="sequence.mamba/1", size="256 steps, 64 features", numpy=block, seed_target="O(n)"),
]
