from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import Raw
from msgspec.msgpack import Ext, encode

from edgenet_node.adapters.process_executor import frames
from edgenet_node.adapters.process_executor.ring import HEADER_BYTES, Slab, slab_file

INLINE = 64
LIMIT = 1 << 16


def packer(**limits: int) -> frames.Packer:
    return frames.Packer(**{"inline_bytes_max": INLINE, "frame_bytes_max": 1 << 20, "bulk_bytes_max": LIMIT, **limits})


def through(value: Any, *, copy: bool) -> Any:
    """Both directions of the codec over a slab made of ordinary memory."""
    payload = packer().pack(value)
    slab = bytearray(frames.slab_bytes(LIMIT))
    for offset, data in payload.bulk:
        assert offset >= HEADER_BYTES
        assert offset + data.nbytes <= payload.end <= len(slab)
        slab[offset : offset + data.nbytes] = data
    unpacker = frames.Unpacker(memoryview(slab), bulk_bytes_max=LIMIT, copy=copy)
    result, bulk, end = unpacker.unpack(Raw(payload.raw))
    for offset, data in bulk:
        data[:] = memoryview(slab)[offset : offset + data.nbytes]
    assert end <= payload.end
    return result


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or a != a)


arrays = hnp.arrays(
    st.sampled_from([np.dtype(c) for c in "?bBhHiIqQefdFD"]), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=200)
    | arrays
)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=4) | st.tuples(v, v) | st.dictionaries(st.text(), v, max_size=4)
)


@given(values, st.booleans())
@settings(deadline=None)
def test_values_survive_the_journey(value: Any, copy: bool) -> None:
    assert same(value, through(value, copy=copy))


def test_views_are_read_only_and_copies_are_not() -> None:
    small, large = np.arange(3.0), np.arange(1000.0)
    for seen in through([small, large], copy=False):
        assert not seen.flags.writeable
    for fresh in through([small, large], copy=True):
        assert fresh.flags.writeable
        assert fresh.flags.owndata or fresh.base is not None


def test_bulk_leaves_the_frame_once_the_inline_budget_is_spent() -> None:
    payload = packer().pack([b"x" * INLINE, b"y", np.zeros(0), np.zeros(100, np.uint8)])
    assert [bulk.data.nbytes for bulk in payload.bulk] == [1, 100]
    assert [bulk.offset % 64 for bulk in payload.bulk] == [0, 0]


