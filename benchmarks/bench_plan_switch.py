"""Plans over a link that changes: a real daemon, a real edge server, a declared trace, a server that freezes.

Run: PYTHONPATH=. python benchmarks/bench_plan_switch.py [--plot FILE.png] [--json FILE]        (45 s)

The driving package's segments are timed here, alone. The planner places them on this board and an edge server (this
machine again, behind an emulated link); local energy is the published one of a full local run, by the segments' shares
of multiply-accumulates, radio energy that of the published wifi at 20 Mbit/s. The daemon runs whichever plan is the
cheapest that keeps the deadline, while a client asks for the last exit 20 times a second. Times are the client's.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from machine import keep, line, machine, spread

import carla_bridge
import headway
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package, load_package
from offload.radio import MEGABIT, load_radio
from runtime.config import OffloadSection
from runtime.plan.file import write_problem
from runtime.plan.graphs import ANSWER, INPUT, package_graph
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Cost, Device, Edge, Link, Model, Problem, Segment
from runtime.serve.uplink import local_run_j

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
FRAME = np.random.default_rng(1).integers(0, 255, (1, 80, 160, 3), dtype=np.uint8)
DEADLINE_S = 0.12
PERIOD_S = 0.05
LENGTH_S = 42.0
PHASES = ((0.0, 20.0), (8.0, 2.0), (16.0, 20.0), (24.0, 0.05), (30.0, 20.0))  # start [s], rate [Mbit/s]
FROZEN_S = (38.0, 40.0)
RTT_MS = 6.0
COMMAND = (sys.executable, "-P", "-m", "runtime.cli.main")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when [s since the link began], how long it took [s], what answered."""

    at_s: float
    took_s: float
    exit_id: str
    devices: frozenset[str]
    in_force: str


