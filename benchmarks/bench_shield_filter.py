"""Our control filter beside cbfpy's safety filter: the same vehicle, barrier, condition and states.

Run: python benchmarks/bench_shield_filter.py [--calls N] [--rival-venv DIR] [--json FILE]

cbfpy 0.1.0 is installed into a virtual environment of its own (a temporary one unless --rival-venv names where to keep
it) and called there in a loop, so that the two cannot disturb each other's packages. It solves the quadratic program
over u = (cos beta, sin beta), in which dh/dt is affine, so it drops the unit circle that makes our answer exact: its
call is the cheaper problem. Ours is timed bare and with the check that what it admits lasts 20 ms. cpu_p50 and cpu_p99
are processor time, which other processes on the machine disturb less.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from shield.barrier import least_distance
from shield.filter import Status, filter_slip
from shield.state import Disc, State
from shield.vehicle import load_vehicle

RIVAL = "cbfpy==0.1.0"

RIVAL_SCRIPT = """
import json, sys, time
import jax
import jax.numpy as jnp
import numpy as np
from cbfpy import CBF, CBFConfig

vehicle, states = (lambda table: (table["vehicle"], np.array(table["states"])))(json.load(sys.stdin))
SIGMA, R_BAR, L_R, V, K = (vehicle[name] for name in ("sigma", "r_bar", "l_r", "v_max", "k"))


class Barrier(CBFConfig):
    def __init__(self):
        super().__init__(n=2, m=2, u_min=jnp.array([-1.0, -1.0]), u_max=jnp.array([1.0, 1.0]))

    def f(self, z):
        return jnp.zeros(2)

    def g(self, z):
        r, xi = z
        return V * jnp.array([[jnp.cos(xi), jnp.sin(xi)], [-jnp.sin(xi) / r, jnp.cos(xi) / r - 1.0 / L_R]])

    def h_1(self, z):
        r, xi = z
        return jnp.array([(SIGMA * jnp.cos(xi / 2) + 1 - SIGMA) / R_BAR - 1 / r])

    def alpha(self, h):
        return K * V * h


began = time.perf_counter()
cbf = CBF.from_config(Barrier())
call = jax.jit(cbf.safety_filter)
call(jnp.array(states[0, :2]), jnp.array([1.0, 0.0])).block_until_ready()
first_s = time.perf_counter() - began
inputs = [(np.asarray(s[:2]), np.array([np.cos(s[2]), np.sin(s[2])])) for s in states]
times, cpu = [], []
for z, u in inputs:
    t, c = time.perf_counter(), time.process_time()
    call(z, u).block_until_ready()
    times.append(time.perf_counter() - t)
    cpu.append(time.process_time() - c)
print(json.dumps({"first_call_s": first_s, "times_s": times, "cpu_s": cpu, "jax": jax.__version__}))
"""


def spread_us(samples_s: list[float], cpu_s: list[float]) -> dict[str, float]:
    """Return p50, p99 and max by the clock, and p50 and p99 of processor time, in us."""
    p50, p99 = np.percentile(samples_s, [50, 99], method="inverted_cdf") * 1e6
    cpu50, cpu99 = np.percentile(cpu_s, [50, 99], method="inverted_cdf") * 1e6
    figures = {"p50_us": p50, "p99_us": p99, "max_us": max(samples_s) * 1e6, "cpu_p50_us": cpu50, "cpu_p99_us": cpu99}
    return {name: round(float(value), 1) for name, value in figures.items()}


def states_of(count: int, seed: int) -> list[tuple[float, float, float]]:
    """Return (r, xi, nominal slip angle) on and a little outside the barrier of configuration 2."""
    vehicle, rng = load_vehicle("config2"), np.random.default_rng(seed)
    if vehicle.barrier is None:
        raise ValueError("config2 has a barrier")
    xi = rng.uniform(-math.pi, math.pi, count)
    r = least_distance(vehicle.barrier, xi) + rng.uniform(0.0, 1.0, count)
    return list(zip(r.tolist(), xi.tolist(), rng.uniform(-0.46, 0.46, count).tolist(), strict=True))


def ours(states: list[tuple[float, float, float]], hold_s: float) -> dict[str, Any]:
    """Time our filter on every state."""
    vehicle, disc = load_vehicle("config2"), Disc(0.0, 0.0, 4.0)
    placed = [(State(r * math.cos(xi), r * math.sin(xi), 0.0), beta) for r, xi, beta in states]
    times, cpu, statuses = [], [], dict.fromkeys(map(str, Status), 0)
    for state, beta in placed:
        began, began_cpu = time.perf_counter(), time.thread_time()
        answer = filter_slip(vehicle, state, [disc], beta, hold_s)
        times.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - began_cpu)
        statuses[answer.status] += 1
    return {**spread_us(times, cpu), "answers": statuses}


def rival(states: list[tuple[float, float, float]], folder: Path) -> dict[str, Any]:
    """Time cbfpy on every state, in its own environment."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", RIVAL], check=True)
    table = {"sigma": 0.48, "r_bar": 4.0, "l_r": 2.0, "v_max": 20.0, "k": 3.06}
    question = json.dumps({"vehicle": table, "states": states})
    found = subprocess.run([python, "-c", RIVAL_SCRIPT], input=question, capture_output=True, text=True, check=True)
    answer = json.loads(found.stdout)
    return {
        **spread_us(answer["times_s"], answer["cpu_s"]),
        "first_call_s": round(answer["first_call_s"], 2),
        "jax": answer["jax"],
    }


def main() -> None:
    """Run both sides and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rival-venv", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    states = states_of(arguments.calls, seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.rival_venv or Path(temporary) / "venv"
        result: dict[str, Any] = {
            "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
            "python": sys.version.split()[0],
            "numpy": version("numpy"),
            "rival": RIVAL,
            "calls": arguments.calls,
            "ours": ours(states, 0.0),
            "cbfpy": rival(states, folder),
            "ours, again, lasting 20 ms": ours(states, 0.02),
        }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
