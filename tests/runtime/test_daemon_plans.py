"""A real daemon with plans: the cheapest in force, another one when a device is lost or slow, and why."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from devices.chain import SegmentTime
from devices.clock import VirtualClock
from devices.package import Package, load_package
from runtime.execute.request import Reply, Status
from runtime.plan.file import write_problem
from runtime.plan.graphs import package_graph
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Cost, Device, Link, Model, Problem, Segment
from runtime.serve.plans import Plans
from tests.processes import end, end_owner, run, start, wait_for
from tests.runtime.test_daemon import PACKAGE, await_ready

FRAME = np.full((1, 80, 160, 3), 90, np.uint8)
FAULTY = """
import sys
from pathlib import Path
import devices.open as devices_open
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.errors import SegmentError
from runtime.cli.main import main

class Segment:
    def __init__(self, inner): self.inner = inner
    def run(self, inputs, cancel=None):
        if Path(sys.argv[-1] + ".gone").exists():
            raise SegmentError("segment 'x' failed on cpu:0+f32: the device does not answer")
        if Path(sys.argv[-1] + ".dead").exists():
            raise SystemExit("the driver takes the thread along")
        return self.inner.run(inputs, cancel)

class Faulty:
    name, merges = "faulty", False
    def __init__(self, inner): self.inner, self.device = inner, inner.device
    def load(self, segment, model): return Segment(self.inner.load(segment, model))
    def upload(self, array): return self.inner.upload(array)
    def download(self, value): return self.inner.download(value)

real = devices_open._OPENERS["onnxruntime"]
def faulty(name, package):
    inner = real(name, package)
    return Faulty(inner) if name.text == "cpu:0+f32" else inner
devices_open._OPENERS["onnxruntime"] = faulty
main()
"""


def problem(cheap: str, dear: str, time_s: float = 0.5) -> Problem:
    """Return the package's problem with declared costs: any device is fast enough, one takes more energy."""
    graph = package_graph(load_package(PACKAGE), 1)
    costs = {cheap: Cost(time_s, energy_j=0.1), dear: Cost(time_s / 2, energy_j=1.0)}
    segments = tuple(Segment(name, costs) for name in graph.segments)
    model = Model("driving", segments, graph.edges)
    return Problem("two", (Device(cheap), Device(dear)), (model,), (Link(cheap, dear),))


def plans(folder: Path, given: Problem) -> Path:
    folder.mkdir()
    write_problem(given, folder / "problem.json")
    for number, plan in enumerate(plan_problem(given, Options("search", steps=300, generations=2)).plans, 1):
        plan.write(folder / f"plan{number}.json")
    return folder


def used(client: headway.Client) -> set[str]:
    answer = client.infer("driving", {"frame": FRAME}, least_exit="exit3")
    return {part["device"] for part in answer.parts}


