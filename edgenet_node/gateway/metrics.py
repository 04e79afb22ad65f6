"""`GET /metrics`: what the committee's member does, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..messages.raft import CommitteeView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Raft:
    """A collector over one view."""

    def __init__(self, view: CommitteeView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view, figures = self._view, self._view.figures
        for name, value, text in (
            ("term", view.term, "Term of the log"),
            ("is_leader", float(view.role == "leader"), "1 on the leader"),
            ("members", len(view.members), "Members of the configuration"),
            ("commit_index", view.commit, "Last committed entry"),
            ("applied_index", view.applied, "Last applied entry"),
            ("commit_seconds", figures.commit_s, "Median time from proposal to applied, of the last 1024"),
            ("fsync_seconds", figures.fsync_s, "Median time until a save is durable, of the last 1024"),
            ("batch_entries", figures.batch, "Median entries of one append, of the last 1024"),
            ("snapshot_bytes", figures.snapshot_bytes, "Size of the newest snapshot made here"),
        ):
            yield GaugeMetricFamily(f"edgenet_raft_{name}", text, value=value)
        for name, value, text in (
            ("leader_changes", figures.leader_changes, "Leaders seen"),
            ("proposals", figures.proposals, "Commands handed to the log"),
            ("proposals_dropped", figures.proposals_dropped, "Commands that the log did not take at once"),
            ("entries_applied", figures.entries_applied, "Entries applied"),
            ("frames_refused", figures.frames_refused, "Messages of those who are no members, or for another epoch"),
            ("snapshots_made", figures.snapshots_made, "Snapshots made"),
            ("snapshots_installed", figures.snapshots_installed, "Snapshots taken from the leader"),
        ):
            yield CounterMetricFamily(f"edgenet_raft_{name}", text, value=value)


def render(view: CommitteeView) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Raft(view))
    return generate_latest(registry)
