"""`headway falsify`: try to break a vehicle's deadlines and its guard by simulation."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

import headway
from shield.falsify import Drive, Report, Simulation, draw_scenario, falsify_deadlines
from shield.guard import GuardSettings
from shield.vehicle import Vehicle, load_vehicle

DRIVE_S = 10.0
"""Length of one drive of the guard [s]."""


def falsify(
    vehicle: Annotated[str, typer.Option(help="A vehicle file, or a shipped vehicle's name")] = "demo",
    states: Annotated[int, typer.Option(min=0, help="Vehicle states to simulate against the deadlines")] = 10_000_000,
    drives: Annotated[int, typer.Option(min=0, help="Closed-loop drives of 10 s against the guard")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything drawn")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines")] = False,
) -> None:
    """Look for a counter-example: worst speeds, switching instants, errors and obstacles within the declared bounds.

    Says how many states were simulated and how close any came to an obstacle. The exit code is 1 when a deadline or the
    guard was broken, and when there was nothing to attack: no deadline above zero, and no drive that got anywhere.
    """
    if states == 0 and drives == 0:
        raise typer.BadParameter(
            "--states 0 and --drives 0 leave nothing to attack: give at least one of them a number above zero",
            param_hint="--states",
        )
    loaded = load_vehicle(vehicle)
    with Progress(console=Console(stderr=True), disable=json_output, transient=True) as progress:
        deadlines = progress.add_task("deadlines", total=max(states, 1))
        report = falsify_deadlines(
            loaded, states, seed, progress=lambda done: progress.update(deadlines, completed=min(done, states))
        )
        guard = progress.add_task("guard", total=max(drives, 1))
        results = []
        for index in range(drives):
            results.append((seed + index, _drive(loaded, seed + index)))
            progress.update(guard, completed=index + 1)
    answer = {
        "vehicle": loaded.name,
        "bounds": loaded.fingerprint(),
        "seed": seed,
        "deadlines": _of_deadlines(report),
        "guard": _of_drives(results),
    }
    broken = bool(report.counterexamples) or any(drive.broken for _, drive in results)
    attacked = report.attacked > 0 or any(drive.way_m > 0.0 for _, drive in results)
    found = {**answer, "attacked": attacked, "broken": broken}
    typer.echo(json.dumps(found) if json_output else _text(found, states > 0))
    if broken or not attacked:
        raise typer.Exit(1)


def _drive(vehicle: Vehicle, seed: int) -> Drive:
    scenario = draw_scenario(vehicle, seed, DRIVE_S)
    return Simulation(vehicle, scenario, headway.Applier(), GuardSettings(report_barrier=False)).run()


def _of_deadlines(report: Report) -> dict[str, Any]:
    return {
        "states": report.states,
        "situations": report.situations,
        "attacked": report.attacked,
        "least_clearance_m": report.least_clearance_m if report.attacked else None,
        "seconds": report.seconds,
        "counterexamples": [asdict(item) for item in report.counterexamples],
    }


def _of_drives(results: list[tuple[int, Drive]]) -> dict[str, Any]:
    seen = [drive.least_clearance_m for _, drive in results if drive.least_clearance_m < float("inf")]
    return {
        "drives": len(results),
        "states": sum(drive.states for _, drive in results),
        "ticks": sum(drive.ticks for _, drive in results),
        "way_m": sum(drive.way_m for _, drive in results),
        "interventions": sum(drive.interventions for _, drive in results),
        "backups": sum(drive.backups for _, drive in results),
        "uncertified": sum(drive.uncertified for _, drive in results),
        "least_clearance_m": min(seen) if seen else None,
        "broken_seeds": [seed for seed, drive in results if drive.broken],
    }


def _text(answer: dict[str, Any], asked: bool) -> str:
    deadlines, guard = answer["deadlines"], answer["guard"]
    lines = [
        f"vehicle    {answer['vehicle']}, seed {answer['seed']}",
        f"deadlines  {deadlines['states']:,} states of {deadlines['attacked']:,} situations "
        f"in {deadlines['seconds']:.1f} s, {len(deadlines['counterexamples'])} broken, "
        f"least clearance {_metres(deadlines['least_clearance_m'])}",
        f"guard      {guard['ticks']:,} ticks and {guard['states']:,} states in {guard['drives']} drives, "
        f"{len(guard['broken_seeds'])} broken, least clearance {_metres(guard['least_clearance_m'])}",
    ]
    lines += [f"broken     {json.dumps(item)}" for item in deadlines["counterexamples"][:3]]
    lines += [f"broken     the drive of seed {seed}" for seed in guard["broken_seeds"]]
    return "\n".join([*lines, _verdict(answer, asked)])


def _verdict(answer: dict[str, Any], asked: bool) -> str:
    deadlines, guard = answer["deadlines"], answer["guard"]
    if answer["broken"]:
        return "BROKEN"
    none = f"none of {deadlines['situations']:,} situations has a deadline above zero"
    if not answer["attacked"]:
        drives = f"no drive of {guard['drives']} got anywhere"
        return f"NOTHING ATTACKED: {'; '.join([none] * asked + [drives] * (guard['drives'] > 0))}"
    if asked and deadlines["attacked"] == 0:
        return f"nothing broken in the drives; no deadline was attacked: {none}"
    return "nothing broken"


def _metres(value: float | None) -> str:
    return "none met" if value is None else f"{value:.6f} m"
