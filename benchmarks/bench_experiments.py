"""The published experiments in virtual time: energies against the published ones and the figures to reach.

Run: python benchmarks/bench_experiments.py [--episodes N] [--jobs N] [--out DIR] [--json FILE]

Everything but the times is in virtual time and the same on every machine. Outcomes are kept in DIR, so a second run
prints at once; the times of an episode are taken anew, on one core.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine
from scipy.optimize import nnls

from carla_bridge.experiment import published
from carla_bridge.experiment.episode import Episode, local_energy_j, numbered, run_episode
from carla_bridge.experiment.links import PUBLISHED_LINKS, link_model
from carla_bridge.experiment.one_model import OneModel
from carla_bridge.experiment.plan import PUBLISHED_PASS_M
from carla_bridge.experiment.rows import Row, energy_by_distance, reweighed, summarise
from carla_bridge.experiment.run import run_all
from carla_bridge.fleet.command import simulate
from carla_bridge.fleet.simulate import Fleet
from carla_bridge.virtual import WINDOW_S, Sighting
from offload.policy import PolicySettings
from offload.radio import load_radio
from shield.deadline import Method
from shield.state import State

BACKUP = Episode(policy="uniform", deadline=Method.BACKUP)
PUBLISHED = Episode(policy="uniform", deadline=Method.PUBLISHED)
TARGETS_PCT = {"20mbps": 85.0, "5mbps": 80.0, "10mbps+50ms": 75.0}
"""Least energy below local with `backup` deadlines, uniform, shield on."""


def main() -> None:
    options = _options()
    where = machine("numpy", "onnxruntime", "opencv-python-headless")
    print(line("machine", where))
    results: dict[str, Any] = {}
    for name, figures in (*speed(), *reached(options), *agreement(options), *intervals(), *fleets()):
        results[name] = figures
        print(line(name, figures), flush=True)
    keep(options.json, where, results)


def speed() -> list[tuple[str, dict[str, Any]]]:
    """Return the time of one episode of each policy."""
    found = []
    run_episode(replace(BACKUP, limit_s=0.2))
    for policy in ("local", "eager", "uniform", "adaptive"):
        begin, cpu = time.perf_counter(), time.process_time()
        outcome = run_episode(replace(BACKUP, policy=policy))
        wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
        figures = {"wall_s": wall_s, "cpu_s": cpu_s, "cpu_ms_per_window": 1e3 * cpu_s / outcome.windows}
        found.append((f"one episode, {policy}", figures))
    return found


def reached(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Return energy, TCR and deviation of uniform with `backup` deadlines, and what was to be reached."""
    local = _row(replace(BACKUP, policy="local"), options)
    found = []
    for link, least_pct in TARGETS_PCT.items():
        for policy in ("uniform", "adaptive"):
            row = _row(replace(BACKUP, policy=policy, link=link), options)
            figures = {
                "below_local_pct": 100.0 * (1.0 - row.energy_vs_local),
                "at_least": least_pct,
                "tcr_pct": row.tcr_pct,
                "deviation_m": row.center_deviation_m,
                "local_deviation_m": local.center_deviation_m,
                "fallbacks_pct": row.fallbacks_pct,
            }
            found.append((f"backup, {policy}, {link}", figures))
    return found


def agreement(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Return our energies with `published` deadlines beside the published ones."""
    found: list[tuple[str, dict[str, Any]]] = []
    theirs = {one.policy: one for one in published.table1() if one.shield and not one.noise}
    shares = {one.policy: one.windows for one in published.distances() if one.shield and not one.noise}
    for policy in ("eager", "uniform"):
        for pass_m in (PUBLISHED.pass_m, PUBLISHED_PASS_M):
            kind = replace(PUBLISHED, policy=policy, pass_m=pass_m)
            outcomes = run_all(numbered(kind, options.episodes), options.out, options.jobs)
            ours = summarise(kind, outcomes).energy_mj_per_window
            ratios = energy_by_distance(policy, outcomes)[1]
            figures = {
                "mj_per_window": ours,
                "published": theirs[policy].energy_mj_per_window,
                "apart_pct": 100.0 * (ours / theirs[policy].energy_mj_per_window - 1.0),
                "mj_at_their_distances": 113.48 * reweighed(ratios, shares[policy]),
            }
            found.append((f"published, {policy}, passed at {pass_m:g} m", figures))
    medians = {one.link: one.energy_vs_local_median for one in published.wireless()}
    for link in PUBLISHED_LINKS:
        row = _row(replace(PUBLISHED, link=link, pass_m=PUBLISHED_PASS_M), options)
        figures = {"median_over_local": row.energy_vs_local_median, "published": medians[link]}
        found.append((f"published, uniform, {link}, passed at {PUBLISHED_PASS_M:g} m", figures))
    return found


def intervals() -> list[tuple[str, dict[str, Any]]]:
    """Return uniform's energy over local for fixed intervals of n windows, and the shares of n behind the medians.

    The shares are the non-negative ones that come nearest to the six published medians: they tell which deadlines the
    published vehicle met, whatever its world.
    """
    links, local_j = list(PUBLISHED_LINKS), local_energy_j()
    seen = Sighting((0.0,) * 6, "none", 1.0, State(0.0, 0.0, 0.0), 0.0)
    ratios = np.zeros((len(links), 7))
    for row, link in enumerate(links):
        for n in range(1, 8):
            model = OneModel(
                "uniform", PolicySettings(local_j), link_model(link), load_radio("wifi"), 7, reissued=False
            )
            for window in range(4000):
                model.begin(window, WINDOW_S * window, WINDOW_S * (n + 0.05), lambda deepest: seen)
            ratios[row, n - 1] = sum(model.account.energy_j) / 4000 / local_j
    names = [f"n={n}" for n in range(1, 8)]
    medians = {one.link: one.energy_vs_local_median for one in published.wireless()}
    wanted = np.array([medians[link] for link in links])
    shares = nnls(np.vstack([ratios, np.full(7, 10.0)]), np.append(wanted, 10.0))[0]
    found = [
        (f"uniform, {link}, fixed n", dict(zip(names, values.tolist(), strict=True)))
        for link, values in zip(links, ratios, strict=True)
    ]
    found.append(("shares of n behind the published medians", dict(zip(names, shares.tolist(), strict=True))))
    nearest = zip(links, (ratios @ shares).tolist(), strict=True)
    return [*found, ("medians with these shares", dict(nearest))]


def fleets() -> list[tuple[str, dict[str, Any]]]:
    """Return fleets with and without admission, and the time it takes to simulate them."""
    found = []
    for vehicles in (100, 1000, 10000):
        for admission in (False, True):
            begin = time.perf_counter()
            row = simulate(Fleet(vehicles, admission, local_energy_j()))
            figures = {
                "answers_per_s": row.answers_per_s,
                "fallbacks_pct": row.fallbacks_pct,
                "energy_vs_no_edge": row.energy_vs_no_edge,
                "wall_s": time.perf_counter() - begin,
            }
            found.append((f"fleet of {vehicles}, {'admission' if admission else 'everybody sends'}", figures))
    return found


def _row(kind: Episode, options: argparse.Namespace) -> Row:
    return summarise(kind, run_all(numbered(kind, options.episodes), options.out, options.jobs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--episodes", type=int, default=35, help="episodes of each kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "headway-experiments")
    parser.add_argument("--json", type=Path, default=None, help="keep machine and figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
