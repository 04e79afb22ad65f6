"""Rows of the aggregation kernels: 25 peers, 5 of them suspect, a million parameters."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgenet_node.kernels import aggregation

from .case import Case, Roofline, Run

PEERS, WIDTH, SUSPECT = 25, 1_000_000, 5
SIZE = f"{PEERS} x {WIDTH:,}"


def _updates() -> Any:
    return np.random.default_rng(2).standard_normal((PEERS, WIDTH), np.float32)


def _rule(name: str, *arguments: Any, compiled: bool = False, rows: int = 0) -> Callable[[], Run]:
    def build() -> Run:
        if compiled:
            from edgenet_node.kernels.compiled import aggregation as package
        else:
            package = aggregation  # type: ignore[misc]
        updates, space = _updates(), aggregation.Workspace(PEERS)
        out = np.empty((rows, WIDTH) if rows else WIDTH, np.float32)
        function = getattr(package, name)
        return lambda: function(updates, *arguments, out=out, workspace=space)

    return build


def _fast(name: str, *arguments: Any) -> Callable[[], Run] | None:
    return _rule(name, *arguments, compiled=True) if find_spec("numba") else None


def _distances() -> Run:
    updates, space, out = _updates(), aggregation.Workspace(PEERS), np.empty((PEERS, PEERS))
    return lambda: aggregation.squared_distances(updates, out=out, workspace=space)


def _outliers() -> Run:
    rng = np.random.default_rng(2)
    updates, sent = rng.standard_normal((PEERS, 100_000), np.float32), rng.random((PEERS, 100_000)) < 0.3
    return lambda: aggregation.outlier_shares(updates, sent)


def _metropolis() -> Run:
    links = np.random.default_rng(2).random((100, 100)) < 0.1
    links |= links.T
    return lambda: aggregation.metropolis_weights(links)


def _torch_mean() -> Run:
    import torch

    updates = torch.from_numpy(_updates())
    return lambda: updates.mean(dim=0)


def _torch_median() -> Run:
    import torch

    updates = torch.from_numpy(_updates())
    return lambda: updates.median(dim=0)


def _torch_distances() -> Run:
    import torch

    updates = torch.from_numpy(_updates())
    return lambda: torch.cdist(updates, updates)


def _read(roofline: Roofline) -> float:
    return roofline.read_us(4.0 * PEERS * WIDTH)


def _read_twice(roofline: Roofline) -> float:
    return 2 * _read(roofline)


def _mixed(roofline: Roofline) -> float:
    return _read(roofline) + roofline.flops_us(2.0 * PEERS * PEERS * WIDTH)


WEIGHTS = np.arange(1.0, PEERS + 1)
CASES: list[Case] = [
    Case("aggregation.mean/1", SIZE, _rule("mean"), None, _torch_mean, _read),
    Case("aggregation.weighted_mean/1", SIZE, _rule("weighted_mean", WEIGHTS), limit_us=_read),
    Case("aggregation.median/1", SIZE, _rule("median"), _fast("median"), _torch_median, _read),
    Case(
        "aggregation.trimmed_mean/1",
        SIZE,
        _rule("trimmed_mean", SUSPECT),
        _fast("trimmed_mean", SUSPECT),
        limit_us=_read,
    ),
    Case("aggregation.squared_distances/1", SIZE, _distances, None, _torch_distances, _read),
    Case("aggregation.krum/1", SIZE, _rule("krum", SUSPECT), limit_us=_read),
    Case("aggregation.multi_krum/1", SIZE, _rule("multi_krum", SUSPECT), limit_us=_read_twice),
    Case("aggregation.geometric_median/1", SIZE, _rule("geometric_median"), limit_us=_read_twice),
    Case(
        "aggregation.centred_clipping/1",
        SIZE,
        _rule("centred_clipping", np.zeros(WIDTH, np.float32), 100.0),
        limit_us=_read_twice,
    ),
    Case("aggregation.cap_norms/1", SIZE, _rule("cap_norms", 100.0, rows=PEERS), limit_us=_read_twice),
    Case(
        "aggregation.bucketing/1",
        f"{SIZE}, buckets of 2",
        _rule("bucketing", np.arange(PEERS), 2, rows=(PEERS + 1) // 2),
        limit_us=_read,
    ),
    Case(
        "aggregation.nearest_neighbour_mixing/1",
        SIZE,
        _rule("nearest_neighbour_mixing", SUSPECT, rows=PEERS),
        limit_us=_mixed,
    ),
    Case(
        "aggregation.nearest_neighbour_average/1",
        SIZE,
        _rule("nearest_neighbour_average", SUSPECT),
        limit_us=_read_twice,
    ),
    Case("aggregation.metropolis_weights/1", "100 nodes", _metropolis),
    Case("aggregation.outlier_shares/1", f"{PEERS} x 100,000, 30 % sent", _outliers),
]
