"""One episode in one of the further worlds, in numbers; and `headway drive --world NAME`.

The driver is the shipped package and controller, which know standing drums and no traffic; the shield stands between
them and the vehicle, or does not.
"""

import json
import statistics
from collections import Counter
from dataclasses import asdict, dataclass

import typer

from carla_bridge.errors import SimulatorError
from carla_bridge.virtual import PASS_M, WINDOW_S, FixedAge, Loop
from carla_bridge.worlds.base import TrueWorld
from carla_bridge.worlds.registry import WORLDS, open_world
from shield.deadline import Method
from shield.guard import Guard, Proposal
from shield.state import State

_ANSWER_AGE_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an episode.

    Args:
        world, scenario: Which.
        shield: Whether the guard stood between controller and vehicle.
        time_s: Time driven [s].
        progress_m: Way along the road [m].
        collisions_moving: Contacts while our vehicle was moving.
        collisions_moving_bounds_held: Those of them before which every declared bound was held: the shield's fault.
        collisions_at_rest: Contacts while it stood: something drove into it.
        causes: How many contacts there were of each cause.
        min_clearance_m: Least gap to anything, moving or at rest [m]; None: there was nothing.
        min_clearance_moving_m: Least gap to anything while our vehicle was moving [m].
        backup_share: Share of the time in which the stored backup ran.
        standing_share: Share of the time in which our vehicle stood.
        deadline_median_s: Median of the tolerable deadline over all windows [s]; None without the shield.
        interventions: Windows in which the proposal was not admitted.
        uncertified: Steps in which no certified control was in force.
        broken: Declared bounds that were broken, each with its worst excess.
        ended: What ended the episode.
    """

    world: str
    scenario: str
    shield: bool
    time_s: float
    progress_m: float
    collisions_moving: int
    collisions_moving_bounds_held: int
    collisions_at_rest: int
    causes: dict[str, int]
    min_clearance_m: float | None
    min_clearance_moving_m: float | None
    backup_share: float
    standing_share: float
    deadline_median_s: float | None
    interventions: int
    uncertified: int
    broken: dict[str, float]
    ended: str


class _CertifyingLoop(Loop):
    """The loop, which tells its world of every certified control."""

    def _ask_guard(self, guard: Guard, now_s: float, state: State, asked: Proposal) -> float:
        deadline_s = super()._ask_guard(guard, now_s, state, asked)
        decision = self._applier.decision
        if decision is not None and decision.mode != "backup" and isinstance(self._world, TrueWorld):
            self._world.certify()
        return deadline_s


def drive_world(
    name: str, world: TrueWorld, shielded: bool = True, limit_s: float | None = None, pass_m: float = PASS_M
) -> Outcome:
    """Drive an opened world until its episode or `limit_s` [s] ends, close it, and return what came of it.

    Args:
        name: Name of the world.
        world: From `open_world`, at its start.
        shielded: Whether the guard and the applier stand between controller and vehicle.
        limit_s: Longest time driven [s]; None: the world's own.
        pass_m: Distance of centres at which the controller passes what it sees [m]; 0: it is blind to obstacles.
    Raises:
        SimulatorError: the simulator failed, not the agent.
    """
    limit_s = WORLDS[name].limit_s if limit_s is None else limit_s
    try:
        method = Method.BACKUP if shielded else None
        episode = _CertifyingLoop(world, FixedAge(_ANSWER_AGE_WINDOWS), shielded, method, pass_m).run(limit_s)
    finally:
        world.close()
    report, contacts = episode.report, world.collisions
    windows = max(1, round(report.time_s / WINDOW_S))
    final = [event.kind.value for event in world.events() if event.kind.value in ("collision", "off_track", "finished")]
    return Outcome(
        world=name,
        scenario=world.scenario.name,
        shield=shielded,
        time_s=report.time_s,
        progress_m=report.progress_m,
        collisions_moving=sum(contact.moving for contact in contacts),
        collisions_moving_bounds_held=sum(contact.moving and contact.bounds_held for contact in contacts),
        collisions_at_rest=sum(not contact.moving for contact in contacts),
        causes=dict(Counter(contact.cause for contact in contacts)),
        min_clearance_m=report.min_clearance_m,
        min_clearance_moving_m=world.clearance_moving_m,
        backup_share=episode.backups / windows,
        standing_share=world.standing_s / max(report.time_s, WINDOW_S),
        deadline_median_s=statistics.median(episode.deadlines_s) if episode.deadlines_s else None,
        interventions=episode.interventions,
        uncertified=episode.uncertified,
        broken=world.broken,
        ended=final[-1] if final else "time",
    )


def command(
    name: str,
    scenario: str | None,
    vehicle: str | None,
    seed: int,
    speed_mps: float | None,
    duration_s: float | None,
    as_json: bool,
    shielded: bool = True,
    pass_m: float = PASS_M,
) -> None:
    """Drive one episode and print what came of it; exits 1 on a collision while moving and 69 when the simulator fails.

    Args:
        name: Name of the world.
        scenario, vehicle, seed, speed_mps: As for `open_world`.
        duration_s: Longest time driven [s]; None: the world's own.
        as_json: Whether to print JSON.
        shielded, pass_m: As for `drive_world`.
    """
    try:
        world = open_world(name, scenario, vehicle, seed, speed_mps)
        outcome = drive_world(name, world, shielded, duration_s, pass_m)
    except SimulatorError as error:
        typer.echo(f"headway drive: the simulator failed, not the agent: {error}", err=True)
        raise typer.Exit(69) from error
    if as_json:
        typer.echo(json.dumps(asdict(outcome), indent=2))
    else:
        for key, value in asdict(outcome).items():
            typer.echo(f"{key:30} {_plain(value)}")
    if outcome.collisions_moving:
        raise typer.Exit(1)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) or "none"
    return "-" if value is None else str(value)
