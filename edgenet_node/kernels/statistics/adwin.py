"""ADWIN: a window that is as long as its mean has been constant (Bifet and Gavaldà 2007).

The window is kept as an exponential histogram: row i holds up to M buckets of 2^i values each, two of which merge
into row i + 1 when there are more, so n values take M log2(n / M) buckets. At each value every border between buckets
splits the window into an old and a new part; where their means differ by more than the bound, the oldest bucket goes.
Values lie in [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from msgspec import Struct

from ...errors import UsageError

Bound = Literal["hoeffding", "variance"]
BUCKETS = 5  # M: more gives finer splits; the paper's experiments use 5
ROWS_MAX = 40  # 2^40 values; older ones are let go
SIDE_MIN = 5  # values on each side of a split


class Bucket(NamedTuple):
    """Sum of 2^row values, and the sum of their squared distances from their mean."""

    total: float
    squares: float


class Adwin(Struct, frozen=True):
    """`confidence`: chance of a false cut at one value; `rows[i]`: buckets of 2^i values, oldest first. At most
    M x `ROWS_MAX` buckets of 16 bytes."""

    confidence: float
    bound: Bound
    rows: tuple[tuple[Bucket, ...], ...] = ()
    width: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.width if self.width else 0.0

    @property
    def buckets(self) -> int:
        return sum(len(row) for row in self.rows)


def start(confidence: float = 0.002, bound: Bound = "variance") -> Adwin:
    """`hoeffding`: the chance of a cut while the mean is constant is at most `confidence` at each value, whatever the
    values (theorem 3.1). `variance`: sharper where values vary little, by a normal approximation (section 4.1).
    `UsageError` unless 0 < confidence < 1."""
    if not (0.0 < confidence < 1.0 and bound in {"hoeffding", "variance"}):
        raise UsageError(f"no ADWIN with confidence {confidence} and bound {bound!r}")
    return Adwin(confidence=confidence, bound=bound)


def cut_bound(old: int, new: int, variance: float, confidence: float, bound: Bound) -> float:
    """How far the means of `old` and `new` values may lie apart. With 1/m = 1/old + 1/new and delta' = delta/(old +
    new):

    `sqrt(ln(4/delta') / (2m))` (hoeffding), `sqrt(2 variance ln(2/delta') / m) + 2 ln(2/delta') / (3m)` (variance).
    """
    inverse = 1.0 / old + 1.0 / new
    share = confidence / (old + new)
    if bound == "hoeffding":
        return math.sqrt(0.5 * inverse * math.log(4.0 / share))
    log = math.log(2.0 / share)
    return math.sqrt(2.0 * inverse * variance * log) + 2.0 / 3.0 * inverse * log


def update(state: Adwin, x: float) -> tuple[Adwin, bool]:
    """The next value, and whether the window was cut: the mean has moved. O(log^2 n) at a cut, O(log n) otherwise.
    `UsageError` for a value outside [0, 1]."""
    if not 0.0 <= x <= 1.0:
        raise UsageError(f"a drift detector takes values in [0, 1], not {x}")
    gap = x - state.mean
    width = state.width + 1
    squares = state.squares + gap * gap * state.width / width
    rows = _inserted(state.rows, x)
    current = Adwin(state.confidence, state.bound, rows, width, state.total + x, squares)
    if len(rows) > ROWS_MAX:
        current = _without_oldest(current)
    cut = False
    while _splits(current):
        current = _without_oldest(current)
        cut = True
    return current, cut


def _inserted(rows: tuple[tuple[Bucket, ...], ...], x: float) -> tuple[tuple[Bucket, ...], ...]:
    grown = list(rows)
    carried, size = Bucket(x, 0.0), 1
    for place in range(len(rows) + 1):
        if place == len(grown):
            grown.append(())
        row = (*grown[place], carried)
        if len(row) <= BUCKETS:
            grown[place] = row
            break
        first, second = row[:2]
        gap = (first.total - second.total) / size
        carried = Bucket(first.total + second.total, first.squares + second.squares + 0.5 * size * gap * gap)
        grown[place] = row[2:]
        size *= 2
    return tuple(grown)


def _without_oldest(state: Adwin) -> Adwin:
    last = len(state.rows) - 1
    oldest, size = state.rows[last][0], 1 << last
    rest = state.width - size
    total = state.total - oldest.total
    # Undo the merge of two samples: the oldest bucket, and the rest.
    gap = oldest.total / size - total / rest if rest else 0.0
    squares = state.squares - oldest.squares - gap * gap * size * rest / state.width
    rows = (*state.rows[:last], state.rows[last][1:]) if len(state.rows[last]) > 1 else state.rows[:last]
    return Adwin(state.confidence, state.bound, rows, rest, total, max(0.0, squares))


def _splits(state: Adwin) -> bool:
    """Does any border between buckets separate two different means?"""
    old, old_total = 0, 0.0
    variance = state.squares / state.width
    for place in range(len(state.rows) - 1, -1, -1):
        for bucket in state.rows[place]:
            old += 1 << place
            old_total += bucket.total
            new = state.width - old
            if new < SIDE_MIN:
                return False
            if old < SIDE_MIN:
                continue
            gap = abs(old_total / old - (state.total - old_total) / new)
            if gap > cut_bound(old, new, variance, state.confidence, state.bound):
                return True
    return False
