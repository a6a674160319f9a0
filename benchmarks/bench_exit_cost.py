"""An answer at exit 1 must cost the segments up to exit 1, and nothing of the rest.

Run: python benchmarks/bench_exit_cost.py [PACKAGE ..] [--rounds 300] [--json FILE]

exit 1       the whole package, left at exit 1
front only   a chain of nothing but the segments that exit 1 needs
to the end   the whole package, every exit on the way

In one process and shuffled order, one intra-op thread. The driving package, and those named.
"""

import argparse
from pathlib import Path
from typing import Any

from machine import keep, line, machine
from side_by_side import shuffled

import carla_bridge
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package, load_package
from runtime.execute.model import zeros

DRIVING = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
ASKED = 0.05


def compare(package: Package, rounds: int) -> dict[str, Any]:
    """Return the times of the three sides."""
    inputs = {spec.name: zeros(spec) for spec in package.inputs}
    chain = Chain(package, OnnxRuntimeBackend())
    front = Chain(package, OnnxRuntimeBackend(), package.needed(package.exits[0].id))
    times = shuffled(
        {
            "front only": lambda: front.run(inputs, on_exit=lambda _: True),
            "exit 1": lambda: chain.run(inputs, on_exit=lambda _: True),
            "to the end": lambda: chain.run(inputs, on_exit=lambda _: False),
        },
        rounds,
    )
    figures: dict[str, Any] = {name: side.figures(times["front only"]) for name, side in times.items()}
    figures["share"] = {
        "of_cpu": times["exit 1"].cpu_median_s / times["to the end"].cpu_median_s,
        "of_macs": package.mac_share(package.exits[0].id),
        "asked_ratio_at_most": 1.0 + ASKED,
    }
    return figures


def main() -> None:
    """Measure every package and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("onnxruntime", "numpy")
    print(line("machine", where))
    results: dict[str, Any] = {}
    for folder in (DRIVING, *options.packages):
        package = load_package(folder)
        results[package.name] = compare(package, options.rounds)
        for side, told in results[package.name].items():
            print(line(f"{package.name}: {side}", told))
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
