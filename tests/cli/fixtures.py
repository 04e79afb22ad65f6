"""A daemon that answers from a table, on a real port, found through a real data folder; and a shell in front of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from edgenet_node.adapters.data_dir import DataDir, RunInfo
from edgenet_node.cli import run_command

Reply = tuple[int, Any]
Handler = Callable[[Any], Reply]

PEER_A = "12D3KooWAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA11"
PEER_B = "12D3KooWBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbB11"
OWN = "12D3KooWOooooooooooooooooooooooooooooooooooooooooooo22"


class Asked(Struct, frozen=True):
    method: str
    path: str
    query: str
    body: Any
    token: str


class Daemon:
    """`routes`: method and path to a status and a value, or a function of the request's body. Bytes are sent raw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.routes: dict[str, Reply | Handler] = {}
        self.asked: list[Asked] = []
        self.token = ""
        daemon = self

        class Handling(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path, _, query = self.path.partition("?")
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                body = json.loads(data) if data else None
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                daemon.asked.append(Asked(self.command, path, query, body, token))
                found = daemon.routes.get(f"{self.command} {path}", error(404, "not_found", "no such resource"))
                status, value = found(body) if callable(found) else found
                self.send_response(status)
                self.end_headers()
                self.wfile.write(value if isinstance(value, bytes) else json.dumps(value).encode())

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - names that the base class looks for

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it so
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handling)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def bodies(self, method: str, path: str) -> list[Any]:
        return [one.body for one in self.asked if (one.method, one.path) == (method, path)]


def error(status: int, code: str, message: str = "what, why, what to do") -> Reply:
    return status, {"error": {"code": code, "message": message}}


@contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(folder)
    thread = threading.Thread(target=daemon.server.serve_forever, kwargs={"poll_interval": 0.01})
    with DataDir.claim(folder) as data:
        daemon.token = data.token()
        data.announce(RunInfo(1, daemon.url, OWN, "0"))
        thread.start()
        try:
            yield daemon
        finally:
            daemon.server.shutdown()
            thread.join()
            daemon.server.server_close()


class Ran(Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs commands in this process, against the daemon's folder."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *words: str, json: bool = False) -> Ran:
        arguments: Sequence[str] = [*words, "--data-dir", str(self.folder), *(["--json"] if json else [])]
        self._capture.readouterr()
        code = run_command(list(arguments))
        seen = self._capture.readouterr()
        return Ran(code, seen.out, seen.err)
