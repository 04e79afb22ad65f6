"""Small random arguments for each kernel that has a compiled version, from the tables of the families.

Two readers: a worker calls the compiled version on them once, so that compiling is not part of a task, and a tidy test
holds the backends against each other on them. Types and layouts are those of real calls: numba compiles one version
for each combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import aggregation, attention, compression, dag, encoder, graphs, learning, linear, sequence, statistics
from .kernel import Example

EXAMPLES: Mapping[str, Example] = MappingProxyType(
    {
        **aggregation.EXAMPLES,
        **attention.EXAMPLES,
        **compression.EXAMPLES,
        **dag.EXAMPLES,
        **encoder.EXAMPLES,
        **graphs.EXAMPLES,
        **learning.EXAMPLES,
        **linear.EXAMPLES,
        **sequence.EXAMPLES,
        **statistics.EXAMPLES,
    }
)
