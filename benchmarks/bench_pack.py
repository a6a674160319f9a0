"""What cutting a model costs on one device, in time and memory.

Run: python benchmarks/bench_pack.py [--quick] [--json FILE] [--efficientnet FILE.onnx]

ResNet-18 (224 x 224, random weights), the driving package's whole model and, if its file is given (see
examples/export_efficientnet.py), EfficientNet-Lite0; one intra-op thread. Of each model, in one process and shuffled
order (in a fixed order the first and last would follow themselves and find the caches warm):

session    one bare onnxruntime session of the whole model
one        a package of one segment: what packaging alone costs
three      a package of the three segments that `--cuts auto` chooses, as a device loads it: merged, no exit between
apart      the same with a session a segment, as when an exit lies at every cut
memory     growth of a fresh process that loads and runs the model: resident after 20 runs, and its peak
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from machine import machine
from resnet import whole_model
from side_by_side import shuffled

import carla_bridge
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.merge import merge_segments
from devices.package import Package, load_package
from runtime.pack.cut import Card, cut_model
from runtime.pack.cut_check import random_tensor

DRIVING = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
LIMITS = {"resnet18": 0.03, "driving": 0.03, "efficientnet-lite0": 0.05}
FREE_S = 100e-6
SIDES = ("session", "one", "three", "apart")


def runner(side: str, model: Path, package: Path) -> Callable[[], object]:
    """Return what runs one side once."""
    specs = load_package(model).inputs
    inputs = {spec.name: random_tensor(spec, 1, 1, np.random.default_rng(1)) for spec in specs}
    if side == "session":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)
    chain = Chain(load_package(model if side == "one" else package), OnnxRuntimeBackend(), merge=side != "apart")
    return lambda: chain.run(inputs)


def bench_time(model: Path, package: Path, rounds: int, limit: float) -> dict[str, Any]:
    """Compare the sides' times."""
    times = shuffled({side: runner(side, model, package) for side in SIDES}, rounds)
    base = times["session"]
    figures: dict[str, Any] = {}
    for side, measured in times.items():
        more_s = measured.median_s - base.median_s
        figures[side] = {
            **measured.figures(base),
            "more_us_p50": round(more_s * 1e6, 1),
            "within_limit": bool(more_s <= max(limit * base.median_s, FREE_S)),
        }
    return figures


def bench_memory(model: Path, package: Path) -> dict[str, Any]:
    """Compare the sides' memory, each in a process of its own."""
    figures: dict[str, Any] = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--grow", side, str(model), str(package)]
        figures[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for side in SIDES:
        for what in ("resident", "peak"):
            figures[side][f"{what}_ratio"] = round(figures[side][f"{what}_mib"] / figures["session"][f"{what}_mib"], 3)
    return figures


def grow(side: str, model: Path, package: Path) -> dict[str, float]:
    """Return by how much this process grows when it loads and runs one side [MiB]."""
    before = memory_mib("VmRSS")
    run = runner(side, model, package)
    for _ in range(20):
        run()
    return {
        "resident_mib": round(memory_mib("VmRSS") - before, 2),
        "peak_mib": round(memory_mib("VmHWM") - before, 2),
    }


def memory_mib(key: str) -> float:
    """Return a line of this process's status, VmRSS or VmHWM (its peak) [MiB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1]) / 1024


def whole_driving(package: Package) -> bytes:
    """Return the driving package's segments to its last exit as one model."""
    merged = merge_segments(package, package.needed(package.exits[-1].id))
    if merged is None:
        raise SystemExit("the driving package's segments can't be merged")
    model = onnx.load_model_from_string(merged[1])
    final = package.exit_outputs(package.exits[-1].id)
    for name in [value.name for value in model.graph.output if value.name not in final]:
        model.graph.output.remove(next(value for value in model.graph.output if value.name == name))
    return bytes(model.SerializeToString())


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--efficientnet", type=Path, help="EfficientNet-Lite0 as ONNX")
    parser.add_argument("--grow", nargs=3, metavar=("SIDE", "MODEL", "PACKAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grow:
        print(json.dumps(grow(options.grow[0], Path(options.grow[1]), Path(options.grow[2]))))
        return
    figures: dict[str, Any] = {"machine": machine("onnxruntime", "onnx", "numpy")}
    models = {"resnet18": whole_model(224).SerializeToString(), "driving": whole_driving(load_package(DRIVING))}
    if options.efficientnet:
        models["efficientnet-lite0"] = options.efficientnet.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for name, data in models.items():
            path, package = Path(folder, f"{name}.onnx"), Path(folder, name)
            path.write_bytes(data)
            cut = cut_model(path, package, "auto", Card(name))
            figures[name] = {
                "cuts": [item.name for item in cut.cuts],
                "crossing_bytes": [item.crossing_bytes for item in cut.cuts],
                "max_abs_error": cut.max_abs_error,
                "limit": LIMITS[name],
                "time": bench_time(path, package, 40 if options.quick else 400, LIMITS[name]),
                "memory": bench_memory(path, package),
            }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
