"""A message and its tensors as ZeroMQ frames: used between hosts and on the daemon's local socket.

The first frame is a msgpack map, strictly typed and limited in size; each further frame is the raw little-endian,
C-ordered data of one tensor that the map's `tensors` declare (name, dtype, shape). Nothing is copied on either side:
encoding hands out views of the caller's arrays, decoding gives read-only views of the frames. Whatever is wrong with a
message, decoding raises a `WireError`, and nothing else.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import zmq
from msgspec import Meta, Struct
from numpy.typing import NDArray

from offload.errors import CodecError, WireError

if TYPE_CHECKING:
    from offload.codec import Encoded

VERSION = 1
"""Version of the format; part of every message's kind."""

Array = NDArray[Any]
Dtype = Literal[
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"
]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
RequestId = Annotated[int, Meta(ge=1, le=2**62)]
CodecName = Annotated[str, Meta(min_length=1, max_length=16)]
Shape = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=8)]


class TensorHeader(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Name, element type and shape of the tensor in one frame; with a `codec`, the frame holds what that made of it.

    `error` is the most that an element differs by from the one that was encoded, where the codec bounds it.
    """

    name: Name
    dtype: Dtype
    shape: Shape
    codec: CodecName | None = None
    error: Annotated[float, Meta(ge=0.0)] | None = None


_MOST_TENSORS = 64
Tensors = Annotated[tuple[TensorHeader, ...], Meta(max_length=_MOST_TENSORS)]


HasBuffer = zmq.Frame | bytes | memoryview
"""A received frame: bytes that can be read where they lie."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that one message may carry.

    Args:
        header_bytes: Size of the first frame [B].
        tensor_bytes: Size of one tensor [B]; also the size at which the socket drops a peer.
        message_bytes: Size of all tensors of one message together [B].
    """

    header_bytes: int = 65_536
    tensor_bytes: int = 32 * 2**20
    message_bytes: int = 64 * 2**20


DEFAULT_LIMITS = Limits()

COPY_BELOW_BYTES = 2**20
"""Sockets copy smaller frames: that is quicker than pyzmq's telling its collector thread when ours may be freed."""


_ENCODER = msgspec.msgpack.Encoder()
_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in Dtype.__args__}  # type: ignore[attr-defined]
_NAMES = {order: name for name, dtype in _DTYPES.items() for order in (dtype, dtype.newbyteorder(">"))}
_AS_IT_IS = {dtype: name for name, dtype in _DTYPES.items()}
_BOOL = _DTYPES["bool"]
_new_array = np.ndarray


def encode_frames(
    message: Struct, tensors: Mapping[str, Array], limits: Limits = DEFAULT_LIMITS
) -> list[bytes | Array]:
    """Return the frames of a message and its tensors.

    Args:
        message: A struct; its field `tensors`, where there are any, is filled in here.
        tensors: Arrays by name. C-ordered little-endian ones are not copied, so they must not be written to until sent.
        limits: Most the message may carry.
    Raises:
        WireError: a dtype that does not travel, too many dimensions or tensors, or a size above the limits.
    """
    request_id: int = getattr(message, "id", 0)
    headers, data = tensor_frames(tensors, limits, request_id)
    header = _ENCODER.encode(msgspec.structs.replace(message, tensors=headers) if headers else message)
    if len(header) > limits.header_bytes:
        raise WireError(f"the header takes {len(header)} bytes: at most {limits.header_bytes} travel", request_id)
    return [header, *data]


def tensor_frames(
    tensors: Mapping[str, Array],
    limits: Limits = DEFAULT_LIMITS,
    request_id: int = 0,
    encode: "Callable[[str, Array], tuple[str, Encoded] | None] | None" = None,
) -> tuple[tuple[TensorHeader, ...], list[bytes | Array]]:
    """Return the headers and the frames of tensors; see `encode_frames`.

    `encode` returns, by a tensor's name and the tensor, a codec's name and what it makes of it; None: sent as it is.
    """
    headers = []
    frames: list[bytes | Array] = []
    total = 0
    for name, array in tensors.items():
        dtype = _AS_IT_IS.get(array.dtype)
        plain = array
        if dtype is None or array.ndim > 8 or not array.flags.c_contiguous:
            dtype, plain = _plain(name, array)
        coded = encode(name, plain) if encode is not None else None
        size = plain.nbytes
        if coded is None:
            headers.append(TensorHeader(name, dtype, plain.shape))  # type: ignore[arg-type]
            frames.append(plain if size else b"")
        else:
            codec, made = coded
            headers.append(TensorHeader(name, dtype, plain.shape, codec, made.error))  # type: ignore[arg-type]
            frames.append(made.data)
        total += size
        if size > limits.tensor_bytes or total > limits.message_bytes:
            _check_sizes([item.nbytes for item in tensors.values()], list(tensors), limits, request_id)
    if len(headers) > _MOST_TENSORS:
        raise WireError(f"{len(headers)} tensors in one message: at most {_MOST_TENSORS} travel", request_id)
    return tuple(headers), frames


def sent_bytes(frames: Sequence[bytes | Array]) -> int:
    """Return what frames made by `tensor_frames` take on their way [B]."""
    return sum(len(frame) if isinstance(frame, bytes) else frame.nbytes for frame in frames)


