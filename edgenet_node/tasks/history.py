"""Finished tasks: kept for a while, bounded by count and by bytes of output."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct, structs

from ..effects import Delete
from ..messages.tasks import TaskOutcome, TaskView
from .events import EventLog
from .handlers import Handler
from .journal import erased
from .settings import JobsSettings
from .work import Request


class Finished(Struct):
    """`outputs`: by first item. They are merged when asked for."""

    request: Request
    view: TaskView
    log: EventLog
    outputs: dict[int, bytes]
    handler: Handler | None

    @property
    def output_bytes(self) -> int:
        return sum(map(len, self.outputs.values()))

    def outcome(self) -> TaskOutcome:
        if self.view.state != "done" or not self.outputs or self.handler is None:
            return TaskOutcome(self.view, b"")
        outputs = [self.outputs[start] for start in sorted(self.outputs)]
        return TaskOutcome(self.view, self.handler.merge(self.request.spec, outputs))


class History:
    """Durable tasks and passing ones are bounded apart, so that many small ones do not push out a large one."""

    def __init__(self, settings: JobsSettings) -> None:
        self._settings = settings
        self._kept: tuple[OrderedDict[str, Finished], OrderedDict[str, Finished]] = (OrderedDict(), OrderedDict())
        self._bytes = 0

    def get(self, task: str) -> Finished | None:
        return self._kept[0].get(task) or self._kept[1].get(task)

    def all(self) -> list[Finished]:
        return [*self._kept[0].values(), *self._kept[1].values()]

    def add(self, finished: Finished) -> tuple[list[Finished], list[Delete]]:
        """Remember it. Returns what is forgotten for it, and the rows that go: whole tasks beyond `history_max`, and
        the oldest outputs beyond `history_bytes_max`, never those of the newest task."""
        kept = self._kept[finished.request.durable]
        kept[finished.request.task] = finished
        self._bytes += finished.output_bytes
        gone: list[Finished] = []
        rows: list[Delete] = []
        while len(kept) > self._settings.history_max:
            _, oldest = kept.popitem(last=False)
            self._bytes -= oldest.output_bytes
            gone.append(oldest)
            if oldest.request.durable:
                rows += erased(oldest.request.task, oldest.outputs, oldest.log.saved())
        if self._bytes > self._settings.history_bytes_max:
            rows += self._shed(finished)
        return gone, rows

    def _shed(self, newest: Finished) -> list[Delete]:
        rows: list[Delete] = []
        for one in sorted(self.all(), key=lambda one: one.view.finished_wall):
            if self._bytes <= self._settings.history_bytes_max:
                break
            if one is newest or not one.outputs:
                continue
            self._bytes -= one.output_bytes
            if one.request.durable:
                rows += erased(one.request.task, one.outputs, ())[1:]
            one.outputs = {}
            one.view = structs.replace(one.view, reason="its output was let go to make room for newer ones")
        return rows