def times_s(package: Package, runs: int = 60) -> dict[str, tuple[float, float]]:
    """Return median and 99th percentile of each segment alone [s]."""
    backend, found = OnnxRuntimeBackend("cpu"), {}
    for segment in package.segments:
        chain = Chain(package, backend, [segment.id])
        inputs: dict[str, Any] = {
            spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
            for spec in segment.inputs
        }
        taken = sorted(chain.run(inputs).elapsed_s for _ in range(runs))
        found[segment.id] = (taken[runs // 2], taken[-1])
    return found


def problem(package: Package) -> Problem:
    """Return the problem: this board and an edge server behind a wifi link."""
    graph, measured = package_graph(package, 1), times_s(package)
    run_j, every = local_run_j(OffloadSection()), sum(graph.macs.values())
    radio_bps = 20.0 * MEGABIT
    here = {"cpu": Cost(0.0), "edge": None}
    segments = [Segment(INPUT, here)]
    for name in graph.segments:
        p50_s, p99_s = measured[name]
        costs = {"cpu": Cost(p50_s, p99_s, run_j * graph.macs[name] / every), "edge": Cost(p50_s, p99_s)}
        segments.append(Segment(name, costs))
    segments.append(Segment(ANSWER, here))
    edges = (Edge(INPUT, ("trunk1",), FRAME.nbytes), *graph.edges, Edge("exit3", (ANSWER,), 24))
    up_j = load_radio("wifi").up_w(radio_bps) / radio_bps * 8.0
    links = (
        Link("cpu", "edge", RTT_MS / 2e3, radio_bps, j_per_byte=up_j, channel="wifi", both_ways=False),
        Link("edge", "cpu", RTT_MS / 2e3, both_ways=False),
    )
    model = Model("driving", tuple(segments), edges, deadline_s=DEADLINE_S)
    return Problem("driving over a link", (Device("cpu"), Device("edge")), (model,), links)


def prepare(folder: Path, endpoint: str) -> list[tuple[str, float, float]]:
    """Write plans, link and configuration; return each plan's placement, p99 [ms] and energy [mJ]."""
    (folder / "plans").mkdir()
    given = problem(load_package(PACKAGE))
    write_problem(given, folder / "plans" / "problem.json")
    made = plan_problem(given, Options("exact", time_limit_s=10.0)).plans
    rows = []
    for number, plan in enumerate(made, 1):
        plan.write(folder / "plans" / f"plan{number}.json")
        away = [name for name, device in plan.placement["driving"].items() if device == "edge"]
        where = "all here" if not away else "all at the edge" if "trunk1" in away else f"edge from {away[0]} on"
        rows.append((where, plan.latency_p99_ms, plan.energy_mj))
    trace = [f"{at_s},{rate},{RTT_MS}" for at_s, rate in (*PHASES, (120.0, PHASES[-1][1]))]
    (folder / "trace.csv").write_text("\n".join(["time_s,rate_mbps,rtt_ms", *trace]) + "\n")
    (folder / "link.toml").write_text('trace = "trace.csv"\n')
    (folder / "headway.toml").write_text(
        f"[serve]\nsocket = {json.dumps(str(folder / 'd.sock'))}\npackages = [{json.dumps(str(PACKAGE))}]\n"
        f"plans = {json.dumps(str(folder / 'plans'))}\n[plans]\nedges = {{ edge = {json.dumps(endpoint)} }}\n"
        f"[offload]\nlink = {json.dumps(str(folder / 'link.toml'))}\n"
    )
    return rows


def ask(client: headway.Client, origin_s: float, edge: "subprocess.Popen[str]") -> list[Asked]:
    """Ask until the trace is over; freeze the server in its time."""
    found: list[Asked] = []
    frozen = False
    next_s, look_s, in_force = time.monotonic(), 0.0, ""
    while (now_s := time.monotonic()) - origin_s < LENGTH_S:
        if (FROZEN_S[0] <= now_s - origin_s < FROZEN_S[1]) is not frozen:
            frozen = not frozen
            edge.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)
        if now_s >= look_s:
            in_force, look_s = client.status()["plan"]["in_force"], now_s + 0.2
        began_s = time.monotonic()
        try:
            answer = client.infer("driving", {"frame": FRAME}, deadline_s=DEADLINE_S, least_exit="exit3")
            exit_id, devices = answer.exit_id, frozenset(part["device"] for part in answer.parts)
        except headway.RequestError as error:
            exit_id, devices = str(error).split(":")[0], frozenset[str]()
        found.append(Asked(began_s - origin_s, time.monotonic() - began_s, exit_id, devices, in_force))
        next_s = max(next_s + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
    return found


def told(asked: list[Asked]) -> dict[str, Any]:
    """Return the figures of some requests."""
    late = sum(item.took_s > DEADLINE_S for item in asked)
    answered = [item for item in asked if item.devices]
    where = Counter("edge" if "edge" in item.devices else "here" for item in answered)
    return {
        "requests": len(asked),
        "in_time_pct": 100.0 * (len(asked) - late) / max(1, len(asked)),
        "answered_pct": 100.0 * len(answered) / max(1, len(asked)),
        "edge": where["edge"],
        "here": where["here"],
        **spread([item.took_s for item in asked] or [0.0]),
    }


def run(folder: Path) -> tuple[list[tuple[str, float, float]], list[Asked], list[dict[str, Any]]]:
    """Run server, daemon and client; return the plans, the requests, the switches."""
    edge = subprocess.Popen([*COMMAND, "edge", "--package", str(PACKAGE)], stdout=subprocess.PIPE, text=True)
    daemon = None
    try:
        assert edge.stdout is not None
        rows = prepare(folder, json.loads(edge.stdout.readline())["endpoint"])
        daemon = subprocess.Popen([*COMMAND, "serve", "--config", str(folder / "headway.toml")])
        while True:
            try:
                client = headway.Client(folder / "d.sock", timeout_s=5.0)
                if client.status()["ready"]:
                    break
                client.close()
            except headway.HeadwayError:
                time.sleep(0.05)
        with client:
            origin_s = time.monotonic() - client.status()["uptime_s"]
            asked = ask(client, origin_s, edge)
            plans = client.plans() or {}
            now_s = time.monotonic() - origin_s
            switches = [{**each, "at_s": now_s - each["ago_s"]} for each in plans["last_switches"]]
        return rows, asked, switches
    finally:
        for process in (daemon, edge):
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait()
        lock = folder / "headway-guard.sock.lock"
        if lock.exists():
            subprocess.run(["kill", lock.read_text().strip()], check=False)


def draw(path: Path, asked: list[Asked], switches: list[dict[str, Any]], where: dict[str, str]) -> None:
    """Draw rate, latencies and the plan in force over time; `where` tells each plan's placement."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (top, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.6), height_ratios=(1, 2.2))
    starts = [at_s for at_s, _ in PHASES]
    top.step([*starts, LENGTH_S], [rate for _, rate in PHASES] + [PHASES[-1][1]], where="post", color="0.3")
    top.axvspan(*FROZEN_S, color="0.8", lw=0)
    top.text(sum(FROZEN_S) / 2, 10, "server\nfrozen", ha="center", va="center", fontsize=8)
    top.set_ylabel("link [Mbit/s]")
    top.set_ylim(0, 24)
    shades = dict(zip(sorted(where), ("#f3dfc8", "#d6e8d2", "#d3e0f0", "#e6d8ee"), strict=False))
    ends = [each["at_s"] for each in switches[1:]] + [LENGTH_S]
    for each, end_s in zip(switches, ends, strict=True):
        shade = shades.get(each["to"], "0.93")
        below.axvspan(max(each["at_s"], asked[0].at_s), end_s, color=shade, lw=0)
    for name, shade in shades.items():
        below.plot([], [], "s", ms=9, color=shade, label=f"{name} in force: {where[name]}")
    for label, colour, chosen in (
        ("answered with the edge server", "tab:blue", [i for i in asked if "edge" in i.devices]),
        ("answered here", "tab:green", [i for i in asked if i.devices and "edge" not in i.devices]),
        ("no answer", "tab:red", [i for i in asked if not i.devices]),
    ):
        if chosen:
            below.plot([i.at_s for i in chosen], [1e3 * i.took_s for i in chosen], ".", ms=4, color=colour, label=label)
    below.axhline(1e3 * DEADLINE_S, color="k", lw=0.8, ls="--", label="deadline")
    below.set_ylim(0, 1.25e3 * DEADLINE_S)
    below.set_xlim(asked[0].at_s, LENGTH_S)
    below.set_ylabel("answer at the client [ms]")
    below.set_xlabel("time [s]")
    figure.legend(*below.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0.0, 0.1, 1.0, 1.0))
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine("onnxruntime", "pyzmq", "ortools")
    print(json.dumps(where))
    with tempfile.TemporaryDirectory() as folder:
        rows, asked, switches = run(Path(folder))
    for number, (away, p99_ms, energy_mj) in enumerate(rows, 1):
        print(line(f"plan{number}: {away}", {"planned_p99_ms": p99_ms, "energy_mj": energy_mj}))
    results: dict[str, Any] = {}
    ends = [at_s for at_s, _ in PHASES[1:]] + [FROZEN_S[0]]
    spans = [(f"{rate:g} Mbit/s", at_s, end_s) for (at_s, rate), end_s in zip(PHASES, ends, strict=True)]
    spans += [("server frozen", *FROZEN_S), ("server back", FROZEN_S[1], LENGTH_S), ("altogether", 0.0, LENGTH_S)]
    for name, begin_s, end_s in spans:
        label = f"{begin_s:g} to {end_s:g} s, {name}"
        results[label] = told([item for item in asked if begin_s <= item.at_s < end_s])
        print(line(label, results[label]))
    for each in switches:
        print(f"{each['at_s']:6.2f} s  {each['why']}")
    results["switches"] = switches
    results["requests"] = [
        msgspec.to_builtins({"at_s": i.at_s, "took_s": i.took_s, "exit": i.exit_id, "plan": i.in_force}) for i in asked
    ]
    keep(arguments.json, where, results)
    if arguments.plot is not None:
        names = {f"plan{number}": away for number, (away, _, _) in enumerate(rows, 1)}
        draw(arguments.plot, asked, switches, names)


if __name__ == "__main__":
    main()
