"""What an operator sees of a member."""

from __future__ import annotations

import statistics
from collections import deque

from ..messages.raft import RaftFigures

_SAMPLES_MAX = 1024


class Meters:
    """Counters, and the last thousand of each duration."""

    def __init__(self) -> None:
        self.leader_changes = self.proposals = self.proposals_dropped = self.entries_applied = 0
        self.frames_refused = self.snapshots_made = self.snapshots_installed = self.snapshot_bytes = 0
        self.commit_s: deque[float] = deque(maxlen=_SAMPLES_MAX)
        self.fsync_s: deque[float] = deque(maxlen=_SAMPLES_MAX)
        self.batch: deque[float] = deque(maxlen=_SAMPLES_MAX)

    def figures(self) -> RaftFigures:
        return RaftFigures(
            leader_changes=self.leader_changes,
            proposals=self.proposals,
            proposals_dropped=self.proposals_dropped,
            entries_applied=self.entries_applied,
            frames_refused=self.frames_refused,
            snapshots_made=self.snapshots_made,
            snapshots_installed=self.snapshots_installed,
            snapshot_bytes=self.snapshot_bytes,
            commit_s=_median(self.commit_s),
            fsync_s=_median(self.fsync_s),
            batch=_median(self.batch),
        )


def _median(samples: deque[float]) -> float:
    return statistics.median(samples) if samples else 0.0
