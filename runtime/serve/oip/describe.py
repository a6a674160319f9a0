"""What is served, as plain tables that both transports send: metadata, configuration, statistics, index.

Reference: Open Inference Protocol v2, and its extensions for model configuration, statistics and repositories.
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from devices.package import Exit, Package
from devices.tensor import TensorSpec
from runtime.serve.library import Listed
from runtime.serve.oip.datatypes import NAMES
from runtime.serve.statistics import ModelStatistics

Table = dict[str, Any]
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
    "headway",
)
PLATFORM = "headway_onnx"
_NOT_KEPT = {"count": 0, "ns": 0}
_NS_PER_MS = 1_000_000


def server_metadata() -> Table:
    """Return name, version and extensions of this server."""
    try:
        ours = version("headway")
    except PackageNotFoundError:  # run from a source tree that is not installed
        ours = "unknown"
    return {"name": "headway", "version": ours, "extensions": list(EXTENSIONS)}


def model_metadata(package: Package, versions: Iterable[str]) -> Table:
    """Return a model's tensors; its outputs are those of all its exits, the deepest first."""
    return {
        "name": package.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in package.inputs],
        "outputs": [_tensor(spec) for spec in _outputs(package)],
    }


def model_config(package: Package, device: str) -> Table:
    """Return a model's configuration; its exits and its device stand in the parameters."""
    exits = [_exit(package, each) for each in package.exits]
    texts = {"exits": msgspec.json.encode(exits).decode(), "device": device, "digest": package.digest}
    return {
        "name": package.name,
        "platform": PLATFORM,
        "backend": "headway",
        "max_batch_size": 0,
        "input": [_configured(spec) for spec in package.inputs],
        "output": [_configured(spec) for spec in _outputs(package)],
        "parameters": {name: {"string_value": text} for name, text in texts.items()},
    }


def statistics(package: Package, seen: ModelStatistics) -> Table:
    """Return the counts of one loaded model; reading and writing tensors is not timed apart from the run."""
    answered, refused = seen.succeeded, seen.failed
    return {
        "name": package.name,
        "version": package.version,
        "last_inference": seen.last_ns // _NS_PER_MS,
        "inference_count": seen.inferences,
        "execution_count": answered,
        "inference_stats": {
            "success": {"count": answered, "ns": seen.queued_ns + seen.run_ns},
            "fail": {"count": refused, "ns": seen.failed_ns},
            "queue": {"count": answered, "ns": seen.queued_ns},
            "compute_input": _NOT_KEPT,
            "compute_infer": {"count": answered, "ns": seen.run_ns},
            "compute_output": _NOT_KEPT,
            "cache_hit": _NOT_KEPT,
            "cache_miss": _NOT_KEPT,
        },
    }


def index(models: Iterable[Listed], *, ready: bool) -> list[Table]:
    """Return what lies in the repository or is served; with `ready` only the latter."""
    return [
        {
            "name": each.name,
            "version": each.version,
            "state": "READY" if each.ready else "UNAVAILABLE",
            "reason": each.reason,
        }
        for each in models
        if each.ready or not ready
    ]


def _outputs(package: Package) -> list[TensorSpec]:
    names = dict.fromkeys(name for each in reversed(package.exits) for name in package.exit_outputs(each.id))
    return [package.tensors[name] for name in names]


def _sizes(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def _tensor(spec: TensorSpec) -> Table:
    return {"name": spec.name, "datatype": NAMES[spec.dtype], "shape": _sizes(spec)}


def _configured(spec: TensorSpec) -> Table:
    return {"name": spec.name, "data_type": f"TYPE_{NAMES[spec.dtype]}", "dims": _sizes(spec)}


def _exit(package: Package, each: Exit) -> Table:
    outputs = list(package.exit_outputs(each.id))
    return {"id": each.id, "kind": str(each.kind), "outputs": outputs, "threshold": each.threshold}
