"""Typed, canonical MessagePack: `encode`, `decode`, `decode_canonical`, and `Wire`, the base of every message.

Which types a message may be made of is checked once for each type, when it is first decoded: `InvariantError` names
the offending field, so that a message that could be misread cannot be shipped.

Cost of hostile bytes: a length prefix longer than the data is refused before anything is allocated, nesting is cut off
by the interpreter's recursion limit inside the decoder. Fields of type `Any` are the expensive ones: each byte may
become an empty map (88 bytes of memory, measured), so bound `bytes_max` accordingly.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar, dataclass_transform, overload

import msgspec
from msgspec import Struct, inspect

from ..errors import InvariantError, Malformed, TooLarge, UsageError

T = TypeVar("T")

DEPTH_MAX = 32
"""Levels of arrays, maps and structs in a value of a type that admits any depth. Ours need fewer than ten."""

_REASON_CHARS_MAX = 160
"""Of a decoder's complaint, which may quote the sender's own text: it ends in logs and in replies."""

_TYPES_MAX = 1024
"""Types whose decoder is remembered. The project has some hundreds of messages."""

_ATOMS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.BytesType,
    inspect.EnumType,
    inspect.LiteralType,
)

_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that the decoder raises on bad bytes: `ValidationError` is a `DecodeError`."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))  # subclasses need not repeat `frozen`
class Wire(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of what travels: immutable, and unknown fields are refused. Subclasses inherit all three settings.

    A query that travels is declared `class Run(Wire, Query[RunResult]): ...`. A `__post_init__` that checks fields
    raises `ValueError`, which `decode` reports as `Malformed`.
    """


class _Reader(Struct, frozen=True):
    """How to read one type. `open`: somewhere it admits any value, or any depth; `floats`: it may hold a float;
    `raw`: it may hold bytes that were not looked into."""

    decoder: msgspec.msgpack.Decoder[Any]
    open: bool
    floats: bool
    raw: bool


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


