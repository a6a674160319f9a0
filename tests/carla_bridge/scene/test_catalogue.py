"""The shipped scenarios: every one is read, its obstacles keep to what is declared, and a guarded vehicle drives it."""

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

import headway
from carla_bridge.kinematic import KinematicWorld, Start
from carla_bridge.obstacles import Obstacle
from carla_bridge.scenario import load_scenario, shipped_scenarios
from carla_bridge.scene.command import scenarios
from carla_bridge.scene.episode import causes_of, drive_world
from shield.deadline import Method
from shield.guard import Control, Guard, GuardSettings, Observation, Proposal
from shield.vehicle import load_vehicle

NAMES = shipped_scenarios()


def test_there_are_at_least_twenty_each_with_a_word_on_what_it_is_about() -> None:
    found = [load_scenario(name) for name in NAMES]
    assert len(found) >= 20
    assert all(item.about.endswith(".") and item.name == name for item, name in zip(found, NAMES, strict=True))
    kinds = {placed.kind for item in found for placed in item.placed}
    assert kinds >= {"cut_in", "braking_lead", "crossing", "parked_row", "narrow_gap"}


@pytest.mark.parametrize("name", NAMES)
def test_a_guarded_vehicle_drives_off_and_every_bound_holds(name: str) -> None:
    scenario = load_scenario(name)
    world = KinematicWorld(scenario, load_vehicle(scenario.vehicle), scenario.seeds[0])
    guard, applier = Guard(world.vehicle, GuardSettings(report_barrier=False)), headway.Applier()
    applied, backups = 0, 0
    while world.time_s < 0.4 and not world.done:
        now_s, state = world.time_s, world.state()
        asked = Proposal(now_s, 0.0, scenario.target_speed_mps)
        decision = guard.tick(now_s, Observation(now_s, state, world.obstacles(), applied), asked)
        backups += decision.mode == "backup"
        applier.accept(decision, now_s)
        for _ in range(2):
            held = applier.control_at(world.time_s)
            assert held.certified
            applied = held.decision_id
            world.apply(held.control)
            world.tick()
    assert world.broken == {}
    assert world.collisions == ()
    assert world.report().mean_speed_mps > 0.2
    assert backups < 10


def test_an_episode_is_the_same_again() -> None:
    scenario, vehicle = load_scenario("lone_drum"), load_vehicle("demo")
    guarded, again = (
        drive_world(KinematicWorld(scenario, vehicle, 3), "lone_drum", 3, 0.6, method=Method.BARRIER) for _ in range(2)
    )
    assert guarded == again
    assert guarded.collisions_moving == 0
    assert guarded.uncertified == 0
    assert guarded.deadline_median_s > 0.1


def test_what_is_faster_than_declared_is_classified_as_a_broken_bound() -> None:
    scenario = load_scenario("crossing_pedestrian")
    world = KinematicWorld(scenario, load_vehicle("demo"), 1)
    world._watch.obstacle(0.05, 0.01, 1.0)
    assert list(world.broken) == ["obstacle_speed"]


def test_an_obstacle_that_comes_to_a_vehicle_at_rest_strikes_it_and_the_episode_goes_on() -> None:
    world = KinematicWorld(load_scenario("tailgater"), load_vehicle("demo"), 1)
    while world.time_s < 12.0 and not world.done:
        world.apply(Control(0.0, 0.0, True))
        world.tick()
    assert [item.cause for item in world.collisions] == ["struck at rest by obstacle 0"]
    assert [event.kind for event in world.events()] == ["struck"]
    assert not world.done


def test_contacts_are_counted_by_class() -> None:
    scenario, start = load_scenario("empty_road"), Start(speed_mps=8.0)
    world = KinematicWorld(scenario, load_vehicle("demo"), 1, start=start, obstacles=(Obstacle(6.0, 0.0),))
    driven = drive_world(world, "ahead", 1, 1.0, shield=False)
    assert (driven.collisions_moving, driven.collisions_moving_bounds_held) == (1, 0)  # it did not start at rest
    assert causes_of([driven, driven]) == {"moving, no certified control in force": 2}


def test_the_command_lists_describes_and_drives(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text("sections = [{ length_m = 40.0, curvature_1pm = 0.0 }]\nduration_s = 0.5\nobstacle = []\n")
    application = Typer()
    application.command()(scenarios)
    runner = CliRunner()
    listed = json.loads(runner.invoke(application, ["--json"]).stdout)
    assert [row["name"] for row in listed] == list(NAMES)
    shown = runner.invoke(application, ["cut_in"]).stdout
    assert "obstacle[0].gap_m" in shown
    driven = json.loads(runner.invoke(application, [str(path), "--seed", "1", "--json"]).stdout)
    assert (driven["time_s"], driven["collisions_moving"], driven["uncertified"]) == (0.5, 0, 0)
    assert runner.invoke(application, ["--seed", "1"]).exit_code == 2
