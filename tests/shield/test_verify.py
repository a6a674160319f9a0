"""Interval proofs: they prove what holds, refute what does not, and never pass a wrong deadline."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flint")

from flint import arb, ctx

from shield import certificate as certificate_module
from shield.arc import advance
from shield.barrier import Array, barrier_slope, barrier_value, class_k_gain, least_distance
from shield.certificate import (
    RESTS_ON,
    Claim,
    VehicleCertificate,
    covers,
    load_certificate,
    parse_certificate,
    require_cover,
    shipped_certificate,
)
from shield.deadline import Certificate, Deadline, Interval, Method, tolerable_deadline
from shield.errors import CertificateError
from shield.guard import GuardSettings
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle
from shield.verify import run as run_module
from shield.verify.cells import PRECISION_BITS, Cell, Verdict, ball, prove, split
from shield.verify.check import _drawn as drawn_units
from shield.verify.check import check, restored, stale
from shield.verify.claims import admissible, admissible_box, inclusion, inclusion_box, rounding, rounding_box
from shield.verify.deadlines import Seen, sound, unsupported
from shield.verify.event import Event
from shield.verify.run import verify
from shield.verify.units import Outcome, Settings, column_cells, domain, ring_cells, run_unit, states_of, unit_names
from shield.verify.whole import Boxes, Ring, body_point, followed, halved, prove_cells, prove_ring

CONFIGURATIONS = {name: load_vehicle(name) for name in ("config1", "config2", "demo")}
SMALL = Settings(cells=(2, 3, 2), states=1, cap_s=4.0, halvings=3)


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the small grid enough for a guard."""
    for name in ("CELLS", "STATES", "CAP_S"):
        monkeypatch.setattr(certificate_module, name, getattr(SMALL, name.lower()))


RINGS = [f"cells/{method}/{ring}" for method in ("barrier", "backup") for ring in range(2)]

names = st.sampled_from(sorted(CONFIGURATIONS))


@pytest.fixture(autouse=True)
def _working_precision() -> None:
    ctx.prec = PRECISION_BITS


def with_sigma(vehicle: Vehicle, sigma: float) -> Vehicle:
    return replace(vehicle, barrier=Barrier(r_bar_m=4.0, sigma=sigma))


# cells


def test_a_true_property_is_proved_and_a_false_one_refuted() -> None:
    def above(level: float, cell: Cell) -> Verdict:
        x, y = ball(*cell[0]), ball(*cell[1])
        value = x * x + y * y - x * y  # least value 0.75 at (1, 0.5) on this box
        if value > level:
            return Verdict.TRUE
        return Verdict.FALSE if value < level else Verdict.UNDECIDED

    box = ((1.0, 2.0), (-1.0, 1.0))
    proof = prove(box, partial(above, 0.7), 1e-4)
    assert proof.proved
    assert proof.cells > 10
    failed = prove(box, partial(above, 0.8), 1e-4)
    assert not failed.proved
    assert failed.counter_example is not None
    (x_low, x_high), (y_low, y_high) = failed.counter_example
    x, y = 0.5 * (x_low + x_high), 0.5 * (y_low + y_high)
    assert x * x + y * y - x * y < 0.8 + 1e-2
    assert prove(box, partial(above, 0.75), 1e-2).refuted is False  # touches: undecided, not refuted
    assert not prove(box, partial(above, 0.7), 1e-9, most_cells=3).proved


@given(st.floats(-10, 10), st.floats(0.01, 10), st.integers(1, 7), st.integers(1, 5))
def test_a_grid_covers_its_box(low: float, width: float, first: int, second: int) -> None:
    box = ((low, low + width), (0.0, 1.0))
    cells = split(box, (first, second))
    assert len(cells) == first * second
    assert sum((x[1] - x[0]) * (y[1] - y[0]) for x, y in cells) == pytest.approx(width, rel=1e-9)
    assert min(x[0] for x, _ in cells) == low
    assert max(x[1] for x, _ in cells) == low + width


# claims


@pytest.mark.parametrize("name", ["config1", "config2", "demo"])
def test_the_configurations_are_proved(name: str) -> None:
    vehicle = CONFIGURATIONS[name]
    assert prove(admissible_box(vehicle), partial(admissible, vehicle), 1e-5).proved
    assert prove(inclusion_box(vehicle), partial(inclusion, vehicle), 1e-5).proved
    assert prove(rounding_box(vehicle), partial(rounding, vehicle), 1e-5).proved


@pytest.mark.parametrize(("name", "least"), [("config1", 0.1249), ("config2", 0.26853)])
def test_least_sigma_of_the_inclusion(name: str, least: float) -> None:
    """{h >= 0} leaves the backup set below these sigmas; the slacks of the published ones are .31 and .77 m."""
    vehicle = CONFIGURATIONS[name]

    def included(sigma: float) -> bool:
        other = with_sigma(vehicle, sigma)
        return prove(inclusion_box(other), partial(inclusion, other), 1e-6).proved

    assert included(least + 2e-4)
    assert not included(least - 2e-4)
    assert vehicle.barrier is not None
    xi = np.linspace(inclusion_box(vehicle)[0][0], math.pi, 20001)
    side = vehicle.rho_m * np.sin(xi - vehicle.beta_max_rad)
    edge = -side + np.sqrt(side**2 + 16.0 + 8.0 * vehicle.rho_m)
    slack = float((least_distance(vehicle.barrier, xi) - edge).min())
    assert slack == pytest.approx({"config1": 0.31, "config2": 0.77}[name], abs=5e-3)


