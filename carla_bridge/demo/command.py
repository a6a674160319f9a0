"""`headway demo`: one seeded episode a policy, in real time, with real processes; one table at the end."""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import headway
from carla_bridge.demo.processes import KILLABLE, Plan, Processes
from carla_bridge.demo.summary import Row, summarise
from carla_bridge.demo.table import table
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop, Tick
from carla_bridge.scenario import Scenario, load_scenario
from devices.package import load_package
from offload.policy import POLICIES, PUBLISHED_POLICIES
from runtime.config import OffloadSection
from runtime.errors import ConfigurationError
from runtime.serve.realtime import become_punctual
from runtime.serve.uplink import local_run_j
from shield.vehicle import load_vehicle

_MODEL = "driving"


def demo(
    policy: Annotated[
        list[str] | None, typer.Option(help="local, eager, uniform, adaptive; default the first three, one by one")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of world, sensors and link")] = 1,
    duration_s: Annotated[float, typer.Option(min=0.1, help="Length of an episode [s]")] = 13.0,
    kill: Annotated[
        list[str] | None, typer.Option(help="edge@5: kill -9 the edge server 5 s into each episode")
    ] = None,
    vehicle: Annotated[str, typer.Option(help="A vehicle file, or a shipped vehicle's name")] = "demo",
    scenario: Annotated[str, typer.Option(help="A scenario file, or a shipped scenario's name")] = "town04_curves",
    noise: Annotated[bool, typer.Option("--noise", help="Move each obstacle by N(0, 1.15 m) in x and y")] = False,
    rate_mbps: Annotated[float, typer.Option(min=0.001, help="Declared uplink: Rayleigh scale [Mbit/s]")] = 20.0,
    max_wait_windows: Annotated[int, typer.Option(min=1, help="Longest wait for one answer [windows of 20 ms]")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table")] = False,
) -> None:
    """Drive one episode a policy: daemon, guard and edge server close the loop with the built-in world."""
    policies = policy or list(PUBLISHED_POLICIES)
    unknown = [name for name in policies if name not in POLICIES]
    if unknown:
        raise ConfigurationError(f"--policy {unknown[0]}: must be one of {', '.join(POLICIES)}")
    kills = parse_kills(kill or [], duration_s)
    chosen = load_scenario(scenario).with_noise() if noise else load_scenario(scenario)
    rows: dict[str, Row] = {}
    console = Console(stderr=True)
    package = files("carla_bridge") / "models" / _MODEL / "1"
    with as_file(package) as path, tempfile.TemporaryDirectory(prefix="headway-") as folder, _progress(console) as bar:
        for name in policies:
            plan = Plan(Path(folder), name, vehicle, path, rate_mbps, max_wait_windows, seed)
            task = bar.add_task(name, total=duration_s, speed="", deadline="", guard="starting")
            rows[name] = _episode(plan, chosen, duration_s, kills, partial(_show, bar, task))
            bar.update(task, completed=duration_s, guard="done")
    if as_json:
        typer.echo(json.dumps({name: row.as_json() for name, row in rows.items()}, indent=2))
    else:
        Console().print(table(rows, seed=seed, duration_s=duration_s))
    if not all(row.safe for row in rows.values()):
        sys.exit(1)


def parse_kills(texts: list[str], duration_s: float) -> list[tuple[float, str]]:
    """Return (time [s], process) of each "process@seconds", in order of time.

    Raises:
        ConfigurationError: not of that form, an unknown process, or a time outside the episode.
    """
    kills = []
    for text in texts:
        name, at, when = text.partition("@")
        try:
            time_s = float(when)
        except ValueError:
            time_s = -1.0
        if name not in KILLABLE or not at or not 0.0 <= time_s < duration_s:
            raise ConfigurationError(
                f"--kill {text}: must be PROCESS@SECONDS with a process of {', '.join(KILLABLE)} "
                f"and a time from 0 to {duration_s:g} s, such as edge@5"
            )
        kills.append((time_s, name))
    return sorted(kills)


def _episode(
    plan: Plan, scenario: Scenario, duration_s: float, kills: list[tuple[float, str]], show: Callable[[Tick], None]
) -> Row:
    world = KinematicWorld(scenario, load_vehicle(plan.vehicle), plan.seed)
    pending = list(kills)
    with Processes(plan) as processes, headway.Session(plan.daemon_socket, plan.guard_socket) as session:

        def on_tick(tick: Tick) -> None:
            while pending and tick.time_s >= pending[0][0]:
                processes.kill(pending.pop(0)[1])
            show(tick)

        become_punctual()
        record = RealTimeLoop(world, session, on_tick=on_tick).run(duration_s)
        killed = processes.kills
    world.close()
    exit_ids = [exit_.id for exit_ in load_package(plan.package).exits]
    return summarise(record, world.report(), 1e3 * local_run_j(OffloadSection()), exit_ids, killed)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speed]:>9} {task.fields[deadline]:>16} {task.fields[guard]}"),
        console=console,
        refresh_per_second=5,
    )


def _show(bar: Progress, task: TaskID, tick: Tick) -> None:
    """Move the bar five times a second: drawing costs more than a tick may."""
    if round(tick.time_s / 0.02) % 10:
        return
    decision = tick.decision
    bar.update(
        task,
        completed=tick.time_s,
        speed=f"{tick.speed_mps:.1f} m/s",
        deadline="" if decision is None else f"deadline {decision.deadline_s:.2f} s",
        guard="" if decision is None else decision.reason.replace("_", " "),
    )
