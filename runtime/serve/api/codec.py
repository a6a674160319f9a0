"""Messages of the local socket as frames, and tensors out of frames or shared memory.

Whatever is wrong with a message, decoding raises a `WireError` and nothing else: its sizes, its frames and the places
in shared memory that it names are checked before anything is read.

A tensor is read where it lies. Only what a model may take for an index (integers of 32 and 64 bits, booleans) is copied
out of shared memory first: its writer could change it between the check that it is in bounds and its use.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from offload.errors import WireError
from offload.frames import VERSION, Array
from runtime.serve.api.messages import (
    LIMITS,
    SHARED_FROM_BYTES,
    FromClient,
    FromDaemon,
    Place,
    Region,
    Tensor,
)

ALIGNMENT = 64
"""Tensors in shared memory begin at multiples of this [B]."""

_NAMES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in (*_NAMES, "float16", "float32", "float64")}
_NAME_OF = {dtype: name for name, dtype in _DTYPES.items()}
_MAY_INDEX = frozenset(("bool", "int32", "uint32", "int64", "uint64"))
_NOTHING = memoryview(b"")
_DECODER: "msgspec.msgpack.Decoder[FromClient]" = msgspec.msgpack.Decoder(FromClient)
_ENCODER = msgspec.msgpack.Encoder()


class Segments(Protocol):
    """Shared memory by the number of its segment."""

    def memory(self, segment: int) -> Any | None:
        """Return a segment's memory, writable; None where there is no such segment."""
        ...


class _Peek(msgspec.Struct):
    kind: str = ""
    id: int = 0


_PEEK = msgspec.msgpack.Decoder(_Peek)


def decode(frames: Sequence[Any], segments: Segments) -> tuple[FromClient, dict[str, Array]]:
    """Return a client's message and its tensors: read-only views of the frames and of shared memory.

    Args:
        frames: Buffers, as `zmq.Frame`s.
        segments: The shared memory.
    Raises:
        WireError: damaged, too large, of an unknown kind or version, or it names memory that it may not; the error
            knows the request's id where that was legible.
    """
    if not frames:
        raise WireError("a message without frames: the first must be a msgpack header")
    header = memoryview(frames[0])
    if len(header) > LIMITS.header_bytes:
        raise WireError(f"the header has {len(header)} bytes: at most {LIMITS.header_bytes} are read")
    try:
        message = _DECODER.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _explain(header, error) from error
    declared: tuple[Tensor, ...] = getattr(message, "tensors", ())
    if not declared and len(frames) == 1:
        return message, {}
    try:
        return message, _tensors(declared, frames[1:], segments)
    except WireError as error:
        raise WireError(str(error), getattr(message, "id", 0)) from error


def encode(message: FromDaemon) -> bytes:
    """Return the one frame of a message without tensors."""
    return _ENCODER.encode(message)


def place(
    outputs: Mapping[str, Array], region: Region | None, segments: Segments, least_bytes: int = SHARED_FROM_BYTES
) -> tuple[tuple[Tensor, ...], list[bytes | Array]]:
    """Return how outputs are declared, and the frames that follow.

    Those of `least_bytes` and more are put into `region` as far as they fit.

    Raises:
        WireError: an output's element type does not travel, or the outputs are too large for a message.
    """
    memory, room = _open(region, segments)
    declared, frames, total = [], [], 0
    for name, array in outputs.items():
        plain = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        dtype, size, at = _NAME_OF.get(plain.dtype), plain.nbytes, None
        if dtype is None:
            raise WireError(f"output {name!r} is of {plain.dtype}: what travels is {', '.join(_DTYPES)}")
        if memory is not None and region is not None and least_bytes <= size <= room.stop - room.start:
            at = Place(region.segment, room.start)
            np.frombuffer(memory, plain.dtype, plain.size, room.start)[:] = plain.reshape(-1)
            room = range(_aligned(room.start + size), room.stop)
        else:
            total += size
            frames.append(plain.reshape(-1).view(np.uint8) if size else b"")
        declared.append(Tensor(name, dtype, plain.shape, at))  # type: ignore[arg-type]
    if total > LIMITS.message_bytes:
        raise WireError(f"the outputs have {total} bytes: at most {LIMITS.message_bytes} travel")
    return tuple(declared), frames


