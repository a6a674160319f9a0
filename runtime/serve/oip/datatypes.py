"""The protocol's names of element types, and data of such types out of JSON.

BYTES (strings) and BF16 have no counterpart in a package, so requests with them are refused.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from devices.tensor import Array
from runtime.serve.oip.errors import Cause, OipError

NAMES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
"""The protocol's name by numpy's."""
_BY_DTYPE = {np.dtype(name): oip for name, oip in NAMES.items()}  # numpy makes up a dtype's name at every look
_DTYPES = {oip: np.dtype(name).newbyteorder("<") for name, oip in NAMES.items()}
_FITTING_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # of what JSON's numbers become, by the kind asked for
MAX_DIMENSIONS = 8


def datatype_of(array: Array) -> str:
    """Return the protocol's name of a tensor's element type.

    Raises:
        KeyError: It has none.
    """
    return _BY_DTYPE.get(array.dtype) or NAMES[array.dtype.name]


def dtype_of(tensor: str, datatype: str) -> "np.dtype[Any]":
    """Return the little-endian dtype of a tensor.

    Raises:
        OipError: The datatype is unknown, or none that a model here can take.
    """
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise OipError(Cause.INVALID, f"tensor {tensor!r} has datatype {datatype[:64]!r}: one of {', '.join(_DTYPES)}")
    return dtype


def size_of(tensor: str, shape: Sequence[int], dtype: "np.dtype[Any]") -> int:
    """Return the size of a tensor [byte].

    Raises:
        OipError: Too many dimensions, or a size that is negative.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise OipError(Cause.INVALID, f"tensor {tensor!r} has {len(shape)} dimensions: at most {MAX_DIMENSIONS}")
    if shape and min(shape) < 0:
        raise OipError(Cause.INVALID, f"tensor {tensor!r} has shape {list(shape)}: a request's sizes are 0 or more")
    return prod(shape) * dtype.itemsize


def view(tensor: str, shape: Sequence[int], datatype: str, raw: memoryview) -> Array:
    """Return a tensor as a read-only view of its raw bytes; those that are not aligned are copied.

    Args:
        tensor: Its name, for messages.
        shape: Its sizes.
        datatype: The protocol's name of its element type.
        raw: Exactly its bytes, little-endian, in C order.
    Raises:
        OipError: Unknown datatype, impossible shape, another number of bytes, a bool that is neither 0 nor 1.
    """
    check_size(tensor, shape, datatype, len(raw))
    return over(tensor, shape, dtype_of(tensor, datatype), raw)


def check_size(tensor: str, shape: Sequence[int], datatype: str, given: int) -> None:
    """Return if a tensor of this shape has the `given` number of bytes.

    Raises:
        OipError: It has another one, or its datatype is unknown or its shape impossible.
    """
    wanted = size_of(tensor, shape, dtype_of(tensor, datatype))
    if wanted != given:
        raise OipError(
            Cause.INVALID, f"tensor {tensor!r} of {datatype} {list(shape)} has {given} bytes: must have {wanted}"
        )


def over(tensor: str, shape: Sequence[int], dtype: "np.dtype[Any]", raw: memoryview) -> Array:
    """Return what `view` does, for bytes whose number is known to be right.

    Raises:
        OipError: A bool that is neither 0 nor 1.
    """
    array: Array = np.frombuffer(raw, dtype)
    if dtype.kind == "b" and array.size and (most := array.view(np.uint8).max()) > 1:
        raise OipError(Cause.INVALID, f"tensor {tensor!r} of BOOL holds a byte {most}: must be 0 or 1")
    if not array.flags.aligned:
        array = array.copy()
    array.setflags(write=False)
    return array.reshape(shape)


def raw(array: Array) -> memoryview:
    """Return a tensor's bytes, little-endian in C order; not copied where they lie so already."""
    plain: Any = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return memoryview(plain.reshape(-1).view(np.uint8))


def from_values(tensor: str, shape: Sequence[int], datatype: str, values: Any) -> Array:
    """Return a tensor from numbers, flat or nested as its shape is.

    Raises:
        OipError: Unknown datatype, another number of values than the shape has, values of another type or out of range,
            or FP16, which has no numbers in JSON.
    """
    dtype = dtype_of(tensor, datatype)
    if datatype == "FP16":
        raise OipError(Cause.INVALID, f"tensor {tensor!r} of FP16 cannot be given as numbers: send it as binary data")
    count = size_of(tensor, shape, dtype) // dtype.itemsize
    try:
        given = np.asarray(values)
    except (ValueError, OverflowError, RecursionError) as error:
        raise OipError(Cause.INVALID, f"tensor {tensor!r}: the data are no regular array: {error}") from error
    if given.size != count or given.shape not in ((count,), tuple(shape)):
        raise OipError(
            Cause.INVALID,
            f"tensor {tensor!r} has data of shape {list(given.shape)}: must be {list(shape)}, or flat with {count}",
        )
    if count == 0:
        return np.empty(shape, dtype)
    if given.dtype.kind not in _FITTING_KINDS[dtype.kind]:
        raise OipError(Cause.INVALID, f"tensor {tensor!r} of {datatype} holds other values than {_wanted(dtype)}")
    if dtype.kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(given.min()) < least or int(given.max()) > most:
            raise OipError(Cause.INVALID, f"tensor {tensor!r} of {datatype} holds values beyond {least} to {most}")
    with np.errstate(over="ignore"):  # an infinity is refused with its place before the model runs
        return given.astype(dtype).reshape(shape)


def _wanted(dtype: "np.dtype[Any]") -> str:
    return {"b": "true and false", "f": "numbers"}.get(dtype.kind, "whole numbers")
