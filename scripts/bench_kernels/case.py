"""One row of the kernel bench, and the machine's limits that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Run = Callable[[], Any]
"""What is timed: no arguments, the data are already there."""

Factory = Callable[[], Run]
"""Builds the data once and returns the `Run`. A torch factory imports torch itself, inside."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """What one core of this machine reached in this very run: medians, one thread.

    `gflops`: sgemm, 10⁹ floating point operations a second (2·m·n·k for a product of m·k by k·n).
    `copy_gbs`: copying an array that no cache holds, 10⁹ bytes a second, bytes read plus bytes written.
    `read_gbs`: summing such an array (one dot product with itself), 10⁹ bytes a second.
    `exp_gs`: `np.exp` of float32 within the cache, 10⁹ elements a second.
    """

    gflops: float
    copy_gbs: float
    read_gbs: float
    exp_gs: float

    def flops_us(self, operations: float) -> float:
        """Microseconds for so many floating point operations (a multiply-add counts two) at sgemm's rate."""
        return operations / self.gflops / 1e3

    def copy_us(self, size: float) -> float:
        """Microseconds for `size` bytes, read plus written, at the copy's rate."""
        return size / self.copy_gbs / 1e3

    def read_us(self, size: float) -> float:
        """Microseconds for `size` bytes read."""
        return size / self.read_gbs / 1e3

    def exp_us(self, count: float) -> float:
        """Microseconds for so many exponentials."""
        return count / self.exp_gs / 1e3


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `kernel`: the id in `KERNELS`. `size`: in words, with the names of the dimensions.

    `numpy`, `fast`, `torch`: factories, `None` where there is no such variant; they are timed interleaved. `limit_us`:
    the floor in microseconds, as a number or from the roofline that was just measured. `seed_target`: what the feature
    asks, in its own words ("<100 µs", "O(n)", "-"). `asked_ratio`: our best time divided by torch's (or by the limit
    where `torch` is None) that was reached when the kernel was designed; the runner marks a row over 1.2 times that.
    """

    kernel: str
    size: str
    numpy: Factory
    fast: Factory | None = None
    torch: Factory | None = None
    limit_us: float | Callable[[Roofline], float] | None = None
    seed_target: str = "-"
    asked_ratio: float | None = None
