"""Where everything that went wrong is counted, and blamed at most once a second per peer and kind."""

from __future__ import annotations

from collections import OrderedDict

import structlog
import trio

from ...errors import Malformed, TimedOut, TooLarge
from ...ports.network import NetworkListener
from .limits import Counters

BLAME_INTERVAL_S = 1.0
"""A flood of bad frames is one blame a second; its size is in the counters."""

BLAMES_MAX = 4096

log = structlog.get_logger("network")


class Report:
    def __init__(self, listener: NetworkListener, counters: Counters) -> None:
        self._listener = listener
        self._counters = counters
        self._blamed: OrderedDict[tuple[str, str], float] = OrderedDict()

    def count(self, name: str, n: int = 1) -> None:
        self._counters.add(name, n)

    def blame(self, peer: str, name: str, reason: str) -> None:
        """The peer sent what no honest peer sends: counted as `name`, reported upwards."""
        if not self.note(peer, name, reason):
            return
        try:
            self._listener.on_blame(peer, reason)
        except Exception as error:  # noqa: BLE001 - the listener is ours; its bug must not become the host's
            self.fault("on_blame", error)

    def bad_frames(self, peer: str, error: TimedOut | TooLarge | Malformed, stream: str) -> None:
        """What the peer's frames on `stream` ended with."""
        match error:
            case TimedOut():
                self.blame(peer, "frames_trickled", f"{stream} with {error.message}")
            case TooLarge():
                self.blame(peer, "frames_oversized", error.message)
            case Malformed():
                self.blame(peer, "frames_malformed", error.message)

    def note(self, peer: str, name: str, reason: str) -> bool:
        """Like `blame` for what the listener refused and blamed itself: hearing of it again would count it twice.
        Whether it is the first of its kind within a second."""
        self._counters.add(name)
        if self._recent(peer, name):
            return False
        self._counters.add("blames")
        log.info("peer blamed", peer=peer, reason=reason)
        return True

    def refusal(self, peer: str, error: Exception) -> None:
        """The peer told us why it will not hear us; logged once a second."""
        if not self._recent(peer, "refusal"):
            log.info("the peer refused a stream", peer=peer, reason=str(error))

    def fault(self, where: str, error: BaseException) -> None:
        """An exception of our own or of the library, survived: counted, logged once a second per place."""
        self._counters.add("faults")
        if not self._recent(where, type(error).__name__):
            log.warning("network fault survived", where=where, error=f"{type(error).__name__}: {error}"[:300])

    def _recent(self, who: str, what: str) -> bool:
        now = trio.current_time()
        last = self._blamed.get((who, what))
        if last is not None and now - last < BLAME_INTERVAL_S:
            return True
        self._blamed[who, what] = now
        self._blamed.move_to_end((who, what))
        while len(self._blamed) > BLAMES_MAX:
            self._blamed.popitem(last=False)
        return False
