"""What looks right about deadlines and is not: each example with the numbers that refute it.

Others stand beside what they are about: the far side of the circle, shrinking before the union, the crawling car, two
discs without a rescue, the edge of the admissible set held for a tick.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from shield.arc import Reach
from shield.backup.family import FamilyOf, Kind
from shield.barrier import barrier_of, barrier_value, least_distance
from shield.deadline import Method, tolerable_deadline
from shield.published import RINGS, pointwise_deadline, ring_table
from shield.state import Disc, State
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle

CONFIGURATIONS = {name: load_vehicle(name) for name in ("config1", "config2")}


def test_the_published_formula_at_a_state_is_not_the_table() -> None:
    """Longer by 18 ms and more than the least corner of the cell that holds the state."""
    vehicle = CONFIGURATIONS["config2"]
    rng = np.random.default_rng(3)
    furthest = 0.0
    for ring in RINGS:
        xi = rng.uniform(-math.pi, math.pi, 20_000)
        beta = rng.uniform(-1.0, 1.0, 20_000) * vehicle.beta_max_rad
        formula = np.clip(pointwise_deadline(vehicle, ring.offset_m, xi, beta), 0.0, ring.longest_s)
        table = ring_table(vehicle, ring)
        there = np.array([table.at(float(a), float(b)) for a, b in zip(xi, beta, strict=True)])
        assert (formula >= there - 1e-12).mean() > 0.99
        furthest = max(furthest, float((formula - there).max()))
    assert 0.018 < furthest < 0.030


def test_a_larger_r_bar_lengthens_a_published_deadline_so_a_position_error_is_taken_off_r() -> None:
    vehicle, error = CONFIGURATIONS["config2"], 0.3
    barrier = barrier_of(vehicle)
    grown = replace(vehicle, barrier=Barrier(barrier.r_bar_m + error, barrier.sigma))
    declared = replace(vehicle, bounds=Bounds(position_m=error))
    longer = 0
    for xi in np.linspace(-3.0, 3.0, 25):
        r = float(least_distance(barrier, xi)) + 20.0
        state, disc = State(0.0, 0.0, 0.0, 0.1), Disc(-r * math.cos(xi), -r * math.sin(xi), 4.0)
        plain, wide, shrunk = (
            tolerable_deadline(Method.PUBLISHED, v, state, [disc]).deadline_s for v in (vehicle, grown, declared)
        )
        assert shrunk <= plain
        longer += wide > plain
    assert longer > 5


@pytest.mark.parametrize(("name", "sigma"), [("config1", 0.05), ("config2", 0.22)])
def test_below_the_least_sigma_the_barrier_outlasts_every_rescue(name: str, sigma: float) -> None:
    """h >= 0 and yet no manoeuvre: then a barrier deadline is no guarantee, and `backup` is shorter."""
    shipped = CONFIGURATIONS[name]
    lost = {}
    for tried in (sigma, barrier_of(shipped).sigma):
        vehicle = replace(shipped, barrier=Barrier(4.0, tried))
        lost[tried] = 0
        for xi in np.linspace(2.0, math.pi, 60):
            r = float(least_distance(barrier_of(vehicle), xi)) + 1e-3
            assert barrier_value(barrier_of(vehicle), r, xi) > 0.0
            state, disc = State(0.0, 0.0, 0.0, 0.0), Disc(-r * math.cos(xi), -r * math.sin(xi), 4.0)
            lost[tried] += tolerable_deadline(Method.BACKUP, vehicle, state, [disc]).deadline_s == 0.0
    assert lost[sigma] > 0
    assert lost[barrier_of(shipped).sigma] == 0


def test_many_a_vehicle_lies_outside_the_inclusion() -> None:
    """{h >= 0} lies inside the backup set for the two published vehicles, not for vehicles in general."""
    rng = np.random.default_rng(11)
    outside = 0
    for _ in range(400):
        l_r, beta_m, radius = rng.uniform(1.0, 2.5), rng.uniform(0.3, 1.0), rng.uniform(2.0, 6.0)
        sigma = rng.uniform(0.05, 0.6)
        rho, rho_rear = l_r / math.sin(beta_m), l_r / math.tan(beta_m)
        x = -l_r + math.sqrt(l_r**2 + 2.0 * radius * (rho - rho_rear))
        xi = np.linspace(math.pi - math.atan2(radius, x), math.pi, 400)
        sine = rho * np.sin(xi - beta_m)
        edge = -sine + np.sqrt(sine**2 + radius**2 + 2.0 * radius * rho)
        outside += bool((least_distance(Barrier(radius, sigma), xi) < edge).any())
    assert 0.05 < outside / 400 < 0.5


def test_a_circle_driven_with_a_varying_error_walks_away_without_limit() -> None:
    """Half a degree one way on one half of the circle and the other way on the other: the drift grows turn by turn."""
    vehicle = CONFIGURATIONS["config2"]
    error, step = math.radians(0.5), 0.01
    x = y = heading = 0.0
    away = []
    for turn in range(1, 31):
        while heading < 2.0 * math.pi * turn:
            slip = vehicle.beta_max_rad - error * (1.0 if heading % (2.0 * math.pi) < math.pi else -1.0) - error
            x, y = x + step * math.cos(heading + slip), y + step * math.sin(heading + slip)
            heading += step * math.sin(slip) / vehicle.l_r_m
        away.append(math.hypot(x, y))
    assert away[29] > 2.5 * away[9] > 5.0 * away[1] > 0.0
    allowed = replace(vehicle, bounds=Bounds(steering_rad=error))
    assert tolerable_deadline(Method.BACKUP, allowed, State(0.0, 0.0, 0.0), [Disc(60.0, 0.0, 1.0)]).deadline_s == 0.0


def test_a_braking_path_longer_than_its_circle_is_the_whole_circle() -> None:
    vehicle = replace(CONFIGURATIONS["config1"], deceleration_mps2=2.0)
    assert vehicle.v_max_mps**2 / 4.0 > 2.0 * math.pi * vehicle.rho_m
    family = FamilyOf(vehicle, 0.0, Reach.of(vehicle, None)).after(10.0)
    turning = [sweep.kind for sweep in family.sweeps if sweep.manoeuvre.braking and sweep.side != 0]
    assert turning == [Kind.CIRCLE, Kind.CIRCLE]
    # A disc behind the car is met on the way round, which an arc of less than a turn would not reach.
    behind = Disc(-2.0 * vehicle.l_r_m, 2.0 * vehicle.rho_rear_m, 0.4)
    short = replace(vehicle, deceleration_mps2=40.0)
    for car, blocked in ((vehicle, True), (short, False)):
        answer = tolerable_deadline(Method.BACKUP, car, State(0.0, 0.0, 0.0), [behind, Disc(9.0, 0.0, 2.0)])
        assert any(item.manoeuvre.value == "brake_left" for item in answer.certificate.intervals) <= (not blocked)


@pytest.mark.parametrize(("name", "g"), [("config1", 7.1), ("config2", 9.1)])
def test_full_lock_at_top_speed_is_kinematics_alone(name: str, g: float) -> None:
    vehicle: Vehicle = CONFIGURATIONS[name]
    assert vehicle.v_max_mps**2 / vehicle.rho_m / 9.81 == pytest.approx(g, abs=0.1)
