"""What every request passes before it reaches a route: host, token, place. Plain ASGI."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable

import structlog
import trio

from ..errors import Overloaded
from .answers import error_body
from .exchange import Exchange, Message, Receive, Rooms, Scope, Send
from .settings import GatewaySettings

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal = tuple[int, str, str]

OPEN_PATHS = frozenset({"/livez", "/readyz"})
TARGET_BYTES_MAX = 4096
"""Of path and query: names are short, texts travel in bodies."""

log = structlog.get_logger("edgenet_node.gateway")


class Guard:
    """Wraps the routes. Answers 401, 403, 414 and 503 itself; routes find their `Exchange` in `scope["exchange"]`."""

    def __init__(self, app: App, settings: GatewaySettings, token: str) -> None:
        self._app = app
        self._settings = settings
        self._token = token.encode()
        self._rooms = Rooms(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return
        exchange = Exchange(self._rooms, self._settings, receive, send)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange.attend, nursery.cancel_scope)
                await self._pass(scope, exchange)
                nursery.cancel_scope.cancel()
        finally:
            exchange.leave()

    async def _pass(self, scope: Scope, exchange: Exchange) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            try:
                exchange.enter(self._rooms.probes if scope["path"] in OPEN_PATHS else self._rooms.quick)
            except Overloaded as error:
                refusal = 503, error.code, error.message
        if refusal is not None:
            await exchange.swallow()
            await _refuse(exchange, *refusal)
            return
        scope["exchange"] = exchange
        try:
            await self._app(scope, _nothing_more, exchange.send)
        except Exception:
            # The seam: a bug in a route must neither end the node nor go unnoticed. Its answer, 500, is sent already.
            log.exception("request failed", path=scope["path"])

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = dict(scope["headers"])
        if not self._is_ours(headers.get(b"host", b"").decode("latin-1")):
            return 403, "refused", "the Host header is no address of this door: use its IP address or localhost"
        if len(scope["raw_path"]) + len(scope["query_string"]) > TARGET_BYTES_MAX:
            return 414, "usage", f"the address may have {TARGET_BYTES_MAX} bytes at most"
        if scope["path"] in OPEN_PATHS:
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            return 401, "unauthorized", "send 'Authorization: Bearer <token>': the token is in <data-dir>/api.token"
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a browser that was led here by a foreign name (DNS rebinding) cannot have sent this Host: an IP
        address is no name, `localhost` and the configured host are not for others to give."""
        name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in ("localhost", self._settings.host.lower()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def _nothing_more() -> Message:
    """Bodies come from the exchange, and so does the end of the client."""
    await trio.sleep_forever()


async def _refuse(exchange: Exchange, status: int, code: str, message: str) -> None:
    body = error_body(code, message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body})
