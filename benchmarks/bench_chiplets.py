"""Packages of chiplets compared: one dataflow, two, and one large chip; SCAR's kind of mixes and a car's perception.

Run: PYTHONPATH=. python benchmarks/bench_chiplets.py [--quick] [--only NAME ..] [--json FILE]

centre, headset   every mix on all-ws, all-os and four mixed patterns, each scheduled by the same search with the same
                  effort; energy-delay product of the mixed packages against the better of the two of one dataflow.
                  free_choice: what a chiplet would gain over the better dataflow if it ran every layer, one after
                  another, in the dataflow of less product, at no cost of communication
car               frames a second of the perception pipeline on 36 chiplets of 256 elements against one of 9216
assumed           the same figures where an assumption is another: nine multipliers an element as in MAESTRO's samples,
                  half the energy of a multiply-accumulate; for the mixes also 6 x 6 chiplets, longer texts (384 tokens
                  for BERT, 1024 for GPT-2), a square output-stationary array

The figures are of an analytic model, not of hardware; its weight-stationary cycles are checked against MAESTRO's own
results, its output-stationary ones are not. What is assumed stands in docs/chiplets.md.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import keep, line, machine

from devices.chiplet.chip import E_MAC_J
from devices.chiplet.package import make_package
from devices.chiplet.stationary import layer_cost
from runtime.plan.chiplet.mix import Mix
from runtime.plan.chiplet.mixes import CAR_PES, CENTRE, CENTRE_PES, FROM_MEMORY, HEADSET, HEADSET_PES, car_mix, make_mix
from runtime.plan.chiplet.pipeline import pipeline_mix
from runtime.plan.chiplet.search import Effort, schedule_alone, schedule_mix

ONE, TWO = ("ws", "os"), ("checkerboard", "sides", "centre", "one")
QUICK = Effort(windows=1, steps=60)
GOAL_PCT, GOAL_TIMES = 25.0, 1.8
TEXTS = {"gpt2_large": 8, "bert_large": 3, "bert_base": 3}
"""How many times the 128 tokens of the tables longer texts have."""


def free_choice(mix: Mix, pes: int, **more: Any) -> float:
    """Return the reduction [%] of one chiplet's product if each layer took its better dataflow for nothing."""
    chips = [make_package(p, 1, 1, pes, **more).chiplets[0] for p in ONE]
    totals = {name: [0.0, 0.0] for name in (*ONE, "either")}
    for work in mix.works:
        for layer in work.layers:
            both = [(layer_cost(layer.batched(work.batch), c), c) for c in chips]
            costs = [(cost.time_s(c), cost.energy_j(c)) for cost, c in both]
            for name, cost in (*zip(ONE, costs, strict=True), ("either", min(costs, key=lambda c: c[0] * c[1]))):
                totals[name] = [total + part for total, part in zip(totals[name], cost, strict=True)]
    products = {name: time_s * energy_j for name, (time_s, energy_j) in totals.items()}
    return 100.0 * (1.0 - products["either"] / min(products[p] for p in ONE))


def longer(mix: Mix) -> Mix:
    """Return the mix with 384 tokens for BERT and 1024 for GPT-2 in place of 128."""
    works = [
        replace(work, layers=tuple(replace(layer, y=layer.y * TEXTS.get(work.name, 1)) for layer in work.layers))
        for work in mix.works
    ]
    return replace(mix, works=tuple(works))


def compare(
    mixes: dict[str, dict[str, int]],
    pes: int,
    effort: Effort,
    *,
    side: int = 3,
    change: Callable[[Mix], Mix] = lambda mix: mix,
    **more: Any,
) -> dict[str, Any]:
    """Return every mix's figures on every package of `side` x `side` chiplets, and the mean reductions."""
    rows: dict[str, Any] = {}
    for name, batches in mixes.items():
        mix = change(make_mix(name, batches))
        began = time.perf_counter()
        found = {p: schedule_mix(make_package(p, side, side, pes, **more), mix, effort) for p in (*ONE, *TWO)}
        alone = [schedule_alone(make_package(f"monolithic-{p}", side, side, pes, **more), mix).edp_js for p in ONE]
        best = min(found[p].edp_js for p in ONE)
        row: dict[str, Any] = {f"{p}_uJs": 1e6 * found[p].edp_js for p in found}
        row |= {f"monolithic_{p}_uJs": 1e6 * edp for p, edp in zip(ONE, alone, strict=True)}
        row |= {f"{p}_less_pct": 100.0 * (1.0 - found[p].edp_js / best) for p in TWO}
        row["least_less_pct"] = max(row[f"{p}_less_pct"] for p in TWO)
        row["free_choice_less_pct"] = free_choice(mix, pes, **more)
        row["best_one"] = min(ONE, key=lambda p: found[p].edp_js)
        row["latency_ms"] = {p: 1e3 * s.latency_s for p, s in found.items()}
        row["energy_mj"] = {p: 1e3 * s.energy_j for p, s in found.items()}
        row["search_s"] = time.perf_counter() - began
        rows[name] = row
        shown = {k: v for k, v in row.items() if not isinstance(v, dict)}
        print(line(f"  {name}", shown), flush=True)
    means = {p: statistics.mean(row[f"{p}_less_pct"] for row in rows.values()) for p in TWO}
    figures = {f"{p}_mean_less_pct": mean for p, mean in means.items()}
    figures["a_pattern_for_each_mix_pct"] = statistics.mean(row["least_less_pct"] for row in rows.values())
    figures["reached"] = max(means.values()) >= GOAL_PCT
    print(line("  mean over the mixes", figures), flush=True)
    return rows | {"figures": figures}


