"""Episodes of one kind summed up as one row of a table."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from carla_bridge.experiment.episode import BINS, SEO_POLICIES, Episode, Outcome, local_energy_j
from carla_bridge.experiment.several_models import base_j_per_window


@dataclass(frozen=True, slots=True)
class Row:
    """Many episodes of one kind.

    Args:
        policy, shield, noise, deadline, link, vehicle, obstacles, max_wait_windows, pass_m, speed_mps: As asked for.
        episodes: How many.
        tcr_pct: Share without a hit of obstacle or kerb [%].
        collisions, kerb_hits: Over all episodes.
        center_deviation_m: Mean absolute distance from the centre line, mean over episodes [m].
        energy_mj_per_window: Published energy of a window, over all windows [mJ].
        energy_exit_scaled_mj_per_window: The same with local runs scaled by the share of the network that ran [mJ].
        energy_vs_local: The published energy over that of running every model in every window in which it is due.
        energy_vs_local_median: The same for each episode, median over episodes.
        extra_transit_windows_pct: Windows spent waiting beyond the one in which the frame was sent, of all [%].
        fallbacks_pct: Offloads that ended in the local fail-safe [%].
        deadline_mean_s: Mean tolerable deadline over windows, each cut off at 10 s [s].
        interventions_pct, backups_pct: Windows in which the guard did not admit the proposal; had the backup run [%].
        uncertified: Instants without a certified control in force.
        progress_pct, finished_pct: Share of the route driven; of episodes that reached its end [%].
        mean_speed_mps: Mean over episodes [m/s].
        min_distance_m: Least distance of centres to an obstacle [m].
    """

    policy: str
    shield: bool
    noise: bool
    deadline: str
    link: str
    episodes: int
    tcr_pct: float
    collisions: int
    center_deviation_m: float
    energy_mj_per_window: float
    energy_exit_scaled_mj_per_window: float
    energy_vs_local: float
    energy_vs_local_median: float
    extra_transit_windows_pct: float
    fallbacks_pct: float
    deadline_mean_s: float
    interventions_pct: float
    backups_pct: float
    uncertified: int
    kerb_hits: int
    progress_pct: float
    finished_pct: float
    mean_speed_mps: float
    min_distance_m: float | None
    vehicle: str
    obstacles: bool
    max_wait_windows: int
    pass_m: float
    speed_mps: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the row for a JSON file."""
        return asdict(self)


def summarise(episode: Episode, outcomes: Sequence[Outcome]) -> Row:
    """Return the row of `outcomes`, all of episodes like `episode` but for their number."""
    windows = sum(one.windows for one in outcomes)
    offloads = sum(one.offloads for one in outcomes)
    base_j = base_energy_j(episode.policy)
    energy_j = sum(one.energy_j for one in outcomes)
    distances = [one.min_distance_m for one in outcomes if one.min_distance_m is not None]
    return Row(
        policy=episode.policy,
        shield=episode.shield,
        noise=episode.noise,
        deadline=str(episode.deadline),
        link=episode.link,
        episodes=len(outcomes),
        tcr_pct=100.0 * fmean(one.completed for one in outcomes),
        collisions=sum(one.collisions for one in outcomes),
        center_deviation_m=fmean(one.deviation_m for one in outcomes),
        energy_mj_per_window=1e3 * energy_j / windows,
        energy_exit_scaled_mj_per_window=1e3 * sum(one.exit_scaled_j for one in outcomes) / windows,
        energy_vs_local=energy_j / windows / base_j,
        energy_vs_local_median=median(one.energy_j / one.windows / base_j for one in outcomes),
        extra_transit_windows_pct=100.0 * sum(one.transit for one in outcomes) / windows,
        fallbacks_pct=100.0 * sum(one.failsafes for one in outcomes) / offloads if offloads else 0.0,
        deadline_mean_s=sum(one.deadline_sum_s for one in outcomes) / windows,
        interventions_pct=100.0 * sum(one.interventions for one in outcomes) / windows,
        backups_pct=100.0 * sum(one.backups for one in outcomes) / windows,
        uncertified=sum(one.uncertified for one in outcomes),
        kerb_hits=sum(one.kerb_hits for one in outcomes),
        progress_pct=100.0 * fmean(one.progress for one in outcomes),
        finished_pct=100.0 * fmean(one.finished for one in outcomes),
        mean_speed_mps=fmean(one.mean_speed_mps for one in outcomes),
        min_distance_m=min(distances, default=None),
        vehicle=episode.vehicle,
        obstacles=episode.obstacles,
        max_wait_windows=episode.max_wait_windows,
        pass_m=episode.pass_m,
        speed_mps=episode.speed_mps,
    )


def base_energy_j(policy: str) -> float:
    """Return what a window costs when every model that may be saved runs whenever it is due [J]."""
    return base_j_per_window(local_energy_j()) if policy in SEO_POLICIES else local_energy_j()


def energy_by_distance(policy: str, outcomes: Sequence[Outcome]) -> tuple[list[int], list[float]]:
    """Return windows and mean energy over local for each bin of distance; NaN where there is no window."""
    windows = [sum(one.bin_windows[index] for one in outcomes) for index in range(BINS)]
    energy_j = [sum(one.bin_energy_j[index] for one in outcomes) for index in range(BINS)]
    base_j = base_energy_j(policy)
    ratios = [spent / count / base_j if count else math.nan for spent, count in zip(energy_j, windows, strict=True)]
    return windows, ratios


def reweighed(ratios: Sequence[float], windows: Sequence[int]) -> float:
    """Return our energy over local if our windows were spread over distance like `windows`.

    Bins without windows of ours take the nearest bin that has some.
    """
    known = [index for index, ratio in enumerate(ratios) if not math.isnan(ratio)]
    total = 0.0
    for index, count in enumerate(windows):
        if count:
            total += count * ratios[min(known, key=lambda other: abs(other - index))]
    return total / sum(windows)
