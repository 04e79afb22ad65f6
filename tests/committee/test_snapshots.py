"""The registry's part of a snapshot of the log."""

from __future__ import annotations

from typing import Any

import pytest

from edgenet_node.committee.core import CommitteeCore
from edgenet_node.effects import Effect, Envelope, Now, Tell
from edgenet_node.messages.committee import Decide
from edgenet_node.messages.raft import GiveState, TakeState

from .test_swarm import formed


def test_a_state_asked_for_too_early_is_given_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load a consumer is always a little behind: were the question forgotten, no snapshot would ever be made."""
    given: list[GiveState] = []
    step = CommitteeCore.step

    def watched(core: CommitteeCore, e: Envelope[Any], now: Now) -> list[Effect]:
        effects = step(core, e, now)
        given.extend(one.body for one in effects if isinstance(one, Tell) and isinstance(one.body, GiveState))
        return effects

    monkeypatch.setattr(CommitteeCore, "step", watched)
    swarm = formed(1, 1)
    swarm.run(3)
    given.clear()
    upto = swarm.view(0).index + 1
    swarm.hosts[0].announce(TakeState(upto))
    swarm.run(0.05)
    assert given == []
    swarm.ask(0, Decide("set", name="members_max", text="77"))
    swarm.run(0.5)
    assert [one.index >= upto for one in given] == [True], "once"
