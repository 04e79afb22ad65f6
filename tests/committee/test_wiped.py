"""A member that lost its disk but not its key."""

from __future__ import annotations

import pytest

from edgenet_node.errors import Overloaded, TimedOut
from edgenet_node.messages.committee import ChangeCommittee, Decide, GetRegistry

from .test_swarm import formed, heads_agree, leader_of
from .world import Swarm


def member_of(swarm: Swarm, number: int) -> int:
    view = swarm.view(number).raft
    return 0 if view is None else view.member


@pytest.mark.parametrize("wiped", [0, 1])
def test_a_member_without_its_disk_is_nobody(wiped: int) -> None:
    """The founder least of all: a second log of one genesis would be a second truth."""
    swarm = formed(5, 3)
    swarm.ask(1, Decide("set", name="members_max", text="77"))
    swarm.wipe(wiped)
    swarm.until(lambda: len(swarm.view(wiped).committee) == 3)
    swarm.run(5)
    assert member_of(swarm, wiped) == 0
    left = [number for number in range(3) if number != wiped]
    swarm.hosts[left[0]].crash()
    with pytest.raises((Overloaded, TimedOut)):
        swarm.ask(left[1], GetRegistry(linearizable=True))
    swarm.hosts[left[0]].start()
    swarm.run(1)
    on = leader_of(swarm, range(3))
    swarm.ask(on, ChangeCommittee((swarm.peers[3],), (swarm.peers[wiped],)))
    swarm.until(lambda: swarm.peers[3] in swarm.view(4).committee)
    swarm.ask(on, ChangeCommittee((swarm.peers[wiped],)))
    swarm.until(lambda: len(swarm.view(4).committee) == 4)
    swarm.until(lambda: member_of(swarm, wiped) != 0)
    swarm.until(lambda: heads_agree(swarm, range(5)))
    assert not swarm.violations