@pytest.mark.parametrize("name", ["config1", "config2"])
def test_the_admissible_set_is_refuted_where_brute_force_finds_it_empty(name: str) -> None:
    vehicle = CONFIGURATIONS[name]

    def steepest(sigma: float) -> float:
        other = with_sigma(vehicle, sigma)
        assert other.barrier is not None
        xi = np.linspace(0.0, math.pi, 400)[:, None]
        beta = np.linspace(-1.0, 1.0, 801) * vehicle.beta_max_rad
        return float(barrier_slope(other, least_distance(other.barrier, xi), xi, beta).max(axis=1).min())

    low, high = 0.1, 0.6
    for _ in range(12):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if steepest(middle) > 0.0 else (middle, high)
    proved, refuted = with_sigma(vehicle, high + 2e-3), with_sigma(vehicle, low - 2e-3)
    assert prove(admissible_box(proved), partial(admissible, proved), 1e-6).proved
    proof = prove(admissible_box(refuted), partial(admissible, refuted), 1e-6)
    assert not proof.proved
    assert proof.counter_example is not None
    (xi_low, xi_high), (u_low, u_high) = proof.counter_example
    xi_there, r_there = 0.5 * (xi_low + xi_high), 2.0 / (u_low + u_high)
    assert refuted.barrier is not None
    beta = np.linspace(-1.0, 1.0, 2001) * vehicle.beta_max_rad
    h = barrier_value(refuted.barrier, r_there, xi_there)
    condition = barrier_slope(refuted, r_there, xi_there, beta) + class_k_gain(refuted.barrier) * h
    assert condition.max() < 1e-3


def test_a_steering_error_above_two_degrees_is_not_proved() -> None:
    vehicle = CONFIGURATIONS["config1"]
    for degrees, proved in ((1.5, True), (2.2, False)):
        other = replace(vehicle, bounds=Bounds(steering_rad=math.radians(degrees)))
        assert prove(admissible_box(other), partial(admissible, other), 1e-5).proved is proved


def test_rounding_would_not_suffice_on_a_tiny_barrier() -> None:
    tiny = Vehicle(l_r_m=1e-6, beta_max_rad=1.0, v_max_mps=1.0, barrier=Barrier(r_bar_m=1e-6, sigma=0.3))
    assert not prove(rounding_box(tiny), partial(rounding, tiny), 1e-3).proved


# deadlines


@given(
    names, st.floats(4.0, 40.0), st.floats(-3.14, 3.14), st.floats(-1.0, 1.0), st.floats(0.0, 30.0), st.floats(0.0, 0.5)
)
def test_the_disc_as_seen_from_the_arc(name: str, r: float, xi: float, share: float, s: float, width: float) -> None:
    vehicle = CONFIGURATIONS[name]
    beta = share * vehicle.beta_max_rad
    away = (r * math.cos(xi), r * math.sin(xi))
    seen = Seen(vehicle, away, beta)
    ahead, aside = seen.at(s, width)
    for part in (-1.0, 0.0, 0.6, 1.0):
        x, y, heading = (float(value) for value in advance(*away, 0.0, beta, vehicle.l_r_m, s + part * width))
        here_ahead = -x * math.cos(heading) - y * math.sin(heading)
        here_aside = x * math.sin(heading) - y * math.cos(heading)
        assert abs(float(ahead.mid()) - here_ahead) <= float(ahead.rad()) + 1e-9
        assert abs(float(aside.mid()) - here_aside) <= float(aside.rad()) + 1e-9


def ask(vehicle: Vehicle, method: Method, r: float, xi: float, beta: float) -> tuple[tuple[float, float], Deadline]:
    state = State(r * math.cos(xi), r * math.sin(xi), 0.0, beta)
    assert vehicle.barrier is not None
    disc = Disc(0.0, 0.0, vehicle.barrier.r_bar_m)
    return (state.x_m, state.y_m), tolerable_deadline(method, vehicle, state, [disc], 4.0)


@settings(max_examples=40)
@given(
    names,
    st.sampled_from([Method.BARRIER, Method.BACKUP]),
    st.floats(4.1, 30.0),
    st.floats(-3.14, 3.14),
    st.floats(-1.0, 1.0),
)
def test_deadlines_are_proved_and_longer_ones_are_not(
    name: str, method: Method, r: float, xi: float, share: float
) -> None:
    vehicle = CONFIGURATIONS[name]
    beta = share * vehicle.beta_max_rad
    away, found = ask(vehicle, method, r, xi, beta)
    assert sound(vehicle, method, away, beta, found)
    if method is Method.BARRIER and 0.0 < found.deadline_s and found.limited_by != "cap":
        longer = replace(found, deadline_s=found.deadline_s + 0.02)
        x, y, heading = advance(
            *away, 0.0, beta, vehicle.l_r_m, vehicle.v_max_mps * np.linspace(0.0, longer.deadline_s, 4001)
        )
        assert vehicle.barrier is not None
        xi_there = (np.arctan2(y, x) - heading + math.pi) % (2.0 * math.pi) - math.pi
        if barrier_value(vehicle.barrier, np.hypot(x, y), xi_there).min() < -1e-6:
            assert not sound(vehicle, method, away, beta, longer)


