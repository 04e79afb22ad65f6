"""Asking the members for their signatures under one set or head."""

from __future__ import annotations

import math

from ..crypto.fingerprints import peer_id
from ..crypto.signing import Signer
from ..effects import Call, Effect, Now
from ..errors import InvariantError, Refused
from ..wire.committee import Certificate, CommitteeSet, GetSignature, MemberSignature
from .chain import HEAD_DOMAIN, SET_DOMAIN, sign_subject
from .heads import Collecting
from .settings import CommitteeSettings


class Round:
    """One subject at a time; members that do not answer are asked again. `kind` is set or head."""

    def __init__(self, signer: Signer, settings: CommitteeSettings, kind: str) -> None:
        self._signer = signer
        self._settings = settings
        self.kind = kind
        self._collecting: Collecting | None = None
        self._index = 0
        self._run = 0
        self._asked: set[int] = set()
        self._again_at = math.inf

    @property
    def wake_at(self) -> float:
        return self._again_at

    @property
    def subject(self) -> bytes:
        return b"" if self._collecting is None else self._collecting.subject

    def begin(self, signing: CommitteeSet, index: int, subject: bytes, now: Now) -> list[Effect]:
        """Also when this node signs alone: then `certificate` is ready at once."""
        domain = SET_DOMAIN if self.kind == "set" else HEAD_DOMAIN
        self._collecting = Collecting(signing, domain, subject)
        self._index = index
        self._run += 1
        self._asked.clear()
        if self._signer.public in signing.members:
            own = sign_subject(self._signer, signing, domain, subject)
            self._collecting.signatures[own.place] = own
        return self._ask(now)

    def _ask(self, now: Now) -> list[Effect]:
        collecting = self._collecting
        if collecting is None:
            return []
        self._again_at = now.mono + self._settings.sign_retry_s
        query = GetSignature("set" if self.kind == "set" else "head", self._index, collecting.subject)
        out: list[Effect] = []
        for place in collecting.missing():
            if place in self._asked or place in collecting.refused:
                continue
            self._asked.add(place)
            peer = peer_id(collecting.signing.members[place])
            out.append(Call((self.kind, self._run, place), peer, query, self._settings.call_timeout_s))
        return out

    def tick(self, now: Now) -> list[Effect]:
        return self._ask(now) if now.mono >= self._again_at else []

    def answered(self, run: int, place: int, value: MemberSignature | None, error: Exception | None) -> None:
        """`InvariantError` when so many have another state that ours cannot be the committee's."""
        collecting = self._collecting
        if collecting is None or run != self._run:
            return
        self._asked.discard(place)
        if value is not None:
            if not collecting.add(value, place):
                collecting.refused.add(place)
        elif isinstance(error, Refused):
            collecting.refused.add(place)
            if self.kind == "head" and 2 * len(collecting.refused) > len(collecting.signing.members):
                raise InvariantError(
                    f"most members have another registry after entry {self._index} than this one: remove this member, "
                    "wipe it and add it anew"
                )

    def finished(self) -> Certificate | None:
        """Once, when there are enough."""
        if self._collecting is None:
            return None
        certificate = self._collecting.certificate()
        if certificate is not None:
            self.drop()
        return certificate

    def drop(self) -> None:
        self._collecting = None
        self._again_at = math.inf
        self._run += 1
