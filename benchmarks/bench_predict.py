"""How well latency is predicted where nothing was measured, each way beside a power law of FLOPs alone.

1. Whole networks of held-out architectures on Jetson boards (benchmarks/jetson_cnn.csv): by architecture, and more
   strictly by family. Few-shot: a predictor of one board, adapted to another on k networks of it.
2. Operators timed on this machine: each network's from those of the others.
3. Segments of the driving package on this machine, from operators of other networks.

    python benchmarks/bench_predict.py [--table FULL.csv] [--networks 24] [--runs 20] [--json OUT]
"""

import argparse
import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from machine import keep, line, machine
from onnx import TensorProto, helper
from resnet import GraphBuilder, whole_model

from devices.package import load_package
from devices.predict import (
    Adapted,
    Boosted,
    FlopsOnly,
    LogLinear,
    Predictor,
    SegmentPredictor,
    relative_errors,
    time_operators,
)
from devices.predict.regress import Floats
from devices.predict.timing import TimedModel
from devices.samples import sample_inputs

HERE = Path(__file__).parent
TABLE = HERE / "jetson_cnn.csv"
DRIVING = HERE.parent / "carla_bridge" / "models" / "driving" / "1"
FOLDS = 5
WAYS: dict[str, Callable[[Floats, Floats], Predictor]] = {
    "flops only": FlopsOnly,
    "log-linear": LogLinear,
    "boosted": Boosted,
}
LEAST_S = 5e-6  # the profiler's clock ticks in microseconds


@dataclass(frozen=True)
class Board:
    """One board's rows of the table."""

    name: str
    models: list[str]
    features: Floats
    times_s: Floats


def read_boards(path: Path) -> list[Board]:
    """Read the shipped selection, or the whole table as it was published."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(row for row in file if not row.startswith("#")))
    boards = []
    for name in dict.fromkeys(row["board"] for row in rows):
        mine = [row for row in rows if row["board"] == name]
        features = np.array([features_of(row) for row in mine])
        times_s = np.array([1e-3 * float(row["latency_ms"]) for row in mine])
        boards.append(Board(name, [row["model"] for row in mine], features, times_s))
    return boards


def features_of(row: dict[str, str]) -> list[float]:
    """Return a network's features: operations, layers, parameters, activations, input, and two ratios."""
    pixels = row["px"] if "px" in row else re.findall(r"\d+", row["input_shape"])[0]
    layers, activations = (float(row.get(a) or row[b]) for a, b in (("layers", "nb_layers"), _ACTIVATIONS))
    flops = float(row["flops"])
    parameters = [float(row.get(f"{kind}_params") or row.get(f"nb_params_{kind}") or 0.0) for kind in ("conv", "fc")]
    return [flops, layers, *parameters, activations, float(pixels), flops / activations, activations / layers]


_ACTIVATIONS = ("activations", "sum_activations")


def held_out(board: Board, groups: Sequence[str], fit: Callable[[Floats, Floats], Predictor]) -> Floats:
    """Return the relative error of every row, its group and others held out."""
    names = sorted(set(groups))
    np.random.default_rng(0).shuffle(names)
    errors = np.zeros(len(groups))
    for fold in range(FOLDS):
        out = np.isin(groups, names[fold::FOLDS])
        errors[out] = relative_errors(
            fit(board.features[~out], board.times_s[~out]).predict(board.features[out]), board.times_s[out]
        )
    return errors


