"""Log lines: one per event, bounded, unforgeable, without secrets, and the libraries' too."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configured for JSON; the process's logging is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_line_with_name_level_and_time(stream: io.StringIO) -> None:
    log = logs.get("network", peer="12D3")
    log.info("connected", rtt_s=0.5, none=None)
    log.debug("below the level")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "connected", "level": "info", "logger": "network", "peer": "12D3", "rtt_s": 0.5, "none": None,
    }  # fmt: skip


TEXTS = st.text(max_size=50) | st.text(max_size=5).map(lambda text: text * 500)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | TEXTS | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=20),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=40))
def test_any_field_is_bounded_and_cannot_break_the_line(fields: dict[str, Any]) -> None:
    kept = logs.bound_fields(None, "info", {name.lstrip("_") or "x": value for name, value in fields.items()})
    text = json.dumps(kept, ensure_ascii=False)
    assert len(kept) <= logs.FIELDS_MAX + 1
    assert text.isprintable()
    assert all(len(json.dumps(value, ensure_ascii=False)) < 100_000 for value in kept.values())


@pytest.mark.parametrize("name", ["token", "api_token", "password", "key_seed", "Authorization", "client_secret"])
def test_secrets_are_hidden_at_any_depth(stream: io.StringIO, name: str) -> None:
    logs.get("api").info("request", **{name: "hunter2"}, headers={name: ["hunter2"]})
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["headers"] == {name: "[hidden]"}


def test_peers_cannot_forge_lines_or_drive_the_terminal() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    try:
        logs.get("network").warning("bad peer", agent="x\n2030-01-01 all is well\x1b[2J")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


def test_exceptions_keep_the_end_of_their_trace(stream: io.StringIO) -> None:
    try:
        raise ValueError("x" * 20_000 + "the end")
    except ValueError:
        logs.get("tasks").exception("step failed")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exception"].endswith("the end")
    assert len(line["exception"]) <= logs.TRACE_MAX


def test_libraries_are_taken_over_even_after_they_set_up_their_own(stream: io.StringIO) -> None:
    theirs = io.StringIO()
    for name in ("libp2p", "libp2p.pubsub.gossipsub"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.StreamHandler(theirs)]
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
    logs.adopt("libp2p")
    logging.getLogger("libp2p.pubsub.gossipsub").info("chatter")
    logging.getLogger("libp2p.pubsub.gossipsub").warning("peer %s sent %d bytes", "a\nb", 5)
    (line,) = lines(stream)
    assert line["event"] == "peer a\\nb sent 5 bytes"
    assert line["logger"] == "libp2p.pubsub.gossipsub"
    assert line["level"] == "warning"
    assert theirs.getvalue() == ""


def test_a_library_that_cries_wolf_is_hushed_with_all_its_modules(stream: io.StringIO) -> None:
    logs.adopt("libp2p")
    logs.hush("libp2p")
    logging.getLogger("libp2p.transport.tcp").error("failed to open a stream")
    logging.getLogger("hypercorn").error("heard")
    assert [line["event"] for line in lines(stream)] == ["heard"]


def test_floods_of_libraries_are_cut_and_counted() -> None:
    now = 0.0
    bucket = logs.RateFilter(10, 5, lambda: now)

    def passes() -> str | None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, "event %d", (7,), None)
        return record.getMessage() if bucket.filter(record) else None

    assert [passes() is not None for _ in range(8)] == [True] * 5 + [False] * 3
    now = 0.1
    assert passes() == "event 7 [3 lines of libraries dropped before]"
    now = 1000.0
    assert sum(passes() is not None for _ in range(100)) == 5
