"""The whole loop in virtual time: camera, shipped network, controller, with and without the shield."""

from dataclasses import replace

import pytest

from carla_bridge.kinematic import KinematicWorld, Start
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import drive
from shield.vehicle import load_vehicle

VEHICLE = load_vehicle("demo")
CURVES = load_scenario("town04_curves")


@pytest.mark.parametrize("windows", [2, 5, 10])
def test_the_empty_route_is_driven_on_the_centre_line_whatever_the_age_of_answers(windows: int) -> None:
    # From the end of the straight: all the curves.
    start = Start(s_m=80.0, offset_m=1.0, speed_mps=10.0)
    world = KinematicWorld(CURVES.without_obstacles(), VEHICLE, seed=1, start=start)
    episode = drive(world, windows, limit_s=45.0)
    assert episode.report.progress == 1.0
    assert episode.report.kerb_hits == 0
    assert episode.report.mean_deviation_m < 0.35
    assert episode.report.max_deviation_m < 1.5
    assert episode.report.mean_speed_mps > 10.0
    assert set(episode.exits) == {"exit1", "exit2", "exit3"}


@pytest.mark.parametrize(("windows", "seed"), [(1, 0), (5, 1), (10, 2)])
def test_obstacles_are_passed_without_the_shield(windows: int, seed: int) -> None:
    report = drive(KinematicWorld(CURVES, VEHICLE, seed), windows, limit_s=15.0).report
    assert (report.collisions, report.kerb_hits, report.off_track) == (0, 0, False)
    assert report.min_distance_m is not None
    assert report.min_distance_m > 4.0
    assert 1.0 < report.mean_deviation_m < 3.5
    assert report.progress_m > 130.0


def test_the_shield_lets_good_driving_be() -> None:
    world = KinematicWorld(CURVES, VEHICLE, seed=3, start=Start(s_m=20.0, speed_mps=11.0))
    episode = drive(world, 5, limit_s=4.0, shielded=True)
    assert episode.report.collisions == 0
    assert episode.uncertified == 0
    assert episode.interventions <= 10
    assert episode.report.progress_m > 55.0


def test_a_start_far_off_the_centre_line_is_driven_back() -> None:
    scenario = replace(CURVES.without_obstacles(), name="aside")
    world = KinematicWorld(scenario, VEHICLE, 5, start=Start(offset_m=-6.5, heading_error_rad=0.2, speed_mps=8.0))
    report = drive(world, 3, limit_s=8.0).report
    assert report.kerb_hits == 0
    assert abs(report.deviation_m) < 0.6
