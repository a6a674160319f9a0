"""`headway drive --world carla`: one shielded episode on a CARLA server, with the shipped driving package."""

import json
from dataclasses import asdict

import typer

from carla_bridge.carla.world import CarlaSettings, CarlaWorld
from carla_bridge.errors import SimulatorError
from carla_bridge.virtual import drive
from shield.vehicle import load_vehicle

_ANSWER_AGE_WINDOWS = 5


def drive_carla(settings: CarlaSettings, vehicle: str, seed: int, duration_s: float, as_json: bool) -> None:
    """Drive one episode and print what came of it; exits 1 on a collision and 69 when the simulator fails.

    Args:
        settings: Which server, and what is wanted of it.
        vehicle: A vehicle file, or a shipped vehicle's name.
        seed: Draws the obstacles.
        duration_s: Longest time driven [s].
        as_json: Whether to print JSON.
    """
    try:
        world = CarlaWorld(settings, load_vehicle(vehicle), seed)
        try:
            episode = drive(world, _ANSWER_AGE_WINDOWS, duration_s, shielded=True)
            events = world.events()
        finally:
            world.close()
    except SimulatorError as error:
        typer.echo(f"headway drive: the simulator failed, not the agent: {error}", err=True)
        raise typer.Exit(69) from error
    outcome = asdict(episode.report) | {
        "interventions": episode.interventions,
        "backups": episode.backups,
        "uncertified": episode.uncertified,
        "events": [f"{event.time_s:.2f} s {event.kind}: {event.detail}" for event in events],
    }
    if as_json:
        typer.echo(json.dumps(outcome, indent=2))
    else:
        for name, value in outcome.items():
            typer.echo(f"{name:18} {value:.3f}" if isinstance(value, float) else f"{name:18} {value}")
    if episode.report.collisions:
        raise typer.Exit(1)
