"""Speed and tightness of the backup deadline.

Speed: single queries with 1, 4 and 64 static discs (a field out to 40 m or 100 m around the vehicle), with one moving
disc, and the batch. Tightness: the distance against a dense search over the same manoeuvres, run beside it: every cm
of the held arc, every manoeuvre sampled, every turn angle of a grid.

    python benchmarks/bench_shield_backup.py [--states N] [--dense N] [--json FILE]
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shield.backup.batch import backup_deadlines
from shield.deadline import Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

CAP_S = 10.0
STEP_M = 0.01
Scene = tuple[State, list[Disc]]


def scenes(
    vehicle: Vehicle, count: int, discs: int, reach_m: float, seed: int, speed: float = 0.0, spread_rad: float = math.pi
) -> list[Scene]:
    """Return random states with discs within `spread_rad` of straight ahead.

    All round, any slip angle is held; with the discs ahead, a tenth of it, so that the vehicle drives at them.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        radius = rng.uniform(0.3, 2.0, discs) if discs > 1 else np.array([4.0])
        # Uniform over the area, clear of the vehicle.
        distance = np.sqrt(rng.uniform((radius + 0.3) ** 2, reach_m**2))
        bearing = rng.uniform(-spread_rad, spread_rad, discs)
        x, y = distance * np.cos(bearing), distance * np.sin(bearing)
        share = 1.0 if spread_rad == math.pi else 0.1
        beta = share * float(rng.uniform(-1.0, 1.0)) * vehicle.beta_max_rad
        obstacles = [Disc(float(a), float(b), float(r), speed) for a, b, r in zip(x, y, radius, strict=True)]
        found.append((State(0.0, 0.0, 0.0, beta), obstacles))
    return found


def percentiles(times_s: list[float]) -> dict[str, float]:
    ordered = sorted(times_s)
    return {
        "p50_us": 1e6 * ordered[len(ordered) // 2],
        "p99_us": 1e6 * ordered[int(0.99 * len(ordered))],
        "max_us": 1e6 * ordered[-1],
    }


def time_queries(vehicle: Vehicle, questions: list[Scene]) -> dict[str, float]:
    """Return the processor time of a query, so that a busy machine does not count, and the share below the cap."""
    times, limited = [], 0
    for state, obstacles in questions[:20] + questions:
        begin = time.thread_time()
        answer = tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, CAP_S)
        times.append(time.thread_time() - begin)
        limited += answer.limited_by != "cap"
    return percentiles(times[20:]) | {"queries": len(questions), "limited": limited / len(times)}


def time_batch(vehicle: Vehicle, pairs: int, discs: int) -> dict[str, float]:
    """Return state-obstacle pairs per second of processor time, one core."""
    rng = np.random.default_rng(7)
    count = pairs // discs
    beta = rng.uniform(-1.0, 1.0, count) * vehicle.beta_max_rad
    distance, bearing = rng.uniform(4.5, 40.0, (count, discs)), rng.uniform(-math.pi, math.pi, (count, discs))
    x, y = distance * np.cos(bearing), distance * np.sin(bearing)
    radius = np.full((count, discs), 4.0) if discs == 1 else rng.uniform(0.3, 2.0, (count, discs))
    begin = time.process_time()
    backup_deadlines(vehicle, 0.0, 0.0, 0.0, beta, x, y, radius, CAP_S)
    return {"pairs_per_s": count * discs / (time.process_time() - begin), "pairs": count * discs}


def dense_distance(vehicle: Vehicle, state: State, obstacles: list[Disc], cap_m: float, step: float = STEP_M) -> float:
    """Return the first place, in steps, that is hit or from which no manoeuvre of the family is clear."""
    clear_at = dense_rule(vehicle, obstacles)
    kappa = math.sin(state.beta_rad) / vehicle.l_r_m
    for i in range(math.ceil(cap_m / step)):
        if not clear_at(*pose_after(state.beta_rad, kappa, i * step)):
            return i * step
    return cap_m


def pose_after(beta: float, kappa: float, s: float) -> tuple[float, float, float]:
    chord = s * float(np.sinc(0.5 * kappa * s / math.pi))
    direction = beta + 0.5 * kappa * s
    return chord * math.cos(direction), chord * math.sin(direction), kappa * s


