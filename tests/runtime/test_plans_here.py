"""What the daemon's plans take in: the board, levels, replies, and which plans can run here."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from devices.chain import SegmentTime
from devices.clock import VirtualClock
from devices.errors import ClockError
from devices.package import Package, load_package
from offload.errors import OffloadError
from runtime.config import HeatSection, PlansSection, load_config
from runtime.errors import ConfigurationError
from runtime.execute.request import Ending, Reply, Status
from runtime.plan.chooser import PlanChooser
from runtime.plan.conditions import Conditions
from runtime.plan.problem import Contention, Cost, Device, Exit, Memory
from runtime.serve.daemon import Daemon
from runtime.serve.plans import Plans
from runtime.serve.plans.board import Board
from runtime.serve.plans.folder import Here, read_folder
from runtime.serve.plans.levels import Levels
from runtime.serve.plans.replies import Replies
from tests.runtime.test_daemon import PACKAGE
from tests.runtime.test_daemon_plans_edge import problem, thermal, write

SEGMENTS = ("trunk1", "exit1", "trunk2", "exit2", "trunk3", "exit3")
EVERY = dict.fromkeys(SEGMENTS, 1)


class Loads:
    """Notes what is served, and refuses what it is told to."""

    def __init__(self) -> None:
        self.lost: dict[str, str] = {}
        self.reserve_s = 0.0
        self.served: list[dict[str, str]] = []
        self.last_exits: list[str | None] = []
        self.spares: list[str | None] = []

    def prepare(
        self, package: Package, *, placement: Mapping[str, str], spare: str | None, last_exit: str | None
    ) -> Any:
        self.last_exits.append(last_exit)
        self.spares.append(spare)
        return SimpleNamespace(package=package, placement=dict(placement), devices=(*{*placement.values()},))

    def serve(self, model: Any) -> None:
        self.served.append(model.placement)


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(PACKAGE)


class Rig:
    """Plans of two devices, of which b is cheap, on a clock of their own."""

    def __init__(self, folder: Path, deadline_s: float | None = 0.1, **settings: Any) -> None:
        costs = {"cpu:0": Cost(4e-3, energy_j=1.0), "cpu:1": Cost(10e-3, energy_j=0.1)}
        given = problem((Device("cpu:0"), Device("cpu:1")), costs)
        write(
            folder / "plans",
            given if deadline_s is None else given.with_deadline(deadline_s),
            (EVERY, 0, 0),
            ({}, 0, 0),
        )
        self.clock, self.loads = VirtualClock(), Loads()
        section = PlansSection(host_root=str(folder / "root"), settle_s=0.5, **settings)
        packages = {"driving": load_package(PACKAGE)}
        self.plans = Plans(folder / "plans", packages, ["cpu:0", "cpu:1"], {}, (), section, self.clock)
        self.plans.begin(self.loads)

    def later(self, by_s: float = 1.0) -> dict[str, Any]:
        self.clock.advance(by_s)
        self.plans.consider(self.loads)
        return self.plans.status()

    def ran(self, device: str, each_s: float, queued_s: float = 0.0) -> None:
        times = tuple(SegmentTime(name, device, 0.0, each_s) for name in SEGMENTS)
        self.plans.take(Reply(1, Status.OK, model="driving", segments=times, queued_s=queued_s))


def test_a_hot_device_nobody_knows_the_slowness_of_is_avoided_until_it_is_cool(tmp_path: Path) -> None:
    temperature = thermal(tmp_path / "root", "cpu-thermal", 60.0, 85.0)
    heat = {"cpu:0": HeatSection(limit_c=120.0)}  # cores share the zone; this one is said to stand more
    rig = Rig(tmp_path, heat=heat)
    assert rig.plans.status()["in_force"] == "plan1"
    temperature.write_text("90000")
    told = rig.later()
    assert told["in_force"] == "plan2"
    assert "cpu:1 is to be avoided: cpu-thermal is at 90 degC, its limit 85, and how slow" in told["why"]
    temperature.write_text("60000")
    rig.later()
    assert rig.later()["in_force"] == "plan1"


def test_a_hot_device_that_runs_is_costed_as_measured_and_that_is_remembered(tmp_path: Path) -> None:
    temperature = thermal(tmp_path / "root", "cpu-thermal", 60.0, 85.0)
    rig = Rig(tmp_path, heat={"cpu:0": HeatSection(limit_c=120.0)})
    rig.ran("cpu:1", 11e-3)
    temperature.write_text("90000")
    assert rig.later()["in_force"] == "plan1"  # hot, and hardly slower: nothing speaks against it
    rig.ran("cpu:1", 20e-3)
    rig.ran("cpu:1", 20e-3)
    told = rig.later()
    assert (told["in_force"], told["slowdown"]) == ("plan2", {"cpu:1": 2.0})
    rig.later(31.0)  # no run has told of it since, but it is still hot
    assert rig.later()["slowdown"] == {"cpu:1": 2.0}
    temperature.write_text("60000")
    rig.later()
    assert rig.later()["in_force"] == "plan1"


def test_throttling_counts_as_heat(tmp_path: Path) -> None:
    count = tmp_path / "root/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"
    count.parent.mkdir(parents=True)
    count.write_text("5")
    rig = Rig(tmp_path)
    assert rig.later()["hot"] == {}
    count.write_text("6")
    told = rig.later()
    assert (told["in_force"], told["hot"]) == ("plan2", {"cpu:1": "core 1 was slowed down for heat"})
    assert rig.later(11.0)["hot"] == {}


def stat(root: Path, busy: int, every: int) -> None:
    (root / "proc").mkdir(parents=True, exist_ok=True)
    rows = [f"cpu0 0 0 0 {every} 0 0 0 0", f"cpu1 {busy} 0 0 {every - busy} 0 0 0 0"]
    (root / "proc/stat").write_text("\n".join(rows) + "\n")


def test_other_work_on_the_core_of_an_idle_device(tmp_path: Path) -> None:
    stat(tmp_path / "root", 0, 100)
    rig = Rig(tmp_path)
    stat(tmp_path / "root", 80, 200)
    told = rig.later()
    assert (told["in_force"], told["slowdown"]) == ("plan2", {"cpu:1": 5.0})
    stat(tmp_path / "root", 80, 400)
    rig.later()
    stat(tmp_path / "root", 80, 600)
    rig.later()
    assert rig.later()["in_force"] == "plan1"


def test_a_device_that_runs_requests_tells_of_its_load_by_them(tmp_path: Path) -> None:
    stat(tmp_path / "root", 0, 100)
    rig = Rig(tmp_path)
    rig.clock.advance(0.9)
    rig.ran("cpu:1", 10e-3)
    stat(tmp_path / "root", 100, 200)
    assert rig.later(0.1)["slowdown"] == {}


def test_waits_in_the_queue_count(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ran("cpu:1", 10e-3, queued_s=0.05)
    told = rig.later()
    assert (told["in_force"], told["waits_ms"]) == ("plan2", {"cpu:1": pytest.approx(50.0)})
    assert "requests wait 50 ms for cpu:1 (was 0)" in told["why"]


def test_deadlines_of_requests_where_the_problem_has_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, deadline_s=None)
    assert rig.plans.status()["in_force"] == "plan1"
    rig.plans.asked("driving", 0.0401, None)
    told = rig.later()
    assert (told["in_force"], told["deadline_ms"]) == ("plan2", pytest.approx(40.0))
    assert "the deadline is 40 ms (was inf)" in told["why"]
    rig.plans.asked("what", None, "exit3")
    assert rig.later()["least_exits"] == {}


def test_links_are_probed_only_while_requests_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[float] = []
    monkeypatch.setattr(
        "runtime.serve.plans.edges.Edges.probe", lambda _, deadline_s, soon_s: probed.append(deadline_s)
    )
    rig = Rig(tmp_path)
    rig.later()
    assert probed == []
    rig.plans.asked("other", 0.1, None)
    rig.later()
    assert probed == []
    rig.plans.asked("driving", 0.1, None)
    rig.later()
    assert probed == [0.1]
    rig.later(31.0)
    assert probed == [0.1]


def test_a_worker_that_the_executor_has_lost(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.loads.lost = {"cpu:1": "the worker of cpu:1 has died"}
    told = rig.later()
    assert (told["in_force"], told["lost"]) == ("plan2", {"cpu:1": "the worker of cpu:1 has died"})
    rig.loads.lost |= {"cpu:0": "so has this one's"}
    told = rig.later()
    assert (told["in_force"], told["why"]) == (None, "every plan needs a lost device: cpu:0 and cpu:1 lost")
    rig.loads.lost = {}
    assert rig.later()["in_force"] == "plan1"


def test_three_failures_in_a_row_lose_a_device_for_a_while(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    told: list[dict[str, Any]] = []
    rig.plans.on_switch = told.append
    for _ in range(3):
        rig.plans.take(Reply(1, Status.UNAVAILABLE, "segment 'x' failed on cpu:1: gone", model="driving"))
    assert rig.later()["in_force"] == "plan2"
    rig.later(31.0)
    assert rig.later()["in_force"] == "plan1"
    everything = rig.plans.describe()
    assert told == [
        {key: value for key, value in each.items() if key != "ago_s"} for each in everything["last_switches"][1:]
    ]
    assert [each["to"] for each in everything["last_switches"]] == ["plan1", "plan2", "plan1"]
    assert everything["last_switches"][1]["why"].startswith("cpu:1 is lost: plan1 can't run")


@pytest.mark.parametrize(("kept", "loaded"), [(1, 1), (2, 2), (3, 2)])
def test_what_stands_in_for_a_device_is_loaded_beside(tmp_path: Path, kept: int, loaded: int) -> None:
    """cpu:1 is cheap and in force; the other plan, which lacks it, is loaded where there is room for two."""
    rig = Rig(tmp_path, kept=kept)
    assert len(rig.loads.spares) == loaded
    assert len(rig.loads.served) == 1
    failed = Reply(1, Status.UNAVAILABLE, "segment 'x' failed on cpu:1: gone", model="driving")
    instead = rig.plans.instead_of(failed)
    assert (instead is not None) is (loaded == 2)
    if instead is not None:
        assert instead.devices == ("cpu:0",)
    assert rig.plans.instead_of(replace(failed, message="the request makes no sense")) is None
    assert rig.plans.instead_of(replace(failed, model="another")) is None


def test_what_stands_in_is_itself_without_lost_devices(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.loads.lost = {"cpu:0": "the worker of cpu:0 has died"}
    rig.later()
    failed = Reply(1, Status.UNAVAILABLE, "segment 'x' failed on cpu:1: gone", model="driving")
    assert rig.plans.instead_of(failed) is None


def test_blame_and_success() -> None:
    replies = Replies(["cpu", "cpu:0"], {})
    failed = Reply(1, Status.OK, "the backend of cpu:0 failed: x", model="m", ending=Ending.FAILURE)
    fine = Reply(1, Status.OK, model="m", segments=(SegmentTime("s", "cpu:0", 0.0, 1.0),))
    for reply in (failed, failed, fine, failed, failed):
        assert replies.take(reply, {("m", "s", "cpu:0"): 1.0}, 0.0) is None
    assert replies.take(failed, {}, 0.0) == "cpu:0"
    assert replies.blamed("nothing of the kind") is None


@pytest.mark.parametrize(
    ("heat", "message"),
    [
        ({"gpu": HeatSection()}, r"plans.heat names \['gpu'\]: serve.devices are"),
        ({"cpu:1": HeatSection(zone="other")}, r"the zones here are \['cpu-thermal'\]"),
        ({"cuda:0": HeatSection()}, "give limit_c"),
    ],
)
def test_heat_that_cannot_be_watched(tmp_path: Path, heat: dict[str, HeatSection], message: str) -> None:
    thermal(tmp_path, "cpu-thermal", 60.0, 85.0)
    with pytest.raises(ConfigurationError, match=message):
        Board(["cpu:1", "cuda:0"], heat, tmp_path)


class Locked:
    """A clock that may not be set."""

    domain, locked = "here", "it is not ours"

    def present_hz(self) -> float:
        return 1.21e9

    def set(self, clock_hz: float) -> None:
        raise ClockError("may not be set")

    def restore(self) -> None:
        """Nothing was changed."""


def test_of_a_clock_that_may_not_be_set_the_present_level_is_left(tmp_path: Path) -> None:
    levels = Levels(Device("cpu:0", ("low", "1200 MHz", "what")), {"low": 6e8}, tmp_path, Locked())
    assert levels.barred("1200 MHz") is None
    levels.apply("1200 MHz")
    assert levels.barred("low") == "it can't be set: it is not ours; the clock is at 1210 MHz"
    assert str(levels.barred("what")).startswith("its name tells no clock: give one with plans.levels")
    nothing = Levels(Device("cpu:0", ("600 MHz",)), {}, tmp_path)
    assert "the kernel shows no cpufreq" in str(nothing.barred("600 MHz"))


def test_levels_that_are_refused(tmp_path: Path, package: Package) -> None:
    levels = ("600 MHz", "1200 MHz")
    costs = {"cpu:0": (Cost(10e-3, energy_j=0.1), Cost(5e-3, energy_j=0.2)), "edge": (Cost(1e-3), Cost(1e-3))}
    given = problem((Device("cpu:0", levels), Device("edge", levels)), costs)
    write(tmp_path / "plans", given, (EVERY, 0, 0), ({}, 0, 0))
    here = Here({"driving": package}, ["cpu:0"], ["edge"])
    with pytest.raises(ConfigurationError, match=r"plan1 needs cpu:0 at '600 MHz': it can't be set: .*no cpufreq"):
        read_folder(tmp_path / "plans", here, {}, tmp_path / "root")
    for core in ("cpu0", "cpu1"):
        folder = tmp_path / f"root/sys/devices/system/cpu/{core}/cpufreq"
        folder.mkdir(parents=True)
        for name, text in (("scaling_governor", "performance"), ("scaling_max_freq", "1200000")):
            (folder / name).write_text(text)
    write(tmp_path / "more", given, (EVERY, 1, 0), ({}, 1, 0), ({}, 0, 0))
    found = read_folder(tmp_path / "more", here, {}, tmp_path / "root")  # what may not be written is as it is
    assert [*found.plans] == ["plan2"]
    assert "may not be written; the clock is at 1200 MHz" in found.left_out["plan3"]
    assert "the clocks of an edge server are its own" in found.left_out["plan1"]


def test_placements_that_are_refused(tmp_path: Path, package: Package) -> None:
    costs = {"cpu": Cost(4e-3, energy_j=0.1), "edge": Cost(1e-3)}
    given = problem((Device("cpu"), Device("edge")), costs)
    torn = {"trunk1": 1, "exit1": 0, "trunk2": 1, "exit2": 1, "trunk3": 1, "exit3": 1}
    write(tmp_path / "plans", given, (EVERY, 0, 0), (torn, 0, 0))
    found = read_folder(tmp_path / "plans", Here({"driving": package}, ["cpu"], ["edge"]))
    assert "plan1" in found.plans
    assert "plan2" not in found.plans
    assert "tensor 'cut1' would cross the link twice" in found.left_out["plan2"]
    with pytest.raises(ConfigurationError, match=r"plan1 uses \['edge'\], and serve.devices has \['cpu'\]"):
        read_folder(tmp_path / "plans", Here({"driving": package}, ["cpu"]))


def test_devices_that_plans_have_other_names_for(tmp_path: Path, package: Package) -> None:
    devices = (Device("board.cpu:0"), Device("server.cpu:0"))
    given = problem(devices, {"board.cpu:0": Cost(4e-3, energy_j=0.1), "server.cpu:0": Cost(1e-3)})
    memory, pair = Memory("m", 1e9, ("board.cpu:0",)), Contention(("board.cpu:0", "server.cpu:0"), 1.1)
    given = msgspec.structs.replace(given, memories=(memory,), contention=(pair,))
    write(tmp_path / "plans", given, (EVERY, 0, 0), ({}, 0, 0))
    here = Here({"driving": package}, ["cpu:0"], ["edge"], names={"board.cpu:0": "cpu:0", "server.cpu:0": "edge"})
    found = read_folder(tmp_path / "plans", here)
    assert found.left_out == {}
    text = str((found.problem, {name: found.plans[name] for name in ("plan1", "plan2")}))
    assert "board.cpu:0" not in text
    assert "server.cpu:0" not in text
    assert PlanChooser(found.problem, [*found.plans.values()]).choose(0.0, Conditions()).index == 0
    for names, message in (({"what": "cpu:0"}, "names devices"), ({"board.cpu:0": "server.cpu:0"}, "of its own")):
        with pytest.raises(ConfigurationError, match=message):
            read_folder(tmp_path / "plans", replace(here, names=names))


def test_an_exit_that_the_package_lacks(tmp_path: Path, package: Package) -> None:
    exits = (Exit("early", "exit1", 0.5, 0.9), Exit("exit2", "exit2", 0.2, 0.95), Exit("exit3", "(answer)", 0.3, 0.99))
    given = problem((Device("cpu"),), {"cpu": Cost(4e-3)}, exits)
    write(tmp_path / "plans", given, ({}, 0, 0))
    with pytest.raises(ConfigurationError, match="ends driving at exit 'early', and the package has"):
        read_folder(tmp_path / "plans", Here({"driving": package}, ["cpu"]))
    whole = replace(package, exits=(replace(package.exits[0], id="early"), *package.exits[1:]))
    with pytest.raises(ConfigurationError, match=r"reaches an accuracy of 0\.9 for driving: the floor is 0\.95"):
        read_folder(tmp_path / "plans", Here({"driving": whole}, ["cpu"], accuracy_floor=0.95))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('plans = "PLANS"\n[plans]\nedges = { cpu = "tcp://127.0.0.1:9" }\n', "both name ['cpu']"),
        ('plans = "PLANS"\n[plans]\nedges = { edge = "nowhere" }\n', "nowhere"),
        ('[plans]\nedges = { edge = "tcp://127.0.0.1:9" }\n', "give serve.plans, the folder that names them"),
        ('plans = "PLANS"\n[plans]\nprobe_s = -1\n', "probe_s"),
        ('plans = "PLANS"\n[plans]\nedge = 1\n', "plans.edge is not one of names, edges, accuracy_floor"),
        ('plans = "PLANS"\n[plans.heat]\ngpu = {}\n', "plans.heat names ['gpu']"),
        ('plans = "PLANS"\n[offload]\nkeys = "k"\n[plans]\nedges = { edge = "tcp://127.0.0.1:9" }\n', "go together"),
    ],
)
def test_configurations_that_are_refused_with_the_reason(tmp_path: Path, more: str, message: str) -> None:
    given = problem((Device("cpu"),), {"cpu": Cost(4e-3)})
    write(tmp_path / "plans", given, ({}, 0, 0))
    file = tmp_path / "headway.toml"
    head = f"[serve]\nsocket = {json.dumps(str(tmp_path / 'd.sock'))}\npackages = [{json.dumps(str(PACKAGE))}]\n"
    file.write_text(head + more.replace("PLANS", str(tmp_path / "plans")))
    with pytest.raises((ConfigurationError, OffloadError)) as caught:
        Daemon(load_config(file, {}, {}))
    assert message in str(caught.value)
