"""The codec: one encoding for each value, and two errors for everything else."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import struct
import tracemalloc
from enum import Enum
from typing import Any, Literal

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from edgenet_node.effects import Query
from edgenet_node.errors import InvariantError, Malformed, TooLarge, UsageError
from edgenet_node.wire.codec import DEPTH_MAX, Wire, decode, decode_canonical, encode

BYTES_MAX = 4096


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Wire):
    name: str
    weight: float = 1.0


class Sample(Wire):
    number: int
    text: str = ""
    blob: bytes = b""
    flag: bool = False
    inner: Inner | None = None
    items: tuple[int, ...] = ()
    notes: dict[str, int] = {}
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"


class Result(Wire):
    units: int


class Run(Wire, Query[Result]):
    task: str
    units: int = 0


class RunWithoutWire(Query[Result], frozen=True, forbid_unknown_fields=True):
    task: str


class Loose(Wire):
    value: Any


class Tree(Wire):
    children: tuple[Tree, ...] = ()


class Checked(Wire):
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("share must lie between 0 and 1")


samples = st.builds(
    Sample,
    number=st.integers(-(2**63), 2**64 - 1),
    text=st.text(),
    blob=st.binary(),
    flag=st.booleans(),
    inner=st.none() | st.builds(Inner, name=st.text(), weight=st.floats(allow_nan=False, allow_infinity=False)),
    items=st.lists(st.integers(-(2**63), 2**64 - 1), max_size=20).map(tuple),
    notes=st.dictionaries(st.text(max_size=8), st.integers(0, 300), max_size=8),
    colour=st.sampled_from(Colour),
    mode=st.sampled_from(("a", "b")),
)


@given(samples)
def test_every_value_survives_and_is_canonical(value: Sample) -> None:
    data = encode(value)
    assert decode(data, Sample, bytes_max=len(data)) == value
    assert decode_canonical(data, Sample, bytes_max=len(data)) == value
    assert encode(decode(data, Sample, bytes_max=len(data))) == data


@given(samples)
def test_an_independent_reader_sees_the_same_map_in_order_of_declaration(value: Sample) -> None:
    seen = msgpack.unpackb(encode(value), raw=False)
    assert list(seen) == list(Sample.__struct_fields__)
    assert seen["blob"] == value.blob
    assert seen["number"] == value.number
    assert list(seen["notes"]) == sorted(value.notes, key=lambda key: key.encode())


def test_bytes_are_as_the_specification_of_messagepack_says() -> None:
    assert encode(Run("t", 300)) == bytes.fromhex("82 a4 7461736b a1 74 a5 756e697473 cd 012c".replace(" ", ""))
    assert encode({"b": 1, "a": b"\x00"}) == bytes.fromhex("82a161c40100a16201")


@pytest.mark.parametrize("kind", [Run, RunWithoutWire])
def test_queries_travel(kind: type[Run]) -> None:
    value = kind("t1")
    assert decode(encode(value), kind, bytes_max=BYTES_MAX) == value
    with pytest.raises(AttributeError):
        value.task = "t2"  # type: ignore[misc]


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_the_two_errors(data: bytes) -> None:
    for kind in (Sample, Loose, Tree, Run, Any, list[Any], msgspec.Raw):
        said = ""
        try:
            value = decode(data, kind, bytes_max=300)
        except (Malformed, TooLarge) as error:
            said = error.message
            assert len(said) < 250
        else:
            assert isinstance(encode(value), bytes)
        assert said.isascii()
        assert said == "" or said.isprintable()


@given(samples, st.data())
def test_a_changed_byte_is_another_value_or_an_error(value: Sample, data: st.DataObject) -> None:
    good = encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with contextlib.suppress(Malformed):
        assert decode_canonical(bad, Sample, bytes_max=2 * len(good)) != value
    with pytest.raises(Malformed):
        decode(good[:at], Sample, bytes_max=len(good))
    with pytest.raises(Malformed):
        decode(good + bad, Sample, bytes_max=3 * len(good))


def _run_bytes(units: bytes) -> bytes:
    return b"\x82\xa4task\xa1t\xa5units" + units


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_run_bytes(b"\xcc\x05"), "integer of two bytes where one is enough"),
        (_run_bytes(b"\xd3" + bytes(7) + b"\x05"), "integer of nine bytes"),
        (b"\x83" + b"\xa5units" + b"\x01" + _run_bytes(b"\x05")[1:], "the same key twice"),
        (b"\x82" + b"\xa5units" + b"\x05" + b"\xa4task" + b"\xa1t", "fields in another order"),
        (b"\x81" + b"\xa4task" + b"\xa1t", "a default left out"),
        (b"\xde\x00\x02" + _run_bytes(b"\x05")[1:], "a long map header"),
        (_run_bytes(b"\x05").replace(b"\xa1t", b"\xd9\x01t"), "a long string header"),
    ],
)
def test_what_is_signed_has_one_form(data: bytes, why: str) -> None:
    assert decode(data, Run, bytes_max=BYTES_MAX).task == "t", why
    with pytest.raises(Malformed, match="canonical"):
        decode_canonical(data, Run, bytes_max=BYTES_MAX)


def test_maps_in_signed_bytes_are_sorted_and_floats_are_numbers_of_64_bits() -> None:
    assert decode_canonical(b"\x82\xa1a\x01\xa1b\x02", dict[str, int], bytes_max=BYTES_MAX) == {"a": 1, "b": 2}
    with pytest.raises(Malformed, match="canonical"):
        decode_canonical(b"\x82\xa1b\x02\xa1a\x01", dict[str, int], bytes_max=BYTES_MAX)
    with pytest.raises(Malformed, match="canonical"):
        decode_canonical(b"\xca" + struct.pack(">f", 1.5), float, bytes_max=BYTES_MAX)
    for bad in (math.nan, math.inf, -math.inf):
        data = encode(Inner("x", bad))
        assert not math.isfinite(decode(data, Inner, bytes_max=BYTES_MAX).weight)
        with pytest.raises(Malformed, match="not a number"):
            decode_canonical(data, Inner, bytes_max=BYTES_MAX)
        with pytest.raises(Malformed, match="not a number"):
            decode_canonical(encode(Loose([{"deep": bad}])), Loose, bytes_max=BYTES_MAX)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x90",
        encode({"task": "t", "units": 0, "extra": 1}),
        encode({"units": 0}),
        encode({"task": 1, "units": 0}),
        encode({"task": "t", "units": True}),
        encode({"task": "t", "units": 1.5}),
        encode({"task": b"t", "units": 1}),
        b"\x81\xa4task\xa1\xff",  # invalid UTF-8
        b"\x81\xa4task\xa3\xed\xa0\x80",  # a lone surrogate
        b"\x81\x90\x01",  # a key that is a list
        b"\x81\x80\x01",  # a key that is a map
        b"\x81\xa4task\xd4\x05\x00",  # an extension
    ],
)
def test_wrong_types_and_fields_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="Run"):
        decode(data, Run, bytes_max=BYTES_MAX)


@pytest.mark.parametrize(
    "value",
    [
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp, which a decoder may turn into a date
        b"\xd4\x05\x01",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\x81\x01\x02",  # a map with a number as key
        b"\x81\x90\x01",
        b"\x91" * (DEPTH_MAX + 1) + b"\x90",
        b"\x91" * 100_000 + b"\x90",
        b"\x81\xa1a" * 100_000 + b"\x90",
    ],
)
def test_fields_of_any_type_hold_plain_values_only(value: bytes) -> None:
    for data in (b"\x81\xa5value" + value, b"\x81\xa5value\x91\x81\xa1k" + value):
        for read in (decode, decode_canonical):
            with pytest.raises(Malformed):
                read(data, Loose, bytes_max=len(data))


def test_depth_is_bounded_for_types_that_contain_themselves() -> None:
    def tree(levels: int) -> bytes:
        return b"\x81\xa8children\x91" * levels + b"\x81\xa8children\x90"

    assert decode_canonical(tree(DEPTH_MAX // 2 - 1), Tree, bytes_max=1 << 20).children
    for levels in (DEPTH_MAX, 20_000):
        with pytest.raises(Malformed):
            decode(tree(levels), Tree, bytes_max=1 << 20)


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_giant_length_allocates_nothing(head: bytes) -> None:
    data = b"\x81\xa5value" + head + b"\xff\xff\xff\xff" + b"\x00" * 16
    decode(encode(Loose(1)), Loose, bytes_max=BYTES_MAX)  # the decoder exists
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode(data, Loose, bytes_max=BYTES_MAX)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_too_large_is_said_before_a_byte_is_read() -> None:
    with pytest.raises(TooLarge, match="11 bytes, at most 10"):
        decode(b"\xc1" * 11, Run, bytes_max=10)


def test_complaints_do_not_repeat_control_characters_or_floods() -> None:
    data = encode({"\x1b[31m\n" + "x" * 3000: 1})
    with pytest.raises(Malformed) as caught:
        decode(data, Run, bytes_max=BYTES_MAX)
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


def test_a_check_of_fields_speaks_for_itself() -> None:
    with pytest.raises(Malformed, match="between 0 and 1"):
        decode(encode({"share": 2.0}), Checked, bytes_max=BYTES_MAX)


@pytest.mark.parametrize("value", ["\ud800", 2**64, {1: 2}, object(), {"x": Loose("\udfff")}])
def test_what_has_no_form_is_our_own_mistake(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot encode"):
        encode(value)


def test_endless_values_are_our_own_mistake() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UsageError, match="cannot encode list"):
        encode(loop)


def test_types_that_could_be_misread_are_refused() -> None:
    class Open(Struct, frozen=True):
        x: int

    class Mutable(Struct, forbid_unknown_fields=True):
        x: int

    class Dated(Wire):
        at: dt.datetime

    for kind in (Open, list[Mutable], dict[int, int], Dated, Open | None):
        with pytest.raises(InvariantError):
            decode(b"\x90", kind, bytes_max=BYTES_MAX)
    with pytest.raises(InvariantError, match="Raw"):
        decode_canonical(b"\x01", msgspec.Raw, bytes_max=BYTES_MAX)
    assert bytes(decode(b"\x01", msgspec.Raw, bytes_max=BYTES_MAX)) == b"\x01"
