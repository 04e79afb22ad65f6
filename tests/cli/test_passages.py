"""Text into passages: nothing lost, nothing too long, every passage with its own name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.cli.passages import HEADING_CHARS, LINE_BYTES, WORDS_MAX, lines, passages

words = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=200)
plain = st.lists(words, max_size=300).map(" ".join) | st.text(st.characters(codec="utf-8"), max_size=2000)
pages = st.lists(
    st.builds(lambda level, title, body: f"{'#' * level} {title}\n{body}", st.integers(0, 6), words, plain) | plain,
    max_size=6,
).map("\n\n".join)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(pages)
def test_no_text_of_a_plain_file_is_lost(text: str) -> None:
    found = passages("notes.txt", text)
    assert squeezed("".join(one["text"] for one in found)) == squeezed(text)


@given(pages)
def test_no_word_of_a_markdown_file_is_lost(text: str) -> None:
    found = squeezed("".join(one["text"] for one in passages("notes.md", text)))
    for line in text.splitlines():
        if not line.strip().startswith(("```", "~~~", "#")):
            for word in line.split():
                assert squeezed(word) in found


@given(st.lists(words, min_size=1, max_size=30))
def test_headings_are_never_lost_even_without_text_below(titles: list[str]) -> None:
    titles = [title.strip("#") or "x" for title in titles]
    found = "".join(one["text"] for one in passages("a.md", "\n".join(f"# {title}" for title in titles)))
    assert all(title in found for title in titles)


@given(pages, st.sampled_from(["a.md", "b.txt"]))
def test_passages_are_numbered_bounded_and_placed(text: str, path: str) -> None:
    found = passages(path, text)
    assert [one["id"] for one in found] == [f"{path}#{n}" for n in range(1, len(found) + 1)]
    count = len(text.splitlines())
    for one in found:
        heading = one["metadata"].get("heading", "")
        assert len(heading) <= HEADING_CHARS
        body = one["text"].removeprefix(heading).removeprefix(": ")
        assert len(body.split()) <= WORDS_MAX
        assert 0 < len(one["text"].encode()) <= LINE_BYTES
        assert 1 <= int(one["metadata"]["line"]) <= count
        assert one["metadata"]["path"] == path


@given(st.text(st.characters(codec="utf-8"), max_size=3000))
def test_lines_are_documents(text: str) -> None:
    found = lines("a", text)
    assert [one["text"] for one in found] == [line.strip() for line in text.splitlines() if line.strip()]
    assert len({one["id"] for one in found}) == len(found)


def test_long_lines_are_clipped_at_a_character() -> None:
    (one,) = lines("a", "é" * LINE_BYTES)
    assert one["text"] == "é" * (LINE_BYTES // 2)


def test_headings_part_and_name_passages() -> None:
    text = "intro words\n\n# One\n\nfirst\n\n## Two\nsecond\n\n```\n# no heading\n```\n# Three\n# Four\nlast\n# Five"
    found = passages("a.md", text)
    assert [(one["text"], one["metadata"].get("heading"), one["metadata"]["line"]) for one in found] == [
        ("intro words", None, "1"),
        ("One: first", "One", "5"),
        ("Two: second # no heading", "Two", "8"),
        ("Three / Four: last", "Three / Four", "15"),
        ("Five", "Five", "16"),
    ]


def test_a_comment_of_a_program_is_no_heading() -> None:
    (one,) = passages("a.py", "# says what\nx = 1\n")
    assert one["text"] == "# says what x = 1"


def test_long_texts_are_cut_evenly() -> None:
    found = passages("a.txt", "word " * (WORDS_MAX + 1))
    assert [len(one["text"].split()) for one in found] == [56, 55]


def test_scripts_without_spaces_are_cut_to_what_the_encoder_reads() -> None:
    found = passages("a.txt", "漢" * 2000)
    assert max(len(squeezed(one["text"])) for one in found) <= 256
    assert squeezed("".join(one["text"] for one in found)) == "漢" * 2000
