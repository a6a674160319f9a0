"""The search for counter-examples finds none in the shield, and finds the ones put there."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import headway
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.falsify import Simulation, draw_scenario, falsify_deadlines
from shield.falsify.trajectories import DELAY_STEPS, HOLD_STEPS, STEPS, Array, Trajectories, least_clearance
from shield.guard import Guard, GuardSettings, Mode, Reason
from shield.guard.flight import grow_for_flight
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

DEMO = load_vehicle("demo")
CONFIG1 = load_vehicle("config1")
CONFIG2 = load_vehicle("config2")


def a_vehicle(seed: int) -> Vehicle:
    """Return a vehicle with drawn parameters and some of the bounds declared."""
    rng = random.Random(seed)

    def maybe(value: float, chance: float = 0.5) -> float:
        return value if rng.random() < chance else 0.0

    return Vehicle(
        l_r_m=rng.uniform(0.8, 2.5),
        beta_max_rad=rng.uniform(0.2, 1.2),
        v_max_mps=rng.uniform(3.0, 25.0),
        radius_m=rng.choice((0.0, 0.5, 1.5)),
        a_max_mps2=maybe(rng.uniform(1.0, 8.0), 0.7) or None,
        deceleration_mps2=maybe(rng.uniform(2.0, 9.0), 0.8) or None,
        bounds=Bounds(
            position_m=maybe(rng.uniform(0.0, 0.3)),
            heading_rad=maybe(rng.uniform(0.0, 0.03)),
            steering_rad=maybe(rng.uniform(0.0, 0.01), 0.3),
            steering_bias_rad=maybe(rng.uniform(0.0, 0.01), 0.3),
            speed_mps=maybe(rng.uniform(0.0, 0.5)),
            sensing_age_s=maybe(rng.uniform(0.0, 0.08)),
            actuation_delay_s=maybe(rng.uniform(0.0, 0.08), 0.7),
            tick_s=0.02,
            jitter_s=maybe(0.02),
            fail_safe_s=maybe(0.02),
            brake_build_s=maybe(rng.uniform(0.0, 0.3), 0.3),
            slip_rate_radps=maybe(rng.uniform(0.3, 4.0), 0.3) or None,
        ),
    )


def assert_kept(vehicle: Vehicle, seed: int, duration_s: float, *, moving: bool = False) -> None:
    """Assert that the guard keeps its promise in one drawn scenario."""
    drive = Simulation(vehicle, draw_scenario(vehicle, seed, duration_s, moving=moving), headway.Applier()).run()
    assert not drive.contacts, f"seed {seed}: contact at {drive.contacts} s, {drive.least_clearance_m} m deep"
    assert drive.uncertified == 0, f"seed {seed}: {drive.uncertified} instants without a certified control"
    assert Reason.CERTIFIER_FAILED not in drive.reasons, f"seed {seed}: {drive.reasons}"


@pytest.mark.parametrize("block", range(6))
def test_the_guard_never_touches_an_obstacle_whatever_is_proposed(block: int) -> None:
    for seed in range(4 * block, 4 * block + 4):
        assert_kept(DEMO, seed, 4.0)


@pytest.mark.parametrize("seed", range(12))
def test_the_guard_keeps_its_promise_for_any_vehicle(seed: int) -> None:
    assert_kept(a_vehicle(seed), seed, 3.0)


@pytest.mark.parametrize("seed", [2, 3])
def test_the_guard_stands_before_a_moving_obstacle_reaches_it(seed: int) -> None:
    scenario = draw_scenario(DEMO, seed, 1.5)
    moving = tuple(replace(disc, speed_max_mps=2.0) for disc in scenario.obstacles[:2])
    drive = Simulation(DEMO, replace(scenario, obstacles=moving), headway.Applier()).run()
    assert not drive.broken


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_guard_keeps_its_promise_for_ten_thousand_seconds() -> None:
    for seed in range(1000):
        assert_kept(DEMO if seed % 2 else a_vehicle(seed), 100_000 + seed, 10.0, moving=True)


@pytest.mark.parametrize(("ask_mps", "least_m"), [(4.0, 15.0), (12.0, 36.0)])
def test_driving_past_obstacles_is_still_driving(ask_mps: float, least_m: float) -> None:
    road = tuple(Disc(17.0 * (place + 1), 0.0, 4.0) for place in range(4))
    scenario = replace(
        draw_scenario(DEMO, 1, 5.0), obstacles=road, start=State(0.0, 0.0, 0.0), careful=True, faults=0.0
    )
    simulation = Simulation(DEMO, scenario, headway.Applier(), GuardSettings(report_barrier=False))
    simulation.aim, simulation.ask_mps = (150.0, 0.0), ask_mps
    drive = simulation.run()
    assert not drive.broken
    assert simulation.x > least_m, "straight at the obstacles and past them"
    assert drive.interventions > 20
    assert drive.backups < 0.15 * drive.ticks


def test_a_drive_is_the_same_for_the_same_seed() -> None:
    first, second = (Simulation(DEMO, draw_scenario(DEMO, 5, 2.0), headway.Applier()).run() for _ in range(2))
    assert first == second


class Deaf(Guard):
    """A guard that takes every observation for clear: what it admits is certified against nothing."""

    def _grown(self, *arguments: object, **named: object) -> tuple[State, tuple[Disc, ...]]:
        state, _ = super()._grown(*arguments, **named)  # type: ignore[arg-type]
        return state, ()


def broken_by(guard: type[Guard], seeds: Sequence[int]) -> bool:
    """Return whether some scenario breaks a faulty guard."""
    return any(
        Simulation(DEMO, draw_scenario(DEMO, seed, 4.0, moving=False), headway.Applier(), guard=guard).run().broken
        for seed in seeds
    )


def test_a_guard_that_does_not_see_is_found_out() -> None:
    assert broken_by(Deaf, range(60))


def test_a_guard_that_never_answers_still_gets_nobody_hurt() -> None:
    class Silent(Guard):
        def tick(self, *arguments: object) -> object:  # type: ignore[override]
            return replace(super().tick(*arguments), id=0)  # type: ignore[arg-type]

    drive = Simulation(DEMO, draw_scenario(DEMO, 3, 2.0), headway.Applier(), guard=Silent).run()
    assert not drive.broken
    assert drive.way_m == 0.0


def test_a_flipped_sign_in_the_commands_in_flight_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def shrinking(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], *rest: object) -> tuple[Disc, ...]:
        grown = grow_for_flight(vehicle, state, obstacles, *rest)  # type: ignore[arg-type]
        pairs = zip(obstacles, grown, strict=True)
        return tuple(replace(a, radius_m=max(0.0, 2.0 * a.radius_m - b.radius_m)) for a, b in pairs)

    monkeypatch.setattr("shield.guard.machine.grow_for_flight", shrinking)
    assert broken_by(Guard, range(30))


@pytest.mark.parametrize("vehicle", [CONFIG1, CONFIG2, DEMO], ids=lambda item: item.name)
def test_no_deadline_is_broken(vehicle: Vehicle) -> None:
    report = falsify_deadlines(vehicle, 500_000, seed=3, moving=False)
    assert report.states >= 500_000
    assert report.counterexamples == []
    assert report.least_clearance_m >= -1e-6


def test_an_obstacle_behind_is_not_touched_while_the_slip_angle_ramps_to_straight() -> None:
    slow = Vehicle(2.4, 1.15, 4.2, a_max_mps2=3.5, bounds=Bounds(slip_rate_radps=3.5, jitter_s=0.02, tick_s=0.02))
    report = falsify_deadlines(slow, 600_000, seed=3)
    assert report.attacked > 50
    assert report.counterexamples == []


def test_it_comes_close_so_that_a_mistake_would_show() -> None:
    assert falsify_deadlines(CONFIG1, 1_000_000, seed=1).least_clearance_m < 1e-4


def mirrored(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
    """Answer with a sign flipped: every obstacle is taken for its mirror image."""
    flipped = [replace(disc, y_m=-disc.y_m) for disc in obstacles]
    return tolerable_deadline(Method.BACKUP, vehicle, state, flipped, cap_s)


def late(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
    """Answer 20 ms too long."""
    found = tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s)
    certificate = replace(found.certificate, single_until_s=found.certificate.single_until_s + 0.02)
    return replace(found, deadline_s=found.deadline_s + 0.02, certificate=certificate)


def closer(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
    """Answer with the sign of a margin flipped: every obstacle is taken for 5 cm smaller."""
    smaller = [replace(disc, radius_m=max(0.0, disc.radius_m - 0.05)) for disc in obstacles]
    return tolerable_deadline(Method.BACKUP, vehicle, state, smaller, cap_s)


@pytest.mark.parametrize("faulty", [mirrored, late, closer])
@pytest.mark.parametrize("vehicle", [CONFIG1, CONFIG2], ids=lambda item: item.name)
def test_a_faulty_deadline_is_found_out(vehicle: Vehicle, faulty: object) -> None:
    report = falsify_deadlines(vehicle, 600_000, seed=2, ask=faulty)  # type: ignore[arg-type]
    assert report.counterexamples
    worst = report.counterexamples[0]
    assert worst.depth_m == pytest.approx(-report.least_clearance_m)
    assert worst.situation.obstacles


@pytest.mark.parametrize(
    "name",
    ["position_m", "heading_rad", "speed_mps", "actuation_delay_s", "brake_build_s", "steering_rad", "sensing_age_s"],
)
def test_a_bound_left_out_is_found_out(name: str) -> None:
    value = {"position_m": 0.3, "heading_rad": 0.05, "steering_rad": 0.02, "speed_mps": 2.0}.get(name, 0.2)
    bounds = replace(Bounds(), **{name: value})
    # Without an acceleration bound the speed is anywhere and its measurement does not matter.
    gain = 4.0 if name == "speed_mps" else None
    vehicle = Vehicle(1.6, 0.8, 12.0, a_max_mps2=gain, deceleration_mps2=6.0, bounds=bounds)
    without = replace(vehicle, bounds=Bounds())

    def ask(_: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
        return tolerable_deadline(Method.BACKUP, without, state, obstacles, cap_s)

    assert falsify_deadlines(vehicle, 1_000_000, seed=4, ask=ask, moving=False).counterexamples
    assert not falsify_deadlines(vehicle, 100_000, seed=4, moving=False).counterexamples


def test_obstacles_that_move_are_found_out_when_taken_for_standing() -> None:
    def ask(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> Deadline:
        still = [replace(disc, speed_max_mps=0.0) for disc in obstacles]
        return tolerable_deadline(Method.BACKUP, vehicle, state, still, cap_s)

    vehicle = Vehicle(1.6, 0.8, 12.0, deceleration_mps2=6.0)
    assert falsify_deadlines(vehicle, 1_500_000, seed=4, ask=ask).counterexamples


def test_a_vehicle_that_can_do_nothing_is_given_up_on() -> None:
    stuck = Vehicle(1.6, 0.8, 12.0, bounds=Bounds(steering_rad=0.01))
    report = falsify_deadlines(stuck, 10_000)
    assert (report.states, report.attacked) == (0, 0)


def one_run(**values: Array) -> Trajectories:
    """Return one trajectory of 1 s straight ahead at 10 m/s, then straight on, with a disc of 1 m far away."""
    zero, one = np.zeros(1), np.ones(1)
    base = Trajectories(
        beta_rad=zero,
        hold_s=one,
        delay_s=zero,
        backup_rad=zero,
        straightens=np.zeros(1, dtype=bool),
        brakes=np.zeros(1, dtype=bool),
        heading_rad=zero,
        speed_mps=10.0 * one,
        wish=np.ones((1, HOLD_STEPS + DELAY_STEPS)),
        error_rad=np.zeros((1, STEPS)),
        x_m=np.full((1, 1), 100.0),
        y_m=np.full((1, 1), 5.0),
        shift_x_m=np.zeros((1, 1)),
        shift_y_m=np.zeros((1, 1)),
        radius_m=np.ones((1, 1)),
        spare_m=0.0,
        pursuit_mps=np.zeros((1, 1)),
    )
    for name, value in values.items():
        setattr(base, name, value)
    return base


TEN = Vehicle(2.0, 0.5, 10.0, deceleration_mps2=5.0)


def test_a_straight_passes_at_its_distance() -> None:
    assert least_clearance(TEN, one_run())[0] == pytest.approx(4.0, abs=0.2)


def test_braking_stops_after_its_braking_distance() -> None:
    run = one_run(brakes=np.ones(1), x_m=np.full((1, 1), 25.0), y_m=np.zeros((1, 1)))
    assert least_clearance(TEN, run)[0] == pytest.approx(25.0 - 10.0 - 10.0 - 1.0, abs=0.02)


def test_a_circle_closes() -> None:
    turn = np.full(1, 0.5)
    # The farthest point of the circle from its start, and a disc touching it there from outside.
    centre = (-2.0, 2.0 / math.tan(0.5))
    across = (2.0 * centre[0], 2.0 * centre[1])
    away = math.hypot(*across)
    place = [value * (1.0 + 1.5 / away) for value in across]
    run = one_run(
        hold_s=np.full(1, 1e-9), backup_rad=turn, x_m=np.full((1, 1), place[0]), y_m=np.full((1, 1), place[1])
    )
    assert least_clearance(TEN, run)[0] == pytest.approx(0.5, abs=0.01)


def test_a_moving_obstacle_may_touch_a_vehicle_at_rest() -> None:
    chased = one_run(
        hold_s=np.full(1, 1e-9),
        speed_mps=np.zeros(1),
        wish=np.zeros((1, HOLD_STEPS + DELAY_STEPS)),
        brakes=np.ones(1),
        pursuit_mps=np.full((1, 1), 1e12),
    )
    assert least_clearance(TEN, chased)[0] == math.inf


def test_a_turn_goes_straight_once_that_is_clear() -> None:
    ahead = {"x_m": np.full((1, 1), 6.0), "y_m": np.zeros((1, 1)), "hold_s": np.full(1, 1e-9)}
    run = one_run(backup_rad=np.full(1, 0.5), straightens=np.ones(1), **ahead)
    assert least_clearance(TEN, run)[0] >= -1e-6
    assert least_clearance(TEN, run)[0] < 1.5
    assert least_clearance(TEN, one_run(**ahead))[0] < -0.5


def test_the_settings_reach_the_guard() -> None:
    simulation = Simulation(
        DEMO, draw_scenario(DEMO, 1, 1.0), headway.Applier(), GuardSettings(proposal_max_age_s=0.123)
    )
    assert simulation.guard.settings.proposal_max_age_s == 0.123
    assert Mode.BACKUP in Mode