def bench_centre(effort: Effort) -> dict[str, Any]:
    """Mixes of a data centre."""
    return compare(CENTRE, CENTRE_PES, effort)


def bench_headset(effort: Effort) -> dict[str, Any]:
    """Mixes of a headset."""
    return compare(HEADSET, HEADSET_PES, effort)


def bench_car(_: Effort, **more: Any) -> dict[str, Any]:
    """The perception pipeline."""
    rows: dict[str, Any] = {}
    for pattern in ("monolithic-ws", "monolithic-os", *ONE, *TWO):
        made = pipeline_mix(make_package(pattern, 6, 6, CAR_PES, **more), car_mix(), FROM_MEMORY)
        rows[pattern] = {"hz": made.throughput_hz, "period_ms": 1e3 * made.period_s, "use": made.utilisation}
        if pattern.startswith("monolithic"):
            tall = pipeline_mix(make_package(pattern, 6, 6, CAR_PES, **more), car_mix(True), FROM_MEMORY)
            rows[f"{pattern}, side by side"] = {
                "hz": tall.throughput_hz,
                "period_ms": 1e3 * tall.period_s,
                "use": tall.utilisation,
            }
    whole = max(row["hz"] for name, row in rows.items() if name.startswith("monolithic"))
    plain = max(rows[f"monolithic-{p}"]["hz"] for p in ONE)
    for name, row in rows.items():
        print(line(f"  {name}", row), flush=True)
    figures: dict[str, Any] = {}
    for pattern in (*ONE, *TWO):
        figures[f"{pattern}_over_best_monolithic"] = rows[pattern]["hz"] / whole
        figures[f"{pattern}_over_frame_by_frame"] = rows[pattern]["hz"] / plain
    figures["os_over_monolithic_os"] = rows["os"]["hz"] / rows["monolithic-os"]["hz"]
    figures["reached"] = max(rows[p]["hz"] for p in (*ONE, *TWO)) / whole >= GOAL_TIMES
    print(line("  figures", figures), flush=True)
    return rows | {"figures": figures}


def bench_assumed(_: Effort) -> dict[str, Any]:
    """What the figures are under other assumptions, always with the quick search."""
    effort = QUICK
    results: dict[str, Any] = {}
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("nine multipliers an element", {"lanes": 9}),
        ("half the energy of a multiply-accumulate", {"mac_j": E_MAC_J / 2}),
    )
    for name, more in changes:
        print(f"  {name}: data centre, headset, car")
        results[name] = {
            "centre": compare(CENTRE, CENTRE_PES, effort, **more),
            "headset": compare(HEADSET, HEADSET_PES, effort, **more),
            "car": bench_car(effort, **more),
        }
    for name, given in MIXES_ALONE:
        print(f"  {name}: data centre, headset")
        squares = {pes: {"os_cluster": math.isqrt(pes)} if name == SQUARE else {} for pes in (CENTRE_PES, HEADSET_PES)}
        results[name] = {
            "centre": compare(CENTRE, CENTRE_PES, effort, **(given | squares[CENTRE_PES])),
            "headset": compare(HEADSET, HEADSET_PES, effort, **(given | squares[HEADSET_PES])),
        }
    return results


SQUARE = "a square output-stationary array"
MIXES_ALONE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("6 x 6 chiplets", {"side": 6}),
    ("longer texts", {"change": longer}),
    (SQUARE, {}),
)


BENCHES: dict[str, Callable[[Effort], dict[str, Any]]] = {
    "centre": bench_centre,
    "headset": bench_headset,
    "car": bench_car,
    "assumed": bench_assumed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer windows and steps")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    effort = QUICK if options.quick else Effort(windows=2, steps=150)
    where = machine("numpy")
    print(where)
    results = {}
    for name in options.only:
        print(f"{name}: {BENCHES[name].__doc__}")
        results[name] = BENCHES[name](effort)
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
