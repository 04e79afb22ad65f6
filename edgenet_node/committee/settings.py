"""Limits and pauses of the committee's registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Rng(Protocol):
    """The part of `random.Random` that is used: seeded, injected."""

    def random(self) -> float: ...

    def choice(self, seq: Sequence[T], /) -> T: ...


class CommitteeSettings(Struct, frozen=True):
    """`serves`: whether this node lets itself be made a member. `certified_by_min`: heads by smaller committees are
    refused (1: the swarm trusts its founder; 4: one liar among the members harms nobody). `pull_interval_s`: how often
    a follower asks somebody for the newest head besides hearing of it. `sign_retry_s`: between two questions for one
    signature. `catch_up_s`: how long a new member may take before the change is given up; it is promoted when it lacks
    at most `catch_up_entries`. `register_interval_s`: least time between two registrations of this node.
    `marks_max` heads are kept until they are certified."""

    serves: bool = True
    certified_by_min: int = 1
    pull_interval_s: float = 30.0
    sign_retry_s: float = 0.5
    call_timeout_s: float = 5.0
    catch_up_s: float = 60.0
    catch_up_entries: int = 64
    catch_up_poll_s: float = 0.25
    register_interval_s: float = 60.0
    command_timeout_s: float = 15.0
    page_bytes: int = 1024 * 1024
    marks_max: int = 16
    accepted_epochs: tuple[str, ...] = ()
