"""The built-in world: errors inside the declared bounds, rules of the road, and the same bytes for the same seed."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_bridge.errors import WorldError
from carla_bridge.kinematic import KinematicWorld, Start
from carla_bridge.obstacles import COLLISION_DISTANCE_M, Obstacle
from carla_bridge.scenario import load_scenario
from carla_bridge.world import EventKind
from shield.guard import Control
from shield.vehicle import Bounds, load_vehicle

if TYPE_CHECKING:
    from carla_bridge.world import World

SHORT = load_scenario("town04_short")
CURVES = load_scenario("town04_curves")
DEMO = load_vehicle("demo")
LOOSE = replace(
    DEMO, bounds=Bounds(position_m=0.4, heading_rad=0.05, speed_mps=0.3, steering_rad=0.02, steering_bias_rad=0.03)
)


def run(world: KinematicWorld, control: Control, time_s: float) -> None:
    while not world.done and world.time_s < time_s - 1e-9:
        world.apply(control)
        world.tick()


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(-0.3, 0.3), st.floats(0.0, 1.0))
def test_what_is_measured_is_wrong_by_no_more_than_the_declared_bounds(seed: int, beta: float, share: float) -> None:
    world = KinematicWorld(CURVES, LOOSE, seed, error_share=share)
    bounds = LOOSE.bounds
    for _ in range(60):
        world.apply(Control(beta, 9.0))
        world.tick()
        state, (x_m, y_m, heading) = world.state(), world.pose
        assert abs(state.heading_rad - heading) <= share * bounds.heading_rad + 1e-9
        assert state.beta_rad == beta
        assert state.speed_mps is not None
        assert state.speed_mps >= 0.0
        for disc, drum in zip(world.obstacles(), world.drums, strict=True):
            ex = (disc.x_m - state.x_m) - (drum.x_m - x_m)
            ey = (disc.y_m - state.y_m) - (drum.y_m - y_m)
            assert math.hypot(ex, ey) <= share * bounds.position_m + 1e-9


@given(st.integers(0, 2**31))
def test_steering_errors_stay_inside_their_bounds(seed: int) -> None:
    world = KinematicWorld(SHORT, LOOSE, seed, start=Start(speed_mps=10.0))
    before = world.pose
    world.apply(Control(0.1, 10.0))
    world.tick()
    turned = math.remainder(world.pose[2] - before[2], 2.0 * math.pi)
    beta = math.asin(turned * LOOSE.l_r_m / 0.1)
    assert abs(beta - 0.1) <= LOOSE.bounds.steering_rad + LOOSE.bounds.steering_bias_rad
    assert world.state().beta_rad == 0.1


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first, second, other = (KinematicWorld(CURVES, LOOSE, seed) for seed in (5, 5, 6))
    for world in (first, second, other):
        run(world, Control(0.02, 8.0), 1.0)
    assert first.state() == second.state()
    assert first.obstacles() == second.obstacles()
    assert np.array_equal(first.frame(), second.frame())
    assert first.state() != other.state()
    assert not np.array_equal(first.frame(), other.frame())


def test_driving_into_a_drum_is_a_collision_that_ends_the_episode() -> None:
    world = KinematicWorld(SHORT, DEMO, 3)
    run(world, Control(0.0, 11.0), 20.0)
    report = world.report()
    assert (report.collisions, report.done, report.off_track) == (1, True, False)
    assert report.min_clearance_m is not None
    assert report.min_clearance_m == pytest.approx(0.0, abs=0.12)
    assert [event.kind for event in world.events()] == [EventKind.COLLISION]
    assert report.mean_speed_mps == pytest.approx(report.progress_m / report.time_s, rel=0.02)


def test_leaving_the_road_hits_the_kerb_first() -> None:
    world = KinematicWorld(SHORT.without_obstacles(), DEMO, 3)
    run(world, Control(0.05, 11.0), 20.0)
    report = world.report()
    assert [event.kind for event in world.events()] == [EventKind.KERB, EventKind.OFF_TRACK]
    assert (report.kerb_hits, report.off_track, report.collisions) == (1, True, 0)
    assert report.min_distance_m is None
    assert report.max_deviation_m > 10.0
    assert 0.0 < report.mean_deviation_m < report.max_deviation_m


def test_reaching_the_end_finishes_the_episode() -> None:
    world = KinematicWorld(SHORT.without_obstacles(), DEMO, 3, start=Start(s_m=90.0, speed_mps=11.0))
    run(world, Control(0.0, 11.0), 5.0)
    assert [event.kind for event in world.events()] == [EventKind.FINISHED]
    assert world.report().progress == 1.0


def test_it_stands_until_told_otherwise_and_starts_where_asked() -> None:
    world = KinematicWorld(CURVES, DEMO, 1, start=Start(s_m=150.0, offset_m=2.0, heading_error_rad=0.1))
    for _ in range(50):
        world.tick()
    assert world.place.s_m == pytest.approx(150.0, abs=0.05)
    assert world.place.offset_m == pytest.approx(2.0, abs=0.01)
    assert world.pose[2] == pytest.approx(CURVES.route.heading_at(150.0) + 0.1)
    assert world.report().mean_speed_mps == 0.0


def test_the_range_sensor_reports_what_makes_up_the_published_distance() -> None:
    reported = KinematicWorld(SHORT, DEMO, 1).obstacles()
    assert [disc.radius_m for disc in reported] == [4.0] * 4
    wide = replace(DEMO, radius_m=2.65)
    assert KinematicWorld(SHORT, wide, 1).obstacles()[0].radius_m == pytest.approx(4.0 - 2.65)
    bare = replace(DEMO, barrier=None)
    assert KinematicWorld(SHORT, bare, 1).obstacles()[0].radius_m == pytest.approx(COLLISION_DISTANCE_M)


def test_the_range_sensor_ends_at_its_range() -> None:
    short_sighted = replace(DEMO, bounds=replace(DEMO.bounds, sensing_range_m=30.0))
    route = SHORT.route
    drums = tuple(Obstacle(*route.at(s_m)) for s_m in (20.0, 33.0, 60.0))
    world = KinematicWorld(SHORT, short_sighted, 1, obstacles=drums)
    assert len(world.obstacles()) == 2


def test_a_slow_slip_angle_is_reported_as_it_is() -> None:
    slow = replace(DEMO, bounds=replace(DEMO.bounds, slip_rate_radps=0.5))
    world = KinematicWorld(SHORT, slow, 1)
    run(world, Control(0.4, 5.0), 0.2)
    assert world.state().beta_rad == pytest.approx(0.1)


def test_misuse_is_refused() -> None:
    world: World = KinematicWorld(SHORT, DEMO, 1)
    with pytest.raises(WorldError, match="beta_rad = nan"):
        world.apply(Control(math.nan, 1.0))
    world.close()
    world.close()
    with pytest.raises(WorldError, match="closed"):
        world.tick()
    with pytest.raises(WorldError, match="closed"):
        world.frame()
    with pytest.raises(ValueError, match=r"error_share = 1\.5"):
        KinematicWorld(SHORT, DEMO, 1, error_share=1.5)
