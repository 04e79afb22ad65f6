"""One vector out of many, when some of the senders lie.

| module | what it does |
| --- | --- |
| `coordinatewise` | mean, weighted mean, median, trimmed mean; capped weights |
| `geometry` | Krum, multi-Krum, geometric median, centred clipping; distances |
| `mixing` | norm caps, bucketing, nearest-neighbour mixing and averaging, worker momentum, gossip weights |
| `outliers` | robust z-scores on a common support; the admission score of an update |
| `rules` | the rules by name, the recommended ones, and `aggregate` |

Updates are rows (n, d), finite float32; n is tens of peers, d up to millions.

Limits. Results depend on the order of rows only in their last bits, and in which of equal rows is chosen. Bounds hold
for at most f liars; who lies is not found out, except as far as `outliers` tells. Secure aggregation hides the rows
that every rule here but the mean needs to see.
"""

from .coordinatewise import capped_weights, mean, median, trimmed_mean, weighted_mean
from .geometry import (
    centred_clipping,
    geometric_median,
    inner_products,
    krum,
    krum_scores,
    multi_krum,
    squared_distances,
)
from .mixing import (
    bucketing,
    cap_norms,
    consensus_distance,
    gossip_step,
    metropolis_weights,
    nearest_neighbour_average,
    nearest_neighbour_mixing,
    worker_momentum,
)
from .outliers import admission_scores, outlier_shares
from .rules import DEFAULT_GOSSIP_RULE, DEFAULT_RULE, RULES, Round, RuleName, aggregate
from .workspace import Workspace

__all__ = [
    "DEFAULT_GOSSIP_RULE",
    "DEFAULT_RULE",
    "RULES",
    "Round",
    "RuleName",
    "Workspace",
    "admission_scores",
    "aggregate",
    "bucketing",
    "cap_norms",
    "capped_weights",
    "centred_clipping",
    "consensus_distance",
    "geometric_median",
    "gossip_step",
    "inner_products",
    "krum",
    "krum_scores",
    "mean",
    "median",
    "metropolis_weights",
    "multi_krum",
    "nearest_neighbour_average",
    "nearest_neighbour_mixing",
    "outlier_shares",
    "squared_distances",
    "trimmed_mean",
    "weighted_mean",
    "worker_momentum",
]
