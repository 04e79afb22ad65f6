"""What the tests of requirements share: three identities, and one step of a core."""

from __future__ import annotations

from typing import Any

from edgenet_node.effects import Effect, Envelope, Now
from edgenet_node.identity.keys import Identity

T0 = Now(0.0, 1_700_000_000.0)
ME, PEER, THIRD = Identity(bytes([1]) * 32), Identity(bytes([2]) * 32), Identity(bytes([3]) * 32)
BUYER, OTHER = PEER.peer_id, THIRD.peer_id


def one(kind: type, effects: list[Effect]) -> Any:
    """The only effect of that kind."""
    [found] = [effect for effect in effects if isinstance(effect, kind)]
    return found


def give(core: Any, body: Any, sender: str = "", reply_to: int = 0, at: float = 0.0) -> list[Effect]:
    effects: list[Effect] = core.step(Envelope(body, reply_to, sender), Now(at, T0.wall + at))
    return effects
