"""What a request after a pause of a second costs, against the same request back to back: models of three sizes.

Asked: after 1 s at most 1.5 times the busy p50 for models of 5 ms and more, at most 1 ms more for smaller ones, with
`serve.keep_warm_ms`. Every model is measured without and with it, by `headway.Client` at a real daemon; the idle
processor time of the daemon is told for both.

    python benchmarks/bench_pauses.py [--pauses 12] [--json FILE]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import numpy as np
from daemon import serving
from onnx import TensorProto, helper, numpy_helper

import headway
from devices.package import Exit, SegmentSource, write_package

WIDTH = 512
LAYERS = {"tiny": 1, "small": 12, "large": 400}
KEEP_WARM_MS = 5
BUSY = 60
PAUSE_S = 1.0


def write_model(folder: Path, name: str, layers: int) -> None:
    """Write a model of so many dense layers of WIDTH x WIDTH on a batch of 16."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array((rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), "w")
    nodes = []
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{layer}" if layer else "x", "w"], [f"z{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"z{layer}"], [f"h{layer + 1}" if layer + 1 < layers else "y"]))
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [16, WIDTH]) for each in ("x", "y")]
    graph = helper.make_graph(nodes, name, values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_package(
        folder / name / "1", name=name, version="1", segments=[SegmentSource("all", model)],
        exits=[Exit("out", "all", "y")],
    )  # fmt: skip


@contextmanager
def daemon(repository: Path, folder: Path, keep_warm_ms: int | None) -> Iterator[tuple[headway.Client, int]]:
    """Start a daemon; yield a client and the daemon's process id."""
    settings = {} if keep_warm_ms is None else {"HEADWAY_SERVE_KEEP_WARM_MS": str(keep_warm_ms)}
    with (
        serving(folder / str(keep_warm_ms), ["--repository", str(repository)], settings) as served,
        headway.Client(served.path, timeout_s=30.0) as client,
    ):
        yield client, served.pid


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(client: headway.Client, model: str, x: np.ndarray) -> float:
    """Return the time of one request [s]."""
    began_s = time.perf_counter()
    client.infer(model, {"x": x})
    return time.perf_counter() - began_s


def measure(client: headway.Client, pid: int, pauses: int) -> dict[str, dict[str, object]]:
    """Measure every model busy and after pauses."""
    x = np.random.default_rng(1).random((16, WIDTH), np.float32)
    found: dict[str, dict[str, object]] = {}
    for model in LAYERS:
        busy = machine.spread([timed(client, model, x) for _ in range(BUSY)][BUSY // 6 :])
        idle_s, used_s = 0.0, cpu_s(pid)
        after = []
        for _ in range(pauses):
            time.sleep(PAUSE_S)
            idle_s += PAUSE_S
            after.append(timed(client, model, x))
        used_s = cpu_s(pid) - used_s - sum(after)
        paused = machine.spread(after)
        ratio, more_ms = paused["p50_ms"] / busy["p50_ms"], paused["p50_ms"] - busy["p50_ms"]
        large = busy["p50_ms"] >= 5.0
        found[model] = {
            "busy_p50_ms": busy["p50_ms"], "after_p50_ms": paused["p50_ms"], "after_max_ms": paused["max_ms"],
            "ratio": ratio, "more_ms": more_ms, "kept": ratio <= 1.5 if large else more_ms <= 1.0,
            "idle_cpu_percent": max(0.0, 100.0 * used_s / idle_s),
        }  # fmt: skip
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pauses", type=int, default=12)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    where = machine.machine("pyzmq", "onnxruntime", "numpy")
    print(machine.line("machine", where))
    results = {}
    with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as name:
        folder = Path(name)
        for model, layers in LAYERS.items():
            write_model(folder / "models", model, layers)
        for keep_warm_ms in (None, KEEP_WARM_MS):
            with daemon(folder / "models", folder, keep_warm_ms) as (client, pid):
                for model, figures in measure(client, pid, chosen.pauses).items():
                    told = f"{model}, {'cold' if keep_warm_ms is None else f'kept warm every {keep_warm_ms} ms'}"
                    results[told] = figures
                    print(machine.line(told, figures), flush=True)
    machine.keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
