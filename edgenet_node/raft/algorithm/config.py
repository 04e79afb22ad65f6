"""Options of the algorithm; those of etcd, in its words."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from msgspec import Struct

from ...errors import UsageError

LOCAL_APPEND_THREAD: Final = 2**64 - 1
LOCAL_APPLY_THREAD: Final = 2**64 - 2
"""Addresses inside a member: whoever saves its log, and whoever applies it. Beyond every member id that can travel."""

TRANSFER: Final = b"CampaignTransfer"
"""Context of a vote request that the old leader asked for: it ignores leases."""


class Rng(Protocol):
    """The part of `random.Random` that is used: seeded, injected."""

    def randrange(self, start: int, /) -> int: ...


class Config(Struct, frozen=True):
    """`id` is never 0. Times are in ticks, sizes in bytes; the election timeout is drawn anew from
    [election_tick, 2 election_tick) in every term.

    * max_size_per_message: of the entries of one append; 0 sends one entry at a time.
    * max_committed_size_per_ready: of the entries handed out and not yet reported applied; 0 for the former.
    * max_uncommitted_size: of the data of uncommitted entries, after which proposals are dropped; 0 for no limit.
    * max_inflight_messages, max_inflight_bytes (0 for no limit): appends to one follower without an answer.
    * check_quorum: a leader that hears of no majority for an election timeout steps down, and members that hear of a
      leader ignore candidates. pre_vote: a candidate asks whether it could win before it raises the term.
    * read_only: `safe` confirms each read with a majority; `lease` trusts clocks, and needs check_quorum.
    * async_storage_writes: see `ready`.
    * disable_proposal_forwarding: a follower drops proposals instead of sending them to the leader.
    * disable_conf_change_validation: changes that do not fit enter the log all the same; they change nothing.
    * step_down_on_removal: a leader that is removed or demoted stops leading once that is applied.
    """

    id: int
    election_tick: int = 10
    heartbeat_tick: int = 1
    max_size_per_message: int = 256 * 1024
    max_committed_size_per_ready: int = 0
    max_uncommitted_size: int = 0
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 0
    check_quorum: bool = False
    pre_vote: bool = False
    read_only: Literal["safe", "lease"] = "safe"
    async_storage_writes: bool = False
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.id < 2**63:
            raise UsageError("raft: a member's id is a positive number below 2^63")
        if self.heartbeat_tick <= 0 or self.election_tick <= self.heartbeat_tick:
            raise UsageError("raft: the election timeout must be longer than the pause between heartbeats")
        if self.max_inflight_messages <= 0:
            raise UsageError("raft: at least one append must be allowed to be under way")
        if 0 < self.max_inflight_bytes < self.max_size_per_message:
            raise UsageError("raft: max_inflight_bytes must be at least max_size_per_message")
        if self.read_only == "lease" and not self.check_quorum:
            raise UsageError("raft: reads by lease need check_quorum")