def few_shot(source: Board, target: Board, shots: int, rounds: int = 10) -> dict[str, Floats]:
    """Return errors on a board after `shots` of its networks; the tested architectures are in neither training set."""
    errors: dict[str, list[Floats]] = {"boosted, adapted": [], "flops only, of the shots": [], "not adapted": []}
    rng = np.random.default_rng(1)
    names = np.array(sorted(set(target.models)))
    for _ in range(rounds):
        rng.shuffle(names)
        tested = np.isin(target.models, names[: len(names) // 3])
        base = Boosted(
            *(part[~np.isin(source.models, names[: len(names) // 3])] for part in (source.features, source.times_s))
        )
        shot = rng.choice(np.flatnonzero(~tested), shots, replace=False)
        given, times_s = target.features[shot], target.times_s[shot]
        ways = {
            "boosted, adapted": Adapted(base, given, times_s),
            "flops only, of the shots": FlopsOnly(given, times_s),
        }
        for way, predictor in {**ways, "not adapted": base}.items():
            errors[way].append(relative_errors(predictor.predict(target.features[tested]), target.times_s[tested]))
    return {way: np.concatenate(parts) for way, parts in errors.items()}


def random_network(seed: int) -> tuple[str, onnx.ModelProto]:
    """Return a small random network: plain, with shortcuts, or with depthwise convolutions, in turn."""
    rng = np.random.default_rng(seed)
    style = ("plain", "shortcut", "depthwise")[seed % 3]
    size, channels = int(rng.choice([64, 96, 128])), int(rng.choice([16, 24, 32]))
    graph = GraphBuilder(seed)
    read = graph.conv(_prepared(graph, rng), "stem", (3, channels), int(rng.choice([3, 5, 7])), 2)
    for block in range(int(rng.integers(3, 7))):
        wider, stride = (int(channels * rng.choice([1.5, 2.0])), 2) if rng.random() < 0.6 else (channels, 1)
        name = f"b{block}"
        if style == "depthwise":
            graph.weights.append(_weight(f"{name}_dw", rng, channels, 1, 3, 3))
            attributes = {"group": channels, "strides": [stride, stride], "pads": [1, 1, 1, 1]}
            graph.nodes.append(helper.make_node("Conv", [read, f"{name}_dw"], [f"{name}_dz"], **attributes))
            graph.nodes.append(helper.make_node("Relu", [f"{name}_dz"], [f"{name}_d"]))
            read = graph.conv(f"{name}_d", name, (channels, wider), 1, 1)
        else:
            made = graph.conv(read, name, (channels, wider), int(rng.choice([1, 3, 3, 5])), stride)
            if style == "shortcut":
                inner = graph.conv(made, f"{name}_i", (wider, wider), 3, 1, relu=False)
                graph.nodes.append(helper.make_node("Add", [inner, made], [f"{name}_s"]))
                graph.nodes.append(helper.make_node("Relu", [f"{name}_s"], [f"{name}_o"]))
                made = f"{name}_o"
            read = made
        channels = wider
    _head(graph, rng, read, channels)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, size, size, 3]), ("answer", ["N", "C"]))
    ]
    made_graph = helper.make_graph(graph.nodes, "net", ports[:1], ports[1:], graph.weights)
    return f"{style} {seed}", helper.make_model(made_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _prepared(graph: GraphBuilder, rng: np.random.Generator) -> str:
    """Add what brings an image to the first convolution."""
    graph.weights += [_weight("mean", rng, 1), _weight("scale", rng, 1)]
    graph.nodes.append(helper.make_node("Sub", ["image", "mean"], ["centred"]))
    graph.nodes.append(helper.make_node("Mul", ["centred", "scale"], ["scaled"]))
    graph.nodes.append(helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]))
    return "planes"


def _head(graph: GraphBuilder, rng: np.random.Generator, read: str, channels: int) -> None:
    """Add pooling, two matrix products and a few operators on the answer's columns."""
    hidden, columns = int(rng.choice([32, 96, 256])), int(rng.choice([4, 16, 100]))
    graph.weights += [_weight("h1", rng, channels, hidden), _weight("h2", rng, hidden, columns)]
    graph.weights += [_weight("c1", rng, hidden), _weight("c2", rng, columns), _weight("unit", rng, 1)]
    graph.nodes += [
        helper.make_node("GlobalAveragePool", [read], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "h1", "c1"], ["hidden_z"]),
        helper.make_node("Relu", ["hidden_z"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "h2", "c2"], ["columns"]),
        helper.make_node("Split", ["columns"], ["left", "right"], axis=1, num_outputs=2),
        helper.make_node("Sigmoid", ["left"], ["share"]),
        helper.make_node("Exp", ["right"], ["grown"]),
        helper.make_node("Mul", ["grown", "unit"], ["metres"]),
        helper.make_node("Concat", ["share", "metres"], ["answer"], axis=1),
    ]


