"""Logging, configured once at start: one line per event to stderr, JSON or console.

Fields are bounded (a peer must not fill the disk through a log line), control characters are escaped (nor forge a
second line or move the terminal's cursor), and fields whose name says that they hold a secret are blanked. Lines of
libraries go the same way, from WARNING up and at a bounded rate. libp2p clears its logger's handlers when it is
imported: call `adopt("libp2p")` after the import. Importing this module costs more than the rest of the command line
together: only the daemon does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

TEXT_MAX = 1024
"""Characters of one field; an exception's text may have `TRACE_MAX`, of which the end is kept."""

TRACE_MAX = 8192
FIELDS_MAX = 32
ITEMS_MAX = 16
DEPTH_MAX = 3
FOREIGN_LINES_PER_S = 10.0
FOREIGN_BURST = 50
FOREIGN = ("libp2p", "hypercorn", "multiaddr", "asyncio", "trio")
_SECRET = ("password", "passphrase", "secret", "token", "private", "seed", "authorization", "cookie")

Fields = MutableMapping[str, Any]


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """`level`: debug, info, warning or error. `form`: json, console, or auto (console when `stream` is a terminal).
    `stream` is stderr by default. Calling it again replaces the former configuration."""
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    console = form == "console" or (form == "auto" and on_terminal)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        _named,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        bound_fields,
    ]
    render: Any
    if console:
        render = structlog.dev.ConsoleRenderer(colors=on_terminal)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.addFilter(RateFilter(FOREIGN_LINES_PER_S, FOREIGN_BURST, time.monotonic))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, threshold))
    for name in FOREIGN:
        adopt(name)


def adopt(name: str) -> None:
    """Send the lines of this library's loggers through ours, from WARNING up, whatever it set up for itself."""
    loggers = logging.root.manager.loggerDict
    for known in [name, *(other for other in loggers if other.startswith(name + "."))]:
        logger = logging.getLogger(known)
        logger.handlers.clear()
        logger.propagate = True
        logger.disabled = False
        logger.setLevel(logging.NOTSET)  # the root's, which is WARNING or above


def hush(name: str) -> None:
    """Only what is critical from this library, after `adopt`: for one that logs what peers and networks do (a refused
    dial, a closed stream) as errors, while its own failures reach us as exceptions."""
    logging.getLogger(name).setLevel(logging.CRITICAL)


def get(name: str, **fields: object) -> FilteringBoundLogger:
    """A logger whose lines carry `logger=name` and these fields."""
    return cast("FilteringBoundLogger", structlog.get_logger(_name=name, **fields))


class RateFilter(logging.Filter):
    """A token bucket for lines of libraries, which repeat themselves when a peer misbehaves. What it drops is counted
    in the next line that passes."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()
        self._dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            self._dropped += 1
            return False
        self._tokens -= 1
        if self._dropped:
            record.msg = f"{record.getMessage()} [{self._dropped} lines of libraries dropped before]"
            record.args = ()
            self._dropped = 0
        return True


def bound_fields(_logger: object, _method: str, fields: Fields) -> Fields:
    """structlog processor: bound, escape and blank. `_record` and the like are the stdlib bridge's own."""
    kept: Fields = {}
    for name, value in fields.items():
        if name.startswith("_"):
            kept[name] = value
        elif len(kept) >= FIELDS_MAX:
            kept["dropped_fields"] = len(fields) - FIELDS_MAX
            break
        elif name == "exception":
            kept[name] = _printable(str(value)[-TRACE_MAX:], keep="\n")
        else:
            kept[_printable(name[:64])] = _bounded(name, value, DEPTH_MAX)
    return kept


def _bounded(name: str, value: object, depth: int) -> object:
    lowered = name.lower()
    if any(word in lowered for word in _SECRET):
        return "[hidden]"
    if value is None or isinstance(value, bool | int | float):
        return (
            value if not isinstance(value, int) or abs(value) < 1 << 64 else f"<integer of {value.bit_length()} bits>"
        )
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping) and depth:
        rows = list(value.items())[:ITEMS_MAX]
        return {_printable(str(key)[:64]): _bounded(str(key), item, depth - 1) for key, item in rows}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_bounded("", item, depth - 1) for item in list(value)[:ITEMS_MAX]]
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"<{len(value)} items>"
    text = value if isinstance(value, str) else f"{type(value).__name__}: {value}" if _is_error(value) else str(value)
    return _printable(text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}... ({len(text)} characters)")


def _named(_logger: object, _method: str, fields: Fields) -> Fields:
    """`get` cannot pass `logger` itself: structlog's own functions have a parameter of that name."""
    if "_name" in fields:
        fields["logger"] = fields.pop("_name")
    return fields


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def _printable(text: str, keep: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