distances, directions, shares = st.floats(4.1, 40.0), st.floats(-3.14, 3.14), st.floats(-1.0, 1.0)

CERTIFIED = Certificate((Interval(0.0, 30.0, Manoeuvre.STRAIGHT),), None, 0.0, 0.0, "")


@pytest.mark.parametrize(
    ("beta", "hold_m", "pieces", "proved"),
    [
        # the disc of radius 4 stands 12 m ahead: straight on touches it after 8 m, full lock (rho 4.47) needs 5.9 m
        (0.0, 5.0, [(0.0, 5.0, Manoeuvre.LEFT)], True),
        (0.0, 7.0, [(0.0, 7.0, Manoeuvre.LEFT)], False),
        (0.0, 8.1, [(0.0, 8.1, Manoeuvre.LEFT)], False),
        (0.0, 5.0, [(0.0, 5.0, Manoeuvre.STRAIGHT)], False),
        (0.0, 5.0, [(0.0, 2.0, Manoeuvre.LEFT), (2.0, 5.0, Manoeuvre.RIGHT)], True),
        (0.0, 5.0, [(0.0, 2.0, Manoeuvre.LEFT), (2.1, 5.0, Manoeuvre.RIGHT)], False),
        (0.0, 5.0, [(0.0, 4.0, Manoeuvre.LEFT)], False),
        (0.0, 5.0, [], False),
        (0.0, 5.0, [(0.0, 5.0, Manoeuvre.LEFT_THEN_STRAIGHT)], True),
    ],
)
def test_backup_claims_made_up(
    beta: float, hold_m: float, pieces: list[tuple[float, float, Manoeuvre]], proved: bool
) -> None:
    vehicle = CONFIGURATIONS["config2"]
    certificate = replace(CERTIFIED, intervals=tuple(Interval(*piece) for piece in pieces))
    claimed = Deadline(hold_m / vehicle.v_max_mps, hold_m, "cap", None, certificate, True)
    assert sound(vehicle, Method.BACKUP, (-12.0, 0.0), beta, claimed) is proved


@pytest.mark.parametrize("manoeuvre", [Manoeuvre.LEFT, Manoeuvre.LEFT_THEN_STRAIGHT, Manoeuvre.BRAKE])
def test_a_manoeuvre_must_serve_until_the_switch_time_has_passed(manoeuvre: Manoeuvre) -> None:
    """5 m of hold leave room to turn, 5 m and 2 m of delay do not; nor for braking within 4 m."""
    at_once = replace(CONFIGURATIONS["config2"], deceleration_mps2=100.0)
    start = -12.0 if manoeuvre is not Manoeuvre.BRAKE else -12.2  # braking: 2 m; 5 + 2 + 1.2 to spare
    late = replace(at_once, bounds=Bounds(actuation_delay_s=0.1))
    certificate = replace(CERTIFIED, intervals=(Interval(0.0, 5.0, manoeuvre),))
    claimed = Deadline(0.25, 5.0, "cap", None, certificate, True)
    assert sound(at_once, Method.BACKUP, (start, 0.0), 0.0, claimed)
    assert not sound(late, Method.BACKUP, (start, 0.0), 0.0, claimed)
    shorter = replace(claimed, deadline_s=0.14)
    assert sound(late, Method.BACKUP, (start, 0.0), 0.0, shorter)


@pytest.mark.parametrize(
    ("manoeuvre", "at", "proved"),
    [
        # braking from 10 m/s at 5 m/s^2 takes 10 m; the disc has radius 4
        (Manoeuvre.BRAKE_STRAIGHT, (-15.5, 0.0), True),
        (Manoeuvre.BRAKE_STRAIGHT, (-14.05, 0.0), False),
        (Manoeuvre.BRAKE, (-15.5, 0.0), True),
        (Manoeuvre.BRAKE, (-14.05, 0.0), False),
        # rho = 4: 10 m of arc are 2.5 rad, the end is near (-1.6 + 4 sin.., ...) on the left
        (Manoeuvre.BRAKE_LEFT, (-9.0, 0.0), True),
        (Manoeuvre.BRAKE_LEFT, (-4.5, -1.0), False),
        (Manoeuvre.BRAKE_RIGHT, (-4.5, -1.0), False),
        (Manoeuvre.BRAKE_RIGHT, (-9.0, 0.0), True),
    ],
)
def test_braking_claims_made_up(manoeuvre: Manoeuvre, at: tuple[float, float], proved: bool) -> None:
    vehicle = Vehicle(
        l_r_m=2.0,
        beta_max_rad=math.asin(0.5),
        v_max_mps=10.0,
        deceleration_mps2=5.0,
        barrier=Barrier(r_bar_m=4.0, sigma=0.5),
    )
    certificate = replace(CERTIFIED, intervals=(Interval(0.0, 0.1, manoeuvre),))
    claimed = Deadline(0.01, 0.1, "cap", None, certificate, True)
    assert sound(vehicle, Method.BACKUP, at, 0.0, claimed) is proved
    # dense: the arc or line itself
    beta = manoeuvre.side * vehicle.beta_max_rad
    starts = np.linspace(0.0, 0.1, 11)[:, None]
    x, y, _ = advance(at[0] + starts, at[1], 0.0, beta, vehicle.l_r_m, np.linspace(0.0, 10.0, 2001))
    assert bool((np.hypot(x, y) >= 4.0).all()) is proved


