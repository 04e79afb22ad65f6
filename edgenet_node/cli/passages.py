"""Text into passages: what an index stores and finds."""

from __future__ import annotations

import re
from typing import Any

WORDS_MAX = 110
"""Words of one passage: about 150 word pieces, safely inside the 256 that the encoder reads."""

WORD_CHARS = 64
"""Longer ones are cut: base64, and languages that are written without spaces."""

HEADING_CHARS = 256
LINE_BYTES = 8 * 1024
"""What the embedding takes of one text."""

MARKDOWN = (".md", ".markdown")
"""Elsewhere a line that begins with # is a comment."""

_HEADING = re.compile(r"^#{1,6} +(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


def passages(path: str, text: str) -> list[dict[str, Any]]:
    """Documents `{id, text, metadata}` of one file: paragraphs joined up to `WORDS_MAX` words, never across a Markdown
    heading, which is put in front of each of its passages. Ids are `path#n`, from 1."""
    found: list[dict[str, Any]] = []
    for heading, line, words in _blocks(text, markdown=path.lower().endswith(MARKDOWN)):
        body = " ".join(words)
        metadata = {"path": path, "line": str(line)}
        if heading:
            metadata["heading"] = heading
        shown = f"{heading}: {body}" if heading and body else heading or body
        found.append({"id": f"{path}#{len(found) + 1}", "text": shown, "metadata": metadata})
    return found


def lines(path: str, text: str) -> list[dict[str, Any]]:
    """One document per line that is not empty; of very long ones the beginning. Ids are `path#line`."""
    return [
        {"id": f"{path}#{number}", "text": shown, "metadata": {"path": path, "line": str(number)}}
        for number, line in enumerate(text.splitlines(), 1)
        if (shown := line.strip().encode()[:LINE_BYTES].decode(errors="ignore"))
    ]


def _blocks(text: str, *, markdown: bool) -> list[tuple[str, int, list[str]]]:
    blocks: list[tuple[str, int, list[str]]] = []
    heading, bare, fence = "", False, ""  # `bare`: nothing was said under this heading yet
    words: list[str] = []
    start = 1
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line) if markdown else None
        if mark is not None and fence in ("", mark.group(1)):
            fence = "" if fence else mark.group(1)
            continue
        title = _HEADING.match(line) if markdown and not fence else None
        if title is not None:
            blocks += _cut(heading, start, words)
            joined = f"{heading} / {title.group(1)}"
            if bare and not words and len(joined) <= HEADING_CHARS:
                heading = joined
            else:
                blocks += [(heading, start, [])] if bare and not words else []
                blocks += _cut("", number, _words(title.group(1))) if len(title.group(1)) > HEADING_CHARS else []
                heading = title.group(1)[:HEADING_CHARS]
            words, bare, start = [], True, number
        elif line.strip():
            if not words:
                start = number
            words += _words(line)
        elif sum(map(_weight, words)) > WORDS_MAX // 2:
            blocks += _cut(heading, start, words)
            words, bare = [], False
    blocks += _cut(heading, start, words)
    return [*blocks, (heading, start, [])] if bare and not words else blocks


def _words(line: str) -> list[str]:
    return [word[i : i + WORD_CHARS] for word in line.split() for i in range(0, len(word), WORD_CHARS)]


def _weight(word: str) -> int:
    """A word counts as one; a long one, or one in another script, as the word pieces that it becomes, about."""
    return 1 if word.isascii() and len(word) <= 20 else -(-len(word.encode()) // 6)


def _cut(heading: str, start: int, words: list[str]) -> list[tuple[str, int, list[str]]]:
    """Pieces of nearly equal weight, so that no passage is a stump."""
    pieces: list[list[str]] = []
    total = sum(map(_weight, words))
    size = -(-total // max(1, -(-total // WORDS_MAX)))
    room = 0
    for word in words:
        weight = _weight(word)
        if weight > room:
            pieces.append([])
            room = size
        pieces[-1].append(word)
        room -= weight
    return [(heading, start, piece) for piece in pieces]
