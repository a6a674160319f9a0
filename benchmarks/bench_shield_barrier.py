"""The barrier deadline: how fast, how tight against a dense walk, how much longer than the published table.

Run: python benchmarks/bench_shield_barrier.py [--states N] [--json FILE]

Configuration 2, `states` random states at each offset of the published table. The dense walk looks at h every 0.2 mm of
the held arc and takes the first place where it is negative. Deadlines are capped at 2 s as in the comparison with the
published table, whose states these are.
"""

import argparse
import json
import math
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shield.arc import advance
from shield.barrier import barrier_deadline, barrier_of, barrier_value, least_distance
from shield.deadline import Method, tolerable_deadline
from shield.published import RINGS, published_deadline
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

CAP_S = 2.0
GRID_M = 2e-4
DISC = Disc(0.0, 0.0, 4.0)


def spread_us(samples_s: list[float], cpu_s: list[float]) -> dict[str, float]:
    """Return p50, p99 and max by the clock, and p50 of processor time, in us."""
    p50, p99 = np.percentile(samples_s, [50, 99], method="inverted_cdf") * 1e6
    figures = {"p50_us": p50, "p99_us": p99, "max_us": max(samples_s) * 1e6, "cpu_p50_us": np.median(cpu_s) * 1e6}
    return {name: round(float(value), 1) for name, value in figures.items()}


def dense_deadline_s(vehicle: Vehicle, state: State, distances: npt.NDArray[np.float64]) -> float:
    """Return the time to the first grid point with h < 0, at most the cap."""
    x, y, heading = advance(state.x_m, state.y_m, state.heading_rad, state.beta_rad, vehicle.l_r_m, distances)
    xi = (np.arctan2(y, x) - heading + math.pi) % (2.0 * math.pi) - math.pi
    below = np.flatnonzero(barrier_value(barrier_of(vehicle), np.hypot(x, y), xi) < 0.0)
    return CAP_S if below.size == 0 else float(distances[below[0]]) / vehicle.v_max_mps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--states", type=int, default=600)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    vehicle, rng = load_vehicle("config2"), np.random.default_rng(1)
    distances = np.arange(0.0, CAP_S * vehicle.v_max_mps, GRID_M)
    grid_s = GRID_M / vehicle.v_max_mps
    times: list[float] = []
    cpu: list[float] = []
    rings: dict[str, Any] = {}
    longest_early_s = longest_late_s = 0.0
    for ring in RINGS:
        xi = rng.uniform(-math.pi, math.pi, arguments.states)
        beta = rng.uniform(-1.0, 1.0, arguments.states) * vehicle.beta_max_rad
        r = least_distance(barrier_of(vehicle), xi) + ring.offset_m + 1e-9
        found: dict[str, list[float]] = {"published": [], "barrier": [], "backup": []}
        for r_i, xi_i, beta_i in zip(r.tolist(), xi.tolist(), beta.tolist(), strict=True):
            state = State(r_i * math.cos(xi_i), r_i * math.sin(xi_i), 0.0, beta_i)
            began, began_cpu = time.perf_counter(), time.thread_time()
            barrier_s = barrier_deadline(vehicle, state, [DISC], CAP_S).deadline_s
            times.append(time.perf_counter() - began)
            cpu.append(time.thread_time() - began_cpu)
            dense_s = dense_deadline_s(vehicle, state, distances)
            longest_early_s = max(longest_early_s, dense_s - barrier_s)
            longest_late_s = max(longest_late_s, barrier_s - dense_s)
            found["barrier"].append(barrier_s)
            found["published"].append(published_deadline(vehicle, state, [DISC], CAP_S).deadline_s)
            found["backup"].append(tolerable_deadline(Method.BACKUP, vehicle, state, [DISC], CAP_S).deadline_s)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        rings[f"{ring.offset_m:g} m"] = {
            **{f"{name}_mean_ms": round(mean * 1e3, 1) for name, mean in means.items()},
            "barrier_over_published": round(means["barrier"] / means["published"], 1),
            "backup_over_published": round(means["backup"] / means["published"], 1),
        }
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "numpy": version("numpy"),
        "states": arguments.states * len(RINGS),
        "barrier": spread_us(times, cpu),
        "early_by_at_most_ms": round(longest_early_s * 1e3, 4),
        "late_by_at_most_ms": round(longest_late_s * 1e3, 4),
        "grid_ms": round(grid_s * 1e3, 4),
        "rings": rings,
    }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
