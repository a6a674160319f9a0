"""Worlds by name, what comes of an episode in numbers, and whose fault a failure is."""

import json
import sys
from pathlib import Path

import pytest
import typer

from carla_bridge.errors import SimulatorError, WorldError
from carla_bridge.worlds import drive
from carla_bridge.worlds.base import TrueWorld
from carla_bridge.worlds.drive import command, drive_world
from carla_bridge.worlds.registry import WORLDS, open_world, world_vehicle
from shield.guard import Control
from shield.vehicle import load_vehicle

LIBRARIES = {"commonroad": "commonroad", "highway": "highway_env", "mujoco": "mujoco"}


def opened(name: str) -> TrueWorld:
    pytest.importorskip(LIBRARIES[name])
    return open_world(name)


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_keeps_the_protocol(name: str) -> None:
    world = opened(name)
    assert world.time_s == 0.0
    assert not world.done
    assert world.vehicle == world_vehicle(name)
    for _ in range(5):
        world.apply(Control(0.0, 3.0))
        world.tick()
    assert world.time_s == pytest.approx(5 * world.tick_s)
    state = world.state()
    assert state.speed_mps is not None
    assert 0.0 <= state.speed_mps <= world.vehicle.v_max_mps + world.vehicle.bounds.speed_mps
    assert world.frame().shape == (80, 160, 3)
    assert world.report().time_s == world.time_s
    world.close()
    with pytest.raises(WorldError, match="after close"):
        world.tick()


@pytest.mark.parametrize("name", WORLDS)
def test_a_missing_library_is_told_with_the_extra_that_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [*sys.modules, "commonroad.common.file_reader"]:
        if module.partition(".")[0] == LIBRARIES[name]:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    with pytest.raises(WorldError, match=r"pip install 'headway\[worlds\]'"):
        open_world(name, scenario=str(Path(__file__)) if name == "commonroad" else None)


def test_an_unknown_world_and_a_vehicle_that_does_not_fit_are_told() -> None:
    with pytest.raises(WorldError, match="must be one of commonroad, highway, mujoco"):
        open_world("torcs")
    pytest.importorskip("mujoco")
    with pytest.raises(WorldError, match="does not hold the body"):
        open_world("mujoco", vehicle="demo")


def test_the_outcome_is_printed_as_json_and_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    for as_json in (True, False):
        command("mujoco", "empty_road", None, 0, None, 1.0, as_json)
    text = capsys.readouterr().out
    end = text.index("\n}\n") + 3
    outcome = json.loads(text[:end])
    assert (outcome["world"], outcome["scenario"], outcome["ended"]) == ("mujoco", "empty_road", "time")
    assert (outcome["collisions_moving"], outcome["collisions_at_rest"]) == (0, 0)
    assert outcome["min_clearance_m"] is None
    assert outcome["deadline_median_s"] > 0.0
    assert {"backup_share", "min_clearance_moving_m", "broken", "causes"} <= outcome.keys()
    assert "collisions_moving_bounds_held  0" in text[end:]
    assert "min_clearance_m                -" in text[end:]


def test_a_failing_simulator_ends_with_69_and_a_collision_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> TrueWorld:
        raise SimulatorError("it has diverged")

    monkeypatch.setattr(drive, "open_world", fail)
    with pytest.raises(typer.Exit) as ended:
        command("mujoco", None, None, 0, None, 1.0, True)
    assert ended.value.exit_code == 69
    assert "the simulator failed, not the agent: it has diverged" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("commonroad")
    with pytest.raises(typer.Exit) as ended:
        command("commonroad", None, None, 0, 13.0, None, True, shielded=False, pass_m=0.0)
    assert ended.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["ended"] == "collision"


def test_one_seed_gives_one_outcome() -> None:
    first = drive_world("mujoco", opened("mujoco"), limit_s=1.5)
    assert first == drive_world("mujoco", opened("mujoco"), limit_s=1.5)
    assert first.shield


def test_the_bounds_of_another_vehicle_file_are_taken() -> None:
    pytest.importorskip("commonroad")
    world = open_world("commonroad", vehicle="passenger_car")
    assert world.vehicle == load_vehicle("passenger_car")
