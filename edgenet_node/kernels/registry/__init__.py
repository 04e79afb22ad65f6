"""`KERNELS`: what this node can compute, by id with version.

A version changes when results change by more than rounding or when shapes change: peers announce ids, and two peers
that share one may check each other by `verify.agreement`. One table a family; a family's file is the room of its
kernels, and a tidy test fails on a kernel without reference, test or benchmark row.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    aggregation,
    attention,
    compression,
    dag,
    encoder,
    graphs,
    learning,
    linear,
    privacy,
    search,
    sequence,
    statistics,
)
from .kernel import Kernel

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {**aggregation.TABLE}
    | {**attention.TABLE}
    | {**compression.TABLE}
    | {**dag.TABLE}
    | {**encoder.TABLE}
    | {**graphs.TABLE}
    | {**learning.TABLE}
    | {**linear.TABLE}
    | {**privacy.TABLE}
    | {**search.TABLE}
    | {**sequence.TABLE}
    | {**statistics.TABLE}
)

__all__ = ["KERNELS", "Kernel"]
