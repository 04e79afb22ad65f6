"""Trust: what outcomes do to standings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgenet_node.effects import Effect, Envelope, Event, Now, Put, Reply, Row, Tick
from edgenet_node.messages.network import Blame
from edgenet_node.messages.trust import GetStandings, Outcome, Standing, StandingChanged
from edgenet_node.trust.core import TrustCore, TrustSettings, lower_bound, verification_rate

NOW = Now(mono=100.0, wall=1_700_000_000.0)


def good(peer: str, items: int, checked: int) -> Outcome:
    return Outcome(peer, "embedding", items, checked, 0, failed=False, seconds=items * 0.01)


def standing(core: TrustCore, peer: str, now: Now = NOW) -> Standing:
    [reply] = core.step(Envelope(GetStandings("embedding", (peer,)), reply_to=1), now)
    assert isinstance(reply, Reply)
    found: Standing = reply.value[0]
    return found


def changes(effects: list[Effect]) -> list[Standing]:
    return [e.body.standing for e in effects if isinstance(e, Event) and isinstance(e.body, StandingChanged)]


def fresh() -> TrustCore:
    core = TrustCore(TrustSettings())
    assert core.restore([], NOW) == []
    return core


def test_an_unknown_peer_is_a_newcomer_and_is_checked_in_full() -> None:
    seen = standing(fresh(), "A")
    assert (seen.rate, seen.newcomer, seen.avoided) == (1.0, True, False)


def test_checked_work_proves_a_peer_once_and_lowers_its_rate() -> None:
    core = fresh()
    assert changes(core.step(Envelope(good("A", 8, 8)), NOW)) == []
    [proven] = changes(core.step(Envelope(good("A", 8, 8)), NOW))
    assert not proven.newcomer
    assert proven.rate == 0.5
    core.step(Envelope(good("A", 1000, 1000)), NOW)
    assert standing(core, "A").rate == pytest.approx(0.05)
    assert standing(core, "A").seconds_per_item == pytest.approx(0.01)


def test_unchecked_work_proves_nothing() -> None:
    core = fresh()
    core.step(Envelope(good("A", 100_000, 0)), NOW)
    assert standing(core, "A").newcomer


def test_one_wrong_result_means_avoidance_saved_at_once_and_doubling() -> None:
    core = fresh()
    wrong = Outcome("L", "embedding", 32, 4, 1, failed=False, seconds=0.1)
    effects = core.step(Envelope(wrong), NOW)
    assert [type(e) for e in effects] == [Put, Event]
    assert changes(effects)[0].avoided
    assert standing(core, "L").avoided
    later = Now(NOW.mono + 3601, NOW.wall + 3601)
    [over] = changes(core.step(Envelope(Tick()), later))
    assert not over.avoided
    assert over.newcomer
    core.step(Envelope(wrong), later)
    assert standing(core, "L", Now(later.mono + 3601, later.wall + 3601)).avoided


def test_avoidance_survives_a_restart_and_other_kinds_do_not_matter() -> None:
    core = fresh()
    [put, _] = core.step(Envelope(Outcome("L", "embedding", 32, 4, 1, failed=False, seconds=0.1)), NOW)
    assert isinstance(put, Put)
    again = TrustCore(TrustSettings())
    assert changes(again.restore([Row(put.table, put.key, put.value)], NOW))[0].avoided
    assert standing(again, "L").avoided
    [reply] = again.step(Envelope(GetStandings("echo", ("L",)), reply_to=1), NOW)
    assert isinstance(reply, Reply)
    assert not reply.value[0].avoided


def after(seconds: float) -> Now:
    return Now(NOW.mono + seconds, NOW.wall + seconds)


def test_failures_in_a_row_pause_a_peer_and_a_success_resets_the_count() -> None:
    core = fresh()
    failed = Outcome("S", "embedding", 8, 0, 0, failed=True, seconds=0.0)
    for second in range(3):
        assert changes(core.step(Envelope(failed), after(2.0 * second))) == []
    core.step(Envelope(good("S", 8, 0)), after(6.0))
    for second in range(3):
        assert changes(core.step(Envelope(failed), after(10.0 + 2.0 * second))) == []
    assert changes(core.step(Envelope(failed), after(20.0)))[0].avoided


def test_what_fails_together_is_one_failure() -> None:
    core = fresh()
    failed = Outcome("S", "embedding", 8, 0, 0, failed=True, seconds=0.0)
    for n in range(12):
        assert changes(core.step(Envelope(failed), after(0.01 * n))) == []
    assert not standing(core, "S").avoided


def test_blame_from_the_wire_counts_against_a_known_peer() -> None:
    core = fresh()
    core.step(Envelope(good("B", 8, 8)), NOW)
    before = standing(core, "B").score
    core.step(Envelope(Blame("B", "garbage")), NOW)
    assert standing(core, "B").score < before


def test_good_evidence_is_saved_by_the_timer_which_then_stops() -> None:
    core = fresh()
    core.step(Envelope(good("A", 8, 8)), NOW)
    assert core.wake_at() == NOW.mono + 5.0
    [put] = core.step(Envelope(Tick()), Now(NOW.mono + 5.0, NOW.wall + 5.0))
    assert isinstance(put, Put)
    assert core.wake_at() == math.inf


def test_a_flood_of_names_neither_grows_the_table_nor_clears_a_liar() -> None:
    core = TrustCore(TrustSettings(peers_max=10))
    core.restore([], NOW)
    core.step(Envelope(Outcome("L", "embedding", 32, 4, 1, failed=False, seconds=0.1)), NOW)
    for n in range(200):
        core.step(Envelope(good(f"P{n}", 1, 1)), NOW)
    assert standing(core, "L").avoided
    [reply] = core.step(Envelope(GetStandings("embedding"), reply_to=1), NOW)
    assert isinstance(reply, Reply)
    assert len(reply.value) <= 10


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_lower_bound_is_a_bound_and_moves_the_right_way(right: float, wrong: float) -> None:
    bound = lower_bound(right, wrong)
    assert 0.0 <= bound <= (right + 1) / (right + wrong + 2)
    assert lower_bound(right + 1, wrong) >= bound >= lower_bound(right, wrong + 1)


@given(st.integers(0, 10**6))
def test_the_rate_never_rises_with_evidence(clean: int) -> None:
    settings = TrustSettings()
    assert settings.rate_min <= verification_rate(clean + 1, settings) <= verification_rate(clean, settings) <= 1.0
