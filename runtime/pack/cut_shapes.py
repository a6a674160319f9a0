"""Find the shapes that inference can't tell by running the model on random inputs of several sizes.

Inference knows nothing of operators outside ONNX's own set, and stops at sizes computed in a roundabout way. A size
that is the same in every run is fixed; one that follows the batch, or the one other open size, gets its name; any other
is open without a name. Where sizes may depend on the values of the inputs (NonZero, loops) all are left open.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from devices.tensor import ANY, Array, TensorSpec
from runtime.pack.cut_names import captured_reads

OTHER_SIZES = (16, 64, 224, 1)
"""Tried for open sizes that are not the batch, until the model runs."""
_BY_VALUE = frozenset(("NonZero", "Compress", "Unique", "NonMaxSuppression", "If", "Loop", "Scan", "SequenceAt"))
_BATCHES = (2, 3)


def random_tensor(spec: TensorSpec, batch: int, size: int, rng: np.random.Generator) -> Array:
    """Return a tensor that fits `spec`: normal floats, bytes of any value, other integers 0 or 1.

    Args:
        batch, size: What an open first size, and any other open size, is.
    """
    shape = [known if isinstance(known, int) else size if index else batch for index, known in enumerate(spec.shape)]
    if spec.dtype.startswith("float"):
        return rng.normal(size=shape).astype(spec.dtype)
    return rng.integers(0, 256 if spec.dtype == "uint8" else 2, shape).astype(spec.dtype)


def observe_shapes(model: Any, inputs: Sequence[TensorSpec], names: Iterable[str]) -> dict[str, Any]:
    """Return an onnx.ValueInfoProto for each of the tensors that are found to be of one dtype and rank.

    Args:
        model: The onnx.ModelProto; left as it is.
        inputs: Its inputs.
        names: Tensors made by its nodes.
    """
    wanted, by_value = list(names), _told_by_values(model)
    batches = {spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)}
    others = {size for spec in inputs for size in spec.shape[1:] if isinstance(size, str)} - batches
    runs = _runs(model, inputs, wanted, bool(others))
    if not runs:
        return {}
    size, other = runs[0][0], runs[-1][0]
    labels = {(2, 3, 2): _only(batches), (size, size, other): _only(others)}
    unsure = size if other == 0 else None
    found = {}
    for name in wanted:
        arrays = [run[name] for _, run in runs]
        if all(isinstance(array, np.ndarray) and array.ndim == arrays[0].ndim for array in arrays):
            sizes = zip(*(array.shape for array in arrays), strict=True)
            shape = [n[0] if len(set(n)) == 1 and n[0] != unsure else labels.get(n, ANY) for n in sizes]
            shape = [ANY] * len(shape) if name in by_value else shape
            kind = onnx.helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
            found[name] = onnx.helper.make_tensor_value_info(name, kind, [None if n == ANY else n for n in shape])
    return found


def _only(names: set[Any]) -> str:
    return next(iter(names)) if len(names) == 1 and ANY not in names else ANY


def _told_by_values(model: Any) -> set[str]:
    told: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _BY_VALUE or not told.isdisjoint(captured_reads(node)):
            told.update(node.output)
    return told


def _runs(
    model: Any, inputs: Sequence[TensorSpec], names: Sequence[str], others: bool
) -> list[tuple[int, Mapping[str, Any]]]:
    """Return three runs at batch 2, 3 and 2, each with the other open size; empty if the model can't be run.

    Where the model runs with one other size only, the third is the first again, with size 0.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    outputs = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    rng = np.random.default_rng(0)

    def run(batch: int, size: int) -> tuple[int, Mapping[str, Any]] | None:
        given = {spec.name: random_tensor(spec, batch, size, rng) for spec in inputs}
        try:
            return size, dict(zip(names, session.run(list(names), given), strict=True))
        except Exception:  # onnxruntime raises a dozen unrelated types; sizes that don't fit are no error
            return None

    try:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # likewise: then the shapes stay unknown
        return []
    for size in OTHER_SIZES if others else (1,):
        first = run(_BATCHES[0], size)
        if first is not None:
            second = run(_BATCHES[1], size)
            more = (run(_BATCHES[0], other) for other in (2 * size, size + 1)) if others else iter((first,))
            third = next((found for found in more if found is not None), (0, first[1]))
            return [first, second, third] if second is not None else []
    return []