@given(
    st.floats(-14.0, 14.0),
    st.floats(-14.0, 14.0),
    st.sampled_from([Manoeuvre.BRAKE_LEFT, Manoeuvre.BRAKE_RIGHT]),
    st.floats(2.0, 30.0),
)
def test_braking_on_an_arc_against_a_dense_arc(x0: float, y0: float, manoeuvre: Manoeuvre, deceleration: float) -> None:
    vehicle = Vehicle(
        l_r_m=2.0,
        beta_max_rad=math.asin(0.5),
        v_max_mps=10.0,
        deceleration_mps2=deceleration,
        barrier=Barrier(r_bar_m=4.0, sigma=0.5),
    )
    certificate = replace(CERTIFIED, intervals=(Interval(0.0, 1e-3, manoeuvre),))
    claimed = Deadline(1e-4, 1e-3, "cap", None, certificate, True)
    length = 100.0 / (2.0 * deceleration)
    x, y, _ = advance(x0, y0, 0.0, manoeuvre.side * vehicle.beta_max_rad, 2.0, np.linspace(0.0, length, 4001))
    nearest = float(np.hypot(x, y).min())
    if abs(nearest - 4.0) > 0.01:
        assert sound(vehicle, Method.BACKUP, (x0, y0), 0.0, claimed) is (nearest > 4.0)


def test_what_the_proof_does_not_follow_is_said() -> None:
    car = load_vehicle("passenger_car")
    assert "slip_rate_radps" in unsupported(car)
    assert unsupported(CONFIGURATIONS["demo"]) == []
    away, found = ask(CONFIGURATIONS["config1"], Method.BACKUP, 12.0, 3.0, 0.0)
    with pytest.raises(ValueError, match="slip_rate_radps"):
        sound(car, Method.BACKUP, away, 0.0, found)
    with pytest.raises(ValueError, match="only barrier and backup"):
        sound(CONFIGURATIONS["config1"], Method.PUBLISHED, away, 0.0, found)


# whole cells


def small_boxes(vehicle: Vehicle, seed: int, count: int = 600) -> Boxes:
    """Small cells at random in which the vehicle drives at the disc, more or less."""
    rng = np.random.default_rng(seed)
    r, xi = rng.uniform(4.5, 16.0, count), rng.uniform(2.5, math.pi, count)
    beta = rng.uniform(-0.95, 0.95, count) * vehicle.beta_max_rad
    return Boxes(r, xi, beta, *(np.full(count, width) for width in (0.01, 0.001, 0.001)))


@pytest.mark.parametrize("method", [Method.BARRIER, Method.BACKUP])
@pytest.mark.parametrize("name", ["config1", "config2"])
def test_in_a_whole_cell_one_sign_change_ends_the_deadline(name: str, method: Method) -> None:
    """Dense arcs from states and corners of proved cells: no hole before the code's deadline, one right after it."""
    vehicle = CONFIGURATIONS[name]
    assert vehicle.barrier is not None
    every = small_boxes(vehicle, 7)
    verdicts = prove_cells(vehicle, method, every, 4.0 * vehicle.v_max_mps)
    assert verdicts.proved.mean() > 0.6
    boxes = every.take(verdicts.proved & ~verdicts.until_cap & (verdicts.last_m > 0.0))
    assert len(boxes) > 60
    rng = np.random.default_rng(1)
    s = np.linspace(0.0, 4.0 * vehicle.v_max_mps, 2001)
    ended = 0
    for index in rng.choice(len(boxes), 60, replace=False):
        corner = np.sign(rng.uniform(-1.0, 1.0, 3)) * np.where(rng.random(3) < 0.5, 1.0, rng.random(3))
        r = float(boxes.r[index] + corner[0] * boxes.dr[index])
        xi = float(boxes.xi[index] + corner[1] * boxes.dxi[index])
        beta = float(boxes.beta[index] + corner[2] * boxes.dbeta[index])
        beta = min(max(beta, -vehicle.beta_max_rad), vehicle.beta_max_rad)
        if r < 4.0:
            continue
        x, y, heading = advance(r * math.cos(xi), r * math.sin(xi), 0.0, beta, vehicle.l_r_m, s)
        if method is Method.BARRIER:
            turned = (np.arctan2(y, x) - heading + math.pi) % (2.0 * math.pi) - math.pi
            safe = barrier_value(vehicle.barrier, np.hypot(x, y), turned)
        else:
            safe = clearance(vehicle, x, y, heading)
        _, found = ask(vehicle, method, r, xi, beta)
        hold = found.deadline_s * vehicle.v_max_mps
        if hold > 0.0:
            assert safe[s <= hold].min() > -1e-9
        if found.limited_by != "cap" and safe[0] > 0.0:
            ended += 1
            assert safe[s > hold][:3].min() < 1e-6
    assert ended > 30


