"""The events of one task as a stream of server-sent events: in order, without gaps, to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
import trio

from ..errors import EdgenetError, Overloaded, TimedOut
from ..messages.tasks import TERMINAL, GetTask, GetTaskEvents, TaskEvent
from .node_view import Asker
from .settings import GatewaySettings

SEQ_MAX = 2**31
RETRY_S = 0.2
"""The node was too busy to answer: pause before the next try, which also tells a client that left."""

TRIES_MAX = 50

Events = Sequence[TaskEvent]


async def start_following(bus: Asker, task: str, after: int, settings: GatewaySettings) -> Events:
    """The events there are; errors still have a status code here, later they are part of the stream."""
    return await bus.ask(GetTaskEvents(task, after), timeout_s=settings.ask_timeout_s)


async def follow(bus: Asker, task: str, after: int, events: Events, settings: GatewaySettings) -> AsyncIterator[bytes]:
    """`id` is the event's number, to resume after; a comment keeps idle connections open; an `error` event ends the
    stream when the node cannot go on (`data` is the API's error). Ends after the task's last event."""
    tries = 0
    while True:
        for event in events:
            after = event.seq
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.name.encode(), msgspec.json.encode(event))
            if event.name in TERMINAL:
                return
        if not events:
            yield b": waiting\n\n"
        try:
            found = await _next(bus, task, after, settings)
            if found is None:
                return
            events, tries = found, 0
        except (Overloaded, TimedOut) as error:
            events, tries = (), tries + 1
            if tries >= TRIES_MAX:
                yield _error(error)
                return
            await trio.sleep(RETRY_S)
        except EdgenetError as error:
            yield _error(error)
            return


async def _next(bus: Asker, task: str, after: int, settings: GatewaySettings) -> Events | None:
    """None when there will be no more."""
    wait_s = settings.events_wait_s
    found = await bus.ask(GetTaskEvents(task, after, wait_s), timeout_s=wait_s + settings.ask_timeout_s)
    if found:
        return found
    view = (await bus.ask(GetTask(task), timeout_s=settings.ask_timeout_s)).view
    if view.state not in TERMINAL:
        return ()
    # Finished in between, or followed from behind its end: only what came since.
    return await bus.ask(GetTaskEvents(task, after), timeout_s=settings.ask_timeout_s) or None


def _error(error: EdgenetError) -> bytes:
    return b"event: error\ndata: %s\n\n" % msgspec.json.encode(
        {"error": {"code": error.code, "message": error.message}}
    )
