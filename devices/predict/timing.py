"""Time the operators of a model where they run, by onnxruntime's own profiler on the CPU provider.

Times are lower quartiles over runs: what a run takes when little disturbs it. The profiler's clock ticks in
microseconds and watching an operator costs about one, so what takes less than a few of them is told badly. Where the
operators of a run come to more than the run takes unwatched, the excess is taken off each in equal parts.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime

from devices.errors import BackendError
from devices.predict.operators import Operator, operator
from devices.tensor import Array

WARM_RUNS = 3
LEAST = 0.1  # share of an operator's watched time that is its own at least
_QUIET = 4


@dataclass(frozen=True, slots=True)
class TimedOperator:
    """An operator and its time, the lower quartile [s]."""

    operator: Operator
    time_s: float


@dataclass(frozen=True, slots=True)
class TimedModel:
    """A model's operators and the time of a whole run without the profiler, the lower quartile [s]."""

    operators: tuple[TimedOperator, ...]
    run_s: float


def time_operators(model: bytes, inputs: Mapping[str, Array], runs: int = 20) -> TimedModel:
    """Time a model's operators on the CPU, one thread.

    Args:
        model: The ONNX model.
        inputs: Its inputs by name.
        runs: Runs to take the quartiles of.
    Raises:
        BackendError: onnxruntime refuses the model or the inputs.
        ValueError: `runs` is less than 1.
    """
    if runs < 1:
        raise ValueError(f"runs = {runs}: must be at least 1")
    with TemporaryDirectory() as folder:
        try:
            plain = onnxruntime.InferenceSession(model, _options(None), providers=["CPUExecutionProvider"])
            watched = onnxruntime.InferenceSession(model, _options(folder), providers=["CPUExecutionProvider"])
            times_s = []
            for _ in range(WARM_RUNS + runs):  # in turns, so that both meet the same disturbances
                times_s.append(_run_s(plain, inputs))
                _run_s(watched, inputs)
            events = json.loads(Path(watched.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            raise BackendError(f"cannot time the model's operators: {error}") from error
    run_s = _quartile(times_s[WARM_RUNS:])
    return TimedModel(_without_excess(_by_node(events), run_s), run_s)


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
    return tuple(TimedOperator(nodes[name], 1e-6 * _quartile(times[WARM_RUNS:])) for name, times in times_us.items())


def _quartile(times: list[float]) -> float:
    return sorted(times)[(len(times) - 1) // 4]


def _without_excess(watched: tuple[TimedOperator, ...], run_s: float) -> tuple[TimedOperator, ...]:
    excess_s = sum(sample.time_s for sample in watched) - run_s
    if excess_s <= 0.0:
        return watched
    share_s = excess_s / len(watched)
    return tuple(
        TimedOperator(sample.operator, max(sample.time_s - share_s, LEAST * sample.time_s)) for sample in watched
    )


def _shapes(told: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for entry in told for shape in entry.values()]
