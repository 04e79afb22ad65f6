"""The committee and the registry of the swarm, for its owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..effects import Query
from ..errors import UsageError
from ..messages.committee import (
    AcceptEpoch,
    ChangeCommittee,
    Decide,
    GetRegistry,
    HandOver,
    RecoverAlone,
    RegistryView,
)
from ..messages.raft import TakeSnapshot
from .answers import answer
from .exchange import Exchange
from .requests import AcceptBody, ChangeBody, DecideBody, PeerBody, RecoverBody, read

R = TypeVar("R")
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

DECISION_TIMEOUT_S = 20.0
"""A decision waits for an election and a commit over a WAN; the core's own limit of 15 s ends it earlier."""


class Asker:
    """The bus, with this door's time limit."""

    def __init__(self, ask: Callable[[Query[Any], float], Awaitable[Any]]) -> None:
        self._ask = ask

    async def __call__(self, query: Query[R]) -> R:
        found: R = await self._ask(query, DECISION_TIMEOUT_S)
        return found


class CommitteeRoutes:
    def __init__(self, ask: Callable[[Query[Any], float], Awaitable[Any]]) -> None:
        self._ask = Asker(ask)

    def table(self) -> tuple[tuple[str, str, Endpoint], ...]:
        return (
            ("GET", "/api/committee", self.status),
            ("POST", "/api/committee/change", self.change),
            ("POST", "/api/committee/transfer", self.transfer),
            ("POST", "/api/committee/snapshot", self.snapshot),
            ("POST", "/api/committee/recover", self.recover),
            ("POST", "/api/committee/accept", self.accept),
            ("GET", "/api/registry", self.registry),
            ("POST", "/api/registry", self.decide),
        )

    async def status(self, _: Request) -> Response:
        return answer(committee_status(await self._ask(GetRegistry())))

    async def change(self, request: Request) -> Response:
        body = await _body(request, ChangeBody)
        await self._ask(ChangeCommittee(tuple(body.add), tuple(body.remove)))
        return answer({"state": "begun"}, 202)

    async def transfer(self, request: Request) -> Response:
        body = await _body(request, PeerBody)
        await self._ask(HandOver(body.peer))
        return answer({"state": "begun"}, 202)

    async def snapshot(self, _: Request) -> Response:
        return answer({"index": await self._ask(TakeSnapshot())}, 202)

    async def recover(self, request: Request) -> Response:
        body = await _body(request, RecoverBody)
        if not body.confirm:
            raise UsageError("this ends the committee's epoch for good: send confirm = true when you mean it")
        return answer({"epoch_digest": await self._ask(RecoverAlone())})

    async def accept(self, request: Request) -> Response:
        body = await _body(request, AcceptBody)
        await self._ask(AcceptEpoch(body.digest))
        return answer({"accepted": body.digest})

    async def registry(self, request: Request) -> Response:
        view = await self._ask(GetRegistry(_flag(request, "linearizable")))
        return answer(
            {
                "index": view.index,
                "state_hash": view.history,
                "head": view.head,
                "members": [{"peer": peer, **_member(row)} for peer, row in view.members],
                "parameters": view.parameters,
            }
        )

    async def decide(self, request: Request) -> Response:
        body = await _body(request, DecideBody)
        decided = await self._ask(Decide(body.kind, body.peer, body.reason, body.name, body.value))
        return answer({"index": decided.index})


def committee_status(view: RegistryView) -> dict[str, Any]:
    """As `committee status --json` prints it. `contact_s` is negative for a member that was never heard."""
    raft = view.raft
    member = raft is not None and raft.member != 0
    return {
        "trust": view.trust,
        "epoch": view.epoch,
        "set": view.number,
        "committee": view.committee,
        "member": member,
        "role": "none" if raft is None else raft.role,
        "term": 0 if raft is None else raft.term,
        "leader": "" if raft is None else raft.leader,
        "members": []
        if raft is None
        else [
            {
                "peer": one.peer,
                "role": one.role,
                "match": one.match,
                "last_contact_s": round(one.contact_s, 3),
                "member": one.member,
            }
            for one in raft.members
        ],
        # What is applied is committed: the picture of the log may be a second older.
        "commit": max(0 if raft is None else raft.commit, view.index),
        "applied": view.index,
        "first": 0 if raft is None else raft.first,
        "last": 0 if raft is None else raft.last,
        "joint": raft is not None and raft.joint,
        "state_hash": view.history,
        "head": view.head,
        "reshaping": view.reshaping,
        "offered_epoch": view.offered_epoch,
        "alarms": view.alarms,
        "figures": None if raft is None else raft.figures,
    }


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "0")
    if text not in ("0", "1"):
        raise UsageError(f"{name} is 0 or 1, not {text[:16]!r}")
    return text == "1"


def _member(row: Any) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(row)
    shown["public_key"] = row.public_key.hex()
    return shown


async def _body(request: Request, kind: type[T]) -> T:
    exchange: Exchange = request.scope["exchange"]
    return read(await exchange.take_body(), kind)
