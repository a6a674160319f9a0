"""Check that a package computes what the model it was cut from computes.

Both are run by onnxruntime on random inputs, at two batch sizes where the batch is open, and on given ones; the package
twice, its segments one by one and merged as a device that holds them all loads them. What differs is the order in which
sums are taken, so the bound is relative to the greatest output:

    max |package - model| <= TOLERANCE x max(1, max |model|),

and where half-precision tensors cross or go out, HALF_TOLERANCE: four of their units in the last place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package
from devices.tensor import Array, TensorSpec, check_inputs
from runtime.pack.cut_shapes import OTHER_SIZES, random_tensor
from runtime.pack.errors import PackError

TOLERANCE = 1e-5
HALF_TOLERANCE = 4.0 * 2.0**-10
_BATCHES = (1, 3)


def max_abs_error(
    data: bytes, package: Package, given: Sequence[Mapping[str, Array]] = (), *, what: str, seed: int = 0
) -> float:
    """Return the greatest difference of any output of a package from the model's.

    Args:
        data: The model's bytes.
        package: What it was cut into.
        given: Input sets to run besides the random ones.
        what: The model's file, for messages.
        seed: Seeds the random inputs.
    Raises:
        PackError: They differ by more than the tolerance, or the model can't be run on random inputs and none is given.
        InputError: A given input does not fit the model.
    """
    session = _session(what, data)
    chains = [Chain(package, OnnxRuntimeBackend(), merge=merge) for merge in (False, True)]
    worst = 0.0
    half = any(spec.dtype == "float16" for spec in package.tensors.values())
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    for inputs in (*_random_inputs(session, package.inputs, seed, what, bool(given)), *given):
        check_inputs(package.inputs, inputs)
        whole = _run(session, inputs, what)
        for chain in chains:
            result = chain.run(inputs)
            if result.exit is None:
                raise PackError(f"{what}: the package gave no answer")
            for name, expected in whole.items():
                worst = max(worst, _difference(name, expected, result.exit.outputs[name], tolerance, what))
    return worst


def _difference(name: str, expected: Any, actual: Any, tolerance: float, what: str) -> float:
    if not isinstance(expected, np.ndarray) or expected.dtype.kind not in "fiub":
        raise PackError(f"{what}: output {name!r} is no tensor of numbers: it can't be compared")
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        raise PackError(
            f"{what}: output {name!r} is {actual.dtype}{actual.shape} in parts, {expected.dtype}{expected.shape} whole"
        )
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    finite = np.isfinite(left)
    error = float(np.max(np.abs(np.where(same, 0.0, left - right)), initial=0.0))
    scale = max(1.0, float(np.max(np.abs(left[finite]), initial=0.0)))
    if not error <= tolerance * scale:
        raise PackError(
            f"{what}: output {name!r} differs by {error:.3g} between the parts and the whole model: at most "
            f"{tolerance * scale:.3g} is allowed, cut elsewhere"
        )
    return error


def _random_inputs(
    session: Any, specs: Sequence[TensorSpec], seed: int, what: str, others_given: bool
) -> Iterator[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    open_batch = all(spec.shape and isinstance(spec.shape[0], str) for spec in specs)
    other = any(isinstance(size, str) for spec in specs for size in (spec.shape[1:] if open_batch else spec.shape))
    for size in OTHER_SIZES if other else (1,):
        fits = {spec.name: random_tensor(spec, 1, size, rng) for spec in specs}
        try:
            _run(session, fits, what)
        except PackError:
            if size != OTHER_SIZES[-1] and other:
                continue
            if others_given:
                return  # such as a model whose integers are indices of its own
            raise
        for batch in _BATCHES if open_batch else (1,):
            yield {spec.name: random_tensor(spec, batch, size, rng) for spec in specs}
        return


def _session(what: str, data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
        raise PackError(f"{what}: onnxruntime refuses it: {error}") from error


def _run(session: Any, inputs: Mapping[str, Array], what: str) -> dict[str, Any]:
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # likewise
        shapes = {name: array.shape for name, array in inputs.items()}
        raise PackError(
            f"{what} does not run on inputs of shape {shapes}: give inputs that fit (--check): {error}"
        ) from error
