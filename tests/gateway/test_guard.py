"""What the door refuses before anybody is asked, and what slow or hostile clients can hold."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edgenet_node.errors import Overloaded
from edgenet_node.gateway.settings import GatewaySettings
from edgenet_node.messages.network import GetPeers, GetSwarm, SwarmInfo
from edgenet_node.messages.tasks import GetTask, Submit

from .fixtures import TOKEN, Client, door, outcome

PEERS: dict[type, Any] = {GetPeers: ()}
SUBMIT = {"kind": "echo", "payload": {"text": "x"}}


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer " + TOKEN[:-1]},
        {"Authorization": "Bearer " + TOKEN + "x"},
        {"Authorization": "Basic " + TOKEN},
        {"Authorization": "Bearer t\xf6ken"},
    ],
)
async def test_without_the_token_nothing_is_answered(header: dict[str, str]) -> None:
    async with door(PEERS) as made:
        client = await made.connect()
        async with client.stream:
            sent: Mapping[str, str] = {"Host": f"127.0.0.1:{made.port}", **header}
            await client.send_head("GET", "/api/peers", sent)
            await client.end()
            reply = await client.reply()
        assert reply.error == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert made.bus.asked == []
        assert (await made.call("GET", "/no/such/path", token="wrong")).status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("LOCALHOST", 200),
        ("[::1]:8787", 200),
        ("[::1]", 200),
        ("192.0.2.7:8787", 200),
        ("evil.example", 403),
        ("evil.example:8787", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[evil]:1", 403),
        ("", 403),
    ],
)
async def test_only_addresses_of_the_door_may_be_in_host(host: str, status: int) -> None:
    async with door(PEERS) as made:
        assert (await made.call("GET", "/api/peers", headers={"Host": host})).status == status
        assert (await made.call("GET", "/livez", headers={"Host": host})).status == status


async def test_probes_need_no_token() -> None:
    async with door({GetSwarm: SwarmInfo("ab" * 21, "founded", "")}) as made:
        assert (await made.call("GET", "/livez", token="")).json == {"state": "live"}
        assert (await made.call("GET", "/readyz", token="")).json == {"state": "ready", "reason": ""}


async def test_a_body_that_announces_too_much() -> None:
    async with door(body_bytes_max=1000) as made:
        reply = await made.call("POST", "/api/tasks", b"x" * 1001)
        assert reply.error == (413, "too_large")
        assert "1000 bytes" in reply.json["error"]["message"]
        assert made.bus.asked == []


async def test_a_chunked_body_over_the_limit() -> None:
    async with door(body_bytes_max=100_000) as made:
        client = await made.connect()
        async with client.stream:
            await client.send_head("POST", "/api/tasks", {**made.headers(), "Transfer-Encoding": "chunked"})
            for _ in range(40):  # more than hypercorn's own queue holds
                await client.send_piece(b"x" * 4096)
            await client.end()
            assert (await client.reply()).error == (413, "too_large")


async def test_an_endless_chunked_body_is_cut_off() -> None:
    async with door(body_bytes_max=10_000) as made, trio.open_nursery() as nursery:
        client = await made.connect()

        async def pour_for_ever() -> None:
            while True:
                await client.send_piece(b"x" * 4096)

        async def pour() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await pour_for_ever()

        await client.send_head("POST", "/api/tasks", {**made.headers(), "Transfer-Encoding": "chunked"})
        nursery.start_soon(pour)
        assert (await client.reply_head())[0] == 413
        await made.call("GET", "/livez")


async def test_a_refused_request_with_a_large_body_still_gets_its_answer() -> None:
    async with door() as made:
        assert (await made.call("POST", "/api/tasks", b"x" * 3_000_000, token="wrong")).status == 401
        assert (await made.call("GET", "/livez")).status == 200


async def test_bodies_together_are_bounded() -> None:
    async with door({Submit: outcome("queued")}, bodies_bytes_max=1500) as made:
        first = await made.connect()
        async with first.stream:
            await first.send_head("POST", "/api/tasks", {**made.headers(), "Content-Length": "1000"})
            await first.send_piece(b" " * 900)
            body = json.dumps(SUBMIT).encode() + b" " * 900
            with trio.fail_after(10):
                while (reply := await made.call("POST", "/api/tasks", body)).status == 202:
                    await trio.lowlevel.checkpoint()  # the first body has not arrived yet
            assert reply.error == (503, "overloaded")
        with trio.fail_after(10):
            while (await made.call("POST", "/api/tasks", body)).status != 202:
                await trio.lowlevel.checkpoint()  # until the door has seen that the first client is gone
        assert isinstance(made.bus.asked[-1], Submit)


async def test_requests_at_once_are_bounded_and_told_when_to_come_back() -> None:
    release = trio.Event()

    async def slowly(_: GetPeers) -> tuple[()]:
        await release.wait()
        return ()

    async with door({GetPeers: slowly}, requests_max=2) as made, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(made.call, "GET", "/api/peers")
        await made.bus.until(lambda: made.bus.open == 2)
        reply = await made.call("GET", "/api/peers")
        assert reply.error == (503, "overloaded")
        assert reply.headers["retry-after"] == "1"
        assert (await made.call("GET", "/livez")).status == 200
        release.set()
    async with door({GetPeers: Overloaded("busy", retry_after_s=3.2)}) as made:
        assert (await made.call("GET", "/api/peers")).headers["retry-after"] == "3"


async def test_requests_that_wait_for_work_do_not_starve_quick_ones() -> None:
    release = trio.Event()

    async def finish(query: Submit) -> object:
        if query.wait:
            await release.wait()
        return outcome()

    async with door({Submit: finish, GetPeers: ()}, requests_max=1, waits_max=2) as made:
        async with trio.open_nursery() as nursery:
            for count in (1, 2):
                nursery.start_soon(made.call, "POST", "/api/tasks", {**SUBMIT, "wait": True})
                await made.bus.until(lambda: made.bus.open == count)  # noqa: B023 - waited for in this very round
            assert (await made.call("GET", "/api/peers")).status == 200
            third = await made.call("POST", "/api/tasks", {**SUBMIT, "wait": True})
            assert third.error == (503, "overloaded")
            assert "wait for work" in third.json["error"]["message"]
            assert (await made.call("POST", "/api/tasks", SUBMIT)).status == 202
            release.set()
        assert (await made.call("POST", "/api/tasks", {**SUBMIT, "wait": True})).status == 200


async def test_a_client_that_leaves_withdraws_its_ask() -> None:
    async def never(_: object) -> None:
        await trio.sleep_forever()

    async with door({Submit: never, GetTask: never}) as made:
        for method, path, body in (
            ("POST", "/api/tasks", json.dumps({**SUBMIT, "wait": True}).encode()),
            ("GET", "/api/tasks/t_1", b""),
        ):
            client = await made.connect()
            await client.send_head(method, path, {**made.headers(), "Content-Length": str(len(body))})
            if body:
                await client.send_piece(body)
            await client.end()
            await made.bus.until(lambda: made.bus.open == 1)
            await client.stream.aclose()
            await made.bus.until(lambda: made.bus.open == 0)


async def test_connections_are_bounded() -> None:
    settings = GatewaySettings(requests_max=1, waits_max=1, probes_max=1)
    async with door(requests_max=1, waits_max=1, probes_max=1) as made:
        idle = [await made.connect() for _ in range(settings.connections_max)]
        late = await made.connect()
        with trio.fail_after(10):
            assert await late.stream.receive_some(1) == b""
        for client in idle:
            await client.stream.aclose()


async def test_a_connection_serves_several_requests() -> None:
    async with door(PEERS) as made:
        client = await made.connect()
        async with client.stream:
            for _ in range(3):
                await client.send_head("GET", "/api/peers", made.headers())
                await client.end()
                assert (await client.reply()).status == 200


async def test_slow_clients_are_cut_off(autojump_clock: MockClock) -> None:
    """With the clock jumping as soon as all wait: heads and bodies that stop coming end in time."""
    async with door() as made:
        head = await made.connect()
        await head.stream.send_all(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert await head.stream.receive_some(1) == b""
        assert trio.current_time() < 10

        body = await made.connect()
        await body.send_head("POST", "/api/tasks", {**made.headers(), "Content-Length": "100"})
        await body.send_piece(b"{")
        assert (await body.reply()).error == (504, "timeout")
        assert trio.current_time() < 50
        await head.stream.aclose()
        await body.stream.aclose()


GARBAGE = {
    "no HTTP": b"\x00\x01\x02\xff" * 100 + b"\r\n\r\n",
    "no Host": b"GET /livez HTTP/1.1\r\n\r\n",
    "endless target": b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "negative length": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x09\x01garbage" * 20,
    "h2c": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n",
    "websocket": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "bad chunk": b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_ends_its_connection_and_nothing_else(data: bytes) -> None:
    async with door() as made:
        client = await made.connect()
        await client.stream.send_all(data)
        await client.stream.send_eof()
        with trio.fail_after(20), contextlib.suppress(trio.BrokenResourceError):  # a reset is as good an end as any
            while await client.stream.receive_some(65536):
                pass
        await client.stream.aclose()
        assert (await made.call("GET", "/livez")).status == 200


async def test_the_address_of_a_request_is_bounded() -> None:
    async with door() as made:
        assert (await made.call("GET", "/api/tasks/" + "x" * 5000)).status == 414


async def test_closing_does_not_wait_for_clients() -> None:
    """Idle ones, ones in the middle of a request, and ones whose answer waits for work."""

    async def never(_: object) -> None:
        await trio.sleep_forever()

    clients: list[Client] = []
    with trio.fail_after(10):
        async with door({GetTask: never}, grace_s=0.01) as made:
            clients += [await made.connect() for _ in range(3)]
            await clients[1].send_head("POST", "/api/tasks", {**made.headers(), "Content-Length": "100"})
            await clients[2].send_head("GET", "/api/tasks/t_1", made.headers())
            await clients[2].end()
            await made.bus.until(lambda: made.bus.open == 1)
    for client in clients:
        await client.stream.aclose()
    assert made.bus.open == 0
