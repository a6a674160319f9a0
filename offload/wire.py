"""What travels between a vehicle and an edge server.

A message is a multipart ZeroMQ message. Its first frame is a msgpack map, strictly typed and limited in size; each
further frame is the raw little-endian, C-ordered data of one tensor that the map declares (name, dtype, shape). The
map's `kind` carries the version of the format ("request/1"): another version is refused with a text that says so.

    vehicle to edge    hello  request  cancel  ping
    edge to vehicle    welcome  reply  pong

Absolute times never leave a host: a request says how much time is left [us] at the moment it is sent. Nothing is
copied on either side: encoding hands out views of the caller's arrays, decoding gives read-only views of the frames.
Whatever is wrong with a message, decoding raises a `WireError`, and nothing else.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from offload.errors import WireError
from offload.frames import (
    DEFAULT_LIMITS,
    VERSION,
    Array,
    CodecName,
    HasBuffer,
    Limits,
    Name,
    RequestId,
    Tensors,
    decode_frames,
    encode_frames,
)

Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Microseconds = Annotated[int, Meta(ge=0, le=3_600_000_000)]
Traceparent = Annotated[str, Meta(pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class Code(StrEnum):
    """How a request ended."""

    OK = "OK"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    INVALID = "INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"

    __hash__ = str.__hash__  # an Enum's own is a Python function, and codes are counted for every request


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    pass


class Hello(_Strict, frozen=True, tag=f"hello/{VERSION}"):
    """A vehicle introduces itself; answered by `Welcome`."""

    client: Name


class Request(_Strict, frozen=True, tag=f"request/{VERSION}"):
    """Run a range of a model's segments on the tensors that follow.

    Args:
        id: Chosen by the vehicle, unique on its connection.
        model: Name of the package; `version` is the one wanted, None for whichever is served.
        first_segment, last_segment: Ends of the range in the package's order; None: from the first, to the last.
        time_left_us: Time until the answer stops being of use, at the moment of sending [us].
        priority: 1 is the highest; breaks ties between equal deadlines.
        traceparent: W3C trace context.
        tensors: One header per following frame.
    """

    id: RequestId
    model: Name
    time_left_us: Microseconds
    version: Name | None = None
    first_segment: Name | None = None
    last_segment: Name | None = None
    priority: Annotated[int, Meta(ge=1, le=9)] = 5
    traceparent: Traceparent | None = None
    tensors: Tensors = ()


class Cancel(_Strict, frozen=True, tag=f"cancel/{VERSION}"):
    """The answer to request `id` is no longer wanted: it is dropped from the queue, or stopped where it runs."""

    id: RequestId


class Ping(_Strict, frozen=True, tag=f"ping/{VERSION}"):
    """Is the server's loop alive? Answered by `Pong` with the same number."""

    number: Count


class Welcome(_Strict, frozen=True, tag=f"welcome/{VERSION}"):
    """The server introduces itself and names the models it serves, and the codecs it reads."""

    server: Name
    models: Annotated[tuple[Name, ...], Meta(max_length=256)]
    codecs: Annotated[tuple[CodecName, ...], Meta(max_length=16)] = ()


class Pong(_Strict, frozen=True, tag=f"pong/{VERSION}"):
    """The server's loop is alive.

    Args:
        load_us: Work the server has accepted and not finished [us].
        ready: False while it drains.
    """

    number: Count
    load_us: Count
    ready: bool


class Reply(_Strict, frozen=True, tag=f"reply/{VERSION}"):
    """How request `id` ended; id 0 answers a message whose id could not be read.

    Args:
        code: OK, or why there is no answer; `message` then says what was wrong.
        exit_id: Exit that gave the answer, None where the range holds no exit or nothing was answered.
        queue_us, compute_us: Time the request waited, and time it was computed [us].
        load_us: Work the server has accepted and not finished [us].
        tensors: One header per following frame.
    """

    id: Count
    code: Code
    message: Text = ""
    exit_id: Name | None = None
    queue_us: Count = 0
    compute_us: Count = 0
    load_us: Count = 0
    tensors: Tensors = ()


FromVehicle = Hello | Request | Cancel | Ping
FromEdge = Welcome | Reply | Pong
Message = FromVehicle | FromEdge


_ENCODER = msgspec.msgpack.Encoder()
_FROM_VEHICLE = msgspec.msgpack.Decoder(FromVehicle)
_FROM_EDGE = msgspec.msgpack.Decoder(FromEdge)


def encode(message: Message) -> list[bytes]:
    """Return the frames of a message that carries no tensor."""
    return [_ENCODER.encode(message)]


def encode_header(message: Message, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the first frame of a message; its tensors' frames, where it declares any, come from `tensor_frames`.

    Raises:
        WireError: it is larger than the limits.
    """
    header = _ENCODER.encode(message)
    if len(header) > limits.header_bytes:
        text = f"the header takes {len(header)} bytes: at most {limits.header_bytes} travel"
        raise WireError(text, getattr(message, "id", 0))
    return header


def encode_with(
    message: Request | Reply, tensors: Mapping[str, Array], limits: Limits = DEFAULT_LIMITS
) -> list[bytes | Array]:
    """Return the frames of a request or reply and its tensors; see `encode_frames`."""
    return encode_frames(message, tensors, limits)


def decode_from_vehicle(
    frames: Sequence[HasBuffer], limits: Limits = DEFAULT_LIMITS
) -> tuple[FromVehicle, dict[str, Array]]:
    """Return a vehicle's message and its tensors by name; the arrays are read-only views of the frames.

    Raises:
        WireError: the message is damaged, too large, or of another version.
    """
    return decode_frames(_FROM_VEHICLE, frames, limits)


def decode_from_edge(frames: Sequence[HasBuffer], limits: Limits = DEFAULT_LIMITS) -> tuple[FromEdge, dict[str, Array]]:
    """Return an edge server's message and its tensors by name; the arrays are read-only views of the frames.

    Raises:
        WireError: the message is damaged, too large, or of another version.
    """
    return decode_frames(_FROM_EDGE, frames, limits)
