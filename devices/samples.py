"""Random inputs for segments, for profiling and for checking one backend against another."""

from collections.abc import Iterable

import numpy as np

from devices.tensor import Array, TensorSpec


def sample_inputs(specs: Iterable[TensorSpec], batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """Return random tensors that fit declarations.

    Bytes are uniform over their range, floats standard normal in magnitude (features mostly follow a ReLU), wider
    integers 0 or 1, so that they are valid as indices.

    Args:
        specs: The declarations.
        batch: What an open first size stands for; every other open size is 1.
        seed: Seed of the numbers.
    Returns:
        Tensors by name.
    Raises:
        ValueError: `batch` is less than 1.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: must be at least 1")
    rng = np.random.default_rng(seed)
    return {spec.name: _random(rng, spec, _shape(spec, batch)) for spec in specs}


def open_batch(specs: Iterable[TensorSpec]) -> bool:
    """Whether a batch can be given at all: every first size is open."""
    return all(bool(spec.shape) and isinstance(spec.shape[0], str) for spec in specs)


def _shape(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else (batch if place == 0 else 1) for place, size in enumerate(spec.shape)
    )


def _random(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.abs(rng.normal(size=shape)).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)
