"""Rows of the privacy kernels: one release of a million parameters, and its accounting."""

from __future__ import annotations

import os

import numpy as np

from edgenet_node.kernels import privacy

from .case import Case, Run

WIDTH, EXAMPLES = 1_000_000, 16


def _clipped_sum() -> Run:
    examples = np.random.default_rng(3).standard_normal((EXAMPLES, WIDTH), np.float32)
    steps, out = privacy.grid_steps(1.0), np.empty(WIDTH, np.int64)
    return lambda: privacy.clipped_sum(examples, 1.0, steps, out=out)


def _noise() -> Run:
    table, out = privacy.noise_table(), np.empty(WIDTH, np.int64)
    return lambda: privacy.discrete_gaussian(table, os.urandom, WIDTH, out=out)


def _private_mean() -> Run:
    table, sums, out = privacy.noise_table(), np.zeros(WIDTH, np.int64), np.empty(WIDTH, np.float32)
    return lambda: privacy.private_mean(sums, 1.0, privacy.grid_steps(1.0), 32.0, table, os.urandom, out=out)


def _torch_noise() -> Run:
    import torch

    generator = torch.Generator()
    return lambda: torch.randn(WIDTH, generator=generator)


def _divergences() -> Run:
    return lambda: privacy.renyi_divergences(1.1, 0.01)


def _epsilon() -> Run:
    spent = 1000 * privacy.renyi_divergences(1.1, 0.01)
    return lambda: privacy.epsilon_spent(spent, 1e-5)


CASES: list[Case] = [
    Case(
        "privacy.clipped_sum/1",
        f"{EXAMPLES} examples x {WIDTH:,}",
        _clipped_sum,
        limit_us=lambda roofline: roofline.read_us(4.0 * EXAMPLES * WIDTH),
    ),
    # torch's generator is neither cryptographic nor its noise discrete: for scale only.
    Case("privacy.discrete_gaussian/1", f"{WIDTH:,} draws from the OS", _noise, None, _torch_noise),
    Case("privacy.private_mean/1", f"{WIDTH:,}", _private_mean),
    Case("privacy.gaussian_delta/1", "one", lambda: lambda: privacy.gaussian_delta(1.0, 3.7)),
    Case("privacy.calibrate_deviation/1", "one", lambda: lambda: privacy.calibrate_deviation(1.0, 1e-5)),
    Case("privacy.renyi_divergences/1", f"{privacy.ORDERS.size} orders", _divergences),
    Case("privacy.epsilon_spent/1", f"{privacy.ORDERS.size} orders", _epsilon),
]
