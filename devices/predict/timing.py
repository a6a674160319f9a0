"""Time the operators of a model where they run, by onnxruntime's own profiler on the CPU provider.

Its clock ticks in microseconds: the median over runs of what takes less than a few of them says little.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime

from devices.errors import BackendError
from devices.predict.operators import Operator, operator
from devices.tensor import Array

WARM_RUNS = 3
_QUIET = 4


@dataclass(frozen=True, slots=True)
class TimedOperator:
    """An operator and its median time [s]."""

    operator: Operator
    time_s: float


@dataclass(frozen=True, slots=True)
class TimedModel:
    """A model's operators and the median time of a whole run [s], taken without the profiler."""

    operators: tuple[TimedOperator, ...]
    run_s: float


def time_operators(model: bytes, inputs: Mapping[str, Array], runs: int = 20) -> TimedModel:
    """Time a model's operators on the CPU, one thread.

    Args:
        model: The ONNX model.
        inputs: Its inputs by name.
        runs: Runs to take the medians of.
    Raises:
        BackendError: onnxruntime refuses the model or the inputs.
        ValueError: `runs` is less than 1.
    """
    if runs < 1:
        raise ValueError(f"runs = {runs}: must be at least 1")
    with TemporaryDirectory() as folder:
        try:
            plain = onnxruntime.InferenceSession(model, _options(None), providers=["CPUExecutionProvider"])
            times_s = [_run_s(plain, inputs) for _ in range(WARM_RUNS + runs)][WARM_RUNS:]
            watched = onnxruntime.InferenceSession(model, _options(folder), providers=["CPUExecutionProvider"])
            for _ in range(WARM_RUNS + runs):
                _run_s(watched, inputs)
            events = json.loads(Path(watched.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            raise BackendError(f"cannot time the model's operators: {error}") from error
    return TimedModel(_by_node(events), median(times_s))


def _options(folder: str | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/operators"
    return options


def _run_s(session: Any, inputs: Mapping[str, Array]) -> float:
    began_s = time.perf_counter()
    session.run(None, dict(inputs))
    return time.perf_counter() - began_s


def _by_node(events: list[dict[str, Any]]) -> tuple[TimedOperator, ...]:
    times_us: dict[str, list[float]] = {}
    nodes: dict[str, Operator] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        inputs, outputs = (_shapes(arguments[f"{side}_type_shape"]) for side in ("input", "output"))
        constants = int(arguments["parameter_size"]) // 4
        nodes.setdefault(event["name"], operator(arguments["op_name"], inputs, outputs, constants))
        times_us.setdefault(event["name"], []).append(max(float(event["dur"]), 0.5))
    return tuple(TimedOperator(nodes[name], 1e-6 * median(times[WARM_RUNS:])) for name, times in times_us.items())


def _shapes(told: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for entry in told for shape in entry.values()]
