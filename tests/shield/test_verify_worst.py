"""Deadlines under every bound: proved where they stand, refuted where they are too long or lean on too little."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flint")

from flint import ctx

from shield.certificate import VehicleCertificate, covers, load_certificate, require_cover
from shield.deadline import Certificate, Deadline, Interval, Method, tolerable_deadline
from shield.errors import CertificateError
from shield.manoeuvre import Manoeuvre, backup_slip_rad, grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle
from shield.verify import units
from shield.verify.cells import PRECISION_BITS
from shield.verify.check import check
from shield.verify.deadlines import Pace, reference_radius_m, sound
from shield.verify.run import assemble, verify
from shield.verify.units import Settings, left_out, methods, run_unit, unit_names
from shield.verify.worst import follows, sound_under_bounds

CAR = load_vehicle("passenger_car")
SMALL = Settings(cells=(2, 3, 2), states=1, cap_s=4.0)


@pytest.fixture(autouse=True)
def _working_precision() -> None:
    ctx.prec = PRECISION_BITS


def ask(vehicle: Vehicle, r: float, xi: float, beta: float, cap_s: float = 4.0) -> tuple[tuple[float, float], Deadline]:
    state = State(r * math.cos(xi), r * math.sin(xi), 0.0, beta)
    disc = Disc(0.0, 0.0, reference_radius_m(vehicle) - vehicle.radius_m)
    return (state.x_m, state.y_m), tolerable_deadline(Method.BACKUP, vehicle, state, [disc], cap_s)


def longer_by(found: Deadline, vehicle: Vehicle, seconds: float) -> Deadline:
    """The same deadline held for longer, its last manoeuvre claimed for as long."""
    pieces = list(found.certificate.intervals)
    pieces[-1] = replace(pieces[-1], end_m=pieces[-1].end_m + (seconds + 0.01) * vehicle.v_max_mps)
    certificate = replace(found.certificate, intervals=tuple(pieces))
    return replace(found, deadline_s=found.deadline_s + seconds, certificate=certificate)


@given(st.floats(20.0, 60.0), st.floats(-3.14, 3.14), st.floats(-1.0, 1.0))
@settings(max_examples=40)
def test_the_car_is_proved(r: float, xi: float, share: float) -> None:
    away, found = ask(CAR, r, xi, share * grip_slip_rad(CAR))
    assert sound_under_bounds(CAR, away, share * grip_slip_rad(CAR), found)


@given(st.floats(20.0, 60.0), st.floats(-3.14, 3.14), st.floats(-1.0, 1.0), st.floats(0.0, 13.9))
@settings(max_examples=30)
def test_the_car_is_proved_from_a_measured_speed(r: float, xi: float, share: float, speed: float) -> None:
    beta = share * grip_slip_rad(CAR)
    state = State(r * math.cos(xi), r * math.sin(xi), 0.0, beta, speed)
    disc = Disc(0.0, 0.0, reference_radius_m(CAR) - CAR.radius_m)
    found = tolerable_deadline(Method.BACKUP, CAR, state, [disc], 4.0)
    assert sound_under_bounds(CAR, (state.x_m, state.y_m), beta, found, speed)


def test_a_measured_speed_is_needed_for_the_deadline_it_gives() -> None:
    for vehicle, r in ((CAR, 38.0), (load_vehicle("demo"), 12.0)):
        state = State(-r, 0.0, 0.0, 0.0, 5.0)
        disc = Disc(0.0, 0.0, reference_radius_m(vehicle) - vehicle.radius_m)
        found = tolerable_deadline(Method.BACKUP, vehicle, state, [disc], 4.0)
        prove: Any = sound_under_bounds if vehicle is CAR else sound_of_backup
        assert 0.0 < found.deadline_s < 4.0
        assert prove(vehicle, (-r, 0.0), 0.0, found, 5.0)
        assert not prove(vehicle, (-r, 0.0), 0.0, found, 8.0)
        assert not prove(vehicle, (-r, 0.0), 0.0, found)


def sound_of_backup(vehicle: Vehicle, away: tuple[float, float], beta: float, found: Deadline, *speed: float) -> bool:
    return sound(vehicle, Method.BACKUP, away, beta, found, *speed)


@given(st.floats(0.0, 13.9), st.floats(0.0, 10.0))
def test_pace_against_small_steps(speed: float, time_s: float) -> None:
    pace, fast, way = Pace(CAR, speed), min(13.9, speed + CAR.bounds.speed_mps), 0.0
    for _ in range(1000):
        step = time_s / 1000
        faster = min(CAR.v_max_mps, fast + (CAR.a_max_mps2 or 0.0) * step)
        way, fast = way + 0.5 * (fast + faster) * step, faster
    assert pace.way_m(time_s) == pytest.approx(way, abs=2e-3)
    assert pace.way_m(time_s) >= way - 1e-3
    assert pace.speed_mps(way) == pytest.approx(fast, abs=2e-2)
    free = Pace(CAR, None)
    assert free.way_m(time_s) == pytest.approx(CAR.v_max_mps * time_s)
    assert free.speed_mps(0.0) == CAR.v_max_mps


def stood_off_m(vehicle: Vehicle, away: tuple[float, float], beta: float, found: Deadline, rng: Any) -> float:
    """Least room left over simulated drives: any speed, slip angles off by all they may, switches as late as can be.

    The disc comes as near as its speed allows, from a place off by the position error towards the vehicle.
    """
    b, l_r, step = vehicle.bounds, vehicle.l_r_m, 0.01
    assert vehicle.deceleration_mps2 is not None
    assert b.slip_rate_radps is not None
    speed = vehicle.v_max_mps * rng.choice([1.0, 1.0, 0.5, 0.1])
    switch = found.deadline_s + b.sensing_age_s + b.switch_time_s
    error, bias = rng.choice([-1.0, 1.0], 2) * (b.steering_rad, b.steering_bias_rad)
    off = rng.uniform(-math.pi, math.pi)
    x, y = away[0] + b.position_m * math.cos(off), away[1] + b.position_m * math.sin(off)
    heading, slip, time, room, path = rng.choice([-1.0, 1.0]) * b.heading_rad, beta, 0.0, math.inf, 0.0
    x, y = x * math.cos(heading) - y * math.sin(heading), x * math.sin(heading) + y * math.cos(heading)
    heading = 0.0
    manoeuvre, braked = None, 0.0
    while speed > 0.0:
        if manoeuvre is None and time >= switch:
            pieces = found.certificate.intervals
            manoeuvre = next((piece.manoeuvre for piece in pieces if path <= piece.end_m), pieces[-1].manoeuvre)
        if manoeuvre is not None:
            wanted = backup_slip_rad(vehicle, manoeuvre, beta)
            slip += math.copysign(min(abs(wanted - slip), b.slip_rate_radps * step), wanted - slip)
            braked += step
            if braked > b.brake_build_s:
                speed = max(0.0, speed - vehicle.deceleration_mps2 * step)
        angle = slip + error + bias
        x += speed * step * math.cos(heading + angle)
        y += speed * step * math.sin(heading + angle)
        heading += speed * step * math.sin(angle) / l_r
        path += speed * step
        time += step
        room = min(room, math.hypot(x, y) - reference_radius_m(vehicle) - b.obstacle_speed_mps * time)
    return room


def test_what_is_proved_holds_in_simulated_drives() -> None:
    rng = np.random.default_rng(4)
    least = math.inf
    for _ in range(40):
        beta = rng.uniform(-1.0, 1.0) * grip_slip_rad(CAR)
        away, found = ask(CAR, rng.uniform(35.0, 55.0), rng.normal(math.pi, 0.2), beta)
        if found.deadline_s > 0.0:
            least = min(least, stood_off_m(CAR, away, beta, found, rng))
    assert 0.0 < least < 6.0


def test_a_longer_deadline_is_refuted() -> None:
    refuted = 0
    for r in (38.0, 42.0, 47.0, 55.0):
        away, found = ask(CAR, r, math.pi, 0.0)
        assert 0.0 < found.deadline_s < 4.0
        assert sound_under_bounds(CAR, away, 0.0, found)
        refuted += not sound_under_bounds(CAR, away, 0.0, longer_by(found, CAR, 0.3))
        assert not sound_under_bounds(CAR, away, 0.0, longer_by(found, CAR, 1.0))
    assert refuted >= 3


@pytest.mark.parametrize(
    ("pieces", "hold_s", "proved"),
    [
        # 60 m ahead of the disc's centre: 15 m to stop, 5 m while the brakes build up, 4 m for the delay and the age
        ([(0.0, 14.0, Manoeuvre.BRAKE)], 0.5, True),
        ([(0.0, 14.0, Manoeuvre.BRAKE_STRAIGHT)], 0.5, True),
        ([(0.0, 4.0, Manoeuvre.BRAKE_LEFT), (4.0, 14.0, Manoeuvre.BRAKE)], 0.5, True),
        ([(0.0, 4.0, Manoeuvre.BRAKE), (4.1, 14.0, Manoeuvre.BRAKE)], 0.5, False),  # a gap
        ([(0.0, 4.0, Manoeuvre.BRAKE)], 0.5, False),  # does not reach
        ([(0.0, 14.0, Manoeuvre.STRAIGHT)], 0.5, False),  # never ends, and the steering is off
        ([(0.0, 60.0, Manoeuvre.BRAKE)], 4.0, False),
        ([], 0.5, False),
    ],
)
def test_claims_made_up(pieces: list[tuple[float, float, Manoeuvre]], hold_s: float, proved: bool) -> None:
    certificate = Certificate(tuple(Interval(*piece) for piece in pieces), None, 0.0, 0.0, "")
    claimed = Deadline(hold_s, hold_s * CAR.v_max_mps, "cap", None, certificate, True)
    assert sound_under_bounds(CAR, (-60.0, 0.0), 0.0, claimed) is proved


@pytest.mark.parametrize(
    "worse",
    [
        {"steering_rad": 0.01},
        {"steering_bias_rad": 0.01},
        {"position_m": 3.0},
        {"heading_rad": 0.08},
        {"obstacle_speed_mps": 3.0},
        {"sensing_age_s": 0.5},
        {"odometry_drift": 1.0},
        {"sensing_range_m": 33.0},
        {"actuation_delay_s": 0.4},
        {"tick_s": 0.3},
        {"jitter_s": 0.3},
        {"fail_safe_s": 0.3},
        {"brake_build_s": 0.8},
        {"lateral_accel_mps2": 6.4},
    ],
)
def test_every_bound_counts(worse: dict[str, float]) -> None:
    """A deadline that was right is refuted for a vehicle with any one bound worse; each is in the proof."""
    vehicle = replace(CAR, bounds=replace(CAR.bounds, slip_rate_radps=10.0))
    certificate = Certificate((Interval(0.0, 20.0, Manoeuvre.BRAKE),), None, 0.0, 0.0, "")
    # as long as the declared bounds allow, 42 m ahead
    low, high = 0.1, 2.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        claimed = Deadline(middle, middle * CAR.v_max_mps, "cap", None, certificate, True)
        low, high = (middle, high) if sound_under_bounds(vehicle, (-42.0, 0.0), 0.0, claimed) else (low, middle)
    claimed = Deadline(low, low * CAR.v_max_mps, "cap", None, certificate, True)
    assert sound_under_bounds(vehicle, (-42.0, 0.0), 0.0, claimed)
    other = replace(vehicle, bounds=replace(vehicle.bounds, **worse))
    assert not sound_under_bounds(other, (-42.0, 0.0), 0.0, claimed)


def test_a_slow_slip_angle_counts() -> None:
    """Braking to the left past a disc: at once it goes, at .22 rad/s it does not."""
    certificate = Certificate((Interval(0.0, 30.0, Manoeuvre.BRAKE_LEFT),), None, 0.0, 0.0, "")
    slow, quick = CAR, replace(CAR, bounds=replace(CAR.bounds, slip_rate_radps=50.0))
    beta = -0.9 * grip_slip_rad(CAR)

    def longest(vehicle: Vehicle) -> float:
        low, high = 0.0, 2.0
        for _ in range(20):
            middle = 0.5 * (low + high)
            claimed = Deadline(middle, middle * CAR.v_max_mps, "cap", None, certificate, True)
            low, high = (middle, high) if sound_under_bounds(vehicle, (-42.0, 10.0), beta, claimed) else (low, middle)
        return low

    assert longest(slow) < longest(quick) - 0.02


def test_what_is_followed_and_what_is_not() -> None:
    assert follows(CAR) == []
    assert left_out(CAR) == []
    assert methods(CAR) == (Method.BACKUP,)
    blind = replace(CAR, bounds=replace(CAR.bounds, field_of_view_rad=1.0))
    assert follows(blind) == ["field_of_view_rad"]
    sluggish = replace(CAR, bounds=replace(CAR.bounds, slip_rate_radps=0.1))
    assert follows(sluggish) == ["slip_rate_radps"]  # still steering when the brakes are built up: beyond the grip
    assert follows(replace(CAR, deceleration_mps2=None)) == ["deceleration_mps2"]
    biased = replace(load_vehicle("demo"), bounds=Bounds(steering_bias_rad=0.01))
    assert left_out(biased) == ["steering_rad"]
    with pytest.raises(ValueError, match="field_of_view_rad, which the proof does not follow"):
        sound_under_bounds(blind, (-40.0, 0.0), 0.0, ask(CAR, 40.0, math.pi, 0.0)[1])


@pytest.fixture(scope="module")
def certificate() -> VehicleCertificate:
    return verify(CAR, SMALL, workers=1)


def test_the_car_gets_a_certificate_that_covers_it(certificate: VehicleCertificate, tmp_path: Path) -> None:
    results = {name: claim.result for name, claim in certificate.claims.items()}
    assert results == {
        "admissible": "not covered",
        "inclusion": "not covered",
        "rounding": "proved",
        "everywhere": "proved",
        "deadlines": "proved",
        "cells": "not covered",
    }
    assert "uses backup alone" in certificate.claims["inclusion"].note
    assert certificate.claims["deadlines"].states == 2 * 3 * 2 * 2
    assert certificate.domain["beta_rad"] == [-grip_slip_rad(CAR), grip_slip_rad(CAR)]
    with pytest.raises(CertificateError, match=r"less than a guard relies on: states = 1 .* cells = \[2, 3, 2\]"):
        require_cover(certificate, CAR)
    path = tmp_path / "car.json"
    path.write_text(certificate.text())
    assert load_certificate(path) == certificate
    for sample in (None, 2):
        assert check(certificate, sample=sample, workers=1).disagreements == ()


def test_without_a_claim_the_car_is_not_covered(certificate: VehicleCertificate) -> None:
    for name in ("rounding", "everywhere", "deadlines"):
        claims = {key: claim for key, claim in certificate.claims.items() if key != name}
        with pytest.raises(CertificateError, match=f"does not prove '{name}': missing"):
            require_cover(replace(certificate, claims=claims), CAR)
    blind = replace(CAR, bounds=replace(CAR.bounds, field_of_view_rad=1.0))
    assert not any(unit.startswith("deadlines") for unit in unit_names(blind, SMALL))
    other = verify(blind, replace(SMALL, cells=(1, 1, 1)), workers=1)
    assert other.claims["deadlines"].note == "the vehicle declares field_of_view_rad"
    with pytest.raises(CertificateError, match="not covered"):
        require_cover(other, blind)


def test_a_wrong_deadline_of_the_car_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Settings(cells=(4, 8, 3), states=0)
    assert run_unit(CAR, grid, "deadlines/24").result == "proved"

    def too_long(*asked: Any) -> Deadline:
        found = tolerable_deadline(*asked)
        return longer_by(found, CAR, 0.5) if 0.0 < found.deadline_s < 3.0 else found

    monkeypatch.setattr(units, "tolerable_deadline", too_long)
    outcomes = [run_unit(CAR, grid, f"deadlines/{column}") for column in range(24, 32)]
    wrong = [outcome for outcome in outcomes if outcome.result != "proved"]
    assert wrong
    assert set(wrong[0].counter_example) == {"method", "r_m", "xi_rad", "beta_rad"}
    assert not covers(assemble(CAR, grid, outcomes), CAR)