def clearance(vehicle: Vehicle, x: Array, y: Array, heading: Array) -> Array:
    """How far every manoeuvre from (x, y, heading) stays from the disc of radius 4 at the origin, the best of them."""
    rho, rear, slip = vehicle.rho_m, vehicle.rho_rear_m, vehicle.beta_max_rad
    best = np.full_like(x, -np.inf)
    for side in (1.0, -1.0):
        # the turn centre in the world frame: l_r behind, rho_rear to the side
        cx = x - vehicle.l_r_m * np.cos(heading) - side * rear * np.sin(heading)
        cy = y - vehicle.l_r_m * np.sin(heading) + side * rear * np.cos(heading)
        best = np.maximum(best, np.abs(np.hypot(cx, cy) - rho) - 4.0)
        best = np.maximum(best, x * np.cos(heading + side * slip) + y * np.sin(heading + side * slip))
    best = np.maximum(best, np.abs(x * np.sin(heading) - y * np.cos(heading)) - 4.0)
    best = np.maximum(best, x * np.cos(heading) + y * np.sin(heading))
    return np.asarray(np.minimum(best, np.hypot(x, y) - 4.0))


@pytest.mark.parametrize("method", [Method.BARRIER, Method.BACKUP])
@pytest.mark.parametrize("name", ["config1", "config2"])
def test_slopes_and_levels_hold_all_over_their_neighbourhood(name: str, method: Method) -> None:
    """Where F falls, what is unsafe stays unsafe; where it rises, what is safe stays safe; levels bound F."""
    vehicle = CONFIGURATIONS[name]
    rng = np.random.default_rng(11)
    count, step = 60_000, 0.01
    event = Event(vehicle, method)
    far, around = rng.uniform(4.0, 14.0, 4 * count), rng.uniform(-math.pi, math.pi, 4 * count)
    # near where F changes its sign, mostly
    value = event.value(far * np.cos(around), far * np.sin(around))
    near = np.nonzero(np.abs(value) < (0.2 if method is Method.BACKUP else 0.01))[0]
    pick = np.concatenate([near, np.arange(4 * count)])[:count]
    far, x, y = far[pick], (far * np.cos(around))[pick], (far * np.sin(around))[pick]
    eps, dbeta = rng.uniform(0.02, 0.6, count), rng.uniform(0.0, 0.1, count)
    beta = rng.uniform(-0.9, 0.9, count) * vehicle.beta_max_rad
    # one state of each neighbourhood, and the same a little further on its arc, still inside
    held = beta + dbeta * rng.uniform(-1.0, 1.0, count)
    kappa = np.sin(held) / vehicle.l_r_m
    most = step * (1.0 + np.abs(kappa) * (far + 0.7))
    reach, toward = (eps - most).clip(0.0) * np.sqrt(rng.random(count)), rng.uniform(-math.pi, math.pi, count)
    ex, ey = x + reach * np.cos(toward), y + reach * np.sin(toward)
    later = body_point(np.hypot(ex, ey), np.arctan2(-ey, -ex), held, kappa, np.full(count, step))
    before, after = event.value(ex, ey), event.value(*later)
    falls, rises = event.slopes(x, y, eps, beta, dbeta)
    falls, rises = falls & (most < eps), rises & (most < eps)
    assert (falls & (after < 0.0) & (before > 0.0)).sum() > 10
    assert (rises & (after > 0.0) & (before < 0.0)).sum() > 10
    assert not (falls & (after > 1e-9) & (before < -1e-9)).any()
    assert not (rises & (after < -1e-9) & (before > 1e-9)).any()
    if method is Method.BARRIER:
        assert (after[falls] < before[falls]).all()
        assert (after[rises] > before[rises]).all()
    ahead, behind = event.level(x, y, eps)
    assert (before[ahead > 0.0] > 0.0).all()
    assert (before[behind > 0.0] < 0.0).all()
    # and as far beyond as is said
    for side, sign in ((ahead, 1.0), (behind, -1.0)):
        some = side > 0.0
        whole = (eps + side)[some]
        px, py = x[some] + whole * np.cos(toward[some]), y[some] + whole * np.sin(toward[some])
        assert (sign * event.value(px, py) > -1e-9).all()


@pytest.mark.parametrize("method", [Method.BARRIER, Method.BACKUP])
@pytest.mark.parametrize("name", ["config1", "config2"])
def test_a_deadline_2_ms_too_long_or_of_the_wrong_side_is_refuted_by_whole_cells(name: str, method: Method) -> None:
    vehicle = CONFIGURATIONS[name]
    assert vehicle.barrier is not None
    disc = Disc(0.0, 0.0, vehicle.barrier.r_bar_m)
    boxes = small_boxes(vehicle, 3, 150)

    def right(state: State) -> Deadline:
        return tolerable_deadline(method, vehicle, state, [disc], 4.0)

    def too_long(state: State) -> Deadline:
        found = right(state)
        return replace(found, deadline_s=found.deadline_s + 2e-3) if 0.0 < found.deadline_s < 4.0 else found

    def wrong_side(state: State) -> Deadline:
        return right(replace(state, beta_rad=-state.beta_rad))

    def proved_with(ask_code: Callable[[State], Deadline]) -> Ring:
        return prove_ring(vehicle, method, boxes, 4.0 * vehicle.v_max_mps, 1.0, ask_code)

    sound_ring = proved_with(right)
    assert sound_ring.contradiction is None
    assert sound_ring.leaves == 150
    assert len(sound_ring.open_cells) < 50
    assert 5 < sound_ring.states <= 150 - len(sound_ring.open_cells)
    for broken in (too_long, wrong_side):
        wrong = proved_with(broken).contradiction
        assert wrong is not None
        r, xi, beta = wrong
        at = State(r * math.cos(xi), r * math.sin(xi), 0.0, beta)
        assert broken(at).deadline_s > right(at).deadline_s