def dense_rule(vehicle: Vehicle, obstacles: list[Disc]) -> Callable[[float, float, float], bool]:
    """Return whether a pose touches nothing and some manoeuvre, sampled, clears every disc."""
    spots = np.array([(disc.x_m, disc.y_m, disc.radius_m) for disc in obstacles])
    rho, slip, l_r = vehicle.rho_m, vehicle.beta_max_rad, vehicle.l_r_m
    turn = np.linspace(0.0, 2.0 * math.pi, 4001)
    px = -l_r + rho * np.cos(turn + slip - 0.5 * math.pi)
    py = vehicle.rho_rear_m + rho * np.sin(turn + slip - 0.5 * math.pi)
    braking = None if vehicle.deceleration_mps2 is None else vehicle.v_max_mps**2 / (2.0 * vehicle.deceleration_mps2)

    def clear(x: float, y: float, heading: float) -> bool:
        cosine, sine = math.cos(heading), math.sin(heading)
        ex = cosine * (spots[:, 0] - x) + sine * (spots[:, 1] - y)
        ey = cosine * (spots[:, 1] - y) - sine * (spots[:, 0] - x)
        radius = spots[:, 2]
        if (np.hypot(ex, ey) < radius).any():
            return False
        if (np.hypot(np.minimum(ex, 0.0), ey) >= radius).all():
            return True
        if braking is not None and (np.hypot(ex - np.clip(ex, 0.0, braking), ey) >= radius).all():
            return True
        for side in (1.0, -1.0):
            # Only what is near the circle can be met on it.
            safe = (np.hypot(px[:, None] - ex, py[:, None] - side * ey) >= radius).all(axis=1)
            if safe.all():
                return True
            so_far = int(safe.argmin())
            if braking is not None and so_far * (turn[1] * rho) > braking:
                return True
            ux, uy = np.cos(turn[:so_far, None]), np.sin(turn[:so_far, None])
            ax, ay = ex - px[:so_far, None], side * ey - py[:so_far, None]
            away = np.hypot(np.minimum(ax * ux + ay * uy, 0.0), ay * ux - ax * uy)
            if (away >= radius).all(axis=1).any():
                return True
        return False

    return clear


def tightness(vehicle: Vehicle, questions: list[Scene], cap_s: float) -> dict[str, float]:
    """Return how much further the dense search goes, over the questions that the cap does not limit."""
    loose, longer, compared = [], 0.0, 0
    for state, obstacles in questions:
        ours = tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s)
        dense = dense_distance(vehicle, state, obstacles, cap_s * vehicle.v_max_mps)
        if ours.limited_by == "cap":
            continue
        compared += 1
        # The search's step is its own resolution, not ours; so is a turn angle between two of its grid.
        loose.append(max(0.0, dense - STEP_M - ours.distance_m) / vehicle.v_max_mps)
        longer = max(longer, (ours.distance_m - dense) / vehicle.v_max_mps)
    return {
        "compared": compared,
        "worst_loss_ms": 1e3 * max(loose, default=0.0),
        "mean_loss_ms": 1e3 * sum(loose) / max(1, len(loose)),
        "furthest_beyond_search_ms": 1e3 * longer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=2000)
    parser.add_argument("--dense", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    )
    results: dict[str, dict[str, float]] = {}

    def report(name: str, figures: dict[str, float]) -> None:
        results[name] = figures
        print(f"{name:44s}" + "  ".join(f"{key} {value:.4g}" for key, value in figures.items()))

    print(machine)
    for name in ("config1", "config2"):
        vehicle = load_vehicle(name)
        few = max(20, options.states // 5)
        report(f"{name}, 1 disc", time_queries(vehicle, scenes(vehicle, options.states, 1, 40.0, 1)))
        report(f"{name}, 4 discs within 40 m", time_queries(vehicle, scenes(vehicle, few, 4, 40.0, 4)))
        report(f"{name}, 64 discs within 100 m", time_queries(vehicle, scenes(vehicle, few, 64, 100.0, 64)))
        report(f"{name}, 64 discs within 40 m", time_queries(vehicle, scenes(vehicle, few, 64, 40.0, 65)))
        report(f"{name}, batch of 1 disc", time_batch(vehicle, 400_000, 1))
        report(f"{name}, batch of 8 discs", time_batch(vehicle, 400_000, 8))
        report(
            f"{name}, tightness, 1 disc", tightness(vehicle, scenes(vehicle, options.dense, 1, 25.0, 11, 0.0, 0.3), 3.0)
        )
        report(
            f"{name}, tightness, 4 discs",
            tightness(vehicle, scenes(vehicle, options.dense, 4, 25.0, 14, 0.0, 0.8), 3.0),
        )
    braked = replace(load_vehicle("config1"), deceleration_mps2=6.0)
    report("config1 + brakes, 1 disc", time_queries(braked, scenes(braked, options.states, 1, 40.0, 1)))
    report("config1 + brakes, 1 moving disc", time_queries(braked, scenes(braked, 40, 1, 40.0, 2, speed=1.0)))
    car = load_vehicle("passenger_car")
    report(
        "passenger_car, 1 disc",
        time_queries(car, [(replace(s, beta_rad=0.01), o) for s, o in scenes(car, 40, 1, 80.0, 3)]),
    )
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
