"""The segment file: an immutable, memory-mappable table of unit vectors with ids, texts and metadata.

    offset 0   magic and version (8 bytes), length of the header (u32 LE), header (canonical MessagePack of `Header`)
    then, each section at the next multiple of 64 and padded with zeros before it:
               vectors    float32 LE, rows x dimension, row-major
               id_ends    u32 LE x rows: where each id ends in `ids`
               text_ends  u32 LE x rows: where each text ends in `texts`
               ids        UTF-8, one after the other, strictly ascending (so that row order is id order)
               texts      UTF-8, one after the other
               columns    canonical MessagePack, a list of `Column` in ascending order of key
    The file ends where the last section ends.

All offsets follow from the header, so there are none to check. A content has exactly one encoding: `build` of what
`parse` accepts gives the same bytes, but for the last bits of vectors that were not quite of unit length. Vectors are
of unit length, or zero where there was nothing to normalise (their cosine with everything is 0 by definition here).
`salt` makes the digest of a segment its owner's alone: two segments never share a name by having the same content.

A holder receives these files from strangers. `parse` trusts no byte of them: anything else than the above is
`Malformed`, and costs no more memory than the file itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import Malformed, RemoteError, UsageError
from ..kernels.search import normalise
from ..wire.codec import Wire, decode_canonical, encode
from ..wire.fields import MetadataKey, MetadataValue
from ..wire.index import DIMENSION_MAX, METADATA_MAX, TEXT_CHARS_MAX
from .rows import Document
from .settings import SEGMENT_ROWS_MAX

Buffer = Any
"""bytes, or a read-only `mmap`: what `memoryview` takes."""

MAGIC: Final = b"EDGSEG\x00\x01"
ALIGN: Final = 64
"""A cache line, and what AVX-512 loads want."""

HEADER_BYTES_MAX: Final = 1024
ROWS_MAX: Final = SEGMENT_ROWS_MAX

COLUMNS_MAX: Final = 64
"""Metadata keys of one index; each costs two bytes a row."""

SALT_BYTES: Final = 16
ID_CHARS_MAX: Final = 512
UNIT_TOLERANCE: Final = 1e-3
"""Of a squared norm: float32 rounding over 4096 components stays below 1e-5, so this refuses no honest vector."""

_PREFIX: Final = struct.Struct("<8sI")
_U32: Final = np.dtype("<u4")
_U16: Final = np.dtype("<u2")
_F32: Final = np.dtype("<f4")
_MODEL_CHARS_MAX: Final = 128
_COLUMN_BYTES_MAX: Final = 64 * 1024 * 1024


class Header(Wire):
    """`id_bytes`, `text_bytes` and `column_bytes` are the lengths of the three sections that are not arrays."""

    model: Annotated[str, Meta(max_length=_MODEL_CHARS_MAX)]
    dimension: Annotated[int, Meta(ge=1, le=DIMENSION_MAX)]
    rows: Annotated[int, Meta(ge=1, le=ROWS_MAX)]
    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    id_bytes: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    text_bytes: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    column_bytes: Annotated[int, Meta(ge=1, le=_COLUMN_BYTES_MAX)]


class Column(Wire):
    """One metadata key. `codes` (u16 LE a row): 0 where a row lacks the key, else 1 + the index into `values`, which
    stand in the order of their first use."""

    key: MetadataKey
    values: Annotated[list[MetadataValue], Meta(min_length=1, max_length=ROWS_MAX)]
    codes: bytes


Columns = Annotated[list[Column], Meta(max_length=COLUMNS_MAX)]


class Segment:
    """A parsed segment. `vectors` (rows x dimension, float32) and all else are read-only views of the buffer; texts
    are decoded one at a time."""

    __slots__ = ("_id_ends", "_ids", "_text_ends", "_texts", "columns", "header", "size", "vectors")

    def __init__(self, header: Header, sections: Sequence[memoryview], columns: dict[str, _Codes], size: int) -> None:
        self.header = header
        self.size = size
        self.vectors: NDArray[np.float32] = np.frombuffer(sections[0], _F32).reshape(header.rows, header.dimension)
        self._id_ends = np.frombuffer(sections[1], _U32)
        self._text_ends = np.frombuffer(sections[2], _U32)
        self._ids, self._texts = sections[3], sections[4]
        self.columns = columns

    def id(self, row: int) -> str:
        return _slice(self._ids, self._id_ends, row)

    def text(self, row: int) -> str:
        return _slice(self._texts, self._text_ends, row)

    def ids(self) -> list[str]:
        """`Malformed` when the section is not a list of ids."""
        return list(_strings(self._ids, self._id_ends, "ids", ID_CHARS_MAX))

    def check_texts(self) -> None:
        """`Malformed` when the section is not a list of texts."""
        for _ in _strings(self._texts, self._text_ends, "texts", TEXT_CHARS_MAX):
            pass

    def metadata(self, row: int) -> dict[str, str]:
        """Sorted by key."""
        coded = ((key, column.values, column.codes.item(row)) for key, column in self.columns.items())
        return {key: values[code - 1] for key, values, code in coded if code}

    def document(self, row: int) -> Document:
        return Document(id=self.id(row), text=self.text(row), metadata=self.metadata(row))

    def matching(self, where: dict[str, str]) -> NDArray[np.bool_] | None:
        """Rows whose metadata has all of these values; None when there is no condition."""
        mask: NDArray[np.bool_] | None = None
        for key, value in where.items():
            column = self.columns.get(key)
            code = column.index.get(value, 0) if column else 0
            if column is None or code == 0:
                return np.zeros(self.header.rows, np.bool_)
            found = column.codes == code
            mask = found if mask is None else mask & found
        return mask


class _Codes:
    """A column ready for filtering."""

    __slots__ = ("codes", "index", "values")

    def __init__(self, values: list[str], codes: bytes) -> None:
        self.values = values
        self.codes: NDArray[np.uint16] = np.frombuffer(codes, _U16)
        self.index = {value: code for code, value in enumerate(values, 1)}


def build(vectors: NDArray[np.float32], documents: Sequence[Document], *, model: str, salt: bytes) -> bytes:
    """The file for `documents` (ids strictly ascending) and their `vectors` (rows x dimension, any length, finite).

    `UsageError` when they do not fit together or exceed a limit of the format.
    """
    if vectors.ndim != 2 or vectors.shape[0] != len(documents):
        raise UsageError(f"{len(documents)} documents with vectors of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise UsageError("vectors that are not finite")
    ids = [document.id for document in documents]
    if any(a >= b for a, b in pairwise(ids)):
        raise UsageError("ids must be distinct and ascending")
    id_ends, id_blob = _join(ids)
    text_ends, text_blob = _join([document.text for document in documents])
    columns = encode(_columns(documents))
    rows, dimension = vectors.shape
    header = Header(model, dimension, rows, salt, len(id_blob), len(text_blob), len(columns))
    try:
        decode_canonical(encode(header), Header, bytes_max=HEADER_BYTES_MAX)
    except RemoteError as error:
        raise UsageError(f"a segment cannot hold this: {error}") from error
    return _assemble(
        header, [normalise(np.asarray(vectors, _F32)).tobytes(), id_ends, text_ends, id_blob, text_blob, columns]
    )


def parse(data: Buffer, *, inspect: bool = True) -> Segment:
    """Read a segment; `data` must outlive it. `Malformed` for anything that `build` does not produce.

    Without `inspect` vectors, ids and texts are not read: for files that passed it before and are kept by digest.
    """
    view = memoryview(data)
    header, start = _read_header(view)
    spans, end = _layout(header, start)
    if end != len(view):
        raise Malformed(f"segment: {len(view)} bytes where its header says {end}")
    columns = _read_columns(view[spans[5][0] : spans[5][1]], header.rows)
    segment = Segment(header, [view[a:b] for a, b in spans[:5]], columns, end)
    if inspect:
        _inspect(view, segment, start, spans)
    return segment


def bitmap_rows(bitmap: bytes, rows: int) -> NDArray[np.bool_]:
    """Flags of `rows` rows from bits, least significant first; missing bytes are zeros. `Malformed` for bits beyond."""
    flags = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    if flags[rows:].any():
        raise Malformed("a bitmap with rows that the segment does not have")
    full = np.zeros(rows, np.bool_)
    full[: len(flags)] = flags[:rows]
    return full


def _read_header(view: memoryview) -> tuple[Header, int]:
    if len(view) < _PREFIX.size:
        raise Malformed("segment: shorter than its prefix")
    magic, length = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise Malformed("segment: not a segment file, or of another version")
    if length > HEADER_BYTES_MAX or _PREFIX.size + length > len(view):
        raise Malformed("segment: a header that does not fit")
    start = _PREFIX.size + length
    return decode_canonical(bytes(view[_PREFIX.size : start]), Header, bytes_max=HEADER_BYTES_MAX), start


def _layout(header: Header, start: int) -> tuple[list[tuple[int, int]], int]:
    """(begin, end) of the six sections, and the length of the file."""
    rows = header.rows
    lengths = [4 * rows * header.dimension, 4 * rows, 4 * rows, header.id_bytes, header.text_bytes, header.column_bytes]
    spans, end = [], start
    for length in lengths:
        begin = -(-end // ALIGN) * ALIGN
        end = begin + length
        spans.append((begin, end))
    return spans, end


def _assemble(header: Header, sections: Sequence[bytes]) -> bytes:
    encoded = encode(header)
    start = _PREFIX.size + len(encoded)
    spans, end = _layout(header, start)
    data = bytearray(end)
    data[:start] = _PREFIX.pack(MAGIC, len(encoded)) + encoded
    for (a, b), section in zip(spans, sections, strict=True):
        data[a:b] = section
    return bytes(data)


def _inspect(view: memoryview, segment: Segment, start: int, spans: Sequence[tuple[int, int]]) -> None:
    begins, ends = [a for a, _ in spans], [start, *(b for _, b in spans[:-1])]
    if any(any(view[a:b]) for a, b in zip(ends, begins, strict=True)):
        raise Malformed("segment: padding that is not zero")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.einsum("ij,ij->i", segment.vectors, segment.vectors)
    # A comparison with NaN or infinity is false, so this refuses those too.
    if not ((np.abs(norms - 1) <= UNIT_TOLERANCE) | ~segment.vectors.any(axis=1)).all():
        raise Malformed("segment: a vector that is neither of unit length nor zero")
    ids = segment.ids()
    if not ids[0] or any(a >= b for a, b in pairwise(ids)):
        raise Malformed("segment: ids are empty, or not distinct and ascending")
    segment.check_texts()


def _strings(blob: memoryview, ends: NDArray[np.uint32], name: str, chars_max: int) -> Iterator[str]:
    if int(ends[-1]) != len(blob) or (np.diff(ends.astype(np.int64)) < 0).any():
        raise Malformed(f"segment: the ends of its {name} do not ascend to their length")
    begin = 0
    try:
        for end in ends.tolist():
            string = str(blob[begin:end], "utf-8")
            if len(string) > chars_max:
                raise Malformed(f"segment: one of its {name} has more than {chars_max} characters")
            yield string
            begin = end
    except UnicodeDecodeError as error:
        raise Malformed(f"segment: {name} that are not UTF-8") from error


def _read_columns(view: memoryview, rows: int) -> dict[str, _Codes]:
    columns = decode_canonical(bytes(view), Columns, bytes_max=_COLUMN_BYTES_MAX)
    keys = [column.key for column in columns]
    if any(a >= b for a, b in pairwise(keys)):
        raise Malformed("segment: metadata keys are not distinct and ascending")
    for column in columns:
        if len(column.codes) != 2 * rows:
            raise Malformed("segment: a metadata column of another length")
        used, first = np.unique(np.frombuffer(column.codes, _U16), return_index=True)
        used, first = used[used > 0], first[used > 0]
        if len(set(column.values)) != len(column.values):
            raise Malformed("segment: a metadata column with repeated values")
        if used.tolist() != list(range(1, len(column.values) + 1)) or (np.diff(first) < 0).any():
            raise Malformed("segment: metadata codes do not stand for their values in order of first use")
    if len(columns) > METADATA_MAX:
        used_keys = sum(np.frombuffer(column.codes, _U16) > 0 for column in columns)
        if np.max(used_keys) > METADATA_MAX:
            raise Malformed(f"segment: a row with more than {METADATA_MAX} metadata keys")
    return {column.key: _Codes(column.values, column.codes) for column in columns}


def _columns(documents: Sequence[Document]) -> list[Column]:
    columns = []
    keys = sorted({key for document in documents for key in document.metadata})
    if len(keys) > COLUMNS_MAX:
        raise UsageError(f"{len(keys)} metadata keys in one segment, at most {COLUMNS_MAX} are possible")
    for key in keys:
        index: dict[str, int] = {}
        codes = np.zeros(len(documents), _U16)
        for row, document in enumerate(documents):
            value = document.metadata.get(key)
            if value is not None:
                codes[row] = index.setdefault(value, len(index) + 1)
        columns.append(Column(key, list(index), codes.tobytes()))
    return columns


def _join(strings: Sequence[str]) -> tuple[bytes, bytes]:
    try:
        parts = [string.encode() for string in strings]
    except UnicodeEncodeError as error:
        raise UsageError("text with a lone surrogate") from error
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    if len(ends) and ends[-1] >= 2**32:
        raise UsageError("more than 4 GiB of text in one segment")
    return ends.astype(_U32).tobytes(), b"".join(parts)


def _slice(blob: memoryview, ends: NDArray[np.uint32], row: int) -> str:
    begin = ends.item(row - 1) if row else 0
    return str(blob[begin : ends.item(row)], "utf-8")
