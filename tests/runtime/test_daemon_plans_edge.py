"""A real daemon with plans that use a real edge server: the link, the server or the heat changes, and the plan does."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from devices.package import load_package
from runtime.plan.build import place
from runtime.plan.file import write_problem
from runtime.plan.graphs import ANSWER, INPUT, package_graph
from runtime.plan.instance import all_exits, make_instance
from runtime.plan.plan import make_plan
from runtime.plan.problem import Cost, Device, Edge, Exit, Link, Model, Problem, Segment
from tests.processes import PATIENCE_S, end, end_owner, start, wait_for
from tests.runtime.test_daemon import PACKAGE, await_ready
from tests.runtime.test_daemon_plans import started

pytestmark = pytest.mark.timeout(180)  # a daemon, a guard and an edge server start for them, and plans settle
FRAME = np.full((1, 80, 160, 3), 90, np.uint8)
HEAD = ("trunk1", "exit1")
DEADLINE_S = 0.3
LATE_S = 2.7  # that a busy machine may take longer: requests wait so much longer than what plans are to keep
PATIENT = f"""
import functools
import runtime.execute.edge_unit as edge_unit
import runtime.serve.plans.edges as edges
from offload.client import ClientSettings
from runtime.cli.main import main
edge_unit._HAND_OVER_S = {LATE_S}  # what is not answered is begun here as early as if they waited no longer
edges.ClientSettings = functools.partial(ClientSettings, silence_s=2.0, heartbeat_ms=1000)
edges._PATIENCE_S = {PATIENCE_S}
main()
"""


def problem(devices: tuple[Device, ...], costs: dict[str, Any], exits: tuple[Exit, ...] = ()) -> Problem:
    """Return the package's problem with declared costs; inputs and answers are on the first device."""
    graph = package_graph(load_package(PACKAGE), 1)
    here = {device.name: (Cost(0.0),) * len(device.levels) if device is devices[0] else None for device in devices}
    segments = [Segment(INPUT, here), *(Segment(name, costs) for name in graph.segments), Segment(ANSWER, here)]
    edges = [Edge(INPUT, ("trunk1",), 38400), *graph.edges, Edge("exit3", (ANSWER,), 24)]
    links = tuple(Link(devices[0].name, each.name, 1e-4, 20e6, j_per_byte=1e-6) for each in devices[1:])
    return Problem("edge", devices, (Model("driving", tuple(segments), tuple(edges), exits),), links)


def write(folder: Path, given: Problem, *plans: tuple[dict[str, int], int, int]) -> None:
    """Write a problem and plans: devices by segment (others on the first), level of every device, last exit."""
    folder.mkdir()
    write_problem(given, folder / "problem.json")
    for number, (where, level, last) in enumerate(plans, 1):
        exits = (last,) if given.models[0].exits else all_exits(given)
        instance = make_instance(given, exits, "p99")
        devices = [where.get(unit.segment, 0) for unit in instance.units]
        levels = [min(level, len(device.levels) - 1) for device in given.devices]
        schedule = place(instance, devices, levels, [float(-task) for task in range(len(instance.tasks))])
        assert schedule is not None
        make_plan(instance, schedule, "given", 0.0, False).write(folder / f"plan{number}.json")


def configure(folder: Path, devices: list[str], more: str = "") -> Path:
    path = folder / "headway.toml"
    path.write_text(
        f"[serve]\nsocket = {json.dumps(str(folder / 'd.sock'))}\npackages = [{json.dumps(str(PACKAGE))}]\n"
        f"devices = {json.dumps(devices)}\nplans = {json.dumps(str(folder / 'plans'))}\n{more}"
    )
    return path


