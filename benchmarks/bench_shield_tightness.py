"""How tight the deadlines are, and how much longer than the published ones.

barrier     against the first millimetre of the held arc with h < 0
backup      against a dense search over the same manoeuvres (`dense_search`), one and several discs, with and without
            brakes
published   mean over random states of the published table's rings, 600 an offset, deadlines capped at 2 s: the table,
            the barrier and the backup deadline at the same states

    python benchmarks/bench_shield_tightness.py [--states N] [--table N] [--json FILE]
"""

import argparse
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dense_search import GRAIN_M, Search, barrier_exit
from machine import keep, line, machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shield.barrier import least_distance
from shield.deadline import Method, tolerable_deadline
from shield.published import RINGS
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

CAP_S = 2.0
RATIO, GRAIN_S = {Method.BARRIER: 0.01, Method.BACKUP: 0.02}, 1e-3
"""What counts as tight: within the ratio or the grain of what the other side found."""

Scene = tuple[float, float | None, list[Disc]]
"""Held slip angle [rad], measured speed [m/s] or None, discs; the vehicle stands at the origin, heading +x."""


def scenes(vehicle: Vehicle, count: int, discs: int, seed: int, *, speed_known: bool = False) -> list[Scene]:
    """Return random scenes: any slip angle, discs of any size that do not touch the vehicle, most of them ahead."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        beta = float(rng.uniform(-1.0, 1.0)) * vehicle.beta_max_rad
        speed = float(rng.uniform(0.0, vehicle.v_max_mps)) if speed_known else None
        radius = rng.uniform(0.5, 5.0, discs)
        gap = rng.uniform(0.1, CAP_S * vehicle.v_max_mps, discs)
        bearing = np.where(rng.random(discs) < 0.7, rng.normal(beta, 0.5, discs), rng.uniform(-math.pi, math.pi, discs))
        x, y = (radius + gap) * np.cos(bearing), (radius + gap) * np.sin(bearing)
        found.append((beta, speed, [Disc(*map(float, disc)) for disc in zip(x, y, radius, strict=True)]))
    return found


def compare(method: Method, pairs: Iterable[tuple[float, float]]) -> dict[str, Any]:
    """Sum up pairs (deadline, what the other side found) [s]; both at the cap count as nothing compared."""
    limited = [(ours, other) for ours, other in pairs if min(ours, other) < CAP_S * (1.0 - 1e-9)]
    losses = [max(0.0, other - ours) for ours, other in limited]
    loose = [
        loss for loss, (_, other) in zip(losses, limited, strict=True) if loss > max(GRAIN_S, RATIO[method] * other)
    ]
    return {
        "compared": len(limited),
        "tight": len(limited) - len(loose),
        "worst_loss_ms": 1e3 * max(losses, default=0.0),
        "mean_loss_ms": 1e3 * sum(losses) / max(1, len(losses)),
        "furthest_beyond_ms": 1e3 * max((ours - other for ours, other in limited), default=0.0),
    }


def barrier_tightness(vehicle: Vehicle, count: int, seed: int) -> dict[str, Any]:
    """Compare the barrier's deadline with the stepped arc, one disc of radius r_bar."""
    barrier = vehicle.barrier
    assert barrier is not None
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        beta, xi = float(rng.uniform(-1.0, 1.0)) * vehicle.beta_max_rad, float(rng.uniform(-math.pi, math.pi))
        r = float(least_distance(barrier, xi)) + float(rng.uniform(0.01, CAP_S * vehicle.v_max_mps))
        disc = Disc(-r * math.cos(xi), -r * math.sin(xi), barrier.r_bar_m)
        ours = tolerable_deadline(Method.BARRIER, vehicle, State(0.0, 0.0, 0.0, beta), [disc], CAP_S)
        cap_m = CAP_S * vehicle.v_max_mps
        place = np.array([disc.x_m, disc.y_m])
        other = barrier_exit(vehicle.l_r_m, barrier.r_bar_m, barrier.sigma, beta, place, cap_m)
        # The first grain with h < 0 is up to one grain too far.
        pairs.append((ours.deadline_s, other / vehicle.v_max_mps))
    return compare(Method.BARRIER, pairs)


