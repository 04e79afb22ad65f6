"""Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the daemon, 4 refused, 5 timed out."""

from __future__ import annotations

from ..errors import EdgenetError, LocalError

DONE, FAILED, USAGE, UNREACHABLE, REFUSED, TIMED_OUT = range(6)
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class NoDaemon(LocalError):
    """The daemon cannot be reached; the message says where it was looked for and how to start it."""

    code = "no_daemon"


class Answered(EdgenetError):
    """The daemon answered with an error; `remote_code` is its code."""

    def __init__(self, message: str, remote_code: str) -> None:
        super().__init__(message)
        self.remote_code = remote_code


_BY_CODE = {
    "usage": USAGE,
    "config": USAGE,
    "no_daemon": UNREACHABLE,
    "refused": REFUSED,
    "wrong_swarm": REFUSED,
    "overloaded": REFUSED,
    "too_large": REFUSED,
    "disk_full": REFUSED,
    "unauthorized": REFUSED,
    "timeout": TIMED_OUT,
}


def code_of(error: EdgenetError) -> int:
    return _BY_CODE.get(error.remote_code if isinstance(error, Answered) else error.code, FAILED)


def of_state(state: str) -> int:
    """Exit code for a task's final state."""
    return {"done": DONE, "timed_out": TIMED_OUT, "rejected": REFUSED}.get(state, FAILED)
