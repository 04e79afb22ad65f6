"""Arrays of an owner's payload and between nodes: bounded, float32, finite, and never pickled.

An owner gives an array as nested lists, as base64 of a .npy file, or gives several at once as base64 of an .npz or
.safetensors file. Between nodes an array is a .npy frame of version 1.0: little-endian float32, row by row, with every
byte accounted for. Sizes are checked against the bytes that are there before anything is allocated.

Errors here are `ValueError` in one line; who is to blame is the caller's to say.
"""

from __future__ import annotations

import ast
import base64
import binascii
import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

Array = npt.NDArray[np.float32]

ARRAYS_BYTES_MAX: Final = 12 * 1024 * 1024
"""All arrays of one payload: what fits the API's default body of 16 MiB as base64."""

MEMBERS_MAX: Final = 16
"""Arrays in one file."""

HEADER_BYTES_MAX: Final = 1024
"""Of a .npy header; ours have 128 bytes."""

NDIM_MAX: Final = 3
KINDS: Final = "fiu"  # floats and whole numbers of any width become float32
_NUMBERS: Final = re.compile(r"[<>=]?f[248]|[|<>=]?[iu][1248]")
_PREFIXES: Final = {b"\x93NUMPY\x01\x00": 10, b"\x93NUMPY\x02\x00": 12}
"""Magic and version, to where the header begins: its length has 2 or 4 bytes."""

FRAME_DTYPE: Final = np.dtype("<f4")


def read_npy(data: bytes | memoryview) -> npt.NDArray[Any]:
    """The array in a .npy file (numpy.lib.format, versions 1.0 and 2.0): a read-only view of its bytes."""
    view = memoryview(data)
    start = _PREFIXES.get(bytes(view[:8]), 0)
    size = int.from_bytes(view[8:start], "little")
    if not start or len(view) < start + size or size > HEADER_BYTES_MAX:
        raise ValueError("not a .npy file of version 1.0 or 2.0")
    dtype, by_columns, shape = _read_header(bytes(view[start : start + size]))
    body = view[start + size :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes for an array of {'x'.join(map(str, shape)) or 'no'} {dtype}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_columns else "C")


def _read_header(text: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """The three fields of a header. numpy's own reader would accept object arrays, and mend what Python 2 wrote."""
    try:
        header = ast.literal_eval(text.decode("latin1").strip())
        described, by_columns, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        raise ValueError("not a .npy file: its header does not read") from None
    if not isinstance(described, str) or _NUMBERS.fullmatch(described) is None:
        raise ValueError(f"an array of {str(described)[:40]!r}, where numbers are expected")
    if type(by_columns) is not bool or type(shape) is not tuple:
        raise ValueError("not a .npy file: its header does not read")
    if len(shape) > NDIM_MAX or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of {len(shape)} dimensions, at most {NDIM_MAX}, or of a size that is none")
    return np.dtype(described), by_columns, shape


def frame(array: Array) -> bytes:
    """The .npy frame of a float32 array."""
    stream = io.BytesIO()
    npy.write_array(stream, np.ascontiguousarray(array, FRAME_DTYPE), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def read_frame(data: bytes | memoryview, shape: tuple[int, ...], magnitude_max: float = math.inf) -> Array:
    """The array of exactly this shape, finite and at most `magnitude_max`, in a frame: a read-only view."""
    found = read_npy(data)
    if found.dtype != FRAME_DTYPE or not (found.flags.c_contiguous or found.size == 0):
        raise ValueError(f"an array of {found.dtype}, where little-endian float32 by rows is expected")
    if found.shape != shape:
        raise ValueError(f"an array of shape {found.shape}, where {shape} is expected")
    check_finite(found, magnitude_max)
    return found


def check_finite(array: Array, magnitude_max: float = math.inf) -> None:
    """Neither NaN nor an infinity, and nothing beyond `magnitude_max`."""
    if array.size == 0:
        return
    low, high = float(array.min()), float(array.max())  # NaN in, NaN out
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("it has NaN or an infinity")
    if max(-low, high) > magnitude_max:
        raise ValueError(f"it has a number above {magnitude_max:g} in size")


def read_payload(payload: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Array]:
    """The arrays of a payload by name: from its own fields, or from the file in its field `arrays`."""
    found: dict[str, npt.NDArray[Any]] = {}
    if "arrays" in payload:
        found = read_file(decode_base64(payload["arrays"], "arrays"))
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise ValueError(f"the file has an array {unknown[0][:40]!r}; known are {', '.join(names)}")
    for name in names:
        if name in payload:
            if name in found:
                raise ValueError(f"{name} is given twice")
            found[name] = _read_field(payload[name], name)
    if sum(array.size for array in found.values()) * 4 > ARRAYS_BYTES_MAX:
        raise ValueError(f"more than {ARRAYS_BYTES_MAX >> 20} MiB of arrays")
    return {name: _as_float32(array, name) for name, array in found.items()}


def _read_field(value: Any, name: str) -> npt.NDArray[Any]:
    if isinstance(value, str):
        try:
            return read_npy(decode_base64(value, name))
        except ValueError as error:
            raise ValueError(f"{name}: {one_line(error)}") from None
    if not isinstance(value, list):
        raise ValueError(f"{name} must be nested lists of numbers, or base64 of a .npy file")  # noqa: TRY004 - as above
    try:
        array = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name} must be nested lists of numbers, of one length each") from None
    if array.ndim > NDIM_MAX:
        raise ValueError(f"{name} has {array.ndim} dimensions, at most {NDIM_MAX}")
    return array


def _as_float32(array: npt.NDArray[Any], name: str) -> Array:
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, np.float32)
    try:
        check_finite(converted)
    except ValueError as error:
        raise ValueError(f"{name}: {one_line(error)}") from None
    return converted.reshape(array.shape)


def read_file(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays in the bytes of an .npz or .safetensors file, by name."""
    return _read_npz(data) if data[:2] == b"PK" else _read_safetensors(data)


def _read_npz(data: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # Sizes as declared: zipfile reads no more than that of any member, so a bomb is refused here.
            if len(members) > MEMBERS_MAX or sum(one.file_size for one in members) > ARRAYS_BYTES_MAX * 2:
                raise ValueError(f"more than {MEMBERS_MAX} arrays, or {ARRAYS_BYTES_MAX >> 19} MiB of them")
            return {one.filename.removesuffix(".npy"): read_npy(archive.read(one)) for one in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"not an .npz file: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - zlib's error, and what `read_npy` says of a member
        raise ValueError(f"the .npz file: {one_line(error)}") from None


def _read_safetensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    from safetensors import numpy as safetensors

    try:
        found: dict[str, npt.NDArray[Any]] = safetensors.load(data)
    except Exception as error:  # noqa: BLE001 - its own error types, and KeyError for types that numpy lacks
        raise ValueError(f"neither an .npz nor a .safetensors file: {one_line(error)}") from None
    if len(found) > MEMBERS_MAX:
        raise ValueError(f"more than {MEMBERS_MAX} arrays")
    for name, array in found.items():
        if array.dtype.kind not in KINDS or array.ndim > NDIM_MAX:
            raise ValueError(f"{name[:40]}: an array of {array.dtype} and {array.ndim} dimensions")
    return found


def decode_base64(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be base64 text")  # noqa: TRY004 - one type for whoever says whose fault it is
    if len(value) > ARRAYS_BYTES_MAX * 2:
        raise ValueError(f"{name} has more than {ARRAYS_BYTES_MAX >> 20} MiB")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