def backup_tightness(vehicle: Vehicle, questions: list[Scene]) -> dict[str, Any]:
    """Compare the backup deadline with the dense search."""
    pairs = []
    begun = time.perf_counter()
    search = Search(vehicle.l_r_m, vehicle.beta_max_rad, vehicle.v_max_mps, vehicle.deceleration_mps2)
    for beta, speed, discs in questions:
        state = State(0.0, 0.0, 0.0, beta, speed)
        ours = tolerable_deadline(Method.BACKUP, vehicle, state, discs, CAP_S)
        reach_m = way_m(vehicle, speed, CAP_S)
        if speed is not None:
            search = replace(search, start_mps=speed, a_max=vehicle.a_max_mps2 or 0.0)
        rows = np.array([(disc.x_m, disc.y_m, disc.radius_m + vehicle.radius_m) for disc in discs])
        other_m = search.exit(beta, rows, reach_m, ours.distance_m)
        # Where the search ends, its cap does.
        other_s = CAP_S if other_m >= reach_m else time_s(vehicle, speed, other_m)
        pairs.append((ours.deadline_s, min(CAP_S, other_s)))
    return compare(Method.BACKUP, pairs) | {"search_s": round(time.perf_counter() - begun, 1)}


def way_m(vehicle: Vehicle, speed: float | None, time_s: float) -> float:
    """Return the most arc driven in a time [m], in steps of a tenth of a millisecond."""
    if speed is None or vehicle.a_max_mps2 is None:
        return vehicle.v_max_mps * time_s
    moments = np.linspace(0.0, time_s, round(time_s / 1e-4) + 1)
    speeds = np.minimum(vehicle.v_max_mps, speed + vehicle.a_max_mps2 * moments)
    return float(np.sum(0.5 * (speeds[1:] + speeds[:-1]) * np.diff(moments)))


def time_s(vehicle: Vehicle, speed: float | None, distance_m: float) -> float:
    """Return the least time in which a distance can be driven [s], by bisection."""
    low, high = 0.0, CAP_S
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if way_m(vehicle, speed, middle) < distance_m else (low, middle)
    return high


def table_means(vehicle: Vehicle, count: int, seed: int) -> dict[str, Any]:
    """Return mean deadlines [ms] at `count` random states (xi, beta) of each ring, and the ratios of the means."""
    barrier = vehicle.barrier
    assert barrier is not None
    rng = np.random.default_rng(seed)
    means: dict[str, Any] = {}
    sums = dict.fromkeys(Method, 0.0)
    for ring in RINGS:
        of_ring = dict.fromkeys(Method, 0.0)
        for _ in range(count):
            xi, beta = float(rng.uniform(-math.pi, math.pi)), float(rng.uniform(-1.0, 1.0)) * vehicle.beta_max_rad
            # A nanometre outside the ring's edge, where its table is the one that counts.
            r = float(least_distance(barrier, xi)) + ring.offset_m + 1e-9
            disc = Disc(-r * math.cos(xi), -r * math.sin(xi), barrier.r_bar_m)
            for method in Method:
                found = tolerable_deadline(method, vehicle, State(0.0, 0.0, 0.0, beta), [disc], CAP_S)
                of_ring[method] += 1e3 * found.deadline_s / count
        means[f"{ring.offset_m:g} m"] = [round(of_ring[method], 1) for method in Method]
        for method in Method:
            sums[method] += of_ring[method] / len(RINGS)
    ratios = {f"{method}_ratio": sums[method] / sums[Method.PUBLISHED] for method in (Method.BARRIER, Method.BACKUP)}
    return {f"{method}_ms": mean for method, mean in sums.items()} | ratios | {"states": count * len(RINGS)} | means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=100, help="scenes per dense search")
    parser.add_argument("--table", type=int, default=600, help="states per ring of the published table")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    where = machine("headway", "numpy")
    results: dict[str, dict[str, Any]] = {}

    def report(name: str, figures: dict[str, Any]) -> None:
        results[name] = figures
        print(line(name, figures), flush=True)

    print(where)
    print(f"cap {CAP_S:g} s, grain of the search {1e3 * GRAIN_M:g} mm")
    shipped = [load_vehicle(name) for name in ("config1", "config2")]
    for vehicle in shipped:
        report(f"{vehicle.name}, table's states", table_means(vehicle, options.table, 1))
        report(f"{vehicle.name}, barrier", barrier_tightness(vehicle, 20 * options.states, 2))
    for vehicle in shipped:
        for discs in (1, 2, 4, 8):
            questions = scenes(vehicle, options.states, discs, 10 + discs)
            report(f"{vehicle.name}, backup, {discs} disc(s)", backup_tightness(vehicle, questions))
    braked = replace(shipped[0], deceleration_mps2=6.0)
    driven = replace(braked, a_max_mps2=4.0)
    for discs in (1, 4):
        questions = scenes(braked, options.states, discs, 30 + discs)
        report(f"config1 with brakes, backup, {discs} disc(s)", backup_tightness(braked, questions))
        questions = scenes(driven, options.states, discs, 40 + discs, speed_known=True)
        report(f"the same, speed measured, {discs} disc(s)", backup_tightness(driven, questions))
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
