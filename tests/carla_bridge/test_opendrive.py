"""Routes read from OpenDRIVE by CARLA's reader, against the same road integrated by us."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")

from carla_bridge.errors import ScenarioError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.opendrive import read_route
from carla_bridge.route import Route, Section
from carla_bridge.scenario import load_scenario
from carla_bridge.world import EventKind
from shield.guard import Control
from shield.state import wrap_angle
from shield.vehicle import load_vehicle
from tests.carla_emulator.roads import SECTIONS, opendrive

pytestmark = pytest.mark.carla

MAPS = Path(__file__).parent / "maps"


def _written(folder: Path, text: str) -> Path:
    path = folder / "road.xodr"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_road_of_spirals_is_read_as_it_was_meant(tmp_path: Path) -> None:
    meant = Route.from_sections(SECTIONS)
    read = read_route(_written(tmp_path, opendrive()))
    assert read.length_m == pytest.approx(meant.length_m, abs=1.5)
    for x_m, y_m in read.points_m[::10]:
        assert abs(meant.locate(float(x_m), float(y_m)).offset_m) < 0.1
    assert read.heading_at(150.0) == pytest.approx(meant.heading_at(150.0), abs=0.02)


def test_only_as_much_is_read_as_is_asked_for(tmp_path: Path) -> None:
    path = _written(tmp_path, opendrive())
    assert read_route(path, 30.0, 0.0, 50.0).length_m == pytest.approx(50.0, abs=1.0)
    assert read_route(path, 30.0, 0.0, 50.0).at(0.0) == pytest.approx((30.0, 0.0), abs=0.6)


@pytest.mark.parametrize(("text", "words"), [("<html/>", "no element <OpenDRIVE>"), ("<OpenDRIVE/>", "OpenDRIVE|lane")])
def test_what_is_no_map_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        read_route(_written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.xodr"):
        read_route(tmp_path / "nowhere.xodr")


def test_a_file_of_scenariogeneration_is_read(tmp_path: Path) -> None:
    xodr = pytest.importorskip("scenariogeneration", reason="needs pip install scenariogeneration").xodr
    shapes = [xodr.Line(60.0), xodr.Arc(0.02, length=40.0), xodr.Line(30.0)]
    road = xodr.create_road(shapes, id=0, left_lanes=1, right_lanes=1, lane_width=3.5)
    written = xodr.OpenDrive("made")
    written.add_road(road)
    written.adjust_roads_and_lanes()
    path = tmp_path / "made.xodr"
    written.write_xml(str(path))
    route = read_route(path, 5.0, -1.75)
    # The right lane's centre lies 1.75 m outside the left-hand arc of radius 50 m.
    assert route.length_m == pytest.approx(55.0 + 40.0 * 51.75 / 50.0 + 30.0, abs=2.0)
    assert route.at(10.0)[1] == pytest.approx(-1.75, abs=0.05)
    assert route.heading_at(route.length_m - 5.0) == pytest.approx(0.8, abs=0.02)


def test_a_file_of_netconvert_is_read_straight_on_where_the_road_parts() -> None:
    route = read_route(MAPS / "corner.xodr", 5.0, -1.75)
    assert route.length_m == pytest.approx(135.0, abs=1.0)
    assert np.abs(route.points_m[:, 1] + 1.75).max() < 0.05
    bend = read_route(MAPS / "corner.xodr", 81.75, 20.0)
    # It goes by (80, 40), (90, 60) and (80, 90), and the lane lies 1.75 m to the right of that.
    assert bend.heading_at(bend.length_m - 5.0) == pytest.approx(math.atan2(30.0, -10.0), abs=0.05)
    assert bend.at(bend.length_m) == pytest.approx((81.7, 90.5), abs=1.0)


def test_a_map_is_a_road_for_every_world(tmp_path: Path) -> None:
    path = tmp_path / "bend.toml"
    where = json.dumps(str(MAPS / "corner.xodr"))
    path.write_text(f"target_speed_mps = 8.0\nhalf_width_m = 3.0\nmap = {{ file = {where}, x_m = 82.0, y_m = 20.0 }}\n")
    scenario = load_scenario(path)
    world = KinematicWorld(scenario.without_obstacles(), load_vehicle("demo"), 1, error_share=0.0)
    while not world.done and world.time_s < 20.0:
        place = world.place
        ahead = scenario.route.at(place.s_m + 6.0)
        x_m, y_m, heading_rad = world.pose
        bearing = wrap_angle(math.atan2(ahead[1] - y_m, ahead[0] - x_m) - heading_rad)
        world.apply(Control(math.asin(max(-0.6, min(0.6, 1.6 * 2.0 * math.sin(bearing) / 6.0))), 8.0))
        world.tick()
    assert [event.kind for event in world.events()] == [EventKind.FINISHED]


def test_a_hand_written_file_in_another_place_is_read_in_its_own_axes(tmp_path: Path) -> None:
    # The road starts at (100, -50) towards the north, bends left by a quarter of a circle of 40 m, and ends westwards.
    length = 40.0 * math.pi / 2.0
    text = opendrive((Section(50.0, 0.0),)).replace(
        '<geometry s="0.0" x="0.0" y="0.0" hdg="0.0" length="50.0"><line/></geometry>',
        f'<geometry s="0.0" x="100.0" y="-50.0" hdg="{math.pi / 2.0!r}" length="50.0"><line/></geometry>'
        f'<geometry s="50.0" x="100.0" y="0.0" hdg="{math.pi / 2.0!r}" length="{length!r}"><arc curvature="0.025"/>'
        "</geometry>",
    )
    route = read_route(
        _written(tmp_path, text.replace('length="50.0" id', f'length="{50.0 + length!r}" id')), 100.0, -50.0
    )
    assert route.length_m == pytest.approx(50.0 + length, abs=1.5)
    assert route.at(50.0) == pytest.approx((100.0, 0.0), abs=0.2)
    assert route.at(route.length_m) == pytest.approx((60.0, 40.0), abs=1.5)