_Kind = TypeVar("_Kind")


def decode_frames(
    decoder: "msgspec.msgpack.Decoder[_Kind]", frames: Sequence[HasBuffer], limits: Limits
) -> tuple[_Kind, dict[str, Array]]:
    """Return the message that `decoder` knows and its tensors by name; the arrays are read-only views of the frames.

    Raises:
        WireError: the message is damaged, too large, or of another version.
    """
    if not frames:
        raise WireError("a message without frames: the first must be a msgpack header")
    header: Any = frames[0]
    if len(header) > limits.header_bytes:
        raise WireError(f"the header has {len(header)} bytes: at most {limits.header_bytes} are read")
    try:
        message = decoder.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _explain(header, error) from error
    headers: tuple[TensorHeader, ...] = getattr(message, "tensors", ())
    if len(frames) != len(headers) + 1:
        text = f"{len(frames) - 1} tensor frames follow the header: it declares {len(headers)}"
        raise WireError(text, getattr(message, "id", 0))
    tensors: dict[str, Array] = {}
    total = 0
    for index, item in enumerate(headers, 1):
        raw: Any = frames[index]
        size = len(raw)
        dtype = _DTYPES[item.dtype]
        if item.codec is not None:  # what it will take, not what it takes
            size = max(size, math.prod(item.shape) * dtype.itemsize)
        total += size
        if size > limits.tensor_bytes or total > limits.message_bytes:
            sizes = [size if other is raw else len(other) for other in frames[1:]]
            _check_sizes(sizes, [other.name for other in headers], limits, getattr(message, "id", 0))
        if item.codec is not None:
            tensors[item.name] = _decoded(item, raw, dtype, getattr(message, "id", 0))
            continue
        try:
            array = _new_array(item.shape, dtype, raw)
        except (TypeError, ValueError):  # more than there is, or more than there can be
            array = None
        if array is None or array.nbytes != size:
            raise _wrong_size(item, size, getattr(message, "id", 0))
        flags = array.flags
        flags.writeable = False
        if dtype is _BOOL and size:
            _check_bool(item, array, getattr(message, "id", 0))
        if not flags.aligned:  # small frames lie anywhere in ZeroMQ's receive buffer: wide elements are not read there
            array = array.copy()
            array.flags.writeable = False
        tensors[item.name] = array
    if len(tensors) != len(headers):
        names = ", ".join(item.name for item in headers)
        raise WireError(f"two tensors have one name: {names}", getattr(message, "id", 0))
    return message, tensors


def _wrong_size(header: TensorHeader, size: int, request_id: int) -> WireError:
    wanted = math.prod(header.shape) * _DTYPES[header.dtype].itemsize
    text = f"tensor {header.name!r} of {header.dtype} {list(header.shape)} has {size} bytes: must have {wanted}"
    return WireError(text, request_id)


def _check_bool(header: TensorHeader, array: Array, request_id: int) -> None:
    most = array.view(np.uint8).max()
    if most > 1:
        raise WireError(f"tensor {header.name!r} of bool holds a byte {most}: must be 0 or 1", request_id)


def _decoded(header: TensorHeader, raw: Any, dtype: "np.dtype[Any]", request_id: int) -> Array:
    from offload.codec import decode  # brings image libraries along, which most processes never need

    try:
        array = decode(str(header.codec), raw, dtype, header.shape)
    except CodecError as error:
        raise WireError(f"tensor {header.name!r}: {error}", request_id) from error
    array.setflags(write=False)
    return array


def _plain(name: str, array: Array) -> tuple[str, Array]:
    """Return the name of the element type and the array in C order and little-endian, itself where it is so already."""
    dtype = _NAMES.get(array.dtype)
    if dtype is None:
        raise WireError(f"tensor {name!r} is of {array.dtype}: what travels is {', '.join(_DTYPES)}")
    if array.ndim > 8:
        raise WireError(f"tensor {name!r} has {array.ndim} dimensions: at most 8 travel")
    if array.flags.c_contiguous and array.dtype == _DTYPES[dtype]:
        return dtype, array
    plain: Array = np.ascontiguousarray(array, _DTYPES[dtype])
    return dtype, plain.reshape(array.shape)


def _check_sizes(sizes: Sequence[int], names: Sequence[str], limits: Limits, request_id: int) -> None:
    for size, name in zip(sizes, names, strict=True):
        if size > limits.tensor_bytes:
            raise WireError(f"tensor {name!r} has {size} bytes: at most {limits.tensor_bytes} travel", request_id)
    if sum(sizes) > limits.message_bytes:
        raise WireError(f"the tensors have {sum(sizes)} bytes: at most {limits.message_bytes} travel", request_id)


class _Peek(Struct):
    kind: str = ""
    id: int = 0


_PEEK = msgspec.msgpack.Decoder(_Peek)


def peek(frames: Sequence[HasBuffer]) -> tuple[str, int]:
    """Return kind and id that a message claims, without believing anything else of it; "" and 0 where there is none."""
    header: Any = frames[0] if frames else b""
    if not header or len(header) > DEFAULT_LIMITS.header_bytes:
        return "", 0
    try:
        claimed = _PEEK.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "", 0
    return claimed.kind, claimed.id if 0 < claimed.id <= 2**62 else 0


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
