"""The vehicle side: which decisions are taken, and which control is in effect."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.applier import Applier, Source
from shield.guard import AT_REST, Control, Decision, Mode, Reason
from shield.manoeuvre import Manoeuvre
from shield.vehicle import load_vehicle

VEHICLE = load_vehicle("demo")
SWITCH_S = VEHICLE.bounds.switch_time_s


def a_decision(
    id: int = 1, hold_until_s: float = 0.5, mode: Mode = Mode.ADMIT, beta_rad: float = 0.1, backup_rad: float = 0.8
) -> Decision:
    return Decision(
        id=id,
        stamp_s=0.0,
        mode=mode,
        reason=Reason.PROPOSAL_CERTIFIED,
        control=Control(beta_rad, 5.0),
        apply_by_s=0.02,
        hold_until_s=hold_until_s,
        backup=Control(backup_rad, 0.0, brake=True),
        backup_manoeuvre=Manoeuvre.BRAKE_LEFT,
        deadline_s=1.0,
        barrier_deadline_s=None,
        limited_by="cap",
        intervened=False,
        proposed_beta_rad=0.1,
        shortfall_s=0.0,
    )


def test_standing_needs_no_certificate_and_rolling_does() -> None:
    assert Applier(VEHICLE).control_at(0.0).certified
    rolling = Applier(VEHICLE, at_rest=False).control_at(0.0)
    assert rolling.source is Source.NONE
    assert not rolling.certified
    assert rolling.control == AT_REST


def test_it_holds_until_then_backs_up_by_itself() -> None:
    applier = Applier(VEHICLE)
    assert applier.accept(a_decision(), 0.01)
    assert applier.applied_id == 1
    assert applier.hold_until_s == 0.5
    held = applier.control_at(0.49999)
    assert (held.source, held.control, held.certified) == (Source.HELD, Control(0.1, 5.0), True)
    backup = applier.control_at(0.5)
    assert (backup.source, backup.control, backup.certified) == (Source.BACKUP, Control(0.8, 0.0, True), True)
    assert applier.control_at(100.0) == backup


@pytest.mark.parametrize("now_s", [0.0200021, 1.0, math.nan, math.inf])
def test_a_late_decision_is_refused(now_s: float) -> None:
    applier = Applier(VEHICLE)
    assert not applier.accept(a_decision(), now_s)
    assert applier.applied_id == 0


def test_a_decision_exactly_in_time_is_taken() -> None:
    assert Applier(VEHICLE).accept(a_decision(), 0.02)


def test_only_newer_decisions_are_taken() -> None:
    applier = Applier(VEHICLE)
    assert applier.accept(a_decision(id=5), 0.0)
    assert not applier.accept(a_decision(id=5, beta_rad=0.2), 0.0)
    assert not applier.accept(a_decision(id=4, beta_rad=0.2), 0.0)
    assert applier.control_at(0.0).control.beta_rad == 0.1
    assert applier.accept(a_decision(id=6, beta_rad=0.2), 0.0)
    assert applier.control_at(0.0).control.beta_rad == 0.2


BAD = [math.nan, math.inf, -math.inf, 2.0, -2.0]


@pytest.mark.parametrize("bad", BAD)
def test_impossible_controls_are_refused(bad: float) -> None:
    applier = Applier(VEHICLE)
    assert not applier.accept(replace(a_decision(), control=Control(bad, 1.0)), 0.0)
    assert not applier.accept(replace(a_decision(), backup=Control(bad, 1.0)), 0.0)
    assert not applier.accept(replace(a_decision(), control=Control(0.0, bad * 10)), 0.0)
    assert applier.control_at(0.0).source is Source.NONE


def test_a_pair_without_backup_or_with_an_unknown_end_is_refused() -> None:
    applier = Applier(VEHICLE)
    assert not applier.accept(replace(a_decision(), backup=None), 0.0)
    assert not applier.accept(a_decision(hold_until_s=math.nan), 0.0)
    assert not applier.accept(replace(a_decision(), apply_by_s=math.nan), 0.0)


def test_mode_backup_starts_the_stored_backup_and_no_other() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(backup_rad=0.8), 0.0)
    stop = replace(a_decision(id=2, mode=Mode.BACKUP, backup_rad=-0.3), apply_by_s=math.inf)
    assert applier.accept(stop, 0.1)
    applied = applier.control_at(0.1)
    assert (applied.source, applied.control.beta_rad, applied.certified) == (Source.BACKUP, 0.8, True)
    assert applied.decision_id == 2
    assert not applier.accept(a_decision(id=1), 0.0)


def test_mode_backup_never_makes_a_hold_longer() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(hold_until_s=0.1), 0.0)
    stop = replace(a_decision(id=2, mode=Mode.BACKUP), apply_by_s=math.inf)
    assert applier.accept(stop, 0.3)
    assert applier.hold_until_s == 0.1


def test_a_fresh_pair_ends_a_backup() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(hold_until_s=0.01), 0.0)
    assert applier.control_at(0.05).source is Source.BACKUP
    fresh = replace(a_decision(id=2, hold_until_s=0.5), apply_by_s=0.07)
    assert applier.accept(fresh, 0.06)
    assert applier.control_at(0.06).source is Source.HELD


def test_a_stalled_vehicle_side_is_told_that_its_backup_comes_too_late() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(hold_until_s=0.1), 0.0)
    assert not applier.control_at(0.1 + SWITCH_S + 1e-3).certified
    assert not applier.control_at(0.1 + SWITCH_S + 2e-3).certified
    in_time = Applier(VEHICLE)
    in_time.accept(a_decision(hold_until_s=0.1), 0.0)
    assert in_time.control_at(0.1 + SWITCH_S).certified
    assert in_time.control_at(9.0).certified


def test_the_next_pair_clears_a_late_switch() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(hold_until_s=0.1), 0.0)
    assert not applier.control_at(1.0).certified
    assert applier.accept(replace(a_decision(id=2, hold_until_s=2.0), apply_by_s=1.1), 1.1)
    assert applier.control_at(1.1).certified


def test_a_time_that_is_no_number_gives_the_backup() -> None:
    applier = Applier(VEHICLE)
    applier.accept(a_decision(), 0.0)
    applied = applier.control_at(math.nan)
    assert applied.source is Source.BACKUP
    assert not applied.certified


@given(
    st.lists(
        st.tuples(
            st.integers(1, 9),
            st.sampled_from(Mode),
            st.floats(-2.0, 2.0) | st.just(math.nan),
            st.floats(0.0, 1.0) | st.just(math.nan),
            st.floats(-0.1, 1.0),
        ),
        max_size=12,
    )
)
def test_whatever_comes_the_control_is_possible_and_ids_rise(
    script: list[tuple[int, Mode, float, float, float]],
) -> None:
    applier = Applier(VEHICLE)
    last = 0
    for id, mode, beta, hold_until_s, now_s in script:
        taken = applier.accept(a_decision(id, hold_until_s, mode, beta), now_s)
        assert taken == (applier.applied_id != last)
        assert applier.applied_id >= last
        last = applier.applied_id
        assert applier.control_at(now_s).control.possible_for(VEHICLE)
