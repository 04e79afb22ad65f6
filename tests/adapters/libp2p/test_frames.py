"""The frame layout, hostile lengths, and what errors become on the other side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node import errors
from edgenet_node.adapters.libp2p_network.frames import (
    ERROR,
    RESPONSE,
    Frame,
    FrameDecoder,
    decode_error,
    encode,
    encode_error,
)
from edgenet_node.errors import EdgenetError, Malformed, TooLarge

frames = st.builds(Frame, st.integers(0, 3), st.integers(0, 2**64 - 1), st.binary(max_size=200))


def test_known_bytes() -> None:
    assert encode(1, 0x0102, b"ok") == bytes.fromhex("0000000b 0000000000000102 01 6f6b".replace(" ", ""))


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_frames_survive_any_cutting(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode(f.kind, f.id, f.payload) for f in sent)
    decoder = FrameDecoder(200)
    got = []
    at = turn = 0
    while at < len(data):
        decoder.feed(data[at : at + cuts[turn % len(cuts)]])
        at += cuts[turn % len(cuts)]
        turn += 1
        while frame := decoder.next():
            got.append(frame)
    assert got == sent
    assert decoder.phase == 0


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_frames_or_refused(data: bytes) -> None:
    decoder = FrameDecoder(100)
    decoder.feed(data)
    try:
        while frame := decoder.next():
            assert frame.kind <= 3
            assert len(frame.payload) <= 100
    except (Malformed, TooLarge):
        return
    assert decoder.missing() > 0


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("ffffffff 0000000000000001 00", TooLarge),
        ("0000006e 0000000000000001 00", TooLarge),
        ("00000008 0000000000000001 00", Malformed),
        ("00000000 0000000000000001 00", Malformed),
        ("00000009 0000000000000001 04", Malformed),
        ("00000009 0000000000000001 ff", Malformed),
    ],
)
def test_a_bad_header_is_refused_before_its_body(header: str, error: type[EdgenetError]) -> None:
    decoder = FrameDecoder(100)
    decoder.feed(bytes.fromhex(header.replace(" ", "")))
    with pytest.raises(error):
        decoder.next()


@pytest.mark.parametrize(
    "error",
    [
        errors.Refused("no"),
        errors.WrongSwarm("other"),
        errors.Overloaded("busy", retry_after_s=2.5),
        errors.TimedOut("late"),
        errors.TooLarge("big"),
        errors.Malformed("bad"),
        errors.InvalidResult("wrong"),
        errors.NotFound("none"),
        errors.Conflict("twice"),
        errors.Cancelled("gone"),
        errors.UsageError("how"),
    ],
)
def test_errors_keep_their_type(error: EdgenetError) -> None:
    back = over_the_wire(error)
    assert type(back) is type(error)
    assert back.message == error.message
    assert back.retry_after_s == error.retry_after_s


@pytest.mark.parametrize("error", [errors.StoreFull("disk"), errors.KeystoreError("key"), errors.ComputeFailed("div")])
def test_a_peers_local_trouble_is_not_ours(error: EdgenetError) -> None:
    back = over_the_wire(error)
    assert type(back) is errors.RemoteError
    assert back.peer == "peer"


def test_foreign_exceptions_do_not_leak_their_text() -> None:
    assert "secret" not in over_the_wire(ValueError("secret")).message


@given(st.binary(max_size=60))
def test_hostile_error_bodies_become_errors(payload: bytes) -> None:
    error = decode_error(payload, "peer")
    assert 0 <= error.retry_after_s <= 3600


def test_an_absurd_retry_is_not_believed() -> None:
    assert over_the_wire(errors.Overloaded("busy", retry_after_s=float("inf"))).retry_after_s == 0
    assert over_the_wire(errors.Overloaded("busy", retry_after_s=float("nan"))).retry_after_s == 0


def over_the_wire(error: Exception) -> EdgenetError:
    decoder = FrameDecoder(1000)
    decoder.feed(encode_error(7, error))
    frame = decoder.next()
    assert frame is not None
    assert (frame.kind, frame.id) == (ERROR, 7)
    assert frame.kind != RESPONSE
    return decode_error(frame.payload, "peer")