def configured(folder: Path, devices: list[str]) -> Path:
    path = folder / "headway.toml"
    path.write_text(
        f"[serve]\nsocket = {json.dumps(str(folder / 'd.sock'))}\npackages = [{json.dumps(str(PACKAGE))}]\n"
        f"devices = {json.dumps(devices)}\nplans = {json.dumps(str(folder / 'plans'))}\n"
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_owner(tmp_path / "headway-guard.sock")


def started(folder: Path, code: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, "serve", "--config", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def told(client: headway.Client) -> dict[str, Any]:
    plan: dict[str, Any] = client.status()["plan"]
    return plan


@pytest.mark.timeout(60)
def test_a_device_lost_in_mid_run_switches_the_plan_and_says_so(folder: Path) -> None:
    plans(folder / "plans", problem("cpu:0+f32", "cpu"))
    path = configured(folder, ["cpu:0+f32", "cpu"])
    process = started(folder, FAULTY, str(path))
    try:
        await_ready(folder / "d.sock")
        with headway.Client(folder / "d.sock", timeout_s=10.0) as client:
            assert used(client) == {"cpu:0+f32"}
            first = told(client)
            assert first["why"].startswith("the cheapest that fits")
            assert first["lost"] == {}
            events = client.events("plan", timeout_s=10.0)
            Path(f"{path}.gone").touch()
            for _ in range(3):  # what it fails is run on what stands in for it, within the same request
                assert used(client) == {"cpu"}
            wait_for(lambda: told(client)["switches"] == 1)
            assert used(client) == {"cpu"}
            then = told(client)
            assert "cpu:0+f32 is lost" in then["why"]
            assert "does not answer" in then["lost"]["cpu:0+f32"]
            assert then["in_force"] == "without cpu:0+f32"
            switched = next(events).data
            assert (switched["to"], "cpu:0+f32 is lost" in switched["why"]) == ("without cpu:0+f32", True)
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


@pytest.mark.timeout(60)
def test_a_worker_that_dies_in_mid_run_switches_the_plan(folder: Path) -> None:
    plans(folder / "plans", problem("cpu:0+f32", "cpu"))
    path = configured(folder, ["cpu:0+f32", "cpu"])
    process = started(folder, FAULTY, str(path))
    try:
        await_ready(folder / "d.sock")
        with headway.Client(folder / "d.sock", timeout_s=10.0) as client:
            assert used(client) == {"cpu:0+f32"}
            Path(f"{path}.dead").touch()
            assert used(client) == {"cpu"}  # the same request, run on what stands in
            wait_for(lambda: told(client)["switches"] == 1)
            assert used(client) == {"cpu"}
            assert "the worker of cpu:0+f32 has died" in told(client)["lost"]["cpu:0+f32"]
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


def test_a_device_that_cannot_be_opened_is_lost_and_the_plans_go_on_without_it(folder: Path) -> None:
    plans(folder / "plans", problem("openvino:NPU", "cpu"))
    path = configured(folder, ["openvino:NPU", "cpu"])
    process = start("serve", "--config", str(path))
    try:
        await_ready(folder / "d.sock")
        with headway.Client(folder / "d.sock", timeout_s=10.0) as client:
            assert used(client) == {"cpu"}
            assert "openvino:NPU" in told(client)["lost"]
    finally:
        end(process)


@pytest.mark.parametrize(
    ("devices", "message"),
    [(["cpu"], "serve.devices has ['cpu']"), (["cpu:0+f32", "cpu"], "no plan*.json")],
)
def test_plans_that_cannot_run_here_are_refused_with_the_reason(folder: Path, devices: list[str], message: str) -> None:
    made = plans(folder / "plans", problem("cpu:0+f32", "cpu"))
    if len(devices) > 1:
        for item in made.glob("plan*.json"):
            item.unlink()
    else:
        for item in made.glob("plan*.json"):
            if item.name != "plan1.json":
                item.unlink()
    done = run("serve", "--config", str(configured(folder, devices)))
    assert done.returncode == 78
    assert message in done.stderr


class Loads:
    """Notes what is served."""

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        self.reserve_s = 0.0
        self.placements: list[set[str]] = []

    def prepare(
        self, package: Package, *, placement: Mapping[str, str], spare: str | None, last_exit: str | None
    ) -> Any:
        return set(placement.values())

    def serve(self, model: Any) -> None:
        self.placements.append(model)


def test_a_slow_device_switches_the_plan_and_is_forgotten_after_a_while(folder: Path) -> None:
    clock, loads = VirtualClock(), Loads()
    made = plans(folder / "plans", problem("a", "b", time_s=0.1).with_deadline(0.61))
    chosen = Plans(made, {"driving": load_package(PACKAGE)}, ["a", "b"], {}, clock=clock)
    chosen.begin(loads)
    assert loads.placements == [{"a"}]
    slow = tuple(SegmentTime(name, "a", 0.0, 0.2) for name in package_graph(load_package(PACKAGE)).segments)
    chosen.take(Reply(1, Status.OK, model="driving", segments=slow))
    chosen.consider(loads)
    assert "a takes 2 times as long" in chosen.status()["why"]
    assert "b" in loads.placements[-1]
    clock.advance(31.0)
    chosen.consider(loads)
    clock.advance(2.0)
    chosen.consider(loads)
    assert chosen.status()["slowdown"] == {}
