"""One seed of a scenario, driven in virtual time by the shipped package, and what came of it by the truth."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from carla_bridge.experiment.episode import local_energy_j
from carla_bridge.experiment.links import link_model
from carla_bridge.experiment.one_model import OneModel
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import WINDOW_S, Drive, Loop, VirtualWorld
from carla_bridge.worlds.judge import Collision
from offload.policy import PolicySettings
from offload.radio import load_radio
from shield.deadline import Method
from shield.vehicle import load_vehicle

POLICY, LINK = "adaptive", "20mbps"
_MAX_WAIT_WINDOWS = 10
CAP_S = 1.0
"""Deadlines are not looked for beyond this [s]: no answer is waited for so long, and each look costs."""


class JudgedWorld(VirtualWorld, Protocol):
    """A world that classifies its contacts and watches the declared bounds."""

    @property
    def collisions(self) -> tuple[Collision, ...]:
        """Every contact, classified, oldest first."""

    @property
    def broken(self) -> dict[str, float]:
        """The declared bounds broken so far, each with its worst excess."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What came of an episode.

    Args:
        scenario: Its name.
        seed: What it was drawn from.
        shield: Whether the guard stood between controller and vehicle.
        deadline: Which tolerable deadline the offload policy was told.
        collisions_moving: Contacts while the vehicle moved.
        collisions_moving_bounds_held: Those of them before which every declared bound held: with the shield, none.
        collisions_at_rest: Contacts while it stood.
        causes: Every contact's class.
        bounds_broken: Declared bounds broken at any time.
        finished: Whether the end of the road was reached.
        off_track: Whether the road was left.
        progress: Share of the road driven.
        time_s: Time driven [s].
        mean_speed_mps: Way over time [m/s].
        min_clearance_m: Least gap between body and obstacle [m]; None without obstacles.
        interventions, backup_share: Windows in which the guard changed what was asked for; share of those in backup.
        uncertified: Instants without a certified control in force; with the shield, none.
        deadline_median_s: Median of the windows' tolerable deadlines, each cut off at `CAP_S`.
    """

    scenario: str
    seed: int
    shield: bool
    deadline: str
    collisions_moving: int
    collisions_moving_bounds_held: int
    collisions_at_rest: int
    causes: tuple[str, ...]
    bounds_broken: tuple[str, ...]
    finished: bool
    off_track: bool
    progress: float
    time_s: float
    mean_speed_mps: float
    min_clearance_m: float | None
    interventions: int
    backup_share: float
    uncertified: int
    deadline_median_s: float


def drive_scenario(
    source: str, seed: int, *, shield: bool = True, method: Method = Method.BACKUP, vehicle: str | None = None
) -> Driven:
    """Drive one seed of a scenario in the built-in world; the same arguments give the same outcome, bit by bit.

    Args:
        source: A scenario file, or a shipped scenario's name.
        seed: Draws everything that the scenario leaves open.
        shield: Whether the guard stands between controller and vehicle.
        method: Which tolerable deadline the offload policy is told.
        vehicle: A vehicle file, or a shipped vehicle's name; None: the scenario's.
    Raises:
        ScenarioError: the scenario cannot be used.
        VehicleFileError: the vehicle file cannot be used.
    """
    scenario = load_scenario(source)
    world = KinematicWorld(scenario, load_vehicle(vehicle or scenario.vehicle), seed)
    return drive_world(world, scenario.name, seed, scenario.duration_s, shield=shield, method=method)


def drive_world(
    world: JudgedWorld, name: str, seed: int, limit_s: float, *, shield: bool = True, method: Method = Method.BACKUP
) -> Driven:
    """Drive a world from its start until its episode or `limit_s` [s] ends, and close it."""
    settings = PolicySettings(local_energy_j(), max_wait_windows=_MAX_WAIT_WINDOWS)
    reissued = method is not Method.PUBLISHED
    perception = OneModel(POLICY, settings, link_model(LINK), load_radio("wifi"), seed, reissued)
    try:
        done = Loop(world, perception, shield, method, cap_s=CAP_S).run(limit_s)
        return _driven(done, world, (name, seed, shield, method))
    finally:
        world.close()


def _driven(done: Drive, world: JudgedWorld, what: tuple[str, int, bool, Method]) -> Driven:
    name, seed, shield, method = what
    report, contacts = done.report, world.collisions
    moving = [item for item in contacts if item.moving]
    windows = max(1, round(report.time_s / WINDOW_S))
    return Driven(
        scenario=name,
        seed=seed,
        shield=shield,
        deadline=str(method),
        collisions_moving=len(moving),
        collisions_moving_bounds_held=sum(item.bounds_held for item in moving),
        collisions_at_rest=len(contacts) - len(moving),
        causes=tuple(item.cause for item in contacts),
        bounds_broken=tuple(sorted(world.broken)),
        finished=report.progress >= 1.0,
        off_track=report.off_track,
        progress=report.progress,
        time_s=report.time_s,
        mean_speed_mps=report.mean_speed_mps,
        min_clearance_m=report.min_clearance_m,
        interventions=done.interventions,
        backup_share=done.backups / windows,
        uncertified=done.uncertified if shield else 0,
        deadline_median_s=median(done.deadlines_s) if done.deadlines_s else 0.0,
    )


def causes_of(episodes: Sequence[Driven]) -> Counter[str]:
    """Return how many contacts there were of each class, the number of what was touched left out."""
    return Counter(_class(cause) for episode in episodes for cause in episode.causes)


def _class(cause: str) -> str:
    return "struck at rest" if cause.startswith("struck at rest") else cause
