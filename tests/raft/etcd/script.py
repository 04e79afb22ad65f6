"""The language of data-driven scripts (github.com/cockroachdb/datadriven): commands, input, expected output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_ROOT = Path(__file__).resolve().parents[3]
_ARGUMENT = re.compile(r"(?P<key>[^\s=()]+)(?P<equals>=(?:\((?P<list>[^)]*)\)|(?P<one>[^\s()]*)))?")
_LOG_LINE = re.compile(r" *(?:DEBUG|INFO|WARN|ERROR|FATAL) ")


class Argument(Struct, frozen=True):
    """`key`, `key=value` or `key=(value,value)`."""

    key: str
    values: tuple[str, ...] = ()


class Command(Struct, frozen=True):
    """One directive; `line` is where it stands."""

    line: int
    name: str
    arguments: tuple[Argument, ...]
    input: str
    expected: str

    def value(self, key: str) -> str:
        """Of the argument that has one."""
        (found,) = (argument.values[0] for argument in self.arguments if argument.key == key)
        return found


def scripts(folder: str) -> list[Path]:
    """All that are there now; none without the data."""
    root = Path(os.environ.get("EDGENET_CONFORMANCE") or _ROOT.parent / "shared" / "conformance")
    return sorted((root / "etcd-raft" / folder).glob("*.txt"))


def parse(text: str) -> Iterator[Command]:
    """Commands in order. A directive, lines of input, `----`, expected output up to a blank line; where the output
    holds blank lines, it stands between two pairs of `----`."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        directive, start = lines[at].strip(), at + 1
        at += 1
        if not directive or directive.startswith("#"):
            continue
        while directive.endswith("\\"):
            directive = directive[:-1].rstrip() + " " + lines[at].strip()
            at += 1
        end = lines.index("----", at)
        given = "\n".join(lines[at:end])
        at = end + 1
        fenced = at < len(lines) and lines[at] == "----"
        at += fenced
        expected: list[str] = []
        while at < len(lines) and (lines[at : at + 2] != ["----", "----"] if fenced else lines[at]):
            expected.append(lines[at])
            at += 1
        at += 2 * fenced
        name, *rest = directive.split(maxsplit=1)
        yield Command(start, name, tuple(_arguments(rest[0] if rest else "")), given, "\n".join(expected))


def _arguments(text: str) -> Iterator[Argument]:
    for found in _ARGUMENT.finditer(text):
        if found["equals"] is None:
            yield Argument(found["key"])
        elif found["list"] is not None:
            yield Argument(found["key"], tuple(value.strip() for value in found["list"].split(",")))
        else:
            yield Argument(found["key"], (found["one"],))


def truth(value: str) -> bool:
    """As Go reads it."""
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(value)


def without_log(output: str) -> str:
    """What counts of it."""
    kept = [line for line in output.split("\n") if not _LOG_LINE.match(line)]
    return "\n".join(kept).strip("\n") or "ok"
