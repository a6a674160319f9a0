"""Exits fitted to the digits classifier: what leaves, what disagrees, whether the certificate keeps its word, its cost.

    python benchmarks/bench_exits.py [--json FILE]

One run: a perceptron is trained on 600 digits, exits are fitted and certified on 800 others by each score, and held to
the last 397, which neither fitted nor chose anything; the certificate is repeated on resampled calibration sets; the
drift monitor is timed and its alarms counted.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Package
from examples.digits import model as digits_model
from runtime.observe.drift import DriftMonitor, ExitBand
from runtime.pack.exits import ExitSettings, Score, fit_exits, write_exits
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.certify import certify
from runtime.pack.exits.collect import trace_exits
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.path import make_path

TRAINING, TEST = 600, 397
ALPHA, DELTA = 0.02, 0.05
RESAMPLES = 2000


@dataclass(frozen=True)
class Said:
    """What the exits of a package say about some images, with its thresholds."""

    evidence: Evidence
    thresholds: Any


def evidence_of(package: Package, images: Any) -> Said:
    """Return what the early exits say about images."""
    said = trace_exits(package, OnnxRuntimeBackend(), {"image": images}, np.arange(len(images)))
    form = AnswerForm(package.exits[-1].kind, 10)
    differs = np.stack([form.differs(answers, said.final) for answers in said.answers])
    costs = np.array([package.mac_share(taken.id) for taken in package.exits])
    evidence = Evidence(said.confidences, tuple(range(len(differs))), differs, costs)
    return Said(evidence, np.array([taken.threshold for taken in package.exits[:-1]], np.float64))


def held_out(package: Package, images: Any) -> dict[str, Any]:
    """Return what happens on images that neither fitted nor chose anything."""
    said = evidence_of(package, images)
    leaves = said.evidence.leaves_at(said.thresholds)
    wrong = int(sum((said.evidence.differs[e] & (leaves == e)).sum() for e in range(said.evidence.exits)))
    low, high = clopper_pearson(wrong, len(images), DELTA)
    return {
        "left_early": float((leaves < said.evidence.exits).mean()),
        "at_exit_1": float((leaves == 0).mean()),
        "disagreements": wrong,
        "of": len(images),
        "interval": f"{low:.4f}..{high:.4f}",
        "mean_macs": said.evidence.mean_cost(said.thresholds),
    }


def coverage(population: Evidence, alpha: float, delta: float, samples: int) -> dict[str, Any]:
    """Return how often the certificate fails when calibration samples are drawn anew from a known population."""
    rng = np.random.default_rng(0)
    path = make_path(_rows(population, rng.integers(0, population.samples, 300)))
    failures, left = 0, 0.0
    for _ in range(RESAMPLES):
        found = certify(path, _rows(population, rng.integers(0, population.samples, samples)), alpha, delta)
        failures += population.disagreements(found.thresholds) > alpha * population.samples
        left += float((population.leaves_at(found.thresholds) < population.exits).mean()) / RESAMPLES
    low, high = clopper_pearson(failures, RESAMPLES, 0.01)
    return {"failed": failures / RESAMPLES, "interval": f"{low:.4f}..{high:.4f}", "declared": delta, "left": left}


def _rows(evidence: Evidence, rows: Any) -> Evidence:
    return Evidence(evidence.scores[:, rows], evidence.gates, evidence.differs[:, rows], evidence.costs)


def drift() -> dict[str, Any]:
    """Return the drift monitor's cost a sample, its false alarms and the delay after a shift of ten points."""
    bands = [ExitBand("exit1", 0.5, 0.6), ExitBand("exit2", 0.8, 0.9)]
    rng = np.random.default_rng(0)
    quiet = [f"exit{1 + k}" for k in rng.choice(3, 100_000, p=[0.6, 0.3, 0.1])]
    monitor = DriftMonitor(bands, "exit3")
    began = time.perf_counter()
    alarms = sum(monitor.observe(exit_id) is not None for exit_id in quiet)
    cost_us = (time.perf_counter() - began) / len(quiet) * 1e6
    delays = []
    for _ in range(50):
        monitor.reset()
        shifted = rng.choice(3, 20_000, p=[0.7, 0.2, 0.1])
        delays.append(next((i for i, k in enumerate(shifted, 1) if monitor.observe(f"exit{1 + k}")), len(shifted)))
    return {
        "cost_us": cost_us,
        "false_alarms_in_100000": alarms,
        "delay_p50_samples": float(np.median(delays)),
        "delay_max_samples": max(delays),
    }


def main() -> None:
    """Run, print and keep."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    data = digits_model.load(TRAINING)
    network = digits_model.train(data)
    images = data.images[TRAINING:-TEST]
    where = machine("numpy", "onnxruntime", "scikit-learn")
    print(line("machine", where))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        whole = digits_model.write(Path(scratch) / "whole", network)
        for score in (Score.MAX_PROBABILITY, Score.MARGIN, Score.ENTROPY, Score.ENERGY):
            began = time.perf_counter()
            settings = ExitSettings(count=2, max_disagreement=ALPHA, delta=DELTA, score=score)
            fitted = fit_exits(whole, {"image": images}, settings)
            seconds = time.perf_counter() - began
            package = write_exits(Path(scratch) / str(score), whole, fitted)
            results[str(score)] = {**held_out(package, data.images[-TEST:]), "fit_s": seconds}
            print(line(f"{score}, at most {ALPHA:.0%} at {DELTA}", results[str(score)]))
        fitted = fit_exits(whole, {"image": images}, ExitSettings(count=2, budget=0.6))
        package = write_exits(Path(scratch) / "budget", whole, fitted)
        results["budget"] = held_out(package, data.images[-TEST:])
        print(line("budget 60 %", results["budget"]))
        poor = fit_exits(whole, {"image": images}, ExitSettings(max_disagreement=0.2, fit_share=0.05, strengths=(0.3,)))
        poor_package = write_exits(Path(scratch) / "poor", whole, poor)
        population = evidence_of(poor_package, data.images[TRAINING:]).evidence
        for alpha, delta, samples in ((0.02, 0.05, 500), (0.03, 0.1, 300), (0.05, 0.2, 300)):
            name = f"coverage, {alpha:.0%} at {delta}, n {samples}"
            results[name] = coverage(population, alpha, delta, samples)
            print(line(name, results[name]))
    results["drift"] = drift()
    print(line("drift monitor, N = 1e7", results["drift"]))
    keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
