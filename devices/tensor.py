"""What a tensor must look like: name, dtype and shape, some of whose sizes may be left open.

An open size has a name ("N" for the batch); within one request every use of a name stands for the same number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.errors import InputError

Array = npt.NDArray[Any]

DTYPES = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}
)
MAX_TENSOR_BYTES = 256 * 2**20
ANY = "?"  # an open size without a name, as some exporters leave behind


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Declaration of one tensor.

    Args:
        name: The tensor's name in the package and in the ONNX files.
        dtype: numpy's name of the element type, one of `DTYPES`.
        shape: Sizes; a str is an open size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def least_bytes(self) -> int:
        """Memory of the tensor with every open size at 1 [byte]."""
        return prod(size for size in self.shape if isinstance(size, int)) * np.dtype(self.dtype).itemsize

    def accepts(self, other: "TensorSpec") -> bool:
        """Whether a tensor declared as `other` may be fed where this one is declared."""
        return (
            self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(
                mine == theirs or isinstance(mine, str) or isinstance(theirs, str)
                for mine, theirs in zip(self.shape, other.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{','.join(map(str, self.shape))}]"

    def check(self, array: Array, sizes: dict[str, int]) -> None:
        """Refuse an array of another dtype or shape; `sizes` collects what the open sizes stand for.

        Raises:
            InputError: Not an array, wrong dtype, wrong shape, or two numbers for one open size.
        """
        if not isinstance(array, np.ndarray):
            raise InputError(f"input {self.name!r} is a {type(array).__name__}: must be a numpy array {self}")
        if array.dtype.name != self.dtype:
            raise InputError(f"input {self.name!r} has dtype {array.dtype.name}: must be {self.dtype}")
        fits = len(array.shape) == len(self.shape) and array.size > 0
        for actual, size in zip(array.shape, self.shape, strict=False):
            if isinstance(size, int):
                fits = fits and actual == size
            elif size != ANY:
                fits = fits and sizes.setdefault(size, actual) == actual
        if not fits:
            known = {name: number for name, number in sizes.items() if name in self.shape}
            hint = f" with {known}" if known else ""
            hint += ", no size 0" if array.size == 0 else ""
            raise InputError(f"input {self.name!r} has shape {array.shape}: must be {self.shape}{hint}")
        if array.nbytes > MAX_TENSOR_BYTES:
            raise InputError(f"input {self.name!r} has {array.nbytes} bytes: must be at most {MAX_TENSOR_BYTES}")


def check_inputs(specs: Iterable[TensorSpec], arrays: Mapping[str, Array]) -> None:
    """Refuse a set of inputs that does not fit `specs` by name, dtype and shape.

    Raises:
        InputError: A name is missing or unknown, or an array does not fit.
    """
    wanted = {spec.name: spec for spec in specs}
    if arrays.keys() != wanted.keys():
        missing, unknown = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
        what = [f"{word} {names}" for word, names in (("lacks", missing), ("has unknown", unknown)) if names]
        raise InputError(f"the input set {' and '.join(what)}: must be {sorted(wanted)}")
    sizes: dict[str, int] = {}
    for name, spec in wanted.items():
        spec.check(arrays[name], sizes)


def check_finite(arrays: Mapping[str, Array]) -> None:
    """Refuse floating-point tensors that hold a NaN or an infinity.

    Raises:
        InputError: Names the tensor, the first offending index and its value.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise InputError(f"input {name!r} holds {array[index]} at {index}: every value must be finite")
