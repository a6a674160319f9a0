"""The model that ships, and inputs for its segments."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Package
from devices.tensor import Array

DRIVING = Path(str(files("carla_bridge"))) / "models" / "driving" / "1"


def tensors(package: Package, batch: int = 1) -> dict[str, Array]:
    """Return every tensor of a run on random frames, as onnxruntime makes them, by name."""
    frames = np.random.default_rng(7).integers(0, 255, (batch, 80, 160, 3), dtype=np.uint8)
    values: dict[str, Array] = {"frame": frames}
    backend = OnnxRuntimeBackend("cpu")
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        values.update(loaded.run({spec.name: values[spec.name] for spec in segment.inputs}))
    return values