def test_a_ring_that_is_contradicted_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    from shield.verify import units

    grid = Settings(cells=(3, 6, 8), farthest_m=6.0, halvings=9)
    outcome = run_unit(CONFIGURATIONS["config1"], grid, "cells/backup/2")
    ring = ring_cells(CONFIGURATIONS["config1"], grid, 2)
    assert outcome.result == "partly proved"
    assert outcome.cells == len(ring) == 3 * 8
    assert 0.5 * ring.volume().sum() < outcome.volume < ring.volume().sum()
    assert 0 < len(outcome.open_cells) < outcome.cells

    def for_ever(*asked: Any) -> Deadline:
        return replace(tolerable_deadline(*asked), deadline_s=4.0)

    monkeypatch.setattr(units, "tolerable_deadline", for_ever)
    refuted = run_unit(CONFIGURATIONS["config1"], grid, "cells/backup/2")
    assert refuted.result == "refuted"
    assert set(refuted.counter_example) == {"method", "r_m", "xi_rad", "beta_rad"}


def test_halves_cover_their_cells() -> None:
    cells = ring_cells(CONFIGURATIONS["config2"], Settings(), 5)
    halves = halved(cells, 2.0)
    assert halves.volume().sum() == pytest.approx(cells.volume().sum(), rel=1e-9)
    count = len(cells)
    for centre, half in (("r", "dr"), ("xi", "dxi"), ("beta", "dbeta")):
        middle, width = getattr(halves, centre), getattr(halves, half)
        low = np.minimum((middle - width)[:count], (middle - width)[count:])
        high = np.maximum((middle + width)[:count], (middle + width)[count:])
        assert (low <= getattr(cells, centre) - getattr(cells, half)).all()
        assert (high >= getattr(cells, centre) + getattr(cells, half)).all()


def test_whole_cells_are_said_to_be_what_they_are() -> None:
    certificate = verify(CONFIGURATIONS["config1"], SMALL, workers=1)
    claim = certificate.claims["cells"]
    for method in ("barrier", "backup"):
        table = claim.whole[method]
        assert table["of"] == 2 * 2 * 2
        assert 0.0 <= table["volume_share"] < 1.0
        listed = sum(
            int(part.split("-")[-1]) - int(part.split("-")[0]) + 1
            for text in table["open_cells"].values()
            for part in text.split(",")
            if part
        )
        assert listed == table["of"] - table["whole_cells"]
        assert f"{method}: {table['volume_share']:.2%} of the volume" in claim.note
    assert not followed(CONFIGURATIONS["demo"])
    left_out = verify(CONFIGURATIONS["demo"], replace(SMALL, cells=(1, 1, 1)), workers=1).claims["cells"]
    assert left_out.result == "not covered"
    assert "brakes" in left_out.note


