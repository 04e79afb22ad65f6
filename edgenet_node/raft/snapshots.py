"""Making snapshots with the consumers, and fetching the leader's in chunks."""

from __future__ import annotations

import hashlib
import math

from msgspec import Struct, structs

from ..effects import Call, Effect, Event, Now
from ..errors import EdgenetError
from ..messages.raft import GiveState, TakeState
from ..wire.raft import ConfState, FetchSnapshot, Message, Snapshot
from .applying import ConsumerState, Contents
from .settings import RaftSettings


class Making(Struct, frozen=True):
    """A snapshot at `index` that waits for the state of its consumers."""

    index: int
    conf_state: ConfState
    contents: Contents
    deadline: float


class Maker:
    """One snapshot at a time. A consumer that gives nothing in time ends the try; the next one comes by itself."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._making: Making | None = None
        self._given: dict[str, ConsumerState] = {}
        self._retry_at = 0.0

    @property
    def wake_at(self) -> float:
        return math.inf if self._making is None else self._making.deadline

    def may_begin(self, now: Now) -> bool:
        return self._making is None and now.mono >= self._retry_at

    def begin(self, index: int, conf_state: ConfState, contents: Contents, now: Now) -> list[Effect]:
        self._making = Making(index, conf_state, contents, now.mono + self._settings.snapshot_give_s)
        self._given = {}
        return [Event(TakeState(index))]

    def give(self, body: GiveState) -> None:
        if self._making is not None and body.index >= self._making.index and body.consumer in self._settings.consumers:
            self._given[body.consumer] = ConsumerState(body.index, body.state)

    def finished(self) -> tuple[Making, dict[str, ConsumerState]] | None:
        """Once, when every consumer has given its state."""
        making = self._making
        if making is None or len(self._given) < len(self._settings.consumers):
            return None
        self._making = None
        return making, self._given

    def expire(self, now: Now) -> bool:
        if self._making is None or now.mono < self._making.deadline:
            return False
        self._making = None
        self._retry_at = now.mono + self._settings.snapshot_give_s
        return True

    def drop(self) -> None:
        self._making = None


class Fetching:
    """The snapshot that the leader offered, on its way here: one chunk at a time from the peer that offered it."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._offer: Message | None = None
        self._peer = ""
        self._data = bytearray()
        self._run = 0
        self._fails = 0
        self._again_at = math.inf

    @property
    def wake_at(self) -> float:
        return self._again_at

    def offer(self, message: Message, peer: str) -> list[Effect]:
        """A snapshot message without its data."""
        offered = message.snapshot
        assert offered is not None  # noqa: S101 - the caller looked; narrows the type
        current = self._offer.snapshot if self._offer is not None else None
        if current is not None and self._peer == peer and current.digest == offered.digest:
            self._offer = message  # the same again, perhaps in a newer term
            return []
        if current is None or current.digest != offered.digest:
            self._data = bytearray()
        self._offer, self._peer, self._fails = message, peer, 0
        return self._next()

    def _next(self) -> list[Effect]:
        offer = self._offer
        if offer is None or offer.snapshot is None:
            return []
        self._run += 1
        self._again_at = math.inf
        query = FetchSnapshot(offer.snapshot.digest, len(self._data))
        return [Call(("chunk", self._run), self._peer, query, self._settings.call_timeout_s)]

    def tick(self, now: Now) -> list[Effect]:
        return self._next() if now.mono >= self._again_at else []

    def chunk(self, run: int, data: bytes, error: Exception | None, now: Now) -> tuple[list[Effect], Message | None]:
        """A chunk came or failed; the whole message once it is complete."""
        offer = self._offer
        if run != self._run or offer is None or offer.snapshot is None:
            return [], None
        wanted: Snapshot = offer.snapshot
        if error is not None or not data:
            self._fails += 1
            gone = isinstance(error, EdgenetError) and error.code in ("not_found", "refused")
            if gone or self._fails > 20:
                self.drop()
            else:
                self._again_at = now.mono + min(0.1 * 2**self._fails, 5.0)
            return [], None
        self._fails = 0
        self._data += data
        if len(self._data) < wanted.size:
            return self._next(), None
        whole = bytes(self._data)
        self.drop()
        if len(whole) != wanted.size or hashlib.sha256(whole).hexdigest() != wanted.digest:
            return [], None  # the leader offers it again after its own timeout
        return [], structs.replace(offer, snapshot=structs.replace(wanted, data=whole))

    def drop(self) -> None:
        self._offer, self._peer, self._data = None, "", bytearray()
        self._again_at = math.inf
        self._run += 1
