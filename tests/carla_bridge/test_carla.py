"""The unmodified `carla` wheel against the emulator of its protocol (an emulator, not CARLA); all in processes."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")

from tests.carla_bridge.conftest import Serve

pytestmark = [pytest.mark.carla, pytest.mark.timeout(100)]

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., int]

PRELUDE = """
import json, os, sys
from dataclasses import replace
from carla_bridge.carla.world import CarlaSettings, CarlaWorld
from carla_bridge.errors import SimulatorError
from carla_bridge.obstacles import SpawnRule
from shield.guard import Control
from shield.vehicle import load_vehicle
from tests.processes import wait_for
settings = CarlaSettings(port=int(sys.argv[1]), timeout_s=10.0, obstacles=SpawnRule(count=0))
demo = load_vehicle("demo")
def out(**values):
    print(json.dumps(values), flush=True)
def until_told_of_an_event(world):
    # It comes from a thread of the wheel's; the world, which stands meanwhile, takes it in at its next tick.
    wait_for(lambda: not world._attached._happened.empty())
"""


# An orderly end of the process, in which the wheel's threads may abort it, is not what is tested.
LEAVE = """
os._exit(0)
"""


def run(port: int, script: str, expect: int = 0) -> dict[str, object]:
    """Run a client and return the last line of JSON that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + "\nos._exit(0)\n", str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == expect, done.stderr
    return dict(json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1]))


FAULT = """
try:
    world = CarlaWorld(settings, demo)
    world.apply(Control(0.0, 5.0))
    for _ in range(60):
        world.tick()
        world.frame()
    out(error=None)
except SimulatorError as error:
    out(error=str(error))
"""


def test_a_vehicle_drives_sees_and_is_cleaned_away(emulator: Start) -> None:
    told = run(
        emulator(),
        """
world = CarlaWorld(replace(settings, weather="ClearNoon"), demo)
world.apply(Control(0.0, 8.0))
for _ in range(200):
    world.tick()
state, frame = world.state(), world.frame()
world.apply(Control(0.1, 8.0))
heading, way = state.heading_rad, 0.0
for _ in range(25):
    world.tick()
    way += world.state().speed_mps * world.tick_s
turned = world.state().heading_rad - heading
simulator, client = world._world, world._client
world.close()
world.close()
simulator.wait_for_tick(10.0)
left = [actor.type_id for actor in client.get_world().get_actors()]
out(x_m=state.x_m, speed=state.speed_mps, shape=frame.shape, lit=int(frame.max()), turned=turned, way=way, left=left,
    synchronous=simulator.get_settings().synchronous_mode, time_s=world.time_s)
""",
    )
    assert told["time_s"] == pytest.approx(4.5)
    assert float(str(told["x_m"])) > 15.0
    assert float(str(told["speed"])) == pytest.approx(8.0, abs=0.3)
    assert told["shape"] == [80, 160, 3]
    assert int(str(told["lit"])) > 100
    # The bicycle's own law: d(heading) = sin(beta) / l_r ds, with the emulator's l_r of 1.6 m.
    assert float(str(told["turned"])) == pytest.approx(math.sin(0.1) / 1.6 * float(str(told["way"])), rel=0.02)
    assert told["left"] == ["spectator"]
    assert told["synchronous"] is False


def test_a_barrel_that_is_hit_ends_the_episode(emulator: Start) -> None:
    told = run(
        emulator(),
        """
rule = SpawnRule(count=1, first_m=25.0, first_spread_m=0.0)
world = CarlaWorld(replace(settings, obstacles=rule), demo)
discs = world.obstacles()
world.apply(Control(0.0, 8.0))
while not world.done and world.time_s < 8.0:
    world.tick()
    if not world.done and world.report().min_clearance_m < -0.2:
        until_told_of_an_event(world)
report = world.report()
out(kind=[event.kind for event in world.events()], x=discs[0].x_m, gap=report.min_clearance_m)
world.close()
""",
    )
    assert told["kind"] == ["collision"]
    assert 20.0 < float(str(told["x"])) < 40.0
    assert abs(float(str(told["gap"]))) < 1.0


