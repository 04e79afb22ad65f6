"""Requirements of rpc that no vector can show. Names carry the ids of the specs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from edgenet_node.adapters.libp2p_network import calls, frames
from edgenet_node.adapters.libp2p_network.limits import NetworkSettings
from edgenet_node.errors import Refused
from edgenet_node.wire import registry

from .streams import Blames, ScriptedPipe

# -- rpc: the real ends of a stream, their other end a script


async def answer_all(
    script: bytes, handler: Callable[[bytes], Awaitable[bytes]]
) -> tuple[list[frames.Frame], Blames, bool]:
    """What the acceptor sends to this script, whether it blamed, and whether the stream ended in good order."""
    pipe: Any = ScriptedPipe(script)
    blames = Blames()
    clean = await calls.Server(pipe, handler, NetworkSettings(), blames.report).run()
    decoder = frames.FrameDecoder(registry.FRAME_BYTES_MAX)
    decoder.feed(pipe.sent)
    return list(iter(decoder.next, None)), blames, clean


async def echo(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return b"re:" + request


def request(number: int, payload: bytes) -> bytes:
    return frames.encode(frames.REQUEST, number, payload)


async def test_rpc_3_5_every_request_gets_one_answer_under_its_id() -> None:
    sent, blames, clean = await answer_all(request(1, b"a") + request(9, b"b") + request(2, b"c"), echo)
    assert clean
    assert not blames.reasons
    found = sorted((frame.id, frame.kind, frame.payload) for frame in sent)
    assert found == [(1, 1, b"re:a"), (2, 1, b"re:c"), (9, 1, b"re:b")]


@pytest.mark.parametrize(
    "script",
    [
        request(0, b"a"),
        frames.encode(frames.RESPONSE, 1, b"a"),
        frames.encode(frames.ERROR, 1, b"a"),
        request(1, b"a")[:-1],
        b"\0" * 4,
    ],
    ids=["request 0", "response", "error", "cut short", "half a header"],
)
async def test_rpc_3_4_9_what_an_opener_may_not_send_is_blamed(script: bytes) -> None:
    _, blames, clean = await answer_all(script, echo)
    assert not clean
    assert len(blames.reasons) == 1


async def test_rpc_3_an_id_that_is_open_cannot_be_used_again() -> None:
    async def never(_: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    _, blames, clean = await answer_all(request(1, b"a") + request(1, b"b"), never)
    assert not clean
    assert len(blames.reasons) == 1


async def test_rpc_6_a_cancelled_request_is_withdrawn_and_an_unknown_one_is_harmless() -> None:
    withdrawn = []

    async def wait(payload: bytes) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            withdrawn.append(payload)
        raise AssertionError

    script = request(1, b"a") + frames.encode(frames.CANCEL, 1) + frames.encode(frames.CANCEL, 77)
    with trio.fail_after(5):
        sent, blames, clean = await answer_all(script, wait)
    assert clean
    assert sent == []
    assert not blames.reasons
    assert withdrawn == [b"a"]


async def test_rpc_8_an_error_with_id_0_ends_every_call_with_its_reason() -> None:
    pipe: Any = ScriptedPipe(frames.encode_error(0, Refused("another swarm")))
    stream = calls.ClientStream(pipe, NetworkSettings(), Blames().report)
    slots = [stream.start(b"a")[1], stream.start(b"b")[1]]
    await stream.run()
    for slot in slots:
        assert isinstance(slot.error, Refused)
        assert slot.error.message == "another swarm"
