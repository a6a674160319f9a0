"""`headway drive --world carla`: one shielded episode on a CARLA server.

In simulated time with the shipped driving package in this process; or, given a daemon's socket, by the wall clock
through that daemon and its guard. A server that falls silent during the episode is waited for, and the episode starts
anew: what was driven until then counts neither for nor against the agent.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer

from carla_bridge.carla.client import connect
from carla_bridge.carla.realtime import drive_by_wall_clock
from carla_bridge.carla.world import CarlaSettings, CarlaWorld
from carla_bridge.errors import SilentSimulatorError, SimulatorError
from carla_bridge.virtual import drive
from shield.vehicle import load_vehicle

_ANSWER_AGE_WINDOWS = 5
_MOST_STARTS = 4
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Trip:
    """What is driven, and by whom.

    Args:
        vehicle: A vehicle file, or a shipped vehicle's name.
        seed: Draws the obstacles.
        duration_s: Longest time driven [s].
        daemon: Socket of the daemon that drives by the wall clock; None: this process, in simulated time.
        guard: Socket of its guard; None: headway-guard.sock beside the daemon's.
        reconnect_s: How long a server that fell silent is waited for [s].
    """

    vehicle: str = "demo"
    seed: int = 1
    duration_s: float = 15.0
    daemon: Path | None = None
    guard: Path | None = None
    reconnect_s: float = 30.0


def drive_carla(settings: CarlaSettings, trip: Trip, as_json: bool) -> None:
    """Drive one episode, print what came of it and end the process: 1 on a collision, 69 when the simulator fails.

    Args:
        settings: Which server, and what is wanted of it.
        trip: What is driven.
        as_json: Whether to print JSON.
    """
    try:
        outcome = _until_driven(settings, trip)
    except SimulatorError as error:
        typer.echo(f"headway drive: the simulator failed, not the agent: {error}", err=True)
        _leave(69)
    if as_json:
        typer.echo(json.dumps(outcome, indent=2))
    else:
        for name, value in outcome.items():
            typer.echo(f"{name:18} {value:.3f}" if isinstance(value, float) else f"{name:18} {value}")
    _leave(1 if outcome["collisions"] or outcome.get("late_controls") else 0)


def _leave(code: int) -> NoReturn:
    """End this process at once: in an orderly end, the wheel's threads may abort it after all is done and told."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _until_driven(settings: CarlaSettings, trip: Trip) -> dict[str, Any]:
    world = CarlaWorld(settings, load_vehicle(trip.vehicle), trip.seed)
    starts = 1
    while True:
        try:
            return {**_episode(world, trip), "starts": starts}
        except SilentSimulatorError as error:
            if starts == _MOST_STARTS or trip.reconnect_s <= 0.0:
                raise
            typer.echo(f"headway drive: {error}; waiting up to {trip.reconnect_s:g} s for it", err=True)
        world.close()
        _await_server(settings, trip.reconnect_s)
        world, starts = CarlaWorld(settings, load_vehicle(trip.vehicle), trip.seed), starts + 1


def _await_server(settings: CarlaSettings, patience_s: float) -> None:
    until_s = time.monotonic() + patience_s
    while True:
        try:
            connect(settings.host, settings.port, settings.timeout_s)
            return
        except SilentSimulatorError:
            if time.monotonic() >= until_s:
                raise
        time.sleep(_RETRY_S)  # a refused connection costs no time of its own


def _episode(world: CarlaWorld, trip: Trip) -> dict[str, Any]:
    try:
        if trip.daemon is None:
            episode = drive(world, _ANSWER_AGE_WINDOWS, trip.duration_s, shielded=True)
            outcome = asdict(episode.report) | {
                "interventions": episode.interventions,
                "backups": episode.backups,
                "uncertified": episode.uncertified,
            }
        else:
            guard = trip.guard or trip.daemon.with_name("headway-guard.sock")
            outcome = drive_by_wall_clock(world, trip.daemon, guard, trip.duration_s).as_json()
        events = [f"{event.time_s:.2f} s {event.kind}: {event.detail}" for event in world.events()]
        return {**outcome, "events": events, "vehicle_file": list(world.mismatches) or "fits"}
    finally:
        world.close()
