"""Limits of the worker pool."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ...errors import ConfigError

WORKERS_MAX = 16
MIB = 1024 * 1024


class ExecutorSettings(Struct, frozen=True):
    """Sizes in bytes, times in seconds. Raises `ConfigError` for values that cannot work."""

    workers: int = 2
    queued_max: int = 1024
    """Tasks that wait for a worker; their arguments stay in the memory of this process."""
    threads: int = 2
    threads_queued_max: int = 256
    nice: int = 10
    """Added to the niceness of the workers, so that the loop preempts them."""
    memory_bytes_max: int = 1024 * MIB
    """RLIMIT_DATA of each worker, 0 for none. numpy and a sentence encoder at work need about 250 MiB."""
    inline_bytes_max: int = 64 * 1024
    """Bulk that rides in the frame itself. Above it one copy into shared memory is cheaper than the socket's four."""
    frame_bytes_max: int = 4 * MIB
    """Plain structure (text, numbers, lists). Decoded on the loop, about 100 MB/s, up to 60 times larger as objects."""
    args_bytes_max: int = 256 * MIB
    result_bytes_max: int = 64 * MIB
    slab_keep_bytes: int = 32 * MIB
    """Shared memory beyond this goes back to the system after the task that needed it."""
    resident_count_max: int = 16
    resident_bytes_max: int = 2048 * MIB
    """As declared by the loaders, per worker; mapped files are shared between workers."""
    starve_after_s: float = 2.0
    """A task that has waited this long goes before younger ones."""
    start_timeout_s: float = 30.0
    stop_grace_s: float = 2.0
    """From asking a task to stop to killing its worker; also the time to exit at shutdown."""
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    backend: Literal["auto", "numpy", "fast"] = "numpy"
    """Of the kernels in workers: see `kernels.backends`."""
    kernel_cache: str = ""
    """Folder for compiled kernels, private to this node; empty: wherever numba puts them."""
    output: Literal["log", "discard"] = "log"
    """What workers print: to the log at debug level, or nowhere."""
    output_bytes_max: int = MIB
    """Logged per worker process; the rest is read and dropped, lest a chatty function blocks or fills the log."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= WORKERS_MAX:
            raise ConfigError(f"executor: workers is {self.workers}, must be between 1 and {WORKERS_MAX}")
        if not 0 <= self.nice <= 19:
            raise ConfigError(f"executor: nice is {self.nice}, must be between 0 and 19")
        if self.memory_bytes_max and self.memory_bytes_max < 64 * MIB:
            raise ConfigError(
                "executor: memory_bytes_max below 64 MiB does not hold an interpreter; use 0 for no limit"
            )
        at_least_one = {
            "queued_max": self.queued_max,
            "threads": self.threads,
            "threads_queued_max": self.threads_queued_max,
            "inline_bytes_max": self.inline_bytes_max,
            "args_bytes_max": self.args_bytes_max,
            "result_bytes_max": self.result_bytes_max,
            "slab_keep_bytes": self.slab_keep_bytes,
            "resident_count_max": self.resident_count_max,
            "resident_bytes_max": self.resident_bytes_max,
        }
        for key, count in at_least_one.items():
            if count < 1:
                raise ConfigError(f"executor: {key} is {count}, must be at least 1")
        if self.frame_bytes_max < 2 * self.inline_bytes_max:
            raise ConfigError("executor: frame_bytes_max must be at least twice inline_bytes_max")
        if min(self.starve_after_s, self.start_timeout_s, self.stop_grace_s, self.backoff_s, self.backoff_max_s) <= 0:
            raise ConfigError("executor: times must be above 0 s")
