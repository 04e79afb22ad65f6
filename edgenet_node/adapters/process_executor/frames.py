"""What travels between the parent and a worker, and how bulk is kept out of it.

A frame is a four-byte big-endian length and a MessagePack array whose first element is its tag. The payload
(arguments or result) is embedded MessagePack of None, bool, int (64 bits), float, str, bytes, list, str-keyed dict
and two extensions: 1, an array [dtype, shape, data], and 2, bytes [offset, size]. `data` is either the bytes
themselves or [offset, size] in the sender's slab. What decides sizes is thus in the frame, which is read once; a
worker that rewrites its slab while the parent reads it changes numbers, never bounds.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw, Struct
from msgspec.msgpack import Decoder, Encoder, Ext

from .ring import HEADER_BYTES, aligned

PREFIX_BYTES: Final = 4
REFS_MAX: Final = 4096
"""Arrays and byte strings of one payload; bounds the padding in a slab."""
DEPTH_MAX: Final = 32
NDIM_MAX: Final = 16
MESSAGE_CHARS_MAX: Final = 2000
_EXT_ARRAY: Final = 1
_EXT_BYTES: Final = 2
_DTYPES: Final = {np.dtype(code).str: np.dtype(code) for code in "?bBhHiIqQefdFD"}
_SCALARS: Final = {type(None), bool, int, float, str}
_LEAVES: Final = _SCALARS | {np.ndarray}


class PackError(ValueError):
    """A value that cannot travel: its type, layout or size."""


class FrameError(ValueError):
    """Bytes from the other side that break the protocol."""


class Start(Struct, frozen=True, array_like=True, tag="start"):
    """First frame to a worker: the registered functions, and its limits in the names of `ExecutorSettings`."""

    functions: dict[str, str]
    memory_bytes_max: int
    inline_bytes_max: int
    frame_bytes_max: int
    result_bytes_max: int
    resident_count_max: int
    resident_bytes_max: int
    backend: Literal["auto", "numpy", "fast"] = "numpy"
    kernel_cache: str = ""


class Run(Struct, frozen=True, array_like=True, tag="run"):
    id: int
    fn: str
    payload: Raw


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    pass


class Value(Struct, frozen=True, array_like=True, tag="value"):
    """`residents` is sent when it has changed."""

    id: int
    payload: Raw
    residents: list[str] | None


class Failure(Struct, frozen=True, array_like=True, tag="failure"):
    """`memory`: the limit was hit; the worker exits after saying so, since nobody knows what state it is in."""

    id: int
    message: str
    memory: bool
    residents: list[str] | None


class _ArrayRef(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes | tuple[int, int]


class Bulk(NamedTuple):
    """A flat view of bytes and where it belongs in the slab."""

    offset: int
    data: memoryview


class Payload(NamedTuple):
    raw: bytes
    bulk: list[Bulk]
    end: int
    """Of the slab's used part."""


_encoder: Final = Encoder()
_decode_array_ref: Final = Decoder(_ArrayRef).decode
_decode_bytes_ref: Final = Decoder(tuple[int, int]).decode
decode_to_worker: Final = Decoder(Start | Run).decode
decode_from_worker: Final = Decoder(Ready | Value | Failure).decode


class Packer:
    """Turns values into payloads. Not reentrant; keeps no value after `pack`."""

    def __init__(self, *, inline_bytes_max: int, frame_bytes_max: int, bulk_bytes_max: int) -> None:
        self._inline_bytes_max = inline_bytes_max
        self._raw_bytes_max = frame_bytes_max - 64 * 1024  # leaves room for the fields around a payload
        self._bulk_bytes_max = bulk_bytes_max
        self._encode = Encoder(enc_hook=self._extension).encode
        self._reset()

    def _reset(self) -> None:
        self._bulk: list[Bulk] = []
        self._refs = 0
        self._inline = 0
        self._sized = 0
        self._end = HEADER_BYTES

    def pack(self, value: Any) -> Payload:
        """Encode; large parts are returned as `bulk` for the slab. `PackError` names the offending type or size."""
        try:
            raw = self._encode(self._checked(value, 0))
            if len(raw) > self._raw_bytes_max:
                raise PackError(
                    f"{len(raw)} bytes of plain structure, at most {self._raw_bytes_max} travel: use arrays or bytes"
                )
            return Payload(raw, self._bulk, self._end)
        except (OverflowError, UnicodeEncodeError) as e:
            raise PackError(str(e)) from e
        finally:
            self._reset()

    def _checked(self, value: Any, depth: int) -> Any:
        """The value with long byte strings replaced by extensions; numpy scalars become plain ones."""
        kind = type(value)
        if kind in _LEAVES:
            return value
        if kind is bytes:
            return self._bytes(value)
        if depth >= DEPTH_MAX:
            raise PackError(f"nested deeper than {DEPTH_MAX}")
        if kind is list or kind is tuple:
            if set(map(type, value)) <= _LEAVES:
                return value
            return [self._checked(item, depth + 1) for item in value]
        if kind is dict:
            if not set(map(type, value)) <= {str}:
                raise PackError("the keys of a dict must be str")
            return {key: self._checked(item, depth + 1) for key, item in value.items()}
        if isinstance(value, np.generic) and value.dtype.str in _DTYPES and not isinstance(value, np.complexfloating):
            return value.item()
        raise PackError(f"a {kind.__name__} cannot travel")

    def _bytes(self, value: bytes) -> bytes | Ext:
        if self._count(len(value)):
            return value
        return Ext(_EXT_BYTES, _encoder.encode(self._place(memoryview(value))))

    def _extension(self, value: Any) -> Ext:
        if type(value) is not np.ndarray:
            raise PackError(f"a {type(value).__name__} cannot travel")
        if value.dtype.str not in _DTYPES:
            raise PackError(f"an array of {value.dtype} cannot travel: plain numeric dtypes only")
        if not value.flags.c_contiguous:
            raise PackError("an array must be C-contiguous to travel")
        if value.ndim > NDIM_MAX:
            raise PackError(f"an array of {value.ndim} dimensions cannot travel, at most {NDIM_MAX}")
        data: bytes | tuple[int, int]
        data = value.tobytes() if self._count(value.nbytes) else self._place(value.reshape(-1).view(np.uint8).data)
        return Ext(_EXT_ARRAY, _encoder.encode(_ArrayRef(value.dtype.str, value.shape, data)))

    def _count(self, size: int) -> bool:
        """Account for one more part; True if it fits into the frame. Empty parts always do."""
        self._refs += 1
        self._sized += size
        if self._refs > REFS_MAX:
            raise PackError(f"more than {REFS_MAX} arrays and byte strings")
        if self._sized > self._bulk_bytes_max:
            raise PackError(f"more than {self._bulk_bytes_max} bytes")
        if self._inline + size > self._inline_bytes_max:
            return not size
        self._inline += size
        return True

    def _place(self, data: memoryview) -> tuple[int, int]:
        offset = self._end
        self._bulk.append(Bulk(offset, data))
        self._end = offset + aligned(data.nbytes)
        return offset, data.nbytes


