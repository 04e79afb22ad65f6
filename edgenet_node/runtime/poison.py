"""Messages that crash a core: dropped the first time, kept from it after the second.

A key is the message's type and the hash of its encoded body (for a completion: its tag and its outcome), so that the
same bytes cannot crash the core for ever, through a peer that repeats them or a core that re-issues an operation.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ..effects import Done, Tick
from ..errors import EdgenetError, LocalError

CRASHES_TO_QUARANTINE = 2
"""A first crash may have been the core's own momentary state."""

KEYS_MAX = 256
"""Remembered messages of each kind; the oldest is forgotten first."""


class Poison:
    """The memory of one part; outlives its incarnations."""

    __slots__ = ("_crashes", "_kinds", "_name", "_quarantined")

    def __init__(self, name: str) -> None:
        self._name = name
        self._crashes: dict[bytes, int] = {}
        self._quarantined: dict[bytes, None] = {}
        self._kinds: set[type] = set()

    def crashed_on(self, body: Any) -> bool:
        """Count a crash on this message; True when it is quarantined from now on."""
        if type(body) is Tick:
            return False
        key = _key(body)
        crashes = self._crashes.pop(key, 0) + 1
        if crashes < CRASHES_TO_QUARANTINE:
            self._crashes[key] = crashes
            _forget_oldest(self._crashes)
            return False
        self._quarantined[key] = None
        _forget_oldest(self._quarantined)
        self._kinds.add(type(body))
        return True

    def screen(self, body: Any) -> EdgenetError | None:
        """The refusal, if this message is quarantined. Costs a set lookup unless its type ever was."""
        if type(body) not in self._kinds or _key(body) not in self._quarantined:
            return None
        return LocalError(f"this {type(body).__name__} crashed {self._name} twice and is not tried again")

    def screen_done(self, done: Done) -> Done:
        """A completion cannot be dropped: the core gets it as a failure instead."""
        refusal = self.screen(done)
        return done if refusal is None else Done(done.tag, error=refusal)


def _key(body: Any) -> bytes:
    kind = type(body)
    digest = hashlib.blake2b(f"{kind.__module__}.{kind.__qualname__}\0".encode(), digest_size=16)
    try:
        digest.update(msgspec.msgpack.encode(body, enc_hook=_describe))
    except (TypeError, ValueError, OverflowError, RecursionError):
        digest.update(repr(body).encode("utf-8", "backslashreplace"))
    return digest.digest()


def _describe(value: Any) -> Any:
    """Values inside a message that are not plain: exceptions, arrays."""
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return repr(value)


def _forget_oldest(keys: dict[bytes, Any]) -> None:
    if len(keys) > KEYS_MAX:
        del keys[next(iter(keys))]