def _open(region: Region | None, segments: Segments) -> tuple[Any | None, range]:
    """Return the memory of a region and what of it may be written; None and nothing where it is not to be had."""
    memory = None if region is None else segments.memory(region.segment)
    if memory is None or region is None:
        return None, range(0)
    start, stop = _aligned(region.offset), min(region.offset + region.bytes, len(memory))
    return memory, range(start, max(start, stop))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _tensors(declared: Sequence[Tensor], frames: Sequence[Any], segments: Segments) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    total, following = 0, 0
    for tensor in declared:
        dtype = _DTYPES[tensor.dtype]
        count = math.prod(tensor.shape)
        size = count * dtype.itemsize
        if tensor.at is None:
            raw = memoryview(frames[following]) if following < len(frames) else _NOTHING
            following += 1
            total += max(size, len(raw))
            if len(raw) > LIMITS.tensor_bytes:
                raise _too_large(tensor, len(raw))
            array = _framed(tensor, raw, dtype, size)
        else:
            total += size
            if size > LIMITS.tensor_bytes:
                raise _too_large(tensor, size)
            array = _shared(tensor, tensor.at, segments, dtype, count)
        array.setflags(write=False)
        try:
            tensors[tensor.name] = array.reshape(tensor.shape)
        except ValueError as error:  # no elements, but sizes beyond what an array may have
            raise WireError(f"tensor {tensor.name!r} has shape {list(tensor.shape)}: {error}") from error
    if following != len(frames):
        raise WireError(f"{len(frames)} tensor frames follow the header: it declares {following}")
    if total > LIMITS.message_bytes:
        raise WireError(f"the tensors have {total} bytes: at most {LIMITS.message_bytes} travel")
    if len(tensors) != len(declared):
        raise WireError(f"two tensors have one name: {', '.join(tensor.name for tensor in declared)}")
    return tensors


def _too_large(tensor: Tensor, size: int) -> WireError:
    return WireError(f"tensor {tensor.name!r} has {size} bytes: at most {LIMITS.tensor_bytes} travel")


def _framed(tensor: Tensor, raw: memoryview, dtype: "np.dtype[Any]", size: int) -> Array:
    if raw is _NOTHING:
        raise WireError(f"tensor {tensor.name!r} has no frame: one must follow the header for each that is not shared")
    if len(raw) != size:
        raise WireError(
            f"tensor {tensor.name!r} of {tensor.dtype} {list(tensor.shape)} has {len(raw)} bytes: must have {size}"
        )
    array: Array = np.frombuffer(raw, dtype)
    # Small frames lie anywhere in ZeroMQ's receive buffer: wider elements are not read there.
    return _checked(tensor, array if array.flags.aligned else array.copy())


def _shared(tensor: Tensor, at: Place, segments: Segments, dtype: "np.dtype[Any]", count: int) -> Array:
    memory = segments.memory(at.segment)
    if memory is None:
        raise WireError(f"tensor {tensor.name!r} lies in segment {at.segment}: this daemon shares no such memory")
    end = at.offset + count * dtype.itemsize
    if at.offset % ALIGNMENT or end > len(memory):
        raise WireError(
            f"tensor {tensor.name!r} lies at {at.offset}..{end} of {len(memory)} shared bytes: must lie within, "
            f"and begin at a multiple of {ALIGNMENT}"
        )
    array: Array = np.frombuffer(memory, dtype, count, at.offset)
    return _checked(tensor, array.copy()) if tensor.dtype in _MAY_INDEX else array


def _checked(tensor: Tensor, array: Array) -> Array:
    if tensor.dtype == "bool" and array.size and array.view(np.uint8).max() > 1:
        most = array.view(np.uint8).max()
        raise WireError(f"tensor {tensor.name!r} of bool holds a byte {most}: must be 0 or 1")
    return array


def _explain(header: Any, error: Exception) -> WireError:
    """Say why `header` was refused: another version where its kind names one, else the decoder's own text."""
    try:
        peek = _PEEK.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return WireError(f"the header cannot be read: {error}")
    request_id = peek.id if 0 < peek.id <= 2**62 else 0
    _, slash, version = peek.kind.partition("/")
    if slash and version != str(VERSION):
        return WireError(f"the message is a {peek.kind[:64]!r}: this side speaks version {VERSION}", request_id)
    return WireError(f"the header is refused: {error}", request_id)
