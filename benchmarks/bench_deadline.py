"""Is every request answered or refused by its deadline, measured where it matters: at the client?

Run: python benchmarks/bench_deadline.py PACKAGE INPUTS.npz [--requests 10000] [--figure FILE.png] [--json FILE]
     python benchmarks/bench_deadline.py --drawn-from FILE.json --figure FILE.png

PACKAGE is one with exits (`headway pack MODEL --exits 2 --calibration INPUTS.npz`), INPUTS holds its input by name,
samples along the first axis, and perhaps `labels`. A daemon in its own process serves it beside a second model
(ResNet-18, random weights, without deadlines), which another process asks for without a pause. The batch is the least
at which a full answer takes at least 20 ms.

Deadlines are uniform between 0.2 and 2 times the full answer's unloaded p50, both as the client sees them: it
notes when it sent and when it had the answer. Every fourth deadline is also asked of the full model or nothing. Quality
is the share of samples with the labelled class, or where there are no labels the full model's; what was refused or
late has quality 0. "Roomy" are deadlines of at least 1.5 times the loaded p99 of exit 1 at the client.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine, spread
from resnet import write_cut

import headway
from devices.package import Package, load_package
from devices.tensor import Array

LEAST_FULL_S = 0.020
PATIENCE_S = 60.0
BACKGROUND_SIZE = 112


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: time allowed and taken at the client [s], what came, and its quality."""

    allowed_s: float
    took_s: float
    came: str
    quality: float

    @property
    def late_s(self) -> float:
        """Time after the deadline [s], negative if before."""
        return self.took_s - self.allowed_s


