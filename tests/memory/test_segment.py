"""The segment file: what goes in comes out, there is one encoding, and a stranger's bytes are `Malformed`."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgenet_node.errors import Malformed, UsageError
from edgenet_node.memory import segment as files
from edgenet_node.memory.rows import Document
from edgenet_node.memory.search_worker import inspect
from edgenet_node.wire.codec import encode

from .oracle import PlainContext

SALT = bytes(range(16))
text = st.text(st.characters(codec="utf-8"), max_size=20)
metadata = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("xyz", max_size=3), max_size=4)


@st.composite
def contents(draw: Any) -> tuple[NDArray[np.float32], list[Document]]:
    ids = sorted(draw(st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=12)))
    documents = [Document(name, draw(text), draw(metadata)) for name in ids]
    dimension = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = rng.standard_normal((len(ids), dimension)).astype(np.float32) * draw(
        st.sampled_from((0.0, 1e-30, 1, 1e30))
    )
    return vectors, documents


def small() -> bytes:
    documents = [Document("a", "one", {"lang": "en"}), Document("b", "zwei", {"lang": "de", "year": "1990"})]
    return files.build(np.asarray([[3, 4, 0], [0, 0, 0]], np.float32), documents, model="m", salt=SALT)


@given(contents())
def test_what_goes_in_comes_out(content: tuple[NDArray[np.float32], list[Document]]) -> None:
    vectors, documents = content
    data = files.build(vectors, documents, model="a model", salt=SALT)
    segment = files.parse(data)
    assert [segment.document(row) for row in range(len(documents))] == documents
    begin = np.frombuffer(data, np.uint8).ctypes.data
    assert (segment.vectors.ctypes.data - begin) % files.ALIGN == 0
    norms = np.linalg.norm(segment.vectors.astype(np.float64), axis=1)
    assert np.allclose(norms[vectors.any(axis=1)], 1, atol=1e-6)
    assert not segment.vectors[~vectors.any(axis=1)].any()
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    assert np.allclose(segment.vectors * lengths, wide, rtol=1e-5, atol=1e-6 * np.abs(wide).max(initial=0))


@given(contents())
def test_there_is_one_encoding(content: tuple[NDArray[np.float32], list[Document]]) -> None:
    vectors, documents = content
    unit = np.zeros_like(vectors)
    unit[np.arange(len(vectors)), np.arange(len(vectors)) % vectors.shape[1]] = 1
    data = files.build(unit, documents, model="m", salt=SALT)
    again = files.parse(data)
    rows = [again.document(row) for row in range(len(documents))]
    assert files.build(again.vectors, rows, model=again.header.model, salt=again.header.salt) == data


@given(contents(), metadata)
def test_a_filter_finds_the_rows_that_have_all_values(
    content: tuple[NDArray[np.float32], list[Document]], where: dict[str, str]
) -> None:
    vectors, documents = content
    segment = files.parse(files.build(vectors, documents, model="m", salt=SALT))
    mask = segment.matching(where)
    plain = [all(one.metadata.get(key) == value for key, value in where.items()) for one in documents]
    assert plain == ([True] * len(documents) if mask is None else mask.tolist())


@settings(max_examples=400)
@given(st.data())
def test_damaged_segments_are_malformed_or_still_valid(data: st.DataObject) -> None:
    good = bytearray(small())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        what = data.draw(st.sampled_from(("flip", "cut", "insert", "zero")))
        if what == "flip":
            good[at] ^= 1 << data.draw(st.integers(0, 7))
        elif what == "cut":
            del good[at:]
            good = good or bytearray(1)
        elif what == "insert":
            good[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            good[at : at + 4] = bytes(4)
    try:
        segment = files.parse(bytes(good))
    except Malformed:
        return
    rows = [segment.document(row) for row in range(segment.header.rows)]
    assert np.isfinite(segment.vectors).all()
    assert sorted(row.id for row in rows) == [row.id for row in rows]


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for candidate in (data, files.MAGIC + data, files.MAGIC + struct.pack("<I", max(len(data), 1)) + data):
        with pytest.raises(Malformed):
            files.parse(candidate)


def header(**changes: Any) -> bytes:
    """A file that consists of a header alone."""
    values = {"model": "m", "dimension": 1, "rows": 1, "salt": SALT, "id_bytes": 1, "text_bytes": 0, "column_bytes": 1}
    encoded = encode(values | changes)
    return files.MAGIC + struct.pack("<I", len(encoded)) + encoded


def rewritten(section: int, content: bytes) -> bytes:
    """`small()` with one section replaced by another of the same length."""
    data = bytearray(small())
    length = struct.unpack_from("<I", data, 8)[0]
    parsed = files.parse(bytes(data))
    spans, _ = files._layout(parsed.header, 12 + length)
    begin, end = spans[section]
    assert len(content) == end - begin
    data[begin:end] = content
    return bytes(data)


def swapped(old: bytes, new: bytes) -> bytes:
    data = small()
    assert len(old) == len(new)
    assert data.count(old) == 1
    return data.replace(old, new)


U32 = struct.Struct("<2I")
HOSTILE = {
    "empty": b"",
    "short": b"EDG",
    "another version": b"EDGSEG\x00\x02" + small()[8:],
    "a header longer than the file": files.MAGIC + struct.pack("<I", 900) + b"\x80",
    "a header above its limit": files.MAGIC + struct.pack("<I", 2**32 - 1) + bytes(2000),
    "an unknown header field": header(more=1),
    "no rows": header(rows=0),
    "too many rows": header(rows=files.ROWS_MAX + 1),
    "negative rows": header(rows=-1),
    "huge dimension": header(dimension=2**40),
    "sections that are not there": header(rows=files.ROWS_MAX, dimension=4096, text_bytes=2**32 - 1),
    "short salt": header(salt=b"x"),
    "trailing byte": small() + b"\x00",
    "last byte missing": small()[:-1],
    "a long vector": rewritten(0, np.asarray([3, 4, 0, 0, 0, 0], "<f4").tobytes()),
    "a vector that is not a number": rewritten(0, np.asarray([np.nan, 0, 0, 0, 0, 0], "<f4").tobytes()),
    "an infinite vector": rewritten(0, np.asarray([np.inf, 0, 0, 0, 0, 0], "<f4").tobytes()),
    "a vector whose square overflows": rewritten(0, np.asarray([3e38, 0, 0, 0, 0, 0], "<f4").tobytes()),
    "id ends that descend": rewritten(1, U32.pack(2, 1)),
    "id ends beyond the ids": rewritten(1, U32.pack(1, 9)),
    "an empty id": rewritten(1, U32.pack(0, 2)),
    "text ends that descend": rewritten(2, U32.pack(2**32 - 1, 7)),
    "text ends short of the texts": rewritten(2, U32.pack(3, 6)),
    "ids in the wrong order": rewritten(3, b"ba"),
    "an id twice": rewritten(3, b"aa"),
    "ids that are not UTF-8": rewritten(3, b"\xc3\x28"),
    "texts that are not UTF-8": rewritten(4, b"onezw\xff\xfe"),
    "a column key twice": swapped(b"\xa4year", b"\xa4lang"),
    "columns in the wrong order": swapped(b"\xa4lang", b"\xa4zang"),
    "a column value twice": swapped(b"\xa2de", b"\xa2en"),
    "codes without a value": swapped(b"\x01\x00\x02\x00", b"\x01\x00\x03\x00"),
    "codes not in order of use": swapped(b"\x01\x00\x02\x00", b"\x02\x00\x01\x00"),
    "an unused value": swapped(b"\x01\x00\x02\x00", b"\x01\x00\x01\x00"),
    "codes of another length": swapped(b"\xc4\x04\x01\x00\x02\x00", b"\xc4\x03\x01\x00\x02\x00"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_segments_are_malformed(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        files.parse(data)
    path = tmp_path / "segment"
    path.write_bytes(data)
    assert inspect(PlainContext(), str(path))["wrong"]


def test_padding_is_zero() -> None:
    data = bytearray(small())
    length = struct.unpack_from("<I", data, 8)[0]
    assert data[12 + length] == 0
    data[12 + length] = 1
    with pytest.raises(Malformed, match="padding"):
        files.parse(bytes(data))


UNBUILDABLE = {
    "ids out of order": ([Document("b", "", {}), Document("a", "", {})], np.ones((2, 2), np.float32), "m"),
    "an id twice": ([Document("a", "", {}), Document("a", "", {})], np.ones((2, 2), np.float32), "m"),
    "more vectors than documents": ([Document("a", "", {})], np.ones((2, 2), np.float32), "m"),
    "no documents": ([], np.ones((0, 2), np.float32), "m"),
    "not finite": ([Document("a", "", {})], np.full((1, 2), np.nan, np.float32), "m"),
    "one axis": ([Document("a", "", {})], np.ones(1, np.float32), "m"),
    "a surrogate": ([Document("a", "\ud800", {})], np.ones((1, 2), np.float32), "m"),
    "a long model name": ([Document("a", "", {})], np.ones((1, 2), np.float32), "m" * 500),
    "too many keys": ([Document("a", "", {f"k{n}": "" for n in range(65)})], np.ones((1, 2), np.float32), "m"),
}


@pytest.mark.parametrize(("documents", "vectors", "model"), UNBUILDABLE.values(), ids=UNBUILDABLE.keys())
def test_what_cannot_be_a_segment_is_refused(documents: list[Document], vectors: Any, model: str) -> None:
    with pytest.raises(UsageError):
        files.build(vectors, documents, model=model, salt=SALT)


def test_bitmaps_name_rows_that_exist() -> None:
    assert files.bitmap_rows(b"", 3).tolist() == [False, False, False]
    assert files.bitmap_rows(b"\x05", 3).tolist() == [True, False, True]
    assert files.bitmap_rows(b"\x01", 9).tolist() == [True] + [False] * 8
    with pytest.raises(Malformed):
        files.bitmap_rows(b"\x08", 3)
