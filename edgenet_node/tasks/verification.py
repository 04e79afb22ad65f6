"""What is checked, who is believed, and what may still be wrong.

Sampling. Once a result has arrived, and not before, each of its items is drawn for a check with the probability `rate`
that its executor's standing asks for (1 for a newcomer). A drawn item is computed here, or by another executor where
this node lacks the model. The executor learns nothing of rate or draw before it has answered.

The bound. Say an executor has returned W wrong items, drawn for a check with probabilities p_1 .. p_W. All of them pass
unseen with probability (1-p_1)...(1-p_W), and one that does not costs the executor all its unchecked items of the job.
This holds also when the rates change while the job runs and the executor adapts to what it can see, since each draw is
fresh (a supermartingale; Ville's inequality). So with confidence 1-a the largest W with (1-p_1)...(1-p_W) >= a is not
exceeded, where the worst case puts the wrong items where p was smallest. With k executors that ever delivered to the
job, excluded ones counted, a = 0.05/k makes the sum of their bounds hold at 95 % (union bound). A pooled hypergeometric
bound would be wrong here: with an adaptive rate an executor may lie only where few items are drawn.

What it assumes: that a check is right. A check by this node is; one by another peer is unless both return the same
wrong answer. In a dispute the first two opinions that agree are believed, so two that collude can outvote an honest
third where the requester cannot compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ..messages.tasks import Verified
from .settings import Rng

CONFIDENCE = 0.95


class Sampled(Struct, frozen=True):
    """Accepted items of one chunk: `checked` of `items` were checked, each drawn with probability `rate`. Items that
    this node computed itself are checked by that, with rate 1."""

    peer: str
    items: int
    checked: int
    rate: float


def draw(items: Sequence[int], rate: float, rng: Rng) -> tuple[int, ...]:
    """Each item independently with probability `rate`."""
    if rate >= 1.0:
        return tuple(items)
    return tuple(item for item in items if rng.random() < rate)


def undetected_max(samples: Iterable[Sampled], miss: float) -> int:
    """The most wrong items among the unchecked ones of one executor that escape with probability `miss` or more."""
    budget = -math.log(miss)
    wrong = 0
    for sample in sorted(samples, key=lambda one: one.rate):
        unchecked = sample.items - sample.checked
        if sample.rate >= 1.0 or unchecked == 0:
            continue
        cost = -math.log1p(-sample.rate)
        possible = unchecked if cost == 0.0 else min(unchecked, int(budget / cost + 1e-9))
        wrong += possible
        budget -= possible * cost
    return wrong


def assess(samples: Sequence[Sampled], executors: int, mismatches: int, total: int) -> Verified:
    """`executors`: how many peers ever delivered to this job. `total`: items of the job."""
    checked = sum(sample.checked for sample in samples)
    by_peer: dict[str, list[Sampled]] = {}
    for sample in samples:
        if sample.checked < sample.items:
            by_peer.setdefault(sample.peer, []).append(sample)
    miss = (1.0 - CONFIDENCE) / max(1, executors, len(by_peer))
    wrong = sum(undetected_max(of_one, miss) for of_one in by_peer.values())
    return Verified(checked, total, mismatches, wrong / total if total else 0.0)