class Samples:
    """Batches of real inputs with the classes that count as right."""

    def __init__(self, name: str, inputs: Array, labels: Array | None) -> None:
        self._name, self._inputs, self._labels = name, inputs, labels

    def batch(self, index: int, size: int) -> tuple[dict[str, Array], Array | None]:
        """Return one batch and its labels."""
        rows = np.arange(index * size, (index + 1) * size) % len(self._inputs)
        return {self._name: self._inputs[rows]}, None if self._labels is None else self._labels[rows]

    def count(self, size: int) -> int:
        """Return how many different whole batches there are."""
        return max(1, len(self._inputs) // size)


class Asker:
    """A client that remembers the full model's answers."""

    def __init__(self, client: headway.Client, package: Package, samples: Samples) -> None:
        self._client, self._package, self._samples = client, package, samples
        self._answers = {each.id: each.answer for each in package.exits}
        self.size = 1
        self.right: list[Array] = []

    @property
    def model(self) -> dict[str, Any]:
        """What is asked, and what counts as right."""
        labelled = self._samples.batch(0, 1)[1] is not None
        return {"name": self._package.name, "right": "the label" if labelled else "the full model's class"}

    @property
    def last_exit(self) -> str:
        """The full model's exit."""
        return self._package.exits[-1].id

    def full(self, index: int) -> tuple[headway.Answer, float]:
        """Return the answer without a deadline from the last exit, and the time it took [s]."""
        inputs, _ = self._samples.batch(index, self.size)
        began = time.monotonic()
        answer = self._client.infer(
            self._package.name, inputs, least_exit=self._package.exits[-1].id, timeout_s=PATIENCE_S
        )
        return answer, time.monotonic() - began

    def grow(self) -> float:
        """Choose the batch; return the full answer's p50 [s]."""
        while True:
            took_s = float(np.median([self.full(k)[1] for k in range(21)]))
            if took_s >= LEAST_FULL_S:
                return took_s
            self.size = max(self.size + 1, int(0.9 * self.size * LEAST_FULL_S / took_s))

    def learn(self, at_most: int) -> None:
        """Remember what is right for each batch."""
        for index in range(min(at_most, self._samples.count(self.size))):
            labels = self._samples.batch(index, self.size)[1]
            self.right.append(self._classes(self.full(index)[0]) if labels is None else labels)

    def _classes(self, answer: headway.Answer) -> Array:
        chosen: Array = answer.outputs[self._answers[answer.exit_id]].argmax(axis=1)
        return chosen

    def ask(self, index: int, allowed_s: float | None, least_exit: str | None = None) -> Outcome:
        """Ask with a deadline."""
        batch = index % len(self.right)
        inputs, _ = self._samples.batch(batch, self.size)
        began = time.monotonic()
        try:
            answer = self._client.infer(
                self._package.name, inputs, allowed_s, least_exit=least_exit, timeout_s=PATIENCE_S
            )
        except headway.RequestError as error:
            return Outcome(allowed_s or 0.0, time.monotonic() - began, error.code, 0.0)
        took_s = time.monotonic() - began
        quality = float(np.mean(self._classes(answer) == self.right[batch]))
        in_time = allowed_s is None or took_s <= allowed_s
        return Outcome(allowed_s or 0.0, took_s, answer.exit_id, quality if in_time else 0.0)

    def to_exit_1(self, index: int) -> float:
        """Return when exit 1 would have answered the client under the present load [s]."""
        inputs, _ = self._samples.batch(index, self.size)
        began = time.monotonic()
        answer = self._client.infer(self._package.name, inputs, timeout_s=PATIENCE_S)
        took_s = time.monotonic() - began
        ends = {part["segment"]: (part["begin_us"] + part["run_us"]) * 1e-6 for part in answer.parts}
        return float(took_s - max(ends.values()) + ends[self._package.exits[0].segment])


def load(socket: Path, model: str, stop: Any) -> None:
    """Ask for the background model without a pause."""
    image = {"image": np.zeros((1, 3, BACKGROUND_SIZE, BACKGROUND_SIZE), np.float32)}
    with headway.Client(socket, timeout_s=PATIENCE_S) as client:
        while not stop.is_set():
            with suppress(headway.HeadwayError):
                client.infer(model, image)


def await_ready(socket: Path) -> None:
    """Wait until the daemon serves."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        with suppress(headway.HeadwayError), headway.Client(socket, timeout_s=1.0) as client:
            if client.status()["ready"]:
                return
        time.sleep(0.05)
    raise SystemExit(f"no daemon at {socket} within {PATIENCE_S:.0f} s")


def figures(outcomes: list[Outcome], loaded_p99_s: float) -> dict[str, Any]:
    """Sum up."""
    late = sorted(outcome.late_s for outcome in outcomes)
    roomy = [outcome for outcome in outcomes if outcome.allowed_s >= 1.5 * loaded_p99_s]
    refused = [outcome for outcome in roomy if outcome.came.isupper()]
    late_by = Counter(outcome.came for outcome in outcomes if outcome.late_s > 0.0)
    return {
        "requests": len(outcomes),
        "by_deadline": sum(late_s <= 0.0 for late_s in late) / len(late),
        "late": dict(late_by),
        "late_p99_9_ms": late[int(0.999 * (len(late) - 1))] * 1e3,
        "late_max_ms": late[-1] * 1e3,
        "roomy": len(roomy),
        "roomy_refused": len(refused) / max(1, len(roomy)),
        "came": dict(Counter(outcome.came for outcome in outcomes)),
        "mean_quality": float(np.mean([outcome.quality for outcome in outcomes])),
    }


def curve(outcomes: list[Outcome], full_s: float, bins: int = 18) -> list[tuple[float, float]]:
    """Return the mean quality over the deadline in units of the full latency."""
    edges = np.linspace(0.2, 2.0, bins + 1)
    places = np.digitize([outcome.allowed_s / full_s for outcome in outcomes], edges) - 1
    quality = np.array([outcome.quality for outcome in outcomes])
    return [
        (float(edges[k] + edges[k + 1]) / 2, float(quality[places == k].mean())) for k in range(bins) if k in places
    ]


def plot(path: Path, results: dict[str, Any]) -> None:
    """Draw the quality curves."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    setting, model = results["setting"], results["model"]
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for name, points in results["curves"].items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
    axes.set(xlabel="deadline / latency of the full model", ylabel="share right and in time")
    axes.set(xlim=(0.2, 2.0), ylim=(0.0, 1.03))
    axes.set_title(
        f"Accuracy against deadline: {model['name']}, beside a second model without deadlines", fontsize=10.5
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    text = (
        f"Right: {model['right']}; refused or late at the client counts as wrong. Batch {setting['batch']}, full "
        f"answer {setting['full_p50_ms']:.1f} ms, {results['deepest finished exit']['requests']} requests, two cores."
    )
    axes.text(0.5, -0.2, text, transform=axes.transAxes, ha="center", va="top", fontsize=7.5)
    figure.savefig(path, dpi=130)


def measure(asker: Asker, socket: Path, background: str, requests: int, seed: int, at_most_s: float) -> dict[str, Any]:
    """Load the daemon and ask."""
    until_s = time.monotonic() + at_most_s
    full_s = asker.grow()
    asker.learn(256)
    rng = random.Random(seed)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    loader = context.Process(target=load, args=(socket, background, stop), daemon=True)
    loader.start()
    try:
        for index in range(20):
            asker.full(index)
        exit_1_s = [asker.to_exit_1(index) for index in range(200)]
        loaded_p99_s = float(np.percentile(exit_1_s, 99, method="inverted_cdf"))
        last = asker.last_exit
        anytime, whole = [], []
        for index in range(requests):
            if time.monotonic() > until_s:
                break
            allowed_s = rng.uniform(0.2, 2.0) * full_s
            anytime.append(asker.ask(index, allowed_s))
            if index % 4 == 0:
                whole.append(asker.ask(index, allowed_s, last))
    finally:
        stop.set()
        loader.join(PATIENCE_S)
    return {
        "setting": {"batch": asker.size, "full_p50_ms": full_s * 1e3, "loaded_exit_1_p99_ms": loaded_p99_s * 1e3},
        "loaded exit 1": spread(exit_1_s),
        "model": asker.model,
        "deepest finished exit": figures(anytime, loaded_p99_s),
        "full model or nothing": figures(whole, loaded_p99_s),
        "curves": {"deepest finished exit": curve(anytime, full_s), "full model or nothing": curve(whole, full_s)},
    }


def main() -> None:
    """Start the daemon, ask, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?")
    parser.add_argument("inputs", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-most-s", type=float, default=3600.0, help="end the asking after this time")
    parser.add_argument("--drawn-from", type=Path, help="measure nothing, draw a kept file")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.drawn_from is not None:
        plot(options.figure or Path("deadline_quality.png"), json.loads(options.drawn_from.read_text())["results"])
        return
    if options.package is None or options.inputs is None:
        parser.error("PACKAGE and INPUTS.npz are needed")
    package = load_package(options.package)
    name = package.inputs[0].name
    with np.load(options.inputs) as stored:
        samples = Samples(name, stored[name], stored.get("labels"))
    where = machine("onnxruntime", "numpy", "pyzmq")
    print(line("machine", where))
    with tempfile.TemporaryDirectory() as scratch:
        background = write_cut(Path(scratch, "background"), BACKGROUND_SIZE, (1, 2, 3), exits=False, name="background")
        socket = Path(scratch, "d.sock")
        command = [sys.executable, "-m", "runtime.cli.main", "serve", "--uncertified", "--socket", str(socket)]
        command += ["--package", str(package.folder), "--package", str(background.folder)]
        daemon = subprocess.Popen(command)
        try:
            await_ready(socket)
            with headway.Client(socket, timeout_s=PATIENCE_S) as client:
                asker = Asker(client, package, samples)
                results = measure(asker, socket, background.name, options.requests, options.seed, options.at_most_s)
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE_S)
            with suppress(OSError, ValueError):  # the guard outlives its daemon on purpose
                os.kill(int(Path(scratch, "headway-guard.sock.lock").read_text()), signal.SIGTERM)
    for part, told in results.items():
        if part != "curves":
            print(line(part, told))
    keep(options.json, where, results)
    if options.figure:
        plot(options.figure, results)


if __name__ == "__main__":
    main()