class Unpacker:
    """Turns payloads into values. With `copy`, arrays are fresh and writable, and the caller fills large ones from the
    returned `Bulk` list; without, they are read-only views of the frame or the slab. Bytes are copied at once (64 MiB
    hold up a loop for 10 ms: arrays are better there)."""

    def __init__(self, slab: memoryview, *, bulk_bytes_max: int, copy: bool) -> None:
        self._slab = slab
        self._bulk_bytes_max = bulk_bytes_max
        self._copy = copy
        self._decode = Decoder(ext_hook=self._extension).decode
        self._reset()

    def _reset(self) -> None:
        self._bulk: list[Bulk] = []
        self._refs = 0
        self._sized = 0
        self._end = HEADER_BYTES

    def unpack(self, raw: Raw) -> tuple[Any, list[Bulk], int]:
        """Value, copies still to be made (slab -> `data`), end of the slab's used part. `FrameError`."""
        try:
            return self._decode(raw), self._bulk, self._end
        except (msgspec.DecodeError, RecursionError, ValueError, MemoryError, OverflowError) as e:
            raise FrameError(f"payload does not decode: {e}") from e
        finally:
            self._reset()

    def _extension(self, code: int, data: memoryview) -> Any:
        self._refs += 1
        if self._refs > REFS_MAX:
            raise FrameError(f"more than {REFS_MAX} arrays and byte strings")
        if code == _EXT_BYTES:
            start, stop = self._extent(_decode_bytes_ref(data))
            return bytes(self._slab[start:stop])
        if code != _EXT_ARRAY:
            raise FrameError(f"unknown extension {code}")
        return self._array(_decode_array_ref(data))

    def _array(self, ref: _ArrayRef) -> Any:
        dtype = _DTYPES.get(ref.dtype)
        if dtype is None:
            raise FrameError(f"an array of {ref.dtype[:16]!r}")
        if len(ref.shape) > NDIM_MAX or any(n < 0 for n in ref.shape):
            raise FrameError("an array of an impossible shape")
        inline = isinstance(ref.data, bytes)
        size = len(ref.data) if isinstance(ref.data, bytes) else ref.data[1]
        if math.prod(ref.shape) * dtype.itemsize != size:
            raise FrameError(f"an array of shape {ref.shape} and dtype {ref.dtype} does not have {size} bytes")
        if isinstance(ref.data, bytes):
            flat = np.frombuffer(ref.data, np.uint8) if size else np.empty(0, np.uint8)
        else:
            start, stop = self._extent(ref.data)
            flat = np.frombuffer(self._slab[start:stop], np.uint8)
        if not self._copy:
            flat.flags.writeable = False
            return flat.view(dtype).reshape(ref.shape)
        fresh = np.empty(ref.shape, dtype)
        target = fresh.reshape(-1).view(np.uint8)
        if inline:
            target[:] = flat
        else:
            self._bulk.append(Bulk(start, target.data))
        return fresh

    def _extent(self, ref: tuple[int, int]) -> tuple[int, int]:
        offset, size = ref
        if offset < HEADER_BYTES or offset % 64 or size < 1 or offset + size > len(self._slab):
            raise FrameError("bulk outside of the slab")
        self._sized += size
        if self._sized > self._bulk_bytes_max:
            raise FrameError(f"more than {self._bulk_bytes_max} bytes of bulk")
        self._end = max(self._end, offset + size)
        return offset, offset + size


def slab_bytes(bulk_bytes_max: int) -> int:
    """Size of a slab that holds any payload within the limits, padding included."""
    return HEADER_BYTES + bulk_bytes_max + REFS_MAX * 64


def frame(message: Struct) -> bytes:
    """The frame of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


class FrameReader:
    """Cuts a byte stream into frame bodies."""

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole body, None if more bytes are needed. `FrameError` if it announces more than the limit."""
        if len(self._buffer) < PREFIX_BYTES:
            return None
        end = PREFIX_BYTES + int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        if end > self.frame_bytes_max:
            raise FrameError(f"a frame of {end} bytes, at most {self.frame_bytes_max} are allowed")
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[PREFIX_BYTES:end])
        del self._buffer[:end]
        return body
