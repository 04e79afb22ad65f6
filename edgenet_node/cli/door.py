"""The daemon's HTTP API, as the commands use it. No HTTP library: it must import fast."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..adapters.data_dir import Layout
from ..errors import UsageError
from .exits import Answered, NoDaemon
from .paths import path_of

ANSWER_BYTES_MAX = 512 * 1024 * 1024
"""4,096 embeddings of 384 floats are about 35 MB of JSON."""

ERROR_BYTES_MAX = 64 * 1024

EVENTS_SILENCE_S = 60.0
"""The daemon sends a comment every 15 s."""

RECONNECTS_MAX = 10
"""In a row, without an event between them."""

RECONNECT_PAUSE_S = 0.5


class Door:
    """One daemon. `request` returns parsed JSON, or raises `Answered` or `NoDaemon`."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Connection": "close",
        }

    @classmethod
    def of(cls, data_dir: Path) -> Door:
        """The daemon that runs on this data folder."""
        folder = Layout(data_dir)
        running = folder.running()
        if running is None:
            raise NoDaemon(f"no daemon is running on {data_dir}: start it with edgenet-node run --data-dir {data_dir}")
        return cls(running.api, folder.read_token())

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            response = self._send(connection, method, path, body)
            data = response.read(ANSWER_BYTES_MAX)
        except TimeoutError:
            raise Answered(f"the daemon at {self.url} did not answer within {timeout_s:g} s", "timeout") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            connection.close()
        return _parse(response.status, data)

    def events(self, task: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The task's events until it is finished; resumes where the stream broke off."""
        breaks = 0
        while True:
            try:
                for event in self._stream(task, after):
                    after, breaks = event["seq"], 0
                    yield event
                return
            except (OSError, http.client.HTTPException) as error:
                breaks += 1
                if isinstance(error, ConnectionRefusedError) or breaks > RECONNECTS_MAX:
                    raise self._lost(error) from None
                time.sleep(RECONNECT_PAUSE_S)

    def _stream(self, task: str, after: int) -> Iterator[dict[str, Any]]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=EVENTS_SILENCE_S)
        try:
            response = self._send(connection, "GET", path_of("tasks", task, "events", after=after), None)
            if response.status >= http.client.BAD_REQUEST:
                _parse(response.status, response.read(ERROR_BYTES_MAX))
            for line in response:
                if line.startswith(b"data: "):
                    yield _parse(response.status, line[6:])
        finally:
            connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> http.client.HTTPResponse:
        try:
            data = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError:
            raise UsageError("the text is not UTF-8") from None
        # A daemon that refuses a large body may answer before it has read all of it: then the answer counts.
        connection.connect()
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body=data, headers=self._headers)
        return connection.getresponse()

    def _lost(self, error: Exception) -> NoDaemon:
        return NoDaemon(f"cannot reach the daemon at {self.url}: {error or type(error).__name__}")


def _parse(status: int, data: bytes) -> Any:
    """The value, unless it is an error: `{"error": {"code", "message"}}`."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise Answered(f"the daemon answered {status} with something that is not JSON", "error") from None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        raise Answered(str(error.get("message")), str(error.get("code")))
    if status >= http.client.BAD_REQUEST:
        raise Answered(f"the daemon answered {status}", "error")
    return value