def test_what_a_killed_process_left_the_next_one_removes(emulator: Start) -> None:
    port = emulator()
    left = run(
        port,
        """
world = CarlaWorld(settings, demo)
ours = [actor.id for actor in world._world.get_actors() if actor.type_id != "spectator"]
out(ours=ours)
os.kill(os.getpid(), 9)
""",
        expect=-9,
    )
    assert len(list(left["ours"])) == 4  # type: ignore[call-overload]
    told = run(
        port,
        """
world = CarlaWorld(settings, demo)
world.tick()
ours = [actor.id for actor in world._world.get_actors() if actor.type_id != "spectator"]
simulator = world._world
world.close()
given_back = simulator.get_settings()
out(ours=ours, waits=given_back.synchronous_mode, step=given_back.fixed_delta_seconds)
""",
    )
    assert len(list(told["ours"])) == 4  # type: ignore[call-overload]
    assert not set(left["ours"]) & set(told["ours"])  # type: ignore[call-overload]
    # The killed run had the server wait for its ticks: nobody would ever give them.
    assert not told["waits"]
    assert told["step"] in (None, 0.0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--version", "0.9.15"], "version 0.9.15"),
        (["--freeze-at", "30"], "failed at a tick"),
        (["--exit-at", "30"], "failed at a tick"),
        (["--slow-at", "30", "--slow-s", "4.5"], "failed at a tick"),
        (["--blind-at", "30"], "failed at the camera's image of frame"),
    ],
)
def test_a_simulator_that_fails_is_told_from_the_agent(emulator: Start, flags: list[str], words: str) -> None:
    assert words in str(run(emulator(*flags), "settings = replace(settings, timeout_s=3.0)" + FAULT)["error"])


def test_a_tick_that_is_slow_but_in_time_is_no_fault(emulator: Start) -> None:
    assert run(emulator("--slow-at", "30", "--slow-s", "0.3"), FAULT)["error"] is None


def test_the_wrong_map_is_named(emulator: Start) -> None:
    told = run(emulator(), "settings = replace(settings, map_name='Town04')" + FAULT)
    assert "has the map Carla/Maps/Emulated, not Town04" in str(told["error"])


def test_no_server_and_a_port_of_something_else_are_told(serve: Serve) -> None:
    assert "no CARLA server answers at 127.0.0.1:1 " in str(run(1, FAULT)["error"])
    other = "settings = replace(settings, timeout_s=1.0)" + FAULT
    assert "its -carla-rpc-port?" in str(run(serve().stream_port, other)["error"])


def test_a_missing_wheel_is_told_with_what_to_install() -> None:
    told = run(1, "sys.modules['carla'] = None" + FAULT)
    assert "install it with pip install 'headway[carla]'" in str(told["error"])


