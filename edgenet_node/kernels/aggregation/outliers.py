"""Whose update does not belong: robust z-scores on the coordinates that several peers sent, and the admission score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PEERS_MIN = 3  # with two values each is as far from their median as the other
Z_MAX = 3.0  # 0.3 % of a normal population lies beyond
SHARE_MAX = 0.1  # of its coordinates beyond Z_MAX before a peer counts as an outlier
MAD_TO_DEVIATION = 1.4826  # 1 / Phi^-1(3/4): the MAD of a normal population times this is its standard deviation

LENGTH_MAX = 100.0
REPUTATION_GAP_MAX = 0.2
SCORE_MIN = 0.5
ANOMALIES_MAX = 2
LENGTH_FACTOR, SAMPLES_FACTOR, REPUTATION_FACTOR = 0.5, 0.7, 0.8


def outlier_shares(updates: Array, sent: Bools) -> Wide:
    """For each peer the share of its comparable coordinates with `|g - med| > 3 * 1.4826 MAD`: (n,) in 0..1.

    updates (n, d), sent (n, d): which entries the peer sent at all. A coordinate is comparable where at least 3 peers
    sent it; median and MAD are over those that did, so the zeros that sparsification leaves out are never taken for
    values. Where the MAD is 0 (half the values equal) nothing is said about the coordinate. A peer with no comparable
    coordinate has share 0. Above 0.1 it is an outlier (`SHARE_MAX`). O(n log n d). Source: Iglewicz and Hoaglin 1993.
    """
    count = updates.shape[0]
    counts = sent.sum(axis=0)
    common = np.flatnonzero(counts >= PEERS_MIN)
    if not common.size:
        return np.zeros(count)
    here, counts = sent[:, common], counts[common]
    values = np.where(here, updates[:, common].astype(np.float64), np.inf)
    middle = _median(values, counts)
    apart = np.where(here, np.abs(np.where(here, values, 0.0) - middle), np.inf)
    deviation = MAD_TO_DEVIATION * _median(apart, counts)
    beyond = here & (apart > Z_MAX * deviation) & (deviation > 0)
    compared = (here & (deviation > 0)).sum(axis=1)
    shares: Wide = beyond.sum(axis=1) / np.maximum(compared, 1)
    return shares


def _median(values: Wide, counts: npt.NDArray[np.int64]) -> Wide:
    """Median of the `counts` least values of each column."""
    ordered = np.sort(values, axis=0)
    columns = np.arange(counts.size)
    middle: Wide = 0.5 * (ordered[(counts - 1) // 2, columns] + ordered[counts // 2, columns])
    return middle


def admission_scores(
    lengths: Wide, samples: npt.NDArray[np.int64], reputation_gaps: Wide, signed: Bools, consistent: Bools
) -> tuple[Wide, Bools]:
    """How plausible each offered update is, and whether it is admitted: (n,), (n,) bool.

    1, times 0.5 for a length above 100, times 0.7 for no samples, times 0.8 for a reputation claimed more than 0.2 away
    from ours. Admitted from 0.5 on with fewer than three anomalies. A bad signature or equivocation (`consistent`
    false: two updates for one round) scores 0: no other virtue outweighs either. NaN counts as an anomaly. How many
    *distinct* witnesses saw it is counted where peers are known.
    """
    anomalies = np.stack([~(lengths <= LENGTH_MAX), samples <= 0, ~(reputation_gaps <= REPUTATION_GAP_MAX)])
    factors = np.array([LENGTH_FACTOR, SAMPLES_FACTOR, REPUTATION_FACTOR])[:, None]
    scores = np.where(anomalies, factors, 1.0).prod(axis=0) * (signed & consistent)
    return scores, (scores >= SCORE_MIN) & (anomalies.sum(axis=0) <= ANOMALIES_MAX)