def encode(value: Any) -> bytes:
    """The canonical bytes of a message or plain value.

    `UsageError` when MessagePack has no form for it: integers beyond 64 bits, text with a lone surrogate, maps with
    keys that are not text, endless nesting, foreign objects. All of these are this node's own doing.
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"cannot encode {type(value).__name__}: {_brief(error)}") from error


@overload
def decode(data: bytes, type: type[T], *, bytes_max: int) -> T: ...
@overload
def decode(data: bytes, type: Any, *, bytes_max: int) -> Any: ...
def decode(data: bytes, type: Any, *, bytes_max: int) -> Any:  # noqa: A002
    """Read one value of `type` (a struct, or a union of tagged ones) from exactly `data`.

    `TooLarge` above `bytes_max` bytes; `Malformed` for anything that is not a value of that type: truncated or trailing
    bytes, unknown or missing fields, wrong types or ranges, invalid UTF-8, extension types, too deep nesting.
    Non-minimal integers, repeated keys and fields in another order pass here; `decode_canonical` refuses them.
    """
    reader = _reader(type)
    value = _read(reader, data, bytes_max)
    if reader.open:
        _check_plain(value, finite=False)
    return value


@overload
def decode_canonical(data: bytes, type: type[T], *, bytes_max: int) -> T: ...
@overload
def decode_canonical(data: bytes, type: Any, *, bytes_max: int) -> Any: ...
def decode_canonical(data: bytes, type: Any, *, bytes_max: int) -> Any:  # noqa: A002
    """As `decode`, and `data` must be what `encode` gives for the value. For everything that is signed or hashed.

    Also `Malformed`: floats that are infinite or not a number. `InvariantError` for a type that holds `msgspec.Raw`,
    which would smuggle an unread encoding through.
    """
    reader = _reader(type)
    if reader.raw:
        raise InvariantError(f"{_name(type)} holds Raw and so has no canonical encoding")
    value = _read(reader, data, bytes_max)
    if reader.open or reader.floats:
        _check_plain(value, finite=True)
    if _ENCODER.encode(value) != data:
        raise Malformed(f"{_name(type)}: not in canonical form")
    return value


def _read(reader: _Reader, data: bytes, bytes_max: int) -> Any:
    if len(data) > bytes_max:
        raise TooLarge(f"{_name(reader.decoder.type)}: {len(data)} bytes, at most {bytes_max} allowed")
    try:
        return reader.decoder.decode(data)
    except _MALFORMED as error:
        raise Malformed(f"{_name(reader.decoder.type)}: {_brief(error)}") from error


@lru_cache(maxsize=_TYPES_MAX)
def _reader(kind: Any) -> _Reader:
    """A memo of a pure function of the type; decoders hold no state between calls and may be shared by threads."""
    seen = _Survey(kind)
    return _Reader(msgspec.msgpack.Decoder(kind), open=seen.open, floats=seen.floats, raw=seen.raw)


class _Survey:
    """Visits every type that a message is made of; refuses those with no place on the wire."""

    def __init__(self, kind: Any) -> None:
        self.open = False
        self.floats = False
        self.raw = False
        self._name = _name(kind)
        self._within: set[type] = set()
        self._done: set[type] = set()
        self._visit(inspect.type_info(kind), self._name)

    def _visit(self, info: inspect.Type, where: str) -> None:
        match info:
            case inspect.AnyType():
                self.open = True
            case inspect.FloatType():
                self.floats = True
            case inspect.RawType():
                self.raw = True
            case inspect.StructType():
                self._visit_struct(info, where)
            case inspect.ListType() | inspect.VarTupleType() | inspect.FrozenSetType() | inspect.SetType():
                self._visit(info.item_type, where)
            case inspect.TupleType():
                for item in info.item_types:
                    self._visit(item, where)
            case inspect.DictType():
                if not isinstance(info.key_type, inspect.StrType):
                    raise InvariantError(f"{where}: the keys of a map on the wire are text")
                self._visit(info.value_type, where)
            case inspect.UnionType():
                for member in info.types:
                    self._visit(member, where)
            case inspect.Metadata():
                self._visit(info.type, where)
            case _:
                if not isinstance(info, _ATOMS):
                    raise InvariantError(f"{where}: {type(info).__name__} has no place on the wire")

    def _visit_struct(self, info: inspect.StructType, where: str) -> None:
        if info.cls in self._within:
            self.open = True  # it contains itself: the type does not bound the depth
        if info.cls in self._done or info.cls in self._within:
            return
        if not info.forbid_unknown_fields or not info.cls.__struct_config__.frozen:
            raise InvariantError(f"{where}: {info.cls.__name__} must be frozen and forbid unknown fields: derive Wire")
        self._within.add(info.cls)
        for field in info.fields:
            self._visit(field.type, f"{where}.{field.name}")
        self._within.remove(info.cls)
        self._done.add(info.cls)


def _check_plain(value: Any, *, finite: bool) -> None:
    """`Malformed` unless the decoded value is made of plain values only, nested at most `DEPTH_MAX` deep, and (when
    `finite`) every float is a number. Breadth first, so that no input can exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        if not level:
            return
        level = [part for one in level for part in _parts(one, finite=finite)]
    if level:
        raise Malformed(f"nested deeper than {DEPTH_MAX} levels")


def _parts(one: Any, *, finite: bool) -> list[Any]:
    match one:
        case float():
            if finite and not math.isfinite(one):
                raise Malformed("a float that is infinite or not a number")
        case None | bool() | int() | str() | bytes() | msgspec.Raw():
            pass
        case list() | tuple() | set() | frozenset():
            return list(one)
        case dict():
            if not all(isinstance(key, str) for key in one):
                raise Malformed("a map with a key that is not text")
            return list(one.values())
        case Struct():
            return [getattr(one, name) for name in one.__struct_fields__]
        case _:
            if isinstance(one, Enum):
                return []
            raise Malformed("an extension type")
    return []


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)[:_REASON_CHARS_MAX]


def _brief(error: Exception) -> str:
    """The complaint in printable ASCII and bounded: it may quote names that the sender chose."""
    return str(error).encode("unicode_escape").decode("ascii")[:_REASON_CHARS_MAX]
