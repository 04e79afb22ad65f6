"""What every request passes before it reaches a route: host, token, size, number. Plain ASGI."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import structlog

from ..errors import EdgenetError
from .settings import GatewaySettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/livez", "/readyz"})

STATUS = {
    "usage": 400,
    "malformed": 400,
    "too_large": 413,
    "not_found": 404,
    "conflict": 409,
    "overloaded": 503,
    "cancelled": 503,
    "timeout": 504,
    "refused": 403,
    "wrong_swarm": 403,
    "unreachable": 502,
    "disk_full": 507,
}
"""HTTP status by error code; anything else is 500."""

log = structlog.get_logger("edgenet_node.gateway")


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})


class BodyTooLarge(Exception):
    """Raised out of `receive` when a streamed body passes the limit."""


class Guard:
    """Wraps the routes. Answers 401, 403, 413 and 503 itself, and maps what the routes raise."""

    def __init__(self, app: App, settings: GatewaySettings, token: str) -> None:
        self._app = app
        self._settings = settings
        self._token = token.encode()
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        self._running += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._running -= 1

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].strip("[]").lower()
        if host not in {"127.0.0.1", "localhost", "::1", self._settings.host.lower()}:
            return 403, "refused", "the Host header is not an address of this door"
        if path in OPEN_PATHS:
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            return 401, "unauthorized", "send 'Authorization: Bearer <token>'; the token is in <data-dir>/api.token"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.body_bytes_max:
            return 413, "too_large", f"the body may have {self._settings.body_bytes_max} bytes at most"
        if self._running >= self._settings.requests_max:
            return 503, "overloaded", f"{self._running} requests are being served; try again"
        return None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0
        started = False

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._settings.body_bytes_max:
                raise BodyTooLarge
            return message

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, bounded, sending)
        except BodyTooLarge:
            if not started:
                limit = self._settings.body_bytes_max
                await _answer(send, 413, "too_large", f"the body may have {limit} bytes at most")
        except EdgenetError as error:
            if not started:
                await _answer(send, STATUS.get(error.code, 500), error.code, error.message, error.retry_after_s)
        except Exception:
            # The seam: a bug in a route must neither end the node nor leave the caller without an answer.
            log.exception("request failed", path=scope["path"])
            if not started:
                await _answer(send, 500, "error", "the node failed to answer; its log has the details")


async def _answer(send: Send, status: int, code: str, message: str, retry_after_s: float = 0.0) -> None:
    body = error_body(code, message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if retry_after_s > 0:
        headers.append((b"retry-after", str(max(1, round(retry_after_s))).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