class Rig:
    """An edge server, and a daemon whose cheapest plan uses it."""

    def __init__(
        self,
        folder: Path,
        more: str = "",
        where: tuple[str, ...] | None = None,
        fits_s: float = DEADLINE_S,
        edge: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.client: headway.Client | None = None
        self.processes: list[subprocess.Popen[str]] = []
        try:
            self._start(folder, more, where, fits_s, edge)
        except BaseException:
            self.close()
            raise

    def _start(
        self, folder: Path, more: str, where: tuple[str, ...] | None, fits_s: float, edge: tuple[str, ...]
    ) -> None:
        self.edge = start("edge", "--package", str(PACKAGE), *edge)
        self.processes.append(self.edge)
        assert self.edge.stdout is not None
        endpoint = json.loads(self.edge.stdout.readline())["endpoint"]
        segments = [segment.id for segment in load_package(PACKAGE).segments]
        away = dict.fromkeys(where or segments, 1)
        costs = {"cpu": Cost(4e-3, energy_j=0.1), "edge": Cost(2e-3)}
        given = problem((Device("cpu"), Device("edge")), costs).with_deadline(fits_s)
        write(folder / "plans", given, (away, 0, 0), ({}, 0, 0))
        edges = f"[plans]\nedges = {{ edge = {json.dumps(endpoint)} }}\nprobe_s = 0.2\nsettle_s = 0.2\n"
        self.processes.append(started(folder, PATIENT, str(configure(folder, ["cpu"], edges + more))))
        await_ready(folder / "d.sock")
        self.client = headway.Client(folder / "d.sock", timeout_s=PATIENCE_S)

    def plan(self) -> dict[str, Any]:
        assert self.client is not None
        told: dict[str, Any] = self.client.status()["plan"]
        return told

    def ask(self) -> set[str]:
        """Return the devices behind an answer that must have come in time."""
        assert self.client is not None
        answer = self.client.infer("driving", {"frame": FRAME}, deadline_s=DEADLINE_S + LATE_S)
        assert answer.time_left_s is not None
        return {part["device"] for part in answer.parts}

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the plans are as wanted, and return what is told of them."""
        told: dict[str, Any] = {}

        def held() -> bool:
            self.ask()
            told.update(self.plan())
            return holds(told)

        wait_for(held, 2.0 * PATIENCE_S)
        return told

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        for process in self.processes:
            end(process)
        end_owner(self.folder / "headway-guard.sock")


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.close()


@pytest.mark.parametrize("where", [None, ("trunk2", "exit2", "trunk3", "exit3")])
def test_a_frozen_server_is_answered_for_from_here_then_left_and_taken_again(
    tmp_path: Path, rigs: list[Rig], where: tuple[str, ...] | None
) -> None:
    rig = Rig(tmp_path, where=where, fits_s=5.0)  # only a loss can speak against a plan
    rigs.append(rig)
    assert rig.client is not None
    answer = rig.client.infer("driving", {"frame": FRAME}, least_exit="exit3")
    devices = {part["segment"]: part["device"] for part in answer.parts}
    assert devices["exit3"] == "edge"
    assert devices["trunk1"] == ("edge" if where is None else "cpu")
    rig.edge.send_signal(signal.SIGSTOP)
    assert rig.ask() == {"cpu"}  # nobody has noticed yet
    told = rig.until(lambda told: told["in_force"] == "plan2")
    assert told["why"].startswith("edge is lost")
    assert "plan1 can't run; the cheapest that fits is plan2, 600 mJ, p99 " in told["why"]
    assert "edge" in told["lost"]
    rig.edge.send_signal(signal.SIGCONT)
    told = rig.until(lambda told: told["in_force"] == "plan1")
    assert told["switches"] == 2
    everything = rig.client.plans()
    assert everything is not None
    assert [row["name"] for row in everything["plans"]] == ["plan1", "plan2"]
    assert [switch["to"] for switch in everything["last_switches"]] == ["plan1", "plan2", "plan1"]


def test_a_slow_link_switches_to_here_and_back_with_the_rate_as_the_reason(tmp_path: Path, rigs: list[Rig]) -> None:
    (tmp_path / "trace.csv").write_text("time_s,rate_mbps\n0,40\n1.5,0.5\n3,40\n")  # 38 KB: 8 ms or 600
    (tmp_path / "link.toml").write_text('trace = "trace.csv"\n')
    rig = Rig(tmp_path, f"[offload]\nlink = {json.dumps(str(tmp_path / 'link.toml'))}\n")
    rigs.append(rig)
    rig.until(lambda told: told["in_force"] == "plan1")

    def slow(told: dict[str, Any]) -> bool:
        """Is the link too slow for the plan? A busy machine may have left it for other reasons before."""
        known = "the link to edge is at " in told["why"] and told["edges"]["edge"]["at_most_mbps"] is not None
        return known and told["in_force"] == "plan2"

    told = rig.until(slow)
    assert told["edges"]["edge"]["at_most_mbps"] < 4
    back = rig.until(lambda told: told["in_force"] == "plan1")
    assert "plan2 has p99" in back["why"]


def thermal(root: Path, name: str, temperature_c: float, limit_c: float) -> Path:
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    for file, text in (
        ("type", name),
        ("temp", f"{1e3 * temperature_c:.0f}"),
        ("trip_point_0_type", "passive"),
        ("trip_point_0_temp", f"{1e3 * limit_c:.0f}"),
    ):
        (zone / file).write_text(text)
    return zone / "temp"


@contextlib.contextmanager
def running(folder: Path, devices: list[str], more: str) -> "Iterator[subprocess.Popen[str]]":
    process = start("serve", "--config", str(configure(folder, devices, more)))
    try:
        await_ready(folder / "d.sock")
        yield process
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


def test_heat_switches_and_coolness_switches_back(tmp_path: Path) -> None:
    temperature = thermal(tmp_path / "root", "npu-thermal", 60.0, 85.0)
    costs = {"cpu": Cost(4e-3, energy_j=1.0), "cpu+f32": Cost(10e-3, energy_j=0.1)}
    given = problem((Device("cpu"), Device("cpu+f32")), costs).with_deadline(0.1)
    every = dict.fromkeys((segment.id for segment in load_package(PACKAGE).segments), 1)
    write(tmp_path / "plans", given, (every, 0, 0), ({}, 0, 0))
    heat = "[plans.heat]\n" + '"cpu+f32" = { zone = "npu-thermal", slowdown = 2.0 }\n'
    more = f"[plans]\nhost_root = {json.dumps(str(tmp_path / 'root'))}\nsettle_s = 0.1\n{heat}"
    with running(tmp_path, ["cpu", "cpu+f32"], more), headway.Client(tmp_path / "d.sock", timeout_s=10.0) as client:
        assert client.status()["plan"]["in_force"] == "plan1"
        temperature.write_text("91000")
        wait_for(lambda: client.status()["plan"]["in_force"] == "plan2")
        told = client.status()["plan"]
        assert told["hot"] == {"cpu+f32": "npu-thermal is at 91 degC, its limit 85"}
        assert "cpu+f32 takes 2 times as long (was 1): plan1 has p99" in told["why"]
        temperature.write_text("83000")
        wait_for(lambda: "83" in client.status()["plan"]["hot"].get("cpu+f32", ""))  # not yet 3 degrees below
        temperature.write_text("70000")
        wait_for(lambda: client.status()["plan"]["in_force"] == "plan1")


def test_a_level_is_set_and_set_back_at_the_end(tmp_path: Path) -> None:
    clock = tmp_path / "root/sys/devices/system/cpu/cpu0/cpufreq"
    clock.mkdir(parents=True)
    khz = {"scaling_min_freq": 600, "scaling_max_freq": 1800, "cpuinfo_min_freq": 600, "cpuinfo_max_freq": 1800}
    for name, value in khz.items():
        (clock / name).write_text(str(1000 * value))
    (clock / "scaling_governor").write_text("schedutil")
    device = Device("cpu:0", ("slow", "1800 MHz"))
    costs = {"cpu:0": (Cost(10e-3, energy_j=0.1), Cost(5e-3, energy_j=0.2))}
    given = problem((device,), costs).with_deadline(0.2)
    write(tmp_path / "plans", given, ({}, 0, 0), ({}, 1, 0))
    named = '[plans.levels."cpu:0"]\nslow = 900e6\n'
    with running(tmp_path, ["cpu:0"], f"[plans]\nhost_root = {json.dumps(str(tmp_path / 'root'))}\n{named}") as process:
        assert [(clock / name).read_text() for name in khz][:2] == ["900000", "900000"]
        with headway.Client(tmp_path / "d.sock", timeout_s=10.0) as client:
            everything = client.plans()
            assert everything is not None
            assert everything["plans"][0]["levels"] == {"cpu:0": "slow"}
        process.terminate()
        process.wait(PATIENCE_S)
        assert [(clock / name).read_text() for name in khz][:2] == ["600000", "1800000"]


def test_a_plan_that_ends_early_is_taken_until_a_deeper_exit_is_asked_for(tmp_path: Path) -> None:
    shares = (("exit1", "exit1", 0.5, 0.9), ("exit2", "exit2", 0.3, 0.95), ("exit3", ANSWER, 0.2, 0.99))
    exits = tuple(Exit(name, segment, share, accuracy) for name, segment, share, accuracy in shares)
    given = problem((Device("cpu"),), {"cpu": Cost(4e-3, energy_j=0.1)}, exits).with_deadline(0.2)
    write(tmp_path / "plans", given, ({}, 0, 0), ({}, 0, 1), ({}, 0, 2))
    more = "[plans]\naccuracy_floor = 0.92\nsettle_s = 0.1\n"
    with running(tmp_path, ["cpu"], more), headway.Client(tmp_path / "d.sock", timeout_s=10.0) as client:
        told = client.status()["plan"]
        assert told["in_force"] == "plan2"
        assert told["left_out"] == {"plan1": "reaches an accuracy of 0.9 for driving: the floor is 0.92"}
        assert client.infer("driving", {"frame": FRAME}, least_exit="exit2").exit_id == "exit2"
        assert client.infer("driving", {"frame": FRAME}, least_exit="exit3").exit_id == "exit3"
        wait_for(lambda: client.status()["plan"]["in_force"] == "plan3")
        assert "driving ends at 'exit2', and 'exit3' is asked for" in client.status()["plan"]["why"]
