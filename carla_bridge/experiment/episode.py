"""One episode of an experiment: what is asked for, and what came of it, both plain enough for a JSON file."""

from dataclasses import dataclass, replace

from carla_bridge.experiment.links import link_model
from carla_bridge.experiment.one_model import OneModel
from carla_bridge.experiment.several_models import SeveralModels
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import PASS_M, Drive, Loop
from offload.policy import POLICIES, Action, PolicySettings, Saving
from offload.radio import load_radio
from runtime.config import OffloadSection
from runtime.serve.uplink import local_run_j
from shield.deadline import Method
from shield.vehicle import load_vehicle

BINS = 21
"""Bins of distance to the nearest obstacle: one a metre, the last for 20 m and more."""

SEO_POLICIES = {"seo-offload": Saving.OFFLOAD, "seo-gate": Saving.GATE}


@dataclass(frozen=True, slots=True)
class Episode:
    """What to drive.

    Args:
        policy: A window policy, "seo-offload" or "seo-gate".
        shield: Whether the guard stands between controller and vehicle.
        noise: Whether obstacles are moved by the published noise.
        deadline: Which tolerable deadline the policy is told.
        link: Name of the link.
        vehicle: A shipped vehicle's name, or a file.
        scenario: A shipped scenario's name, or a file.
        obstacles: Whether there are any.
        max_wait_windows: Longest interval [windows].
        limit_s: Longest time driven [s].
        pass_m: Distance of centres at which the controller passes obstacles [m].
        speed_mps: Speed asked for [m/s]; None: the scenario's.
        seed: Of the experiment.
        number: Of the episode; with the seed it draws obstacles, scenery and channel, whatever the policy.
    """

    policy: str = "local"
    shield: bool = True
    noise: bool = False
    deadline: Method = Method.BACKUP
    link: str = "20mbps"
    vehicle: str = "config1"
    scenario: str = "town04_short"
    obstacles: bool = True
    max_wait_windows: int = 10
    limit_s: float = 15.0
    pass_m: float = PASS_M
    speed_mps: float | None = None
    seed: int = 1
    number: int = 0

    @property
    def draw(self) -> int:
        """Seed of this episode's world and channel."""
        return 1000 * self.seed + self.number


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an episode; energies in J, times in s, distances in m.

    Args:
        windows: Windows of 20 ms driven.
        finished: Whether the end of the route was reached.
        energy_j, exit_scaled_j: Energy of all windows; the second with local runs scaled by the share that ran.
        local, offloads, transit, idle, failsafes: Windows by what they were for.
        deadline_sum_s: Sum of the windows' tolerable deadlines, each cut off at 10 s.
        interventions, backups: Windows in which the guard did not admit the proposal; had the backup run.
        uncertified: Instants without a certified control in force.
        bin_windows, bin_energy_j: Windows and their energy by the distance to the nearest obstacle.
    """

    windows: int
    finished: bool
    collisions: int
    kerb_hits: int
    off_track: bool
    progress: float
    mean_speed_mps: float
    deviation_m: float
    min_distance_m: float | None
    energy_j: float
    exit_scaled_j: float
    local: int
    offloads: int
    transit: int
    idle: int
    failsafes: int
    deadline_sum_s: float
    interventions: int
    backups: int
    uncertified: int
    bin_windows: tuple[int, ...]
    bin_energy_j: tuple[float, ...]

    @property
    def completed(self) -> bool:
        """Whether neither an obstacle nor the kerb was hit."""
        return not (self.collisions or self.kerb_hits or self.off_track)


def run_episode(episode: Episode) -> Outcome:
    """Drive an episode in virtual time; the same episode gives the same outcome, bit by bit."""
    scenario = load_scenario(episode.scenario)
    if episode.noise:
        scenario = scenario.with_noise()
    if not episode.obstacles:
        scenario = scenario.without_obstacles()
    world = KinematicWorld(scenario, load_vehicle(episode.vehicle), episode.draw)
    perception = _perception(episode)
    loop = Loop(world, perception, episode.shield, episode.deadline, episode.pass_m, episode.speed_mps)
    done = loop.run(episode.limit_s)
    world.close()
    return _outcome(done, perception)


def local_energy_j() -> float:
    """Return the published energy of one full local run [J]: ResNet-152 at 160x80 on a Drive PX2."""
    return local_run_j(OffloadSection())


def _perception(episode: Episode) -> OneModel | SeveralModels:
    settings = PolicySettings(local_energy_j(), max_wait_windows=episode.max_wait_windows)
    link, radio = link_model(episode.link), load_radio("wifi")
    if episode.policy in SEO_POLICIES:
        return SeveralModels(SEO_POLICIES[episode.policy], settings, link, radio, episode.draw)
    if episode.policy not in POLICIES:
        raise ValueError(f"policy = {episode.policy!r}: must be one of {', '.join((*POLICIES, *SEO_POLICIES))}")
    reissued = episode.deadline is not Method.PUBLISHED
    return OneModel(episode.policy, settings, link, radio, episode.draw, reissued)


def _outcome(done: Drive, perception: OneModel | SeveralModels) -> Outcome:
    account, report = perception.account, done.report
    count, spent = [0] * BINS, [0.0] * BINS
    for distance_m, energy_j in zip(done.distances_m, account.energy_j, strict=True):
        index = int(min(distance_m, BINS - 1))
        count[index] += 1
        spent[index] += energy_j
    return Outcome(
        windows=len(account.energy_j),
        finished=report.progress >= 1.0,
        collisions=report.collisions,
        kerb_hits=report.kerb_hits,
        off_track=report.off_track,
        progress=report.progress,
        mean_speed_mps=report.mean_speed_mps,
        deviation_m=report.mean_deviation_m,
        min_distance_m=report.min_distance_m,
        energy_j=sum(account.energy_j),
        exit_scaled_j=sum(account.exit_scaled_j),
        local=account.actions[Action.LOCAL],
        offloads=account.actions[Action.OFFLOAD],
        transit=account.actions[Action.TRANSIT],
        idle=account.actions[Action.IDLE],
        failsafes=account.actions[Action.FAILSAFE_LOCAL],
        deadline_sum_s=sum(done.deadlines_s),
        interventions=done.interventions,
        backups=done.backups,
        uncertified=done.uncertified,
        bin_windows=tuple(count),
        bin_energy_j=tuple(spent),
    )


def numbered(episode: Episode, count: int) -> list[Episode]:
    """Return `count` episodes like `episode`, numbered from 0."""
    return [replace(episode, number=number) for number in range(count)]
