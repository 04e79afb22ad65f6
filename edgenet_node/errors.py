"""Errors that say who is to blame.

Every failure that crosses a seam of the node is one of these. `LocalError` means that this node or its owner has to
act; `RemoteError` means that a peer sent or did something wrong and pays for it. Foreign exceptions (libp2p, SQLite,
OS) are mapped to these where they enter. `code` is stable: it travels on the wire and in the HTTP API.
"""

from __future__ import annotations

from typing import ClassVar


class EdgenetError(Exception):
    """Base of all errors of the node. `retry_after_s` is a hint to the caller, 0 when there is none."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class LocalError(EdgenetError):
    """This node, its machine or its owner is to blame."""

    code = "local"


class ConfigError(LocalError):
    """The configuration cannot be used; the message names file, key and remedy."""

    code = "config"


class UsageError(LocalError):
    """The owner asked for something malformed: unknown kind, unknown field, wrong type."""

    code = "usage"


class NotFound(LocalError):
    """No such task, index, artifact or peer here."""

    code = "not_found"


class Conflict(LocalError):
    """The thing exists already, or is in a state that forbids the request."""

    code = "conflict"


class StoreError(LocalError):
    """The data folder cannot be read or written; `fatal` ones end the process before anything is acknowledged."""

    code = "store"


class StoreFull(StoreError):
    """The disk is full: this write was rolled back and refused, earlier ones stand."""

    code = "disk_full"


class CorruptData(StoreError):
    """A file of ours does not verify; the message names it and what to do."""

    code = "corrupt"


class KeystoreError(LocalError):
    """A key file is missing, unreadable, tampered with, or the password is wrong."""

    code = "key"


class InvariantError(LocalError):
    """Something that cannot happen has happened; the node stops rather than continue wrongly."""

    code = "invariant"


class Overloaded(EdgenetError):
    """A bounded queue or table is full; try again after `retry_after_s`."""

    code = "overloaded"


class TimedOut(EdgenetError):
    """A deadline passed. Nobody is to blame for silence: it may be the network."""

    code = "timeout"


class Cancelled(EdgenetError):
    """The request was withdrawn, or the node is shutting down."""

    code = "cancelled"


class Unreachable(EdgenetError):
    """There is no connection to the peer, or it broke."""

    code = "unreachable"


class WorkerDied(LocalError):
    """The worker process that ran this computation died, ran out of memory, or was killed at its time limit."""

    code = "worker_died"


class ComputeFailed(LocalError):
    """The computation itself raised; the message carries its type and text."""

    code = "compute_failed"


class RemoteError(EdgenetError):
    """The peer is to blame."""

    code = "remote"

    def __init__(self, message: str, *, retry_after_s: float = 0.0, peer: str = "") -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.peer = peer


class Malformed(RemoteError):
    """Bytes that do not decode to what the protocol says."""

    code = "malformed"


class TooLarge(RemoteError):
    """A frame, message or artifact above its limit."""

    code = "too_large"


class Refused(RemoteError):
    """The peer declined, or was declined: admission, lease, quota, reader list. The message is the reason."""

    code = "refused"


class InvalidResult(RemoteError):
    """A result that fails its check."""

    code = "invalid_result"


class WrongSwarm(Refused):
    """The peer belongs to another genesis."""

    code = "wrong_swarm"
