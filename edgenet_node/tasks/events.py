"""The event stream of one task: numbered, bounded, progress coalesced."""

from __future__ import annotations

from typing import Any, Final

from ..messages.tasks import TERMINAL, TaskEvent

EVENTS_MAX: Final = 256
"""Events kept for one task. Beyond it the oldest passing ones go first, then the oldest of all but the first."""

PASSING: Final = frozenset({"running", "progress", "verified"})
"""What a crash may lose: these events are not saved. All others are, in the step that emits them."""

PROGRESS_S: Final = 0.25
"""A progress event younger than this is replaced by the next one (its number is skipped)."""

RESTART_GAP: Final = 1000
"""Added to the last saved number after a restart, so that no number that a reader has seen comes again."""


class EventLog:
    """Events after `after` are those with a higher `seq`; numbers rise and may skip."""

    def __init__(self, events: list[TaskEvent] | None = None, seq: int = 0) -> None:
        self._events = events or []
        self.seq = seq

    def add(self, name: str, wall: float, data: dict[str, Any]) -> tuple[TaskEvent, TaskEvent | None]:
        """The new event, and a milestone that had to go for it."""
        self.seq += 1
        event = TaskEvent(self.seq, wall, name, data)
        events = self._events
        if events and name == "progress" and events[-1].name == "progress" and wall - events[-1].wall < PROGRESS_S:
            events.pop()
        events.append(event)
        return event, self._shed() if len(events) > EVENTS_MAX else None

    def _shed(self) -> TaskEvent | None:
        passing = (index for index, event in enumerate(self._events) if event.name in PASSING)
        shed = self._events.pop(next(passing, 1))
        return None if shed.name in PASSING else shed

    def saved(self) -> list[int]:
        """Numbers of the events that have a row."""
        return [event.seq for event in self._events if event.name not in PASSING]

    def after(self, seq: int) -> tuple[TaskEvent, ...]:
        return tuple(event for event in self._events if event.seq > seq)

    @property
    def finished(self) -> bool:
        return bool(self._events) and self._events[-1].name in TERMINAL
