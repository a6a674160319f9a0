"""Features a head reads: tensors of any usual layout pooled to one row a sample, in numpy and as ONNX nodes.

    [N, C, H, W]   mean of each channel over the image, or over each cell of a grid x grid division (adaptive: cell i
                   takes the rows floor(i H / grid) to ceil((i + 1) H / grid))
    [N, T, D]      mean over the tokens
    [N, D]         as it is
    [N, C, ...]    mean over all sizes after the second

Pooling is a product with a constant matrix or a mean, so numpy and ONNX agree to rounding.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, prod

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from devices.tensor import ANY, Array, TensorSpec
from runtime.pack.exits.errors import CutError
from runtime.pack.exits.graph import GraphBuilder

Floats = NDArray[np.float64]


def batch_sizes(inputs: Iterable[TensorSpec]) -> frozenset[int | str]:
    """Return what the first size of a model's inputs is: names of the open batch, or 1."""
    return frozenset(spec.shape[0] for spec in inputs if spec.shape)


def check_poolable(spec: TensorSpec, grid: int, batches: frozenset[int | str] = frozenset()) -> None:
    """Refuse a tensor that cannot be pooled.

    Args:
        spec: The tensor.
        grid: Cells a side.
        batches: What the batch is called; empty if it is not known.
    Raises:
        CutError: Not floating point, no batch and feature axes, a first axis that is not the batch, channels of open
            size, or a grid over an open or smaller image.
    """
    if not spec.dtype.startswith("float") or len(spec.shape) < 2:
        raise CutError(f"no exit can read {spec}: must be a floating-point tensor of at least two axes")
    if batches and ANY not in batches and spec.shape[0] != ANY and spec.shape[0] not in batches:
        raise CutError(f"no exit can read {spec}: its first axis must be the batch, {_names(batches)}")
    channels = spec.shape[2] if len(spec.shape) == 3 else spec.shape[1]
    if isinstance(channels, str):
        raise CutError(f"no exit can read {spec}: its feature axis must have a fixed size")
    if grid > 1 and len(spec.shape) == 4:
        sizes = [size for size in spec.shape[2:] if isinstance(size, int)]
        if len(sizes) < 2 or min(sizes) < grid:
            raise CutError(f"{spec} cannot be pooled to {grid} x {grid} cells: needs a fixed image of at least that")


def _names(batches: frozenset[int | str]) -> str:
    return " or ".join(sorted(map(str, batches)))


def is_poolable(spec: TensorSpec, grid: int = 1, batches: frozenset[int | str] = frozenset()) -> bool:
    """Return whether a tensor can be pooled, and surely has the batch first; arguments as for `check_poolable`."""
    if batches and ANY not in batches and spec.shape[:1] == (ANY,):
        return False
    try:
        check_poolable(spec, grid, batches)
    except CutError:
        return False
    return True


def cells(height: int, width: int, grid: int) -> Floats:
    """Return the matrix that averages an image, flattened, over each cell, shape (height * width, grid * grid)."""
    rows, columns = _averages(height, grid), _averages(width, grid)
    return np.asarray(np.kron(rows, columns))


def _averages(size: int, grid: int) -> Floats:
    matrix = np.zeros((size, grid))
    for cell in range(grid):
        first, last = floor(cell * size / grid), ceil((cell + 1) * size / grid)
        matrix[first:last, cell] = 1.0 / (last - first)
    return matrix


def pool(values: Mapping[str, Array], specs: Sequence[TensorSpec], grid: int) -> Floats:
    """Return the pooled tensors side by side, shape (n, features).

    Raises:
        CutError: The tensors' first axes differ: one of them is not the batch.
    """
    if len({len(values[spec.name]) for spec in specs}) > 1:
        shapes = {spec.name: values[spec.name].shape for spec in specs}
        raise CutError(f"no exit can read {shapes} together: the first axis of each must be the batch; cut elsewhere")
    return np.concatenate([_pool_one(values[spec.name], grid) for spec in specs], axis=1)


def _pool_one(tensor: Array, grid: int) -> Floats:
    x = tensor.astype(np.float64)
    if x.ndim == 2:
        return x
    if x.ndim == 3:
        return np.asarray(x.mean(axis=1))
    if x.ndim == 4 and grid > 1:
        flat = x.reshape(*x.shape[:2], -1) @ cells(x.shape[2], x.shape[3], grid)
        return flat.reshape(len(x), -1)
    return np.asarray(x.mean(axis=tuple(range(2, x.ndim))))


def pool_nodes(build: GraphBuilder, specs: Sequence[TensorSpec], grid: int) -> str:
    """Append nodes that do what `pool` does, in float32, and return the name of the features."""
    parts = [_pool_one_nodes(build, spec, grid) for spec in specs]
    return parts[0] if len(parts) == 1 else build.node("Concat", *parts, axis=1)


def _pool_one_nodes(build: GraphBuilder, spec: TensorSpec, grid: int) -> str:
    x = spec.name if spec.dtype == "float32" else build.node("Cast", spec.name, to=TensorProto.FLOAT)
    rank = len(spec.shape)
    if rank == 2:
        return x
    if rank == 3:
        return build.node("ReduceMean", x, axes=[1], keepdims=0)
    if rank == 4 and grid > 1:
        _, channels, height, width = (int(size) if isinstance(size, int) else 0 for size in spec.shape)
        flat = build.node("Reshape", x, build.weight(np.array([0, channels, height * width], np.int64)))
        pooled = build.node("MatMul", flat, build.weight(cells(height, width, grid).astype(np.float32)))
        return build.node("Flatten", pooled, axis=1)
    if rank == 4:
        return build.node("Flatten", build.node("GlobalAveragePool", x), axis=1)
    return build.node("ReduceMean", x, axes=list(range(2, rank)), keepdims=0)


def feature_count(specs: Sequence[TensorSpec], grid: int) -> int:
    """Return how many features the pooled tensors have."""
    return sum(_width(spec, grid) for spec in specs)


def _width(spec: TensorSpec, grid: int) -> int:
    channels = spec.shape[2] if len(spec.shape) == 3 else spec.shape[1]
    return prod((int(channels), grid * grid if len(spec.shape) == 4 else 1))
