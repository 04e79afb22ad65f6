"""The daemon's HTTP API, as the commands use it. Standard library only: it must import fast."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..adapters.data_dir import Layout
from ..errors import EdgenetError
from .exits import NoDaemon

ANSWER_BYTES_MAX = 512 * 1024 * 1024
"""4,096 embeddings of 384 floats are about 35 MB of JSON."""


class Answered(EdgenetError):
    """The daemon answered with an error; `remote_code` is its code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.remote_code = code


class Door:
    """One daemon. `request` returns parsed JSON, or raises `Answered` or `NoDaemon`."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    @classmethod
    def of(cls, data_dir: Path) -> Door:
        """The daemon that runs on this data folder."""
        folder = Layout(data_dir)
        running = folder.running()
        if running is None:
            raise NoDaemon(f"no daemon is running on {data_dir}; start it with: edgenet-node run --data-dir {data_dir}")
        return cls(running.api, folder.read_token())

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            response = self._send(connection, method, path, body)
            data = response.read(ANSWER_BYTES_MAX)
        except TimeoutError:
            raise Answered(f"the daemon at {self.url} did not answer within {timeout_s:g} s", "timeout") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoDaemon(f"cannot reach the daemon at {self.url}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        return _parse(response, data)

    def events(self, task: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The task's events until it is finished; reconnects where the stream broke off."""
        while True:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=60.0)
            try:
                response = self._send(connection, "GET", f"/api/tasks/{quote(task)}/events?after={after}", None)
                if response.status != 200:
                    _parse(response, response.read(65536))
                for line in response:
                    if line.startswith(b"data: "):
                        event: dict[str, Any] = json.loads(line[6:])
                        after = event["seq"]
                        yield event
                return
            except (http.client.HTTPException, TimeoutError):
                continue
            except OSError as error:
                raise NoDaemon(f"lost the daemon at {self.url}: {error}") from None
            finally:
                connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, body=data, headers=self._headers)
        return connection.getresponse()


def _parse(response: http.client.HTTPResponse, data: bytes) -> Any:
    try:
        value = json.loads(data)
    except ValueError:
        raise Answered(f"the daemon answered {response.status} with something that is not JSON", "error") from None
    if response.status >= 400 and isinstance(value, dict) and "error" in value:
        raise Answered(str(value["error"]["message"]), str(value["error"]["code"]))
    return value
