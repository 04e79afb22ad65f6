"""Commands of a node that is no member: sent on to one that is."""

from __future__ import annotations

import math

from ..effects import Call, Effect, Now, Publish, Reply
from ..errors import EdgenetError, Overloaded, TimedOut, Unreachable
from ..messages.raft import LearnRoster, Propose, Proposed
from ..wire.committee import PROPOSAL_BYTES_MAX, Notice
from ..wire.raft import CommandResult, SubmitCommand
from .settings import RaftSettings

GOSSIP_PAUSE_S = 1.0
"""Between two commands by gossip: every node of the swarm carries them."""


class Forwarding:
    """`roster` comes from the registry's certified sets. A member that answers is asked again; one that does not, or
    refuses, is passed over for the next. When none can be reached, the command goes to everybody by gossip, and the
    asker tries again later: the log takes it once."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._peers: list[str] = []
        self._epoch = 0
        self._gossip_at = -math.inf
        self._turn = 0
        self._run = 0
        self._open: dict[int, tuple[int, SubmitCommand, int]] = {}

    def learn(self, body: LearnRoster) -> None:
        self._peers = sorted({entry.peer for entry in body.roster})
        self._epoch = body.epoch

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

    def answered(self, run: int, value: CommandResult | None, error: Exception | None, now: Now) -> list[Effect]:
        found = self._open.pop(run, None)
        if found is None:
            return []
        reply_to, wire, tries = found
        if value is not None:
            return [Reply(reply_to, Proposed(value.index, value.term, value.duplicate))]
        self._turn += 1
        if tries < len(self._peers):
            return self._send(wire, reply_to, tries + 1)
        if isinstance(error, Unreachable | TimedOut) or not isinstance(error, EdgenetError):
            return self._shout(wire, reply_to, now)
        return [Reply(reply_to, error=error)]

    def _shout(self, wire: SubmitCommand, reply_to: int, now: Now) -> list[Effect]:
        out: list[Effect] = []
        if len(wire.command) <= PROPOSAL_BYTES_MAX and now.mono >= self._gossip_at:
            self._gossip_at = now.mono + GOSSIP_PAUSE_S
            out.append(Publish(Notice(self._epoch, proposal=wire)))
        return [*out, Reply(reply_to, error=Overloaded("no member of the committee answers", retry_after_s=2.0))]
