"""The unmodified `carla` wheel against the emulator of its protocol (an emulator, not CARLA); all in processes."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")

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
settings = CarlaSettings(port=int(sys.argv[1]), timeout_s=10.0, obstacles=SpawnRule(count=0))
demo = load_vehicle("demo")
def out(**values):
    print(json.dumps(values), flush=True)
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
simulator.wait_for_tick(2.0)
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
out(ours=[actor.id for actor in world._world.get_actors() if actor.type_id != "spectator"])
world.close()
""",
    )
    assert len(list(told["ours"])) == 4  # type: ignore[call-overload]
    assert not set(left["ours"]) & set(told["ours"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--version", "0.9.15"], "version 0.9.15"),
        (["--freeze-at", "30"], "failed at a tick"),
        (["--exit-at", "30"], "failed at a tick"),
        (["--slow-at", "30", "--slow-s", "1.5"], "failed at a tick"),
        (["--blind-at", "30"], "failed at the camera's image of frame"),
    ],
)
def test_a_simulator_that_fails_is_told_from_the_agent(emulator: Start, flags: list[str], words: str) -> None:
    assert words in str(run(emulator(*flags), "settings = replace(settings, timeout_s=1.0)" + FAULT)["error"])


def test_a_tick_that_is_slow_but_in_time_is_no_fault(emulator: Start) -> None:
    assert run(emulator("--slow-at", "30", "--slow-s", "0.3"), FAULT)["error"] is None


def test_the_wrong_map_is_named(emulator: Start) -> None:
    told = run(emulator(), "settings = replace(settings, map_name='Town04')" + FAULT)
    assert "has the map Carla/Maps/Emulated, not Town04" in str(told["error"])


def test_no_server_is_told() -> None:
    assert "no CARLA server answers at 127.0.0.1:1 " in str(run(1, FAULT)["error"])


def _drive(port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.cli.main", "drive", "--world", "carla", "--port", str(port), "--json"]
    return subprocess.run(
        [*command, "--vehicle", "demo", "--duration-s", "3", "--reconnect-s", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


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
