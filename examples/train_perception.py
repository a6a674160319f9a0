"""Train the driving network on the built-in world's camera and write it as a model package.

    python examples/train_perception.py --out driving/1 [--frames 400000] [--epochs 26] [--device cpu|cuda] [--seed 0]

Frames are drawn anew from the seed: random roads, lights, obstacles and poses. Three disjoint sets are made: training,
calibration (confidence and exit thresholds) and test (the card). Needs the torch extra: pip install 'headway[torch]'.
The shipped package is what the defaults give, in 9 minutes on an NVIDIA H100 with 16 cores; --frames 20000 --epochs 8
trains a coarser one on a CPU.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perception.frames import make_frames
from perception.onnx_export import export_exit, export_trunk
from perception.scores import PRESENCE, TOLERANCE, choose_threshold, fit_logistic, leave_at, score, within_tolerance
from perception.training import infer, train

from carla_bridge.answers import ANSWER_NAMES
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package

EXITS = 3
LOSS_SHARE = 0.3


def main() -> None:
    options = _options()
    held_out = max(2000, min(20000, options.frames // 10))
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.1f} s] {text}", flush=True)

    frames, truth = make_frames(options.frames, options.seed, options.workers)
    say(f"{options.frames} frames for training")
    network = train(frames, truth, epochs=options.epochs, device=options.device, seed=options.seed, say=say)
    mean = truth.astype(np.float64).mean(axis=0)
    mean[PRESENCE + 1 :] = truth[truth[:, PRESENCE] > 0.5].astype(np.float64).mean(axis=0)[PRESENCE + 1 :]
    del frames
    calibration_frames, calibration_truth = make_frames(held_out, options.seed + 1, options.workers)
    found = infer(network, calibration_frames, options.device)
    fits, thresholds, calibration = calibrate(found, calibration_truth.astype(np.float64))
    test_frames, test_truth = make_frames(held_out, options.seed + 2, options.workers)
    found = infer(network, test_frames, options.device)
    card = make_card(found, fits, thresholds, test_truth.astype(np.float64), mean)
    origin = f"examples/train_perception.py --frames {options.frames} --epochs {options.epochs} --seed {options.seed}"
    package = export(network.cpu(), options.out, fits, thresholds, calibration, card, origin)
    say(f"wrote {options.out}")
    for name, row in card.items():
        print(name, row)
    print("MACs", {segment.id: segment.macs for segment in package.segments})


def calibrate(
    found: list[tuple[Any, Any]], truth: Any
) -> tuple[list[tuple[float, float]], list[float], dict[str, Any]]:
    """Return the confidence's (slope, shift) and the threshold of each exit, and what package.toml tells of them.

    An exit's threshold is the least at which leaving there loses at most LOSS_SHARE of the answers within tolerance
    that sending every frame on to the last exit would gain.
    """
    good = [within_tolerance(answers, truth) for answers, _ in found]
    fits = [fit_logistic(logits, right) for (_, logits), right in zip(found, good, strict=True)]
    staying = np.ones(len(truth), bool)
    thresholds = []
    for (_, logits), right, fit in zip(found[:-1], good[:-1], fits[:-1], strict=True):
        confidence = confidence_of(logits, fit)
        here, last = right[staying], good[-1][staying]
        slack = LOSS_SHARE * max(0.0, float(last.mean() - here.mean()))
        threshold = round(choose_threshold(confidence[staying], here, last, slack), 4)
        thresholds.append(threshold)
        staying &= confidence < threshold
    thresholds.append(0.0)
    return fits, thresholds, {"frames": len(truth), "loss_share": LOSS_SHARE, "tolerance": list(TOLERANCE)}


def confidence_of(logits: Any, fit: tuple[float, float]) -> Any:
    """Return sigmoid(slope * logit + shift)."""
    return 1.0 / (1.0 + np.exp(-(fit[0] * logits + fit[1])))


def make_card(
    found: list[tuple[Any, Any]],
    fits: list[tuple[float, float]],
    thresholds: list[float],
    truth: Any,
    mean: Any,
) -> dict[str, Any]:
    """Return the held-out scores of the mean as a predictor, of every exit, and of the chain that leaves early."""
    card: dict[str, Any] = {"mean": score(np.tile(mean, (len(truth), 1)), truth)}
    for index, (answers, _) in enumerate(found):
        card[f"exit{index + 1}"] = score(answers, truth)
    confidences = [confidence_of(logits, fit) for (_, logits), fit in zip(found, fits, strict=True)]
    leaves = leave_at(confidences, thresholds)
    chosen = np.stack([answers for answers, _ in found])[leaves, np.arange(len(truth))]
    shares = {f"share_exit{index + 1}": round(float((leaves == index).mean()), 5) for index in range(EXITS)}
    card["early"] = {**score(chosen, truth), **shares}
    card["frames"] = len(truth)
    return card


def export(
    network: Any,
    out: Path,
    fits: list[tuple[float, float]],
    thresholds: list[float],
    calibration: dict[str, Any],
    card: dict[str, Any],
    origin: str,
) -> Package:
    """Write the package and return it as read back."""
    segments, exits = [], []
    for index, (fit, threshold) in enumerate(zip(fits, thresholds, strict=True)):
        segments.append(SegmentSource(f"trunk{index + 1}", export_trunk(network, index)))
        segments.append(SegmentSource(f"exit{index + 1}", export_exit(network, index, *fit)))
        exits.append(
            Exit(
                id=f"exit{index + 1}",
                segment=f"exit{index + 1}",
                answer=f"answer{index + 1}",
                confidence=f"confidence{index + 1}",
                kind=ExitKind.REGRESSION,
                threshold=threshold,
            )
        )
    return write_package(
        out,
        name="driving",
        version=out.name if out.name.isdigit() else "1",
        license="Apache-2.0",
        origin=origin,
        description="Lane, curvature and nearest obstacle from a 160 x 80 RGB front camera; three exits.",
        segments=segments,
        exits=exits,
        answer_names=ANSWER_NAMES,
        calibration=calibration,
        card=card,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the package, e.g. driving/1")
    parser.add_argument("--frames", type=int, default=400000, help="training frames (38.4 KB each)")
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw frames")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.frames < 512 or options.epochs < 1 or options.workers < 1:
        parser.error("--frames must be at least 512, --epochs and --workers at least 1")
    return options


if __name__ == "__main__":
    main()