def _drive(port: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.cli.main", "drive", "--world", "carla", "--port", str(port), "--json"]
    return subprocess.run(
        [*command, "--vehicle", "demo", "--duration-s", "3", "--reconnect-s", "0", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--map", "Town04"), "has the map Carla/Maps/Emulated, not Town04"),
        (("--spawn-point", "99"), "spawn_point = 99: the map Carla/Maps/Emulated has"),
        (("--weather", "Drizzle"), "must be a preset of carla.WeatherParameters: ClearNight, ClearNoon"),
        (("--lidar-m", "20"), "the lidar sees 20 m: declare at most that"),
    ],
)
def test_what_the_command_asks_of_the_server_is_asked(emulator: Start, more: tuple[str, str], told: str) -> None:
    done = _drive(emulator(), *more)
    assert (done.returncode, told in done.stderr) == (78 if "--lidar-m" in more else 69, True), done.stderr


def test_the_command_drives_an_episode_behind_the_shield(emulator: Start) -> None:
    done = _drive(emulator())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["time_s"] == pytest.approx(3.0)
    assert told["progress_m"] > 10.0
    assert (told["collisions"], told["uncertified"]) == (0, 0)


def test_the_command_says_whose_fault_it_was(emulator: Start) -> None:
    done = _drive(emulator("--exit-at", "30"))
    assert done.returncode == 69
    assert "the simulator failed, not the agent: the CARLA server at 127.0.0.1:" in done.stderr


def test_other_peoples_traffic_is_seen_moving_and_left_alone(emulator: Start) -> None:
    told = run(
        emulator(),
        """
import carla
other = carla.Client("127.0.0.1", settings.port)
there = other.get_world()
library = there.get_blueprint_library()
def put(kind, x, y, speed):
    actor = there.spawn_actor(library.find(kind), carla.Transform(carla.Location(x, y, 0.3), carla.Rotation()))
    actor.set_target_velocity(carla.Vector3D(*speed))
    return actor.id
put("static.prop.barrel", 60.0, -6.0, (0.0, 0.0, 0.0))
theirs = [put("vehicle.audi.tt", 40.0, 4.0, (5.0, 0.0, 0.0))]
theirs.append(put("walker.pedestrian.0001", 25.0, 8.0, (0.0, -4.0, 0.0)))
world = CarlaWorld(settings, demo)
def seen():
    return [[disc.x_m, disc.y_m, disc.radius_m, disc.speed_max_mps] for disc in world.obstacles()]
before = seen()
for _ in range(50):
    world.tick()
after = seen()
gap = world.report().min_distance_m
world.close()
there.wait_for_tick(10.0)
left = len([actor for actor in there.get_actors() if actor.id in theirs])
out(before=before, after=after, left=left, gap=gap)
""",
    )
    before, after = cast(list[list[float]], told["before"]), cast(list[list[float]], told["after"])
    assert [disc[3] for disc in before] == [0.0, 14.0, 4.0]  # the walker is faster than walkers are declared to be
    assert [after[i][0] - before[i][0] for i in range(3)] == pytest.approx([0.0, 5.0, 0.0], abs=1e-3)
    assert [after[i][1] - before[i][1] for i in range(3)] == pytest.approx([0.0, 0.0, 4.0], abs=1e-3)
    # The shield is to keep 4 m between centres; a car's body and ours need more than that.
    assert before[1][2] == pytest.approx(2.0 * math.hypot(2.25, 0.9), abs=1e-3)
    assert told["left"] == 2
    assert 0.0 < cast(float, told["gap"]) < 30.0


def test_a_lidar_covers_what_stands_there(emulator: Start) -> None:
    told = run(
        emulator(),
        """
from carla_bridge.carla.lidar import LidarSettings
from runtime.errors import ConfigurationError
try:
    CarlaWorld(replace(settings, lidar=LidarSettings(range_m=30.0)), demo)
except ConfigurationError as error:
    refused = str(error)
near = replace(demo, bounds=replace(demo.bounds, sensing_range_m=30.0), barrier=None)
rule = SpawnRule(count=2, first_m=15.0, span_m=30.0, spread_m=2.0)
world = CarlaWorld(replace(settings, obstacles=rule, lidar=LidarSettings(range_m=30.0)), near)
world.apply(Control(0.05, 3.0))
for _ in range(40):
    world.tick()
drums = [[drum.x_m, drum.y_m] for drum in world.drums]
out(refused=refused, drums=drums, discs=[[disc.x_m, disc.y_m, disc.radius_m] for disc in world.obstacles()])
world.close()
""",
    )
    assert "bounds.sensing_range_m = undeclared" in str(told["refused"])
    discs, drums = cast(list[list[float]], told["discs"]), cast(list[list[float]], told["drums"])
    body_m = math.hypot(2.25, 0.9)
    assert len(discs) == len(drums) == 2
    for drum in drums:
        # The emulator's barrels have a radius of 0.5 m.
        assert any(math.dist(drum, disc[:2]) + 0.5 + body_m <= disc[2] < 0.5 + body_m + 1.5 for disc in discs)


def test_lane_marks_weather_spectator_and_a_slower_camera(emulator: Start) -> None:
    told = run(
        emulator(),
        """
world = CarlaWorld(replace(settings, weather="HardRainNoon", camera_s=0.04), demo)
world.apply(Control(0.3, 8.0))
pictures, marks = set(), []
while not world.done and world.time_s < 10.0:
    world.tick()
    pictures.add(world.frame().tobytes())
    marks = marks or [world._place.offset_m] * any(event.kind == "kerb" for event in world.events())
    if not marks and abs(world._place.offset_m) > 8.2:
        until_told_of_an_event(world)
    if len(marks):
        world.apply(Control(0.0, 8.0))
kinds = [event.kind for event in world.events()]
view = world._spectator.get_transform().location
pose, rain = world.pose, world._world.get_weather().precipitation
ticks = round(world.time_s / world.tick_s)
out(kinds=kinds, mark=marks[0], view=[view.x, view.y], pose=pose, rain=rain, pictures=len(pictures), ticks=ticks,
    mismatches=world.mismatches)
world.close()
""",
    )
    kinds = cast(list[str], told["kinds"])
    assert kinds[0] == "kerb"
    # The mark is the lane's edge, 10 m aside; a corner of the car, 0.9 m wide each side and turned, gets there first.
    assert 7.0 < abs(cast(float, told["mark"])) < 10.0
    view, pose = cast(list[float], told["view"]), cast(list[float], told["pose"])
    assert math.dist(view, (pose[0], -pose[1])) < 1.0
    assert cast(float, told["rain"]) > 50.0
    assert cast(int, told["pictures"]) == pytest.approx(cast(int, told["ticks"]) / 2, abs=2)
    assert any("smaller beta_max_rad" in line for line in cast(list[str], told["mismatches"]))


def test_a_seed_sets_the_obstacles(emulator: Start) -> None:
    told = run(
        emulator(),
        """
def drums(seed):
    world = CarlaWorld(replace(settings, obstacles=SpawnRule(count=3)), demo, seed)
    found = [[drum.x_m, drum.y_m] for drum in world.drums]
    world.close()
    return found
out(one=drums(1), again=drums(1), two=drums(2))
""",
    )
    assert told["one"] == told["again"] != told["two"]
