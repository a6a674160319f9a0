"""`headway drive`: the published experiments and ours, in virtual time, on all cores; tables, figures, JSON."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from carla_bridge.carla.drive import Trip, drive_carla
from carla_bridge.carla.lidar import LidarSettings
from carla_bridge.carla.world import CarlaSettings
from carla_bridge.experiment.episode import Episode, Outcome, numbered
from carla_bridge.experiment.links import link_model
from carla_bridge.experiment.plan import EXPERIMENTS
from carla_bridge.experiment.rows import Row, summarise
from carla_bridge.experiment.run import run_all
from carla_bridge.experiment.tables import agreement, table, wide_console
from carla_bridge.fleet.command import FLEET, drive_fleet
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import PASS_M
from carla_bridge.worlds.drive import command as drive_in
from carla_bridge.worlds.registry import WORLDS
from offload.errors import LinkError
from shield.deadline import Method
from shield.vehicle import load_vehicle

_NAMES = (*EXPERIMENTS, FLEET)


def drive(
    experiment: Annotated[str, typer.Option(help=", ".join(_NAMES))] = "energyshield-table1",
    deadline: Annotated[Method, typer.Option(help="Which tolerable deadline the policies are told")] = Method.BACKUP,
    vehicle: Annotated[
        str | None,
        typer.Option(help="A vehicle file, or a shipped vehicle's name; default config1, or the world's own"),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="A scenario file, or a shipped scenario's name; default town04_short, or the world's own"),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes a row, as published 35")] = 35,
    seed: Annotated[
        int | None, typer.Option(help="Seed of worlds and links; default 1, or 0 in a world of its own")
    ] = None,
    link: Annotated[str, typer.Option(help="Rate and queue, such as 5mbps or 10mbps+50ms")] = "20mbps",
    policy: Annotated[list[str] | None, typer.Option(help="Only rows of these policies")] = None,
    max_wait_windows: Annotated[int, typer.Option(help="Longest wait for one answer [windows of 20 ms]")] = 10,
    pass_m: Annotated[float, typer.Option(help="Where the controller passes obstacles [m]; 0: blind")] = PASS_M,
    speed_mps: Annotated[float | None, typer.Option(help="Speed asked for [m/s]; default the scenario's")] = None,
    duration_s: Annotated[
        float | None, typer.Option(help="Longest time of an episode [s]; default 15, or the world's own")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes; default one a core")] = None,
    out: Annotated[Path, typer.Option(help="Folder for outcomes, rows and figures")] = Path("headway-drive"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rows instead of the table")] = False,
    world: Annotated[
        str, typer.Option(help=f"kinematic; or one episode in {', '.join(WORLDS)}, or in carla on a server")
    ] = "kinematic",
    shield: Annotated[bool, typer.Option(help=f"In {', '.join(WORLDS)}: whether the guard decides")] = True,
    host: Annotated[str, typer.Option(help="Where CARLA's server listens")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port")] = 2000,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Longest time of one call to CARLA's server [s]")] = 10.0,
    reconnect_s: Annotated[float, typer.Option(min=0.0, help="How long to wait for a lost CARLA server [s]")] = 30.0,
    map_name: Annotated[
        str | None, typer.Option("--map", help="In CARLA: the map that must be loaded, such as Town04")
    ] = None,
    spawn_point: Annotated[int, typer.Option(min=0, help="In CARLA: number of the map's spawn point")] = 0,
    weather: Annotated[
        str | None, typer.Option(help="In CARLA: a preset of carla.WeatherParameters, such as HardRainNoon")
    ] = None,
    lidar_m: Annotated[
        float | None, typer.Option(min=1.0, help="In CARLA: take obstacles from a lidar of this range [m]")
    ] = None,
    spectator: Annotated[bool, typer.Option(help="In CARLA: whether the server's view follows the vehicle")] = True,
    daemon: Annotated[Path | None, typer.Option(help="In CARLA: drive by a daemon at this socket")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="Its guard's; default beside the daemon's")] = None,
) -> None:
    """Drive an experiment in virtual time, or go on with one that was stopped.

    Each episode's outcome is a file under OUT/episodes; rows and figures are written to OUT.
    """
    if experiment not in _NAMES:
        raise typer.BadParameter(f"{experiment!r}: must be one of {', '.join(_NAMES)}", param_hint="--experiment")
    for flag, value in (("--episodes", episodes), ("--max-wait-windows", max_wait_windows), ("--jobs", jobs or 1)):
        if value < 1:
            raise typer.BadParameter(f"{value}: must be at least 1", param_hint=flag)
    if seed is not None and not 0 <= seed < 10**9:
        raise typer.BadParameter(f"{seed}: must lie between 0 and 999999999", param_hint="--seed")
    if episodes > 1000:
        raise typer.BadParameter(f"{episodes}: must be at most 1000", param_hint="--episodes")
    if not 0.0 <= pass_m < math.inf:
        raise typer.BadParameter(f"{pass_m}: must not be negative", param_hint="--pass-m")
    if speed_mps is not None and not 0.0 < speed_mps < math.inf:
        raise typer.BadParameter(f"{speed_mps}: must be above 0", param_hint="--speed-mps")
    if duration_s is not None and not 0.0 < duration_s < math.inf:
        raise typer.BadParameter(f"{duration_s}: must be above 0", param_hint="--duration-s")
    if world not in ("kinematic", "carla", *WORLDS):
        names = ", ".join(("kinematic", "carla", *WORLDS))
        raise typer.BadParameter(f"{world!r}: must be one of {names}", param_hint="--world")
    in_carla: dict[str, object] = {
        "--map": map_name,
        "--spawn-point": spawn_point or None,
        "--weather": weather,
        "--lidar-m": lidar_m,
        "--no-spectator": None if spectator else False,
        "--daemon": daemon,
        "--guard-socket": guard_socket,
    }
    misplaced = [flag for flag, value in in_carla.items() if value is not None]
    if misplaced and world != "carla":
        raise typer.BadParameter(f"has no place in --world {world}: it is for carla", param_hint=misplaced[0])
    if not shield and world not in WORLDS:
        places = (
            f"{', '.join(WORLDS)}; the built-in world drives without by headway scenarios NAME --seed N --no-shield"
        )
        raise typer.BadParameter(f"has no place in --world {world}: it is for {places}", param_hint="--no-shield")
    if world in WORLDS:
        drive_in(world, scenario, vehicle, seed or 0, speed_mps, duration_s, as_json, shield, pass_m)
        return
    seed = 1 if seed is None else seed
    vehicle, scenario, duration_s = vehicle or "config1", scenario or "town04_short", duration_s or 15.0
    if world == "carla":
        settings = CarlaSettings(
            host=host,
            port=port,
            timeout_s=timeout_s,
            map_name=map_name,
            spawn_point=spawn_point,
            weather=weather,
            lidar=None if lidar_m is None else LidarSettings(range_m=lidar_m),
            spectator=spectator,
        )
        chosen = settings if speed_mps is None else replace(settings, target_speed_mps=speed_mps)
        drive_carla(chosen, Trip(vehicle, seed, duration_s, daemon, guard_socket, reconnect_s), as_json)
        return
    if experiment == FLEET:
        drive_fleet(seed, jobs or os.cpu_count() or 1, out, as_json)
        return
    if load_vehicle(vehicle).barrier is None and deadline is not Method.BACKUP:
        raise typer.BadParameter(f"{deadline} needs a [barrier] in the vehicle file", param_hint="--deadline")
    load_scenario(scenario)
    try:
        link_model(link)
    except LinkError as error:
        raise typer.BadParameter(str(error), param_hint="--link") from error
    base = Episode(
        deadline=deadline,
        link=link,
        vehicle=vehicle,
        scenario=scenario,
        max_wait_windows=max_wait_windows,
        limit_s=duration_s,
        pass_m=pass_m,
        speed_mps=speed_mps,
        seed=seed,
    )
    kinds = EXPERIMENTS[experiment].kinds(base)
    if policy:
        known = list(dict.fromkeys(kind.policy for kind in kinds))
        unknown = [name for name in policy if name not in known]
        if unknown:
            raise typer.BadParameter(
                f"{', '.join(unknown)}: no policy of {experiment}, which has {', '.join(known)}", param_hint="--policy"
            )
        kinds = [kind for kind in kinds if kind.policy in policy]
    results = _drive_all(kinds, episodes, out, jobs or os.cpu_count() or 1)
    rows = [summarise(kind, outcomes) for kind, outcomes in results]
    stem = f"{experiment}-{deadline}-{load_vehicle(vehicle).name}"
    rows_file = out / f"{stem}.json"
    rows_file.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    figure = _draw(experiment, results, rows, out / f"{stem}.png")
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
        return
    console = wide_console()
    console.print(table(experiment, EXPERIMENTS[experiment].title, rows))
    for line in agreement(rows) if experiment == "energyshield-table1" else []:
        console.print(line, highlight=False)
    console.print(f"rows {rows_file}, figure {figure or 'not drawn: pip install ' + repr('headway[view]')}")


def _drive_all(
    kinds: Sequence[Episode], episodes: int, out: Path, jobs: int
) -> list[tuple[Episode, Sequence[Outcome]]]:
    everything = [episode for kind in kinds for episode in numbered(kind, episodes)]
    with Progress(
        TextColumn("episodes"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("", total=len(everything))
        outcomes = run_all(everything, out / "episodes", jobs, lambda count: bar.advance(task, count))
    slices = (outcomes[start : start + episodes] for start in range(0, len(outcomes), episodes))
    return list(zip((replace(kind, number=0) for kind in kinds), slices, strict=True))


def _draw(
    experiment: str, results: Sequence[tuple[Episode, Sequence[Outcome]]], rows: Sequence[Row], path: Path
) -> Path | None:
    """Draw the figure of an experiment; None where matplotlib is not installed."""
    try:
        from carla_bridge.experiment.figures import draw
    except ImportError:
        return None
    return draw(experiment, results, rows, path)
