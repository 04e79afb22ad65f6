"""Limits of both sides, with units and reasons; and what is injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

Entropy = Callable[[int], bytes]
"""`n` random bytes: the operating system's in the node, seeded in simulation."""


class Rng(Protocol):
    """The part of `random.Random` that the cores use: seeded, injected."""

    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...


class JobsSettings(Struct, frozen=True):
    """The submitting side.

    `workers` of this node; `self_share` of them run its own jobs (0: only what no peer may or can run).
    `live_max` unfinished jobs with `live_bytes_max` of input in all; one job has at most `items_max` items and
    `input_bytes_max`. `history_max` finished jobs are kept, durable and passing ones counted apart, their outputs up to
    `history_bytes_max`. `waits_max` askers wait at once, an event poll at most `poll_s_max`.

    A chunk aims at `chunk_s` seconds of one worker and starts with `chunk_start` items; it never grows more than
    `chunk_growth` times over the last one. An unproven peer gets `newcomer_items` items at a time and `newcomer_chunks`
    at once, because all of it is computed twice. `small_items`: a task of at most this many items runs here at once
    if a worker is idle, without an auction.

    `executors_max` leases are sought for one job, of `lease_units` at least, so that interactive work finds one held.
    `lease_margin_s` before its end a lease is renewed. `seek_s` to `seek_s_max`: pause between two searches for
    executors. `standing_s`: age at which a standing is asked for again.

    `chunk_timeout_s` (`_min`, `_max`) bounds one chunk, `timeout_factor` times what it should take between them.
    `backoff_s` to `backoff_s_max`: pause of a peer after a failure, within this job. `straggler_mads` and
    `straggler_s`: a chunk is late beyond the median and so many median absolute deviations, and never before
    `straggler_s`. `tries_max`: computations of one chunk that may fail before the job does."""

    workers: int = 2
    self_share: float = 1.0
    live_max: int = 1024
    live_bytes_max: int = 128 * 1024 * 1024
    items_max: int = 20_000
    input_bytes_max: int = 32 * 1024 * 1024
    history_max: int = 200
    history_bytes_max: int = 64 * 1024 * 1024
    waits_max: int = 4096
    poll_s_max: float = 60.0
    chunk_s: float = 0.7
    chunk_start: int = 8
    chunk_growth: int = 4
    newcomer_items: int = 8
    newcomer_chunks: int = 2
    small_items: int = 8
    executors_max: int = 16
    lease_units: int = 100_000
    lease_margin_s: float = 5.0
    seek_s: float = 0.5
    seek_s_max: float = 15.0
    standing_s: float = 2.0
    chunk_timeout_s_min: float = 15.0
    chunk_timeout_s_max: float = 60.0
    timeout_factor: float = 20.0
    backoff_s: float = 1.0
    backoff_s_max: float = 30.0
    straggler_mads: float = 5.0
    straggler_s: float = 1.0
    tries_max: int = 3


class ServingSettings(Struct, frozen=True):
    """The executing side. `chunks_max` of all buyers are in flight here, `chunks_per_buyer_max` of one, so that one
    buyer cannot fill the queue. `leases_max` are remembered. `run_timeout_s_max` bounds one chunk whatever the buyer
    asks. `retry_after_s` is what a full node answers. `load_interval_s`: changes of load are announced at most this
    often. `joins_max`: repetitions of one chunk that may wait for its result. `lie`: return plausible wrong results,
    for demonstrations of verification only."""

    workers: int = 2
    chunks_max: int = 64
    chunks_per_buyer_max: int = 24
    leases_max: int = 4096
    run_timeout_s_max: float = 120.0
    retry_after_s: float = 0.25
    load_interval_s: float = 0.5
    joins_max: int = 4
    lie: bool = False
