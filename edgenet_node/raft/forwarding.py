"""Commands of a node that is no member: sent on to one that is."""

from __future__ import annotations

from ..effects import Call, Effect, Reply
from ..errors import EdgenetError, Overloaded
from ..messages.raft import LearnRoster, Propose, Proposed
from ..wire.raft import CommandResult, SubmitCommand
from .settings import RaftSettings


class Forwarding:
    """`roster` comes from the registry's certified sets. A member that answers is asked again; one that does not, or
    refuses, is passed over for the next."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._peers: list[str] = []
        self._turn = 0
        self._run = 0
        self._open: dict[int, tuple[int, SubmitCommand, int]] = {}

    def learn(self, body: LearnRoster) -> None:
        self._peers = sorted({entry.peer for entry in body.roster})

    def forward(self, query: Propose, reply_to: int) -> list[Effect]:
        if not self._peers:
            return [Reply(reply_to, error=Overloaded("no committee is known yet", retry_after_s=2.0))]
        if len(self._open) >= self._settings.pending_max:
            return [Reply(reply_to, error=Overloaded("too many commands wait for the committee", retry_after_s=0.5))]
        wire = SubmitCommand(query.consumer, query.client, query.sequence, query.low, query.command)
        return self._send(wire, reply_to, tries=1)

    def _send(self, wire: SubmitCommand, reply_to: int, tries: int) -> list[Effect]:
        self._run += 1
        self._open[self._run] = (reply_to, wire, tries)
        peer = self._peers[self._turn % len(self._peers)]
        return [Call(("forward", self._run), peer, wire, self._settings.propose_timeout_s)]

    def answered(self, run: int, value: CommandResult | None, error: Exception | None) -> list[Effect]:
        found = self._open.pop(run, None)
        if found is None:
            return []
        reply_to, wire, tries = found
        if value is not None:
            return [Reply(reply_to, Proposed(value.index, value.term, value.duplicate))]
        self._turn += 1
        if tries < len(self._peers):
            return self._send(wire, reply_to, tries + 1)
        if isinstance(error, EdgenetError):
            return [Reply(reply_to, error=error)]
        return [Reply(reply_to, error=Overloaded("no member of the committee answers", retry_after_s=2.0))]
