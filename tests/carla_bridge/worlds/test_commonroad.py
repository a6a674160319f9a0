"""Recorded traffic: replay between two samples, where our vehicle starts, and what a file may not be."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from carla_bridge.errors import ScenarioError, WorldError
from carla_bridge.world import EventKind
from carla_bridge.worlds.bodies import Box, Drum
from carla_bridge.worlds.commonroad import CommonRoadWorld, Recording, Track, read_recording
from carla_bridge.worlds.drive import drive_world
from carla_bridge.worlds.registry import open_world, world_vehicle
from shield.guard import Control
from shield.vehicle import load_vehicle

pytest.importorskip("commonroad")
STREET = Path(__file__).resolve().parents[3] / "carla_bridge" / "worlds" / "street.xml"
CAR = world_vehicle("commonroad")


@cache
def street() -> Recording:
    return read_recording(STREET)


def test_the_shipped_street_is_read_as_it_is_written() -> None:
    recording = street()
    kinds = {track.name: track for track in recording.tracks}
    assert sorted(kinds) == ["obstacle 10", "vehicle 11", "vehicle 12", "vehicle 13", "vehicle 14"]
    assert recording.start == (0.0, -1.75, 0.0, 0.0)
    assert recording.end_s == 18.0
    assert kinds["vehicle 14"].round
    lead = kinds["vehicle 11"].at(1.25)
    assert lead is not None
    assert lead.body.x_m == pytest.approx(30.0 + 6.0 * 1.25)
    assert lead.speed_mps == pytest.approx(6.0)
    assert recording.top_speed_mps == pytest.approx(7.0, abs=0.11)


def test_a_track_is_linear_between_samples_and_gone_outside_them() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    track = Track("vehicle 1", 1.0, 0.1, points, np.array([0.0, 0.0, 0.4]), 4.0, 2.0)
    assert track.at(0.9) is None
    assert track.at(1.3) is None
    thing = track.at(1.15)
    assert thing is not None
    assert isinstance(thing.body, Box)
    assert thing.body.x_m == pytest.approx(1.0)
    assert thing.body.y_m == pytest.approx(1.0)
    assert thing.body.heading_rad == pytest.approx(0.2)
    assert thing.vx_mps == pytest.approx(0.0)
    assert thing.vy_mps == pytest.approx(20.0)
    # The ends of the box turn about its middle: 2 m of way, and 2 m times 0.4 rad, in 0.1 s.
    assert track.top_speed_mps == pytest.approx(28.0)


def test_obstacles_are_told_where_they_are_with_the_declared_top_speed() -> None:
    world = CommonRoadWorld(street(), CAR, error_share=0.0)
    assert {disc.speed_max_mps for disc in world.obstacles()} == {0.0, street().top_speed_mps}
    for _ in range(100):
        world.apply(Control(0.0, 0.0, True))
        world.tick()
    ends = [disc for disc in world.obstacles() if disc.speed_max_mps > 0.0]
    lead = next(track for track in street().tracks if track.name == "vehicle 11").at(2.0)
    assert lead is not None
    assert any(math.hypot(disc.x_m - lead.body.x_m, disc.y_m - lead.body.y_m) < 1.7 for disc in ends)
    assert world.broken == {}


def test_the_recording_goes_on_whatever_ours_does_and_its_end_ends_the_episode() -> None:
    world = CommonRoadWorld(street(), CAR)
    while not world.done:
        world.apply(Control(0.0, 0.0, True))
        world.tick()
    assert world.time_s == pytest.approx(18.0)
    assert [event.kind for event in world.events()] == [EventKind.FINISHED]
    assert world.collisions == ()


def test_seeds_take_the_place_of_recorded_vehicles() -> None:
    starts = set()
    for seed in range(1, 9):
        world = CommonRoadWorld(street(), CAR, seed)
        again = CommonRoadWorld(street(), CAR, seed)
        assert world.pose == again.pose
        assert world.obstacles() == again.obstacles()
        assert abs(world.report().deviation_m) < 0.1
        starts.add(world.pose)
    assert len(starts) >= 6


def test_a_blind_driver_is_kept_from_driving_into_the_lead_by_the_shield_alone() -> None:
    saved = drive_world("commonroad", open_world("commonroad"), limit_s=2.5, pass_m=0.0)
    assert (saved.collisions_moving, saved.uncertified, saved.broken) == (0, 0, {})
    assert saved.min_clearance_moving_m is not None
    assert saved.min_clearance_moving_m > 0.5
    assert saved.deadline_median_s is not None
    lost = drive_world("commonroad", open_world("commonroad", speed_mps=13.0), shielded=False, pass_m=0.0)
    assert lost.collisions_moving == 1
    assert lost.causes == {"moving, bounds held": 1}


@pytest.mark.parametrize("name", ["USA_Lanker-1_1_T-1", "USA_US101-4_1_T-1"])
def test_recorded_traffic_is_never_hit_by_a_moving_vehicle(name: str, reference_dir: Path) -> None:
    path = reference_dir / "scenarios" / f"{name}.xml"
    world = open_world("commonroad", str(path))
    outcome = drive_world("commonroad", world, limit_s=2.0)
    assert outcome.collisions_moving == 0
    assert outcome.time_s == pytest.approx(2.0)
    assert not outcome.broken


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot read the CommonRoad file"):
        read_recording(tmp_path / "none.xml")
    broken = tmp_path / "broken.xml"
    broken.write_text("<commonRoad", encoding="utf-8")
    with pytest.raises(ScenarioError, match="not a CommonRoad file"):
        read_recording(broken)
    text = STREET.read_text(encoding="utf-8")
    aimless = tmp_path / "aimless.xml"
    start, end = text.index("  <planningProblem"), text.index("</planningProblem>") + len("</planningProblem>")
    aimless.write_text(text[:start] + text[end:], encoding="utf-8")
    with pytest.raises(ScenarioError, match="no planning problem"):
        read_recording(aimless)
    with pytest.raises(WorldError, match="does not hold the body"):
        CommonRoadWorld(street(), load_vehicle("config1"))


def test_a_round_road_user_stays_round() -> None:
    walker = next(track for track in street().tracks if track.name == "vehicle 14").at(0.0)
    assert walker is not None
    assert walker.body == Drum(85.0, -8.0, 0.35)


def test_a_moving_start_is_excused_until_a_certified_control_has_come() -> None:
    moving = CommonRoadWorld(street(), CAR, 1)
    assert moving.motion.speed_mps > 1.0
    outcome = drive_world("commonroad", moving, shielded=False, pass_m=0.0)
    assert outcome.causes == {"moving, no certified control in force": 1}
    assert (outcome.collisions_moving, outcome.collisions_moving_bounds_held) == (1, 0)
    guarded = CommonRoadWorld(street(), CAR, 1)
    drive_world("commonroad", guarded, limit_s=1.5)
    assert guarded._judge.certified
