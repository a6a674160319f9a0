"""Run a package on calibration inputs, one sample at a time as requests come, and keep what exits need.

One sample a run, because a batch may round differently, and a confidence just at its threshold must fall on the side in
calibration that it will fall on in use.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.backend import Backend, Value
from devices.chain import Chain, ExitAnswer
from devices.errors import InputError
from devices.package import Package
from devices.tensor import Array, TensorSpec, check_inputs
from runtime.pack.exits.errors import AnswerError
from runtime.pack.exits.pooling import pool

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cut = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Traces:
    """Pooled features at each cut, shape (n, D), and final answers, shape (n, C)."""

    features: tuple[Floats, ...]
    final: Array


@dataclass(frozen=True)
class ExitTraces:
    """What every exit said: answers (n, C) of each exit, confidences (E, n) of those that have one, final answers."""

    answers: tuple[Array, ...]
    confidences: Floats
    final: Array


def sample_count(package: Package, inputs: Mapping[str, Array]) -> int:
    """Return how many calibration samples there are.

    Raises:
        InputError: A name is missing or unknown, an input has no batch axis, or the inputs' counts differ.
    """
    for spec in package.inputs:
        if not spec.shape or (spec.shape[0] not in (1, "?") and not isinstance(spec.shape[0], str)):
            raise InputError(f"input {spec} has no batch axis of open size or size 1: calibration needs one")
        if spec.name in inputs and (inputs[spec.name].ndim != len(spec.shape) or not len(inputs[spec.name])):
            raise InputError(
                f"calibration input {spec.name!r} has shape {inputs[spec.name].shape}: must be {spec.shape}"
            )
    if inputs.keys() != {spec.name for spec in package.inputs}:
        check_inputs(package.inputs, inputs)
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"calibration inputs have different counts of samples: {counts}")
    return next(iter(counts.values()))


def _singles(package: Package, inputs: Mapping[str, Array], chosen: Ints) -> Iterator[dict[str, Array]]:
    for index in chosen:
        sample = {name: np.ascontiguousarray(array[index : index + 1]) for name, array in inputs.items()}
        check_inputs(package.inputs, sample)
        yield sample


def trace_cuts(
    package: Package, backend: Backend, inputs: Mapping[str, Array], chosen: Ints, cuts: Sequence[Cut], grid: int
) -> Traces:
    """Return pooled features at `cuts` and the final answers of the chosen samples."""
    needed = package.needed(package.exits[-1].id)
    loaded = {segment_id: backend.load(package.segment(segment_id), package.model(segment_id)) for segment_id in needed}
    features: list[list[Floats]] = [[] for _ in cuts]
    final = []
    for sample in _singles(package, inputs, chosen):
        values: dict[str, Value] = {name: backend.upload(array) for name, array in sample.items()}
        for segment_id, model in loaded.items():
            values.update(model.run({spec.name: values[spec.name] for spec in package.segment(segment_id).inputs}))
        for rows, cut in zip(features, cuts, strict=True):
            rows.append(pool({spec.name: backend.download(values[spec.name]) for spec in cut}, cut, grid))
        final.append(_one_row(backend.download(values[package.exits[-1].answer])))
    return Traces(tuple(np.concatenate(rows) for rows in features), np.concatenate(final))


def trace_exits(package: Package, backend: Backend, inputs: Mapping[str, Array], chosen: Ints) -> ExitTraces:
    """Return what each exit of the package says about the chosen samples, however unsure."""
    chain = Chain(package, backend)
    rows: list[list[ExitAnswer]] = []
    for sample in _singles(package, inputs, chosen):
        rows.append([])
        chain.run(sample, on_exit=_keeper(rows[-1]))
    count = len(package.exits)
    answers = [np.concatenate([_one_row(said[e].answer) for said in rows]) for e in range(count)]
    sure = [[said[e].confidence for said in rows] for e in range(count - 1)]
    return ExitTraces(tuple(answers[:-1]), np.array(sure, np.float64).reshape(count - 1, len(rows)), answers[-1])


def _keeper(said: list[ExitAnswer]) -> Callable[[ExitAnswer], bool]:
    """Return a listener that keeps every exit's answer and takes none."""

    def keep(answer: ExitAnswer) -> bool:
        said.append(answer)
        return False

    return keep


def _one_row(answer: Array) -> Array:
    if answer.ndim != 2 or len(answer) != 1:
        raise AnswerError(f"the answer to one sample has shape {answer.shape}: must be (1, C)")
    return answer
