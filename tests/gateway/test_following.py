"""Event streams: in order, without gaps or repeats, from where the reader was, and with an end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.errors import Cancelled, NotFound, Overloaded, TimedOut
from edgenet_node.messages.tasks import GetTask, GetTaskEvents, TaskEvent, TaskOutcome

from .fixtures import door, outcome


class Task:
    """A task that grows events; answers GetTaskEvents as the core does: what there is, else it waits."""

    def __init__(self, *names: str) -> None:
        self.events: list[TaskEvent] = []
        self.grown = trio.Event()
        self.interrupt: list[Exception] = []
        self.grow(*names)

    def grow(self, *names: str) -> None:
        for name in names:
            self.events.append(TaskEvent(len(self.events) + 1, 100.0, name, {"n": len(self.events)}))
        self.grown.set()
        self.grown = trio.Event()

    async def get_events(self, query: GetTaskEvents) -> tuple[TaskEvent, ...]:
        if query.task != "t_1":
            raise NotFound(f"no task {query.task}")
        if query.wait_s and self.interrupt:
            raise self.interrupt.pop(0)
        if query.wait_s and len(self.events) <= query.after and not self.over:
            with trio.move_on_after(query.wait_s):
                await self.grown.wait()
        return tuple(self.events[query.after :])

    def get_task(self, _: GetTask) -> TaskOutcome:
        return outcome("done" if self.over else "running", events=len(self.events))

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1].name == "done"

    @property
    def answers(self) -> dict[type, Any]:
        return {GetTaskEvents: self.get_events, GetTask: self.get_task}


def parsed(frames: list[bytes]) -> list[tuple[int, str, dict[str, Any]]]:
    found = []
    for frame in frames:
        if not frame.startswith(b":"):
            fields = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
            found.append((int(fields.get("id", "0")), fields["event"], json.loads(fields["data"])))
    return found


async def test_a_finished_task_is_told_whole() -> None:
    task = Task("queued", "running", "done")
    async with door(task.answers) as made:
        client = await made.connect()
        async with client.stream:
            await client.send_head("GET", "/api/tasks/t_1/events", made.headers())
            await client.end()
            status, headers = await client.reply_head()
            assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
            seen = parsed([frame async for frame in client.frames()])
        assert [(number, name) for number, name, _ in seen] == [(1, "queued"), (2, "running"), (3, "done")]
        assert seen[0][2] == {"seq": 1, "wall": 100.0, "name": "queued", "data": {"n": 0}}


async def test_events_arrive_while_they_happen() -> None:
    task = Task("queued")
    async with door(task.answers) as made:
        client = await made.connect()
        async with client.stream:
            await client.send_head("GET", "/api/tasks/t_1/events", made.headers())
            await client.end()
            await client.reply_head()
            seen = []
            async for frame in client.frames():
                seen += parsed([frame])
                if len(seen) < 4 and not frame.startswith(b":"):
                    task.grow("progress" if len(seen) < 3 else "done")
        assert [number for number, *_ in seen] == [1, 2, 3, 4]
        assert seen[-1][1] == "done"


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, [1, 2, 3]),
        ("?after=0", {}, [1, 2, 3]),
        ("?after=2", {}, [3]),
        ("?after=3", {}, []),
        ("?after=99", {}, []),
        ("", {"Last-Event-ID": "1"}, [2, 3]),
        ("?after=2", {"Last-Event-ID": "1"}, [3]),
    ],
)
async def test_a_reader_resumes_where_it_was(query: str, headers: dict[str, str], expected: list[int]) -> None:
    task = Task("queued", "running", "done")
    async with door(task.answers) as made:
        reply = await made.call("GET", f"/api/tasks/t_1/events{query}", headers=headers)
        assert reply.status == 200
        frames = reply.body.split(b"\n\n")[:-1]
        assert [number for number, *_ in parsed(frames)] == expected


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "%C2%B2", "9" * 5000, "99999999999", ""])
async def test_a_bad_position_is_refused(after: str) -> None:
    async with door(Task("done").answers) as made:
        reply = await made.call("GET", f"/api/tasks/t_1/events?after={after}")
        assert reply.status in (400, 414)
        assert reply.json["error"]["code"] == "usage"


async def test_an_unknown_task_is_a_plain_error() -> None:
    async with door(Task("done").answers) as made:
        assert (await made.call("GET", "/api/tasks/t_2/events")).error == (404, "not_found")


async def test_a_head_request_does_not_follow() -> None:
    async with door(Task("queued").answers) as made:
        client = await made.connect()
        async with client.stream:
            await client.stream.send_all(
                f"HEAD /api/tasks/t_1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Authorization: {made.headers()['Authorization']}\r\n\r\n".encode()
            )
            with trio.fail_after(10):
                head = b"".join([piece async for piece in client.stream])
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")


async def test_busy_moments_are_waited_out(autojump_clock: MockClock) -> None:
    task = Task("queued")
    task.interrupt = [Overloaded("busy"), TimedOut("slow"), Overloaded("busy")]
    async with door(task.answers) as made, trio.open_nursery() as nursery:

        async def finish() -> None:
            await made.bus.until(lambda: not task.interrupt)
            task.grow("done")

        nursery.start_soon(finish)
        reply = await made.call("GET", "/api/tasks/t_1/events")
        assert [name for _, name, _ in parsed(reply.body.split(b"\n\n")[:-1])] == ["queued", "done"]


async def test_a_stream_that_cannot_go_on_says_why() -> None:
    task = Task("queued")
    task.interrupt = [Cancelled("the node is shutting down")]
    async with door(task.answers) as made:
        reply = await made.call("GET", "/api/tasks/t_1/events")
        number, name, data = parsed(reply.body.split(b"\n\n")[:-1])[-1]
        assert (number, name, data["error"]["code"]) == (0, "error", "cancelled")


async def test_a_quiet_stream_stays_open_with_comments(autojump_clock: MockClock) -> None:
    task = Task("queued")
    async with door(task.answers) as made:
        client = await made.connect()
        async with client.stream:
            await client.send_head("GET", "/api/tasks/t_1/events", made.headers())
            await client.end()
            await client.reply_head()
            seen = []
            async for frame in client.frames():
                seen.append(frame)
                if len(seen) == 6:
                    task.grow("done")
        assert seen[1:6] == [b": waiting"] * 5
        assert trio.current_time() > 4 * 15.0  # beyond every timeout of a connection


async def test_a_follower_that_leaves_is_forgotten() -> None:
    task = Task("queued")
    async with door(task.answers) as made:
        client = await made.connect()
        await client.send_head("GET", "/api/tasks/t_1/events", made.headers())
        await client.end()
        await client.reply_head()
        await made.bus.until(lambda: any(isinstance(one, GetTaskEvents) and one.wait_s for one in made.bus.asked))
        await client.stream.aclose()
        await made.bus.until(lambda: made.bus.open == 0)


async def test_a_follower_that_does_not_read_is_cut_off(autojump_clock: MockClock) -> None:
    """Nothing is buffered for it but what the kernel takes; the rest is not even asked for."""
    asked: list[int] = []

    def endless(query: GetTaskEvents) -> tuple[TaskEvent, ...]:
        asked.append(query.after)
        return (TaskEvent(query.after + 1, 0.0, "progress", {"text": "x" * 50_000}),)

    async with door({GetTaskEvents: endless}) as made:
        client = await made.connect()
        await client.send_head("GET", "/api/tasks/t_1/events", made.headers())
        await client.end()
        with trio.fail_after(100):
            while made.gateway.connections or not asked:  # noqa: ASYNC110 - the mock clock moves when all wait
                await trio.sleep(1)
        assert trio.current_time() > 30  # the time a client has to take one piece
        assert len(asked) * 50_000 < 32 << 20
        assert made.bus.open == 0
        await client.stream.aclose()
