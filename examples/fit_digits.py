"""Train a digits classifier, give it two exits with a guarantee, and count what they do on images it has never seen.

python examples/fit_digits.py [--out models/digits/1] [--max-disagreement 0.02] [--delta 0.05]
"""

import argparse
from pathlib import Path

import numpy as np
from digits import model as digits_model

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ExitAnswer
from devices.package import Package
from runtime.pack.exits import ExitSettings, fit_exits, write_exits

TEST = 297


def ask(package: Package, chain: Chain, image: np.ndarray) -> ExitAnswer:
    """Return the answer of the first exit that is sure enough, as the daemon would."""

    def stop(said: ExitAnswer) -> bool:
        threshold = package.exits[said.index].threshold
        return threshold is not None and said.confidence is not None and said.confidence >= threshold

    result = chain.run({"image": image}, on_exit=stop)
    assert result.exit is not None
    return result.exit


def main() -> None:
    """Train, fit, write, count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path("models/digits/1"))
    arguments.add_argument("--max-disagreement", type=float, default=0.02)
    arguments.add_argument("--delta", type=float, default=0.05)
    chosen = arguments.parse_args()
    digits = digits_model.load()
    whole = digits_model.write(chosen.out, digits_model.train(digits))
    whole_chain = Chain(whole, OnnxRuntimeBackend())
    settings = ExitSettings(count=2, max_disagreement=chosen.max_disagreement, delta=chosen.delta)
    fitted = fit_exits(whole, {"image": digits.images[digits.training : -TEST]}, settings)
    for report in fitted.reports:
        print(f"{report.id} at {'+'.join(report.tensors)}: {report.share:.1%} leave {report.reason}")
    package = write_exits(chosen.out, whole, fitted)
    chain = Chain(package, OnnxRuntimeBackend())
    images, classes = digits.images[-TEST:], digits.classes[-TEST:]
    answers = [ask(package, chain, image[None]) for image in images]
    full = [whole_chain.run({"image": image[None]}).exit for image in images]
    differ = sum(a.answer.argmax() != f.answer.argmax() for a, f in zip(answers, full, strict=True) if f is not None)
    right = sum(int(a.answer.argmax()) == c for a, c in zip(answers, classes, strict=True))
    early = sum(a.index < len(package.exits) - 1 for a in answers)
    print(
        f"{TEST} unseen images: {early} left early, {differ} answered differently from the whole model, {right} right"
    )


if __name__ == "__main__":
    main()
