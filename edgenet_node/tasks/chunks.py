"""How work is cut: ranges that wait, sizes by measured speed, when a chunk is late.

Guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36(12), 1987), weighted by speed: a
chunk is what its executor does in `chunk_s`, and never more than half of its fair share of what is left, so that all
executors finish together. Lateness is judged from observed service times (median and median absolute deviation), not
from a fixed timeout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from ..wire.task import INPUT_BYTES_MAX
from .handlers import PACK_ITEM_BYTES
from .settings import JobsSettings

SAMPLES_MAX = 64
"""Service times remembered for one job."""

TAIL_S = 0.05
"""No chunk is cut below this many seconds of work: its overhead of about a millisecond stays small."""

_PACKED_BYTES_MAX = INPUT_BYTES_MAX - 64


class Range(Struct, frozen=True):
    """Items `start` to `stop` (exclusive) that nobody works on. `tries`: computations of them that failed."""

    start: int
    stop: int
    tries: int = 0


class Ranges:
    """What waits to be done. Disjoint; what was given back goes first."""

    def __init__(self, items: int) -> None:
        self._waiting: deque[Range] = deque([Range(0, items)] if items else [])
        self.items = items

    def __bool__(self) -> bool:
        return self.items > 0

    def carve(self, size: int, items: Sequence[bytes]) -> Range:
        """The next at most `size` items that fit the input of one chunk. At least one."""
        first = self._waiting.popleft()
        stop, left = first.start, _PACKED_BYTES_MAX
        limit = min(first.stop, first.start + max(1, size))
        while stop < limit:
            left -= len(items[stop]) + PACK_ITEM_BYTES
            if left < 0 and stop > first.start:
                break
            stop += 1
        if stop < first.stop:
            self._waiting.appendleft(Range(stop, first.stop, first.tries))
        self.items -= stop - first.start
        return Range(first.start, stop, first.tries)

    def give_back(self, start: int, stop: int, tries: int = 0) -> None:
        if stop > start:
            self._waiting.appendleft(Range(start, stop, tries))
            self.items += stop - start

    def clear(self) -> None:
        self._waiting.clear()
        self.items = 0


def gaps(done: Sequence[tuple[int, int]], items: int) -> list[tuple[int, int]]:
    """The parts of 0..items that no (start, stop) of `done` covers."""
    found, at = [], 0
    for start, stop in sorted(done):
        if start > at:
            found.append((at, start))
        at = max(at, stop)
    if at < items:
        found.append((at, items))
    return found


def chunk_size(
    left: int, seconds_per_item: float, last: int, share: float, settings: JobsSettings, items_max: int
) -> int:
    """Items of the next chunk. `left`: items that nobody works on; `last`: size of this executor's last chunk in
    this job, 0 before the first; `share`: of the total speed that one of its workers has; `seconds_per_item`: 0 if
    unknown."""
    if seconds_per_item <= 0.0 or last == 0:
        size = settings.chunk_start
    else:
        size = min(int(settings.chunk_s / seconds_per_item), last * settings.chunk_growth)
    if seconds_per_item > 0.0:
        size = min(size, max(int(left * share / 2), int(TAIL_S / seconds_per_item)))
    return max(1, min(size, left, items_max))


class Lateness:
    """Service times of one job, in seconds per item."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES_MAX)

    def add(self, seconds: float, items: int) -> None:
        self._samples.append(seconds / items)

    def limit_s(self, items: int, settings: JobsSettings) -> float:
        """A chunk of `items` that takes longer is late: median + k MAD. With nothing measured, half the timeout."""
        if not self._samples:
            return settings.chunk_timeout_s_min / 2
        middle = _median(self._samples)
        spread = _median([abs(sample - middle) for sample in self._samples])
        return max(settings.straggler_s, items * (middle + settings.straggler_mads * spread))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
