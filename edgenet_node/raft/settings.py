"""Limits and pauses of a committee member."""

from __future__ import annotations

from msgspec import Struct


class RaftSettings(Struct, frozen=True):
    """`tick_s` times `election_ticks` is the shortest election timeout, twice that the longest; a heartbeat goes every
    `heartbeat_ticks`. The defaults are for a WAN (1 to 2 s); a LAN takes a tick of 15 ms (150 to 300 ms).

    `pending_max` commands wait for their commit, each at most `propose_timeout_s`; `read_timeout_s` bounds a barrier.
    One append carries `message_bytes_max`, a follower has `inflight_max` of them under way, a leader
    `uncommitted_bytes_max` of entries. `sessions_max` clients are remembered for exactly-once, `window_max` commands of
    each. A snapshot is due every `snapshot_entries` or `snapshot_log_bytes`, whichever comes first, and leaves
    `keep_entries` behind it for slow followers. `snapshot_timeout_s`: a follower that neither fetches nor has its
    snapshot within it is given a new one. `delete_max`: rows dropped in one step of a compaction.
    """

    tick_s: float = 0.1
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    consumers: tuple[str, ...] = ()
    pending_max: int = 8192
    propose_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    message_bytes_max: int = 256 * 1024
    inflight_max: int = 64
    inflight_bytes_max: int = 4 * 1024 * 1024
    uncommitted_bytes_max: int = 16 * 1024 * 1024
    apply_bytes_max: int = 1024 * 1024
    sessions_max: int = 4096
    window_max: int = 1024
    snapshot_entries: int = 20_000
    snapshot_log_bytes: int = 32 * 1024 * 1024
    keep_entries: int = 5_000
    snapshot_timeout_s: float = 30.0
    snapshot_give_s: float = 10.0
    delete_max: int = 4096
    call_timeout_s: float = 5.0
