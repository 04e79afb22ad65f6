"""Text into passages: what an index stores and finds."""

from __future__ import annotations

import re
from typing import Any

WORDS_MAX = 110
"""Words of one passage: about 150 word pieces, safely inside the 256 that the encoder reads."""

_HEADING = re.compile(r"^#{1,6} +(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


def passages(path: str, text: str) -> list[dict[str, Any]]:
    """Documents `{id, text, metadata}` of one file: paragraphs joined up to `WORDS_MAX` words, never across a Markdown
    heading, which is put in front of each of its passages. Ids are `path#n`, from 1."""
    found: list[dict[str, Any]] = []
    for heading, line, words in _blocks(text):
        lead = f"{heading}: " if heading else ""
        metadata = {"path": path, "line": str(line)}
        if heading:
            metadata["heading"] = heading[:512]
        found.append({"id": f"{path}#{len(found) + 1}", "text": lead + " ".join(words), "metadata": metadata})
    return found


def lines(path: str, text: str) -> list[dict[str, Any]]:
    """One document per non-empty line."""
    return [
        {"id": f"{path}#{number}", "text": line.strip()[:8192], "metadata": {"path": path, "line": str(number)}}
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _blocks(text: str) -> list[tuple[str, int, list[str]]]:
    blocks: list[tuple[str, int, list[str]]] = []
    heading, fenced = "", False
    words: list[str] = []
    start = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if _FENCE.match(line):
            fenced = not fenced
            continue
        title = None if fenced else _HEADING.match(line)
        if title is not None:
            blocks += _cut(heading, start, words)
            words, heading = [], title.group(1)
        elif line.strip():
            if not words:
                start = number
            words += line.split()
        elif len(words) > WORDS_MAX // 2:
            blocks += _cut(heading, start, words)
            words = []
    return blocks + _cut(heading, start, words)


def _cut(heading: str, start: int, words: list[str]) -> list[tuple[str, int, list[str]]]:
    """Pieces of nearly equal length, so that no passage is a stump."""
    clipped = [word[:256] for word in words]
    count = -(-len(clipped) // WORDS_MAX)
    size = -(-len(clipped) // count) if count else 0
    return [(heading[:256], start, clipped[i : i + size]) for i in range(0, len(clipped), size)] if size else []