def test_numpy_scalars_become_plain_numbers() -> None:
    assert through([np.float32(0.5), np.int16(-3), np.bool_(True), np.float64(0.25)], copy=True) == [
        0.5,
        -3,
        True,
        0.25,
    ]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        ({1: 2}, "keys"),
        (np.array(["text"]), "dtype"),
        (np.array([object()]), "dtype"),
        (np.zeros(3, ">f4"), "dtype"),
        (np.zeros((4, 4))[:, ::2], "contiguous"),
        (np.zeros((1,) * 20), "dimensions"),
        (2**64, "serialize ints"),
        ("\ud800", "surrogates"),
        (nested(40), "deeper"),
        ([b""] * (frames.REFS_MAX + 1), "more than"),
        (np.zeros(LIMIT + 1, np.uint8), "more than"),
        ("x" * (1 << 20), "plain structure"),
        (np.complex64(1), "complex64"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(value: Any, word: str) -> None:
    p = packer()
    with pytest.raises(frames.PackError, match=word):
        p.pack([value])
    assert p.pack([b"ok"]).bulk == []  # and nothing of it is left behind


def array(*fields: Any) -> bytes:
    return encode([Ext(1, encode(fields))])


HOSTILE = {
    "not MessagePack": b"\xc1",
    "cut short": encode([1, 2, 3])[:-1],
    "trailing bytes": encode([1]) + b"\x00",
    "nested for ever": b"\x91" * 100_000,
    "a huge list": b"\xdd\xff\xff\xff\xff",
    "unknown extension": encode([Ext(7, b"")]),
    "object dtype": array("|O", [1], b"12345678"),
    "unknown dtype": array("<U4", [1], b"12345678"),
    "negative shape": array("<f8", [-1], b""),
    "two negative dimensions": array("<f8", [-1, -1], b"12345678"),
    "shape larger than the data": array("<f8", [2], b"12345678"),
    "a shape that overflows": array("<f8", [2**62, 4, 0], b""),
    "too many dimensions": array("|u1", [1] * 17, b"1"),
    "outside of the slab": array("|u1", [LIMIT], [HEADER_BYTES, LIMIT * 3]),
    "far outside": array("|u1", [2**40], [HEADER_BYTES, 2**40]),
    "before the slab": array("|u1", [128], [-64, 128]),
    "over the flag": array("|u1", [64], [0, 64]),
    "misaligned": array("|u1", [64], [HEADER_BYTES + 1, 64]),
    "surplus fields": array("|u1", [1], b"1", 5),
    "too few fields": array("|u1", [1]),
    "bytes outside": encode([Ext(2, encode([HEADER_BYTES, 2**40]))]),
    "bytes of negative size": encode([Ext(2, encode([HEADER_BYTES, -5]))]),
    "bytes of another type": encode([Ext(2, encode("text"))]),
    "the same extent over and over": encode([Ext(2, encode([HEADER_BYTES, LIMIT]))] * 2),
    "too many references": encode([Ext(2, encode([HEADER_BYTES, 1]))] * (frames.REFS_MAX + 1)),
    "text that is not UTF-8": b"\x91\xa2\xff\xfe",
}


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_payloads_are_refused(raw: bytes, copy: bool) -> None:
    unpacker = frames.Unpacker(memoryview(bytearray(frames.slab_bytes(LIMIT))), bulk_bytes_max=LIMIT, copy=copy)
    with pytest.raises(frames.FrameError):
        unpacker.unpack(Raw(raw))
    assert unpacker.unpack(Raw(encode([1]))) == ([1], [], HEADER_BYTES)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_payloads_decode_or_are_refused(raw: bytes) -> None:
    unpacker = frames.Unpacker(memoryview(bytearray(1024)), bulk_bytes_max=900, copy=True)
    try:
        _, bulk, end = unpacker.unpack(Raw(raw))
    except frames.FrameError:
        return
    assert all(HEADER_BYTES <= b.offset <= b.offset + b.data.nbytes <= end <= 1024 for b in bulk)


@given(st.binary(max_size=100))
def test_random_messages_decode_or_are_refused(body: bytes) -> None:
    try:
        message = frames.decode_from_worker(body)
    except msgspec.DecodeError:
        return
    assert isinstance(message, frames.Ready | frames.Value | frames.Failure)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 17))
def test_frames_are_cut_wherever_the_stream_breaks(bodies: list[bytes], step: int) -> None:
    stream = b"".join(len(b).to_bytes(4, "big") + b for b in bodies)
    reader = frames.FrameReader(100)
    seen = []
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        while (body := reader.next()) is not None:
            seen.append(body)
    assert seen == bodies


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    reader = frames.FrameReader(100)
    reader.feed((97).to_bytes(4, "big"))
    with pytest.raises(frames.FrameError, match="101 bytes"):
        reader.next()


def test_a_slab_grows_in_powers_of_two_is_reused_and_shrinks() -> None:
    import os

    mib = 1 << 20
    fd = slab_file(HEADER_BYTES + 8 * mib)
    slab = Slab(fd, writable=True)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(fd, 4096)
    assert slab.capacity == HEADER_BYTES + mib
    for end, capacity, reused in [(mib, mib, 1), (2 * mib, 2 * mib, 1), (3 * mib, 4 * mib, 1), (4 * mib, 4 * mib, 2)]:
        slab.reserve(HEADER_BYTES + end)
        assert (slab.capacity, slab.reused) == (HEADER_BYTES + capacity, reused)
    slab.view[3 * mib] = 7
    blocks = os.fstat(fd).st_blocks
    while slab.trim(2 * mib, mib // 2):
        assert slab.capacity > 2 * mib
    assert slab.capacity == 2 * mib
    assert os.fstat(fd).st_blocks < blocks
    assert slab.view[3 * mib] == 0
    with pytest.raises(ValueError, match="do not fit"):
        slab.reserve(slab.size + 1)
    slab.close()
    os.close(fd)
