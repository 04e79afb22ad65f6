"""What operators ask: changes of the committee, decisions, recovery; and what this node registers of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..crypto.fingerprints import peer_id, public_from_peer_id
from ..crypto.signing import Signer
from ..effects import Ask, Call, Effect, Now, Reply
from ..errors import Conflict, NotFound, Overloaded, Refused, UsageError
from ..messages.committee import Decide
from ..messages.raft import CommitteeView, RecoverCommittee, TransferLeadership
from ..wire import committee as wire
from .chain import digest
from .office import Office
from .parameters import PARAMETERS
from .record import Record
from .reshaping import Plan
from .submitting import Submitting


class Operating:
    """`capabilities`: the task kinds that this node registers."""

    def __init__(self, signer: Signer, office: Office, submitting: Submitting, capabilities: Sequence[str]) -> None:
        self._signer = signer
        self._own = peer_id(signer.public)
        self._office = office
        self._submitting = submitting
        self._capabilities = tuple(sorted(set(capabilities)))[:64]
        self._addresses: tuple[str, ...] = ()
        self._moving: dict[int, tuple[int, Any]] = {}
        self._count = 0

    # ---- the committee

    def change(
        self,
        query: wire.RequestChange,
        reply_to: int,
        record: Record,
        view: CommitteeView | None,
        now: Now,
        *,
        remote: bool,
    ) -> list[Effect]:
        """Done by the leader; passed to it once."""
        if view is None or not view.member:
            raise Refused("this node is no member of the committee: ask on one that is")
        answer = wire.ChangeStarted() if remote else None
        if self._office.leading and view.role == "leader":
            if query.transfer:
                self._remember(reply_to, answer)
                return [Ask(("moved", self._count), TransferLeadership(query.transfer), 10.0)]
            plan = Plan(tuple(sorted(set(query.add))), tuple(sorted(set(query.remove))))
            try:
                return [*self._office.change(plan, view, record, now), Reply(reply_to, answer)]
            except UsageError as error:
                if remote:  # whose operator wants to read why
                    raise Refused(error.message) from error
                raise
        if remote or not view.leader or view.leader == self._own:
            raise Overloaded("this node does not lead the committee at the moment", retry_after_s=1.0)
        self._remember(reply_to, answer)
        return [Call(("moved", self._count), view.leader, query, 10.0)]

    def _remember(self, reply_to: int, answer: Any) -> None:
        self._count += 1
        self._moving[self._count] = (reply_to, answer)

    def moved(self, count: int, error: Exception | None) -> list[Effect]:
        reply_to, answer = self._moving.pop(count, (0, None))
        return [Reply(reply_to, error=error)] if error is not None else [Reply(reply_to, answer)]

    # ---- decisions

    def command(self, record: Record, kind: Any, **fields: Any) -> wire.RegistryCommand:
        return wire.RegistryCommand(kind, record.swarm, 0, **fields)

    def decide(self, query: Decide, reply_to: int, record: Record, now: Now) -> list[Effect]:
        if self._signer.public not in record.chain.tip.members:
            raise Refused("only members of the committee decide: ask on one that is")
        if query.kind == "set":
            known = PARAMETERS.get(query.name)
            if known is None:
                raise NotFound(f"there is no parameter {query.name!r}; known are {', '.join(PARAMETERS)}")
            command = self.command(record, "set", name=query.name, value=known.parse(query.text))
        else:
            public_from_peer_id(query.peer)
            command = self.command(record, query.kind, peer=query.peer, reason=query.reason[:200])
        return self._submitting.add(command, reply_to, now)

    # ---- recovery

    def recover(self, reply_to: int, view: CommitteeView | None) -> list[Effect]:
        if view is None or not view.member:
            raise Conflict("this node is no member of the committee: run it on one that is")
        return [Ask(("recovered", reply_to), RecoverCommittee(), 30.0)]

    def recovered(self, reply_to: int, epoch: int, record: Record, now: Now) -> list[Effect]:
        """The log begins a new epoch: say so in the registry. Answers with the digest of the set to come."""
        tip = record.chain.tip
        following = wire.CommitteeSet(epoch, tip.number + 1, (self._signer.public,), digest(tip))
        out = self._submitting.add(self.command(record, "epoch"), 0, now)
        return [*out, Reply(reply_to, digest(following).hex())]

    # ---- this node's own row

    def register(self, addresses: Sequence[str] | None, record: Record, now: Now) -> list[Effect]:
        """When it is not what it should be."""
        if addresses is not None:
            self._addresses = tuple(one for one in addresses if len(one) <= 256)[:16]
        row = record.state.get(f"member/{self._own}", wire.MemberRow)
        right = row is not None and row.addresses == self._addresses and row.capabilities == self._capabilities
        if right or self._submitting.waits_for("register") or (row is not None and row.status == "banned"):
            return []
        command = self.command(record, "register", addresses=self._addresses, capabilities=self._capabilities)
        return self._submitting.add(command, 0, now)
