"""protocols/ for tests: the specs with their numbered requirements, the vectors with their shorthands written out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

ROOT: Final = Path(__file__).parents[2]
PROTOCOLS: Final = ROOT / "protocols"

_REQUIREMENT: Final = re.compile(r"^\* \*\*([A-Z]+-\d+)\*\* ", re.MULTILINE)
_CITED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


class Vector(Struct, frozen=True):
    """One entry of a vector file. `error` is empty for valid ones; `more` are the parameters of its context."""

    protocol: str
    name: str
    context: str
    data: bytes
    must: tuple[str, ...]
    value: Any
    error: str
    more: dict[str, Any]

    @property
    def valid(self) -> bool:
        return not self.error

    @property
    def head(self) -> str:
        """`call` of `call:hello/1`."""
        return self.context.partition(":")[0]

    @property
    def tail(self) -> str:
        return self.context.partition(":")[2]

    def __str__(self) -> str:
        return f"{self.protocol}: {self.name}"


class Requirement(Struct, frozen=True):
    """One MUST. `tests` are those that its text cites, as (file, function)."""

    id: str
    page: Path
    text: str
    tests: tuple[tuple[str, str], ...]


def vector_files() -> list[Path]:
    return sorted(PROTOCOLS.glob("*/vectors/*.json"))


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def vectors() -> list[Vector]:
    """Every entry of every file: a file that is not named valid.json or invalid.json is an error."""
    found: list[Vector] = []
    for path in vector_files():
        assert path.stem in ("valid", "invalid"), path
        found += [_vector(path, dict(entry)) for entry in entries(path)]
    return found


def _vector(path: Path, entry: dict[str, Any]) -> Vector:
    error = ""
    if path.stem == "invalid":
        error = entry.pop("error")
        assert entry.pop("reason"), entry
    return Vector(
        protocol=path.parents[1].name,
        name=entry.pop("name"),
        context=entry.pop("context"),
        data=from_hex(entry.pop("hex")),
        must=tuple(entry.pop("must")),
        value=expand(entry.pop("value")) if path.stem == "valid" else None,
        error=error,
        more=expand(entry),
    )


def from_hex(text: str | list[Any]) -> bytes:
    """Hex, or a list of hex and `[hex, times]`."""
    if isinstance(text, str):
        return bytes.fromhex(text)
    return b"".join(bytes.fromhex(part) if isinstance(part, str) else bytes.fromhex(part[0]) * part[1] for part in text)


def expand(value: Any) -> Any:
    """`{"repeat": x, "times": n}` written out."""
    if isinstance(value, dict):
        if value.keys() == {"repeat", "times"}:
            return expand(value["repeat"]) * value["times"]
        return {key: expand(one) for key, one in value.items()}
    return [expand(one) for one in value] if isinstance(value, list) else value


def jsonable(value: Any) -> Any:
    """A decoded value as vectors write it: bytes in hex."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: jsonable(one) for key, one in value.items()}
        case list() | tuple():
            return [jsonable(one) for one in value]
        case _:
            return value


def pages() -> list[Path]:
    return [PROTOCOLS / "encoding.md", *sorted(PROTOCOLS.glob("*/spec.md"))]


def requirements() -> list[Requirement]:
    """The numbered list items of all pages, in order."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        starts = [match.start() for match in _REQUIREMENT.finditer(text)]
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            item = text[start:end].split("\n\n", 1)[0]
            match = _REQUIREMENT.match(item)
            assert match is not None
            found.append(Requirement(match[1], page, item, tuple(_CITED.findall(item))))
    return found