@pytest.mark.usefixtures("small_grid")
def test_another_source_of_deadlines_does_not_cover(
    certificate: VehicleCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = CONFIGURATIONS["demo"]
    require_cover(certificate, demo)
    other = {**certificate.sources, "backup/clear.py": "0" * 64, "hold.py": "1" * 64, "verify/run.py": "2" * 64}
    with pytest.raises(CertificateError, match=r"installed: shield/backup/clear\.py, shield/hold\.py; run `headway"):
        require_cover(replace(certificate, sources=other), demo)
    assert covers(replace(certificate, sources={**certificate.sources, "verify/run.py": "2" * 64}), demo)


def test_every_source_that_a_deadline_imports_is_compared() -> None:
    """What a fresh interpreter loads to answer a question, less what holds no arithmetic."""
    code = (
        "import sys; from shield.deadline import Method, tolerable_deadline; from shield.vehicle import load_vehicle; "
        "from shield.state import Disc, State; "
        "v = load_vehicle('config1'); s = State(9.0, 1.0, 3.0, 0.1); d = [Disc(0.0, 0.0, 4.0)] * 9; "
        "[tolerable_deadline(m, v, s, d) for m in (Method.BARRIER, Method.BACKUP)]; "
        "print(*sorted(m for m in sys.modules if m.startswith('shield.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    paths = {name.removeprefix("shield.").replace(".", "/") + ".py" for name in loaded}
    assert paths - {"errors.py", "backup.py", "published.py"} == set(RESTS_ON)


# runs, certificates, checks


def test_units_cover_the_domain_and_are_reproducible() -> None:
    vehicle = CONFIGURATIONS["config1"]
    units = unit_names(vehicle, SMALL)
    everywhere = ["everywhere/0", "everywhere/1"]
    assert units == ["admissible", "inclusion", "rounding", *everywhere, *(f"deadlines/{i}" for i in range(6)), *RINGS]
    cells = [cell for column in range(6) for cell in column_cells(vehicle, SMALL, column)]
    assert len(cells) == 12
    for side in range(3):
        low, high = domain(vehicle, SMALL)[side]
        assert min(cell[side][0] for cell in cells) == pytest.approx(low)
        assert max(cell[side][1] for cell in cells) == pytest.approx(high)
    for state in states_of(cells[0], SMALL, 0):
        assert all(low <= value <= high for value, (low, high) in zip(state, cells[0], strict=True))
    assert run_unit(vehicle, SMALL, "deadlines/3") == run_unit(vehicle, SMALL, "deadlines/3")
    assert unit_names(load_vehicle("passenger_car"), SMALL) == ["rounding", *everywhere, *units[5:11]]
    with pytest.raises(ValueError, match="no such unit"):
        run_unit(vehicle, SMALL, "deadlines/6")


@pytest.mark.usefixtures("small_grid")
def test_a_certificate_is_written_read_covered_and_checked(tmp_path: Path) -> None:
    vehicle = CONFIGURATIONS["config2"]
    seen: list[tuple[int, int]] = []
    certificate = verify(vehicle, SMALL, workers=1, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(i, 15) for i in range(1, 16)]
    results = {name: claim.result for name, claim in certificate.claims.items()}
    assert results.pop("cells") == "partly proved"
    assert set(results.values()) == {"proved"}
    assert certificate.claims["deadlines"].states == 12 * 2 * 2
    path = tmp_path / "c.json"
    path.write_text(certificate.text())
    assert load_certificate(path) == certificate
    assert covers(certificate, vehicle)
    assert restored(certificate) == (vehicle, SMALL)
    assert stale(certificate) == ()
    for sample in (None, 2):
        found = check(certificate, sample=sample, workers=1)
        assert found.disagreements == ()
        assert found.units == (15 if sample is None else 8)
        assert found.of == 15
        assert found.claims["everywhere"] == (2 if sample is None else 1, 2)


@pytest.mark.timeout(120)  # two interpreters start, on a machine that may be busy
def test_two_processes_find_what_one_finds() -> None:
    vehicle = CONFIGURATIONS["config1"]
    assert verify(vehicle, SMALL, workers=2) == verify(vehicle, SMALL, workers=1)


def test_an_interrupted_run_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vehicle, kept = CONFIGURATIONS["config1"], tmp_path / "progress"

    def stop(done: int, _of: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(vehicle, SMALL, workers=1, progress_file=kept, progress=stop)
    kept.write_text(kept.read_text() + '{"unit": "deadli')  # the interrupt cut a line
    ran: list[str] = []

    def counted(chosen: Vehicle, settings_: Settings, unit: str) -> Outcome:
        ran.append(unit)
        return run_unit(chosen, settings_, unit)

    monkeypatch.setattr(run_module, "run_unit", counted)
    resumed = verify(vehicle, SMALL, workers=1, progress_file=kept)
    assert len(ran) == 10
    assert not kept.exists()
    assert resumed == verify(vehicle, SMALL, workers=1)


def test_progress_of_another_question_is_not_picked_up(tmp_path: Path) -> None:
    vehicle, kept = CONFIGURATIONS["config1"], tmp_path / "progress"
    wrong = Outcome("inclusion", "refuted", 1)
    kept.write_text("{}\n" + json.dumps({"unit": wrong.unit, "result": "refuted", "cells": 1}) + "\n")
    assert verify(vehicle, SMALL, workers=1, progress_file=kept).claims["inclusion"].result == "proved"
    with pytest.raises(CertificateError, match="cannot keep progress"):
        verify(vehicle, SMALL, workers=1, progress_file=tmp_path / "absent" / "progress")


def test_a_wrong_deadline_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flip a sign in what finds the deadline, and the certificate says so."""
    from shield.verify import units

    def too_long(method: Method, vehicle: Vehicle, state: State, discs: list[Disc], cap_s: float) -> Deadline:
        return tolerable_deadline(method, vehicle, replace(state, beta_rad=-state.beta_rad), discs, cap_s)

    monkeypatch.setattr(units, "tolerable_deadline", too_long)
    certificate = verify(CONFIGURATIONS["config1"], replace(SMALL, cells=(3, 6, 4), farthest_m=20.0), workers=1)
    claim = certificate.claims["deadlines"]
    assert claim.result == "undecided"
    assert set(claim.counter_example) == {"method", "r_m", "xi_rad", "beta_rad"}
    assert not covers(certificate, CONFIGURATIONS["config1"])
    monkeypatch.undo()
    found = check(certificate, workers=1)
    assert any(line.startswith("deadlines: the certificate says undecided") for line in found.disagreements)


@pytest.fixture(scope="module")
def certificate() -> VehicleCertificate:
    return verify(load_vehicle("demo"), SMALL, workers=1)


@pytest.mark.parametrize("sample", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_sample_holds_something_of_every_claim(sample: int, seed: int) -> None:
    """However few the rings of one claim are beside another's; a share that rounds down to none was drawn once."""
    grid = replace(SMALL, cells=(20, 30, 1))
    for name in ("config1", "passenger_car"):
        vehicle = load_vehicle(name)
        every = unit_names(vehicle, grid)
        drawn = drawn_units(every, grid, sample, seed)
        assert drawn == [unit for unit in every if unit in drawn]
        assert {unit.rpartition("/")[0] or unit for unit in drawn} == {
            unit.rpartition("/")[0] or unit for unit in every
        }
        assert sum(unit.startswith("deadlines/") for unit in drawn) == sample
        assert sum(unit.startswith("everywhere/") for unit in drawn) == 1
    no_columns = [unit for unit in every if not unit.startswith("deadlines/")]
    assert sum(unit.startswith("everywhere/") for unit in drawn_units(no_columns, grid, 300, seed)) == 10


@pytest.mark.usefixtures("small_grid")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cells": [2, 3, 1]}, r"cells = \[2, 3, 1\] there, at least \[2, 3, 2\] wanted"),
        ({"cells": [12]}, r"cells = \[12\] there"),
        ({"cells": None}, r"cells = None there"),
        ({"states": 0}, "states = 0 there, at least 1 wanted"),
        ({"farthest_m": 59.0}, r"farthest_m = 59\.0 there, at least 60\.0 wanted"),
        ({"cap_s": 3.0}, r"cap_s = 3\.0 there, at least 4\.0 wanted"),
        ({"cap_s": "long"}, "cap_s = 'long' there"),
    ],
)
def test_a_smaller_or_coarser_domain_does_not_cover(
    certificate: VehicleCertificate, change: dict[str, object], says: str
) -> None:
    demo = CONFIGURATIONS["demo"]
    require_cover(replace(certificate, domain={**certificate.domain, "cells": [4, 3, 3], "cap_s": 12}), demo)
    with pytest.raises(CertificateError, match=f"less than a guard relies on: .*{says}"):
        require_cover(replace(certificate, domain={**certificate.domain, **change}), demo)


def test_no_guard_asks_beyond_the_longest_deadline_that_is_proved() -> None:
    assert GuardSettings().cap_s <= certificate_module.CAP_S == Settings().cap_s
    with pytest.raises(ValueError, match=r"cap_s = 10\.5: no certificate proves deadlines beyond 10 s"):
        GuardSettings(cap_s=10.5)
    shipped = shipped_certificate(CONFIGURATIONS["config1"])
    assert shipped is not None
    assert shipped.domain["cap_s"] >= GuardSettings().cap_s


@pytest.mark.usefixtures("small_grid")
def test_a_certificate_of_another_vehicle_does_not_cover(certificate: VehicleCertificate) -> None:
    demo = CONFIGURATIONS["demo"]
    require_cover(certificate, replace(demo, name="other name"))
    faster = replace(demo, v_max_mps=13.0)
    with pytest.raises(CertificateError, match=r"does not cover 'demo': v_max_mps = 12\.0 there, 13\.0 here"):
        require_cover(certificate, faster)
    blind = replace(demo, bounds=replace(demo.bounds, sensing_range_m=30.0))
    with pytest.raises(CertificateError, match=r"bounds\.sensing_range_m = 'unlimited' there, 30\.0 here"):
        require_cover(certificate, blind)
    assert not covers(certificate, faster)


def test_a_claim_that_is_not_proved_does_not_cover(certificate: VehicleCertificate) -> None:
    demo = CONFIGURATIONS["demo"]
    refuted = {**certificate.claims, "deadlines": Claim("refuted", 1, counter_example=[1.0])}
    with pytest.raises(CertificateError, match=r"does not prove 'deadlines': refuted \(\[1\.0\]\)"):
        require_cover(replace(certificate, claims=refuted), demo)
    missing = {name: claim for name, claim in certificate.claims.items() if name != "rounding"}
    with pytest.raises(CertificateError, match="does not prove 'rounding': missing"):
        require_cover(replace(certificate, claims=missing), demo)


def test_a_damaged_certificate_is_refused(certificate: VehicleCertificate, tmp_path: Path) -> None:
    text = certificate.text()
    table = json.loads(text)
    damages = [
        (text.replace('"deceleration_mps2": 6.0', '"deceleration_mps2": 9.0'), "was changed after it was written"),
        (text[:-20], "is not JSON"),
        ("[]", "is not a certificate"),
        ("{}", "is not a certificate"),
        (json.dumps({**table, "version": 2}), "version 2 is not the version 1"),
        (json.dumps({**table, "more": 1}), "keys missing or unknown: more"),
        (json.dumps({name: value for name, value in table.items() if name != "claims"}), "unknown: claims"),
    ]
    for damaged, says in damages:
        with pytest.raises(CertificateError, match=says):
            parse_certificate(damaged, "it")
    with pytest.raises(CertificateError, match="cannot read the certificate"):
        load_certificate(tmp_path / "absent.json")


def test_shipped_certificates_cover_the_shipped_vehicles() -> None:
    for vehicle in (*CONFIGURATIONS.values(), load_vehicle("passenger_car")):
        shipped = shipped_certificate(vehicle)
        assert shipped is not None, vehicle.name
        require_cover(shipped, vehicle)
        results = {name: claim.result for name, claim in shipped.claims.items() if name != "cells"}
        if vehicle.name in CONFIGURATIONS:
            assert set(results.values()) == {"proved"}
        assert set(results.values()) <= {"proved", "not covered"}
        assert restored(shipped)[0] == vehicle
    assert shipped_certificate(replace(CONFIGURATIONS["demo"], v_max_mps=13.0)) is None


def test_arb_is_what_the_proofs_take_it_for() -> None:
    """A ball comparison is true only for every pair of values."""
    assert not bool(arb(1.0, 0.1) > arb(1.05))
    assert bool(arb(1.0, 0.1) < arb(1.2))
    assert float(ball(0.1, 0.3).lower()) <= 0.1
    assert float(ball(0.1, 0.3).upper()) >= 0.3
