"""What the search for counter-examples draws: nothing beyond the declared bounds, and their ends often."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shield.answer import Certificate, Deadline, Interval
from shield.falsify import deadlines
from shield.falsify.deadlines import ATTACKS, MOST_DISCS, Report, Situation
from shield.falsify.trajectories import DELAY_STEPS, HOLD_STEPS, STEPS
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle

BOUNDS = Bounds(
    position_m=0.4,
    heading_rad=0.03,
    steering_rad=0.02,
    steering_bias_rad=0.005,
    speed_mps=0.7,
    obstacle_speed_mps=0.3,
    odometry_drift=0.05,
    sensing_age_s=0.1,
    actuation_delay_s=0.2,
    tick_s=0.05,
)
CAR = Vehicle(2.0, 0.5, 10.0, radius_m=0.6, deceleration_mps2=5.0, bounds=BOUNDS)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spread(values: Any, low: float, high: float, slack: float = 0.05) -> None:
    """Assert that values lie in [low, high] and come near both ends."""
    found = np.asarray(values, np.float64)
    room = slack * (high - low)
    assert low - 1e-12 <= found.min() <= low + room
    assert high - room <= found.max() <= high + 1e-12


def share(mask: Any) -> float:
    return float(np.mean(mask))


def test_ends_of_a_bound_are_drawn_often() -> None:
    drawn, high = deadlines._edges(generator(), 4000), deadlines._edges(generator(), 4000, low=False)
    spread(drawn, 0.0, 1.0)
    spread(high, 0.0, 1.0)
    assert share(high == 1.0) == pytest.approx(0.5, abs=0.04)
    assert share(high == 0.0) == 0.0
    assert share(drawn == 0.0) == pytest.approx(0.3, abs=0.04)
    assert share(drawn == 1.0) == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("bounds", [BOUNDS, Bounds(), Bounds(steering_rad=0.02), Bounds(steering_bias_rad=0.005)])
def test_steering_errors_are_those_declared(bounds: Bounds) -> None:
    found = deadlines._steering_errors(replace(CAR, bounds=bounds), generator(), 600)
    assert found.shape == (600, STEPS)
    most = bounds.steering_rad + bounds.steering_bias_rad
    if most == 0.0:
        assert not found.any()
        return
    spread(found, -most, most)
    if bounds.steering_rad == 0.0:
        assert (np.abs(found) == most).all()
        assert (found == found[:, :1]).all()
        assert share(found[:, 0] > 0.0) == pytest.approx(0.5, abs=0.1)
    elif bounds.steering_bias_rad == 0.0:
        constant = (found == found[:, :1]).all(axis=1)
        at_an_end = (np.abs(found) == most).all(axis=1)
        once = at_an_end & ((np.diff(found, axis=1) != 0.0).sum(axis=1) == 1)
        assert share(constant) == pytest.approx(1.0 / 3.0, abs=0.08)
        assert share(once) == pytest.approx(1.0 / 3.0, abs=0.08)
        assert share(~at_an_end) == pytest.approx(1.0 / 3.0, abs=0.08)
        assert share(found[constant, 0] > 0.0) == pytest.approx(0.5, abs=0.12)
        flips = np.argmax(np.diff(found[once], axis=1) != 0.0, axis=1)
        spread(flips, 0, STEPS - 2, 0.1)
        spread(found[~at_an_end], -most, most)
    else:
        assert len({round(float(value), 9) for value in found[:, 0]}) > 4


def test_speeds_wished_for_are_shares_of_the_top_speed() -> None:
    wish = deadlines._wishes(generator(), 1200)
    columns = HOLD_STEPS + DELAY_STEPS
    assert wish.shape == (1200, columns)
    spread(wish, 0.0, 1.0)
    constant = (wish == wish[:, :1]).all(axis=1)
    fast, crawl = constant & (wish[:, 0] == 1.0), constant & (wish[:, 0] == 0.01)
    late = ~constant & np.isin(wish, (0.01, 1.0)).all(axis=1)
    for found, part in ((fast, 2.2), (crawl, 1.0), (late, 0.9), (constant & ~fast & ~crawl, 1.0)):
        assert share(found) == pytest.approx(part / 6.0, abs=0.06)
    assert share(~constant & ~late) == pytest.approx(1.0 / 6.0, abs=0.05)
    assert (np.diff(wish[late], axis=1) >= 0.0).all()
    spread(wish[constant & ~fast & ~crawl, 0], 0.0, 1.0)
    spread(wish[~constant & ~late], 0.0, 1.0)


def drawn(car: Vehicle, count: int = 800, moving: bool = True) -> list[Situation]:
    rng = generator(3)
    return [deadlines._draw(car, rng, [], moving) for _ in range(count)]


def test_situations_are_drawn_all_over_the_vehicles_range() -> None:
    found = drawn(CAR)
    spread([each.beta_rad for each in found], -0.5, 0.5)
    for end in (-0.5, 0.0, 0.5):
        assert share([each.beta_rad == end for each in found]) == pytest.approx(1.0 / 8.0, abs=0.05)
    speeds = [each.speed_mps for each in found if each.speed_mps is not None]
    assert len(speeds) / len(found) == pytest.approx(0.7, abs=0.06)
    spread(speeds, 0.0, 10.0)
    counts = [len(each.obstacles) for each in found]
    assert {1, 2, 3, MOST_DISCS} == set(counts)
    discs = [disc for each in found for disc in each.obstacles]
    spread([disc.radius_m for disc in discs], 0.2, 5.0)
    gaps = np.array([math.hypot(disc.x_m, disc.y_m) - disc.radius_m for disc in discs])
    assert 1.0 - 1e-9 <= gaps.min() <= 1.05
    assert gaps.mean() == pytest.approx(6.0 + 1.0, rel=0.1)
    ahead = [
        math.remainder(math.atan2(disc.y_m, disc.x_m) - each.beta_rad, 2.0 * math.pi)
        for each in found
        for disc in each.obstacles
    ]
    spread(ahead, -math.pi, math.pi)
    assert share(np.abs(ahead) < 0.6) == pytest.approx(0.5 * 0.683 + 0.5 * 0.6 / math.pi, abs=0.06)
    assert np.mean(ahead) == pytest.approx(0.0, abs=0.15)
    moves = np.array([disc.speed_max_mps for disc in discs])
    assert share([any(disc.speed_max_mps > 0.0 for disc in each.obstacles) for each in found]) == pytest.approx(
        0.3, abs=0.06
    )
    spread(moves, 0.0, 3.0)


def test_obstacles_move_only_where_the_vehicle_can_brake_for_them() -> None:
    for car, moving in ((replace(CAR, deceleration_mps2=None), True), (CAR, False)):
        assert all(disc.speed_max_mps == 0.0 for each in drawn(car, 100, moving) for disc in each.obstacles)


def test_what_came_close_is_tried_again_a_little_off() -> None:
    rng = generator(1)
    before = Situation(0.3, 4.0, (Disc(9.0, 1.0, 0.5, 1.0), Disc(5.0, -6.0, 2.0)))
    again = [deadlines._near(CAR, rng, before) for _ in range(600)]
    assert all(each.speed_mps == 4.0 for each in again)
    assert all([disc.speed_max_mps for disc in each.obstacles] == [1.0, 0.0] for each in again)
    assert max(abs(each.beta_rad) for each in again) == 0.5  # no more than the grip
    assert min(disc.radius_m for each in again for disc in each.obstacles) == 0.05
    offs = np.array([[disc.x_m, disc.y_m, disc.radius_m] for each in again for disc in each.obstacles])
    offs -= np.tile([[9.0, 1.0, 0.5], [5.0, -6.0, 2.0]], (600, 1))
    sizes = np.abs(offs[:, :2]).max(axis=1)
    assert 1e-5 < np.median(sizes) < 0.05
    assert 0.5 < sizes.max() < 5.0
    assert np.percentile(sizes, 2) < 3e-4
    turned = np.array([each.beta_rad - 0.3 for each in again])
    assert 1e-5 < np.median(np.abs(turned)) < 0.01
    # half of all draws start from what came close, where there is anything
    close = [(0.1, before)]
    near = [len(deadlines._draw(CAR, rng, close, True).obstacles) == 2 for _ in range(400)]
    assert share(near) == pytest.approx(0.5 + 0.5 / MOST_DISCS, abs=0.08)


def test_a_state_is_the_origin_with_the_slip_and_the_speed() -> None:
    assert deadlines._state_of(Situation(0.2, 3.0, ())) == State(0.0, 0.0, 0.0, 0.2, 3.0)
    assert deadlines._state_of(Situation(0.2, None, ())).speed_mps is None


def test_attacks_stay_within_the_bounds_and_reach_their_ends() -> None:
    situations = [
        Situation(0.3, 5.0, (Disc(9.0, 4.0, 1.5, 2.0),)),
        Situation(-0.2, None, (Disc(9.0, -4.0, 1.5), Disc(-6.0, 2.0, 0.5))),
        Situation(0.1, 9.8, (Disc(3.0, 4.0, 0.25),)),
    ] * 20
    count = len(situations) * ATTACKS
    runs = deadlines._runs(CAR, generator(), situations, np.linspace(0.0, 1.0, count))
    row = np.arange(count) // ATTACKS % 3
    assert runs.beta_rad.tolist() == np.array([0.3, -0.2, 0.1])[row].tolist()
    spread(runs.delay_s, 0.0, 0.25)
    spread(runs.heading_rad, -0.03, 0.03)
    assert share(runs.heading_rad > 0.0) == pytest.approx(0.35, abs=0.03)
    first, anywhere, last = (runs.speed_mps[row == which] for which in range(3))
    spread(first, 4.3, 5.7)
    assert share(first == 5.7) == pytest.approx(0.5, abs=0.06)
    assert share(first == 4.3) == pytest.approx(0.25, abs=0.06)
    assert share(first == 5.0) == pytest.approx(0.25, abs=0.06)
    spread(anywhere, 0.0, 10.0)
    spread(last, 9.1, 10.0)
    assert runs.radius_m.shape == (count, MOST_DISCS)
    assert np.unique(runs.radius_m[row == 1], axis=0).tolist() == [[2.1, 1.1, 0.0, 0.0]]
    assert np.unique(runs.x_m[row == 1], axis=0).tolist() == [[9.0, -6.0, 0.0, 0.0]]
    assert np.unique(runs.y_m[row == 1], axis=0).tolist() == [[-4.0, 2.0, 0.0, 0.0]]
    spread(runs.pursuit_mps[row == 0, 0], 0.0, 2.0)
    spread(runs.pursuit_mps[row == 1, 0], 0.0, 0.3)
    spread(runs.pursuit_mps[row == 2, 0], 0.0, 0.3)
    assert not runs.pursuit_mps[:, 2:].any()
    assert runs.spare_m == 0.4
    # places are off by the error there was at the start, towards it more often than anywhere
    off = np.hypot(runs.shift_x_m, runs.shift_y_m)
    spread(off, 0.0, 0.4 + 0.05 * 10.0 * 0.1)
    moved = off[:, 0] > 0.01
    towards = np.arctan2(-runs.y_m[:, 0], -runs.x_m[:, 0])
    bearing = np.arctan2(runs.shift_y_m[:, 0], runs.shift_x_m[:, 0])
    straight = np.abs(np.remainder(bearing - towards + math.pi, 2.0 * math.pi) - math.pi) < 1e-6
    assert share(straight[moved]) == pytest.approx(0.5, abs=0.04)
    spread(bearing[moved & ~straight], -math.pi, math.pi)
    for mask in (runs.straightens, runs.brakes):
        assert mask.dtype == bool
        assert not mask.any()
    assert runs.backup_rad.tolist() == [0.0] * count
    assert runs.error_rad.shape == (count, STEPS)
    assert np.abs(runs.error_rad).max() <= 0.025 + 1e-12


LEFT, RIGHT, BRAKE = Manoeuvre.LEFT, Manoeuvre.RIGHT_THEN_STRAIGHT, Manoeuvre.BRAKE


def answer(single: Manoeuvre | None) -> Deadline:
    intervals = (Interval(0.0, 2.0, LEFT), Interval(2.0, 5.0, BRAKE), Interval(5.0, 100.0, RIGHT))
    return Deadline(1.0, 10.0, "cap", LEFT, Certificate(intervals, single, 3.0, 0.3, ""), True)


def test_the_certificate_names_the_manoeuvre_where_the_switch_is_seen() -> None:
    car = replace(CAR, bounds=replace(BOUNDS, sensing_age_s=0.0))
    asked = [(Situation(0.1, 5.0, (Disc(30.0, 0.0, 1.0),)), answer(LEFT))] * 30
    runs, manoeuvres = deadlines._plan(car, generator(2), asked)
    assert {LEFT, BRAKE, RIGHT} == set(manoeuvres)
    way = deadlines._way_held(car, runs)
    spread(runs.hold_s, 0.0, 1.0)
    for row, manoeuvre in enumerate(manoeuvres):
        low, high = {LEFT: (0.0, 2.0), BRAKE: (2.0, 5.0), RIGHT: (5.0, 100.0)}[manoeuvre]
        seen = low - 0.4 - 1e-9 <= way[row] <= high + 0.4 + 1e-9
        assert seen or (manoeuvre is LEFT and runs.hold_s[row] <= 0.3)
    near = [abs(way[row] - 2.0) < 0.4 for row in range(len(manoeuvres))]
    assert {manoeuvres[row] for row in range(len(manoeuvres)) if near[row]} >= {LEFT, BRAKE}
    assert runs.straightens.tolist() == [m is RIGHT for m in manoeuvres]
    assert runs.brakes.tolist() == [m is BRAKE for m in manoeuvres]
    single = np.isclose(runs.hold_s, 0.3) & np.array([m is LEFT for m in manoeuvres])
    assert share(single) == pytest.approx(0.2, abs=0.05)
    assert share(runs.hold_s == 1.0) == pytest.approx(0.3, abs=0.05)
    aged, _ = deadlines._plan(CAR, generator(2), asked)
    spread(aged.hold_s, 0.0, 1.1)


def test_a_contact_is_kept_with_what_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [(Situation(0.1 * k, 5.0, (Disc(30.0, 0.0, 1.0),)), answer(LEFT)) for k in range(3)]
    clearance = np.full(3 * ATTACKS, 2.0)
    clearance[ATTACKS + 5], clearance[7], clearance[2 * ATTACKS + 1] = -0.5, 0.25, -1e-7
    monkeypatch.setattr(deadlines, "least_clearance", lambda vehicle, runs: clearance)
    made: list[Any] = []
    plan = deadlines._plan

    def planned(*given: Any) -> Any:
        made.append(plan(*given))
        return made[-1]

    monkeypatch.setattr(deadlines, "_plan", planned)
    report, closest = Report(), [(0.1, asked[0][0]), (-0.7, asked[1][0])]
    deadlines._attack(CAR, generator(), asked, report, closest)
    runs, manoeuvres = made[0]
    (found,) = report.counterexamples
    row = ATTACKS + 5
    assert found.situation is asked[1][0]
    assert (found.deadline_s, found.depth_m, found.manoeuvre) == (1.0, 0.5, manoeuvres[row])
    assert (found.hold_s, found.delay_s) == (runs.hold_s[row], runs.delay_s[row])
    assert report.states == 3 * ATTACKS * STEPS
    assert report.least_clearance_m == -0.5
    assert [gap for gap, _ in closest] == [-0.7, -0.5, -1e-7, 0.1, 0.25]


def test_a_search_without_anything_to_attack_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "SITUATIONS", 3)
    nothing = Deadline(0.0, 0.0, "obstacle:0", None, Certificate((), None, 0.0, 0.0, ""), False)
    asked: list[tuple[State, float]] = []
    told: list[int] = []

    def ask(vehicle: Vehicle, state: State, obstacles: Any, cap_s: float) -> Deadline:
        asked.append((state, cap_s))
        return nothing

    report = deadlines.falsify_deadlines(CAR, 10, 4, ask=ask, progress=told.append)
    assert report.situations == len(asked) == 303
    assert (report.states, report.attacked) == (0, 0)
    assert {cap_s for _, cap_s in asked} == {2.0}
    assert told == [0] * 100
    assert 0.0 <= report.seconds < 60.0
    again: list[State] = []
    for seed in (4, 5):
        again.clear()

        def note(vehicle: Vehicle, state: State, obstacles: Any, cap_s: float) -> Deadline:
            again.append(state)
            return nothing

        deadlines.falsify_deadlines(CAR, 10, seed, ask=note)
        assert (again == [state for state, _ in asked]) is (seed == 4)
