"""Scenario files: the shipped ones are the published route; damaged ones are refused with what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from carla_bridge.errors import ScenarioError
from carla_bridge.scenario import load_scenario, shipped_scenarios


def test_the_short_route_is_the_published_one(reference_dir: Path) -> None:
    published = np.loadtxt(reference_dir / "energyshield" / "route_town04_short.csv", delimiter=",", skiprows=1)
    route = load_scenario("town04_short").route
    assert route.length_m == pytest.approx(105.0, abs=1e-3)
    for index, point in enumerate(published):
        assert route.at(float(index)) == pytest.approx(tuple(point), abs=1e-3)


def test_the_long_route_goes_on_from_the_short_one_and_bends() -> None:
    short, long = load_scenario("town04_short").route, load_scenario("town04_curves").route
    assert long.length_m > short.length_m + 200.0
    assert long.at(100.0) == pytest.approx(short.at(100.0))
    assert np.abs(np.diff(long.heading_rad)).max() < 0.02
    assert long.curvature_1pm.max() > 0.015
    assert long.curvature_1pm.min() < -0.015


def test_shipped_scenarios_are_listed() -> None:
    assert {"town04_curves", "town04_short"} <= set(shipped_scenarios())


def test_noise_and_an_empty_road_are_options() -> None:
    scenario = load_scenario("town04_short")
    assert scenario.with_noise().spawn.noise_m == 1.15
    assert scenario.without_obstacles().spawn.count == 0


def test_a_road_of_sections_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "arc.toml"
    path.write_text("sections = [{ length_m = 30.0, curvature_1pm = 0.01 }]\nhalf_width_m = 5.0\n")
    scenario = load_scenario(path)
    assert (scenario.name, scenario.half_width_m, scenario.route.length_m) == ("arc", 5.0, 30.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"', "needs `waypoints`"),
        ("lanes = 3", "lanes: unknown key"),
        ("sections = [{ length_m = 0.0, curvature_1pm = 0.0 }]", r"sections\[0\].length_m = 0.0: must be positive"),
        ("sections = [{ length_m = 9.0 }]", r"sections\[0\].curvature_1pm = None: must be a finite number"),
        ("sections = [{ length_m = 9.0, bend = 1 }]", r"sections\[0\].bend: unknown key"),
        ("[obstacles]\ncount = 1.5", "obstacles.count = 1.5: must be a whole number"),
        ("[obstacles]\nfirst_m = -1.0", "obstacles.first_m = -1.0: must be a number that is not negative"),
        ("[obstacles]\nhow_many = 2", "obstacles.how_many: unknown key"),
        ("[[obstacle]]\ns_m = 1.0", r"obstacle\[0\].kind = None: must be one of standing, parked_row"),
        ('[[obstacle]]\nkind = "crossing"\ns_m = 1.0', r"obstacle\[0\].speed_mps = None: must be positive|finite"),
        ('[[obstacle]]\nkind = "standing"\ns_m = [9.0, 3.0]', "the first number must not be above the second"),
        ('[[obstacle]]\nkind = "standing"\ns_m = [9.0]', r"a range is two numbers, \[low, high\]"),
        ('[[obstacle]]\nkind = "standing"\ns_m = 9.0\nofset_m = 1.0', r"ofset_m: unknown key; did you mean offset_m\?"),
        (
            '[[obstacle]]\nkind = "parked_row"\ns_m = 9.0\nspacing_m = 5.0\ncount = 0',
            "whole number from 1 up",
        ),
        ("obstacle = 3", r"obstacle = 3: must be a list of tables, \[\[obstacle\]\]"),
        ('weather = "hail"', "weather = 'hail': must be one of clear, overcast"),
        ("weather = { light = 0.0 }", "weather.light = 0.0: must be positive"),
        ("sensors = { rate_hz = -1.0 }", "sensors.rate_hz = -1.0: must be positive"),
        ("sensors = { error_share = 1.5 }", "error_share = 1.5: must lie between 0 and 1"),
        ("seeds = { first = -1 }", "seeds.first = -1: must be a whole number that is not negative"),
        ("seeds = 3", "seeds = 3: must be a table of keys and values"),
        ("start = { offset_m = true }", "start.offset_m = True: must be a finite number"),
        ('map = { file = "none.xodr" }\nwaypoints = "none.csv"', "`map` is a road of its own"),
        ('waypoints = "none.csv"', "cannot read the waypoints"),
        ('waypoints = "bad.csv"', "must start with the line x_m,y_m"),
        ('waypoints = "words.csv"', "must be two numbers"),
        ("half_width_m = nan\nsections = [{ length_m = 9.0, curvature_1pm = 0.0 }]", "half_width_m = nan"),
    ],
)
def test_damaged_files_are_refused_naming_the_value(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "words.csv").write_text("x_m,y_m\n1,two\n3,4\n")
    path = tmp_path / "road.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=message):
        load_scenario(path)


def test_a_scenario_that_is_not_there_is_named() -> None:
    with pytest.raises(ScenarioError, match="town04_curves, town04_short"):
        load_scenario("town05")
    with pytest.raises(ScenarioError, match="cannot read the scenario"):
        load_scenario("nowhere/road.toml")