def _weight(name: str, rng: np.random.Generator, *shape: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array((rng.normal(size=shape) * 0.1).astype(np.float32), name)


def bench_boards(path: Path) -> dict[str, Any]:
    """Print and return the errors on the boards."""
    boards, results = read_boards(path), {}
    for board in boards:
        families = [re.split(r"[-.\d_]", model)[0] for model in board.models]
        for kind, groups in (("architecture", board.models), ("family", families)):
            for way, fit in WAYS.items():
                name = f"{board.name}, held-out {kind}: {way}"
                results[name] = tell(name, held_out(board, groups, fit))
    by_name = {board.name: board for board in boards}
    for source, target in (("AGX", "TX2"), ("TX2", "Nano")):
        for shots in (5, 10, 20):
            for way, errors in few_shot(by_name[source], by_name[target], shots).items():
                name = f"{source} to {target}, {shots} networks: {way}"
                results[name] = tell(name, errors)
    return results


def bench_here(networks: int, runs: int) -> dict[str, Any]:
    """Print and return the errors on this machine."""
    models = dict(random_network(seed) for seed in range(networks)) | {"resnet18": whole_model(96)}
    timed = {name: time_model(model.SerializeToString(), runs) for name, model in models.items()}
    results = {}
    for way, fit in WAYS.items():
        errors, weights = [], []
        for name, model in timed.items():
            others = [other for key, other in timed.items() if key != name]
            samples = [sample for sample in model.operators if sample.time_s >= LEAST_S]
            predicted_s = SegmentPredictor(others, fit).predict_operators([sample.operator for sample in samples])
            measured_s = np.array([sample.time_s for sample in samples])
            errors.append(relative_errors(predicted_s, measured_s))
            weights.append(measured_s)
        name = f"here, operators of held-out networks: {way}"
        figures = tell(name, np.concatenate(errors), np.concatenate(weights))
        results[name] = {**figures, "operators": len(np.concatenate(errors))}
    package = load_package(DRIVING)
    measured = {segment.id: segment_time(package, segment.id, runs) for segment in package.segments}
    for way, fit in WAYS.items():
        predictor = SegmentPredictor(list(timed.values()), fit)
        predicted = {key: predictor.predict(package.model(key)) for key in measured}
        errors = [abs(predicted[key] / measured[key] - 1.0) for key in measured]
        total = abs(sum(predicted.values()) / sum(measured.values()) - 1.0)
        name = f"here, segments of driving: {way}"
        results[name] = tell(name, np.array(errors)) | {"whole_off_pct": 100 * total}
        print(
            line(
                "",
                {"whole package": total, **{k: f"{1e3 * predicted[k]:.3f}/{1e3 * measured[k]:.3f}" for k in measured}},
            )
        )
    return results


def time_model(model: bytes, runs: int) -> TimedModel:
    """Time a model of one input on noise."""
    size = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim
    shape = [value.dim_value or 1 for value in size]
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return time_operators(model, {"image": noise}, runs)


def segment_time(package: Any, segment_id: str, runs: int) -> float:
    """Return the median time of one segment of a package [s]."""
    segment, model = package.segment(segment_id), package.model(segment_id)
    return time_operators(model, sample_inputs(segment.inputs), runs).run_s


def tell(name: str, errors: Floats, weights: Floats | None = None) -> dict[str, float]:
    """Print and return what relative errors come to."""
    figures = {
        "median_pct": 100 * float(np.median(errors)),
        "mean_pct": 100 * float(errors.mean()),
        "p90_pct": 100 * float(np.quantile(errors, 0.9)),
    }
    if weights is not None:
        figures["by_time_pct"] = 100 * float((errors * weights).sum() / weights.sum())
    print(line(name, figures))
    return figures


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("onnxruntime", "scikit-learn", "numpy")
    print(line("machine", where))
    keep(options.json, where, bench_boards(options.table) | bench_here(options.networks, options.runs))


if __name__ == "__main__":
    main()
