"""Routes read from OpenDRIVE by CARLA's reader, against the same road integrated by us."""

from pathlib import Path

import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")

from carla_bridge.errors import ScenarioError
from carla_bridge.opendrive import read_route
from carla_bridge.route import Route
from tests.carla_emulator.roads import SECTIONS, opendrive

pytestmark = pytest.mark.carla


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
