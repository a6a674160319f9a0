"""The daemon's local socket: every message, version 1. docs/api.md tells the same to users.

One ROUTER on a unix socket. A message is a msgpack map whose `kind` names the message and the version ("infer/1"),
followed by one raw frame for each tensor that its `tensors` declare: the framing of the wire between hosts, so that a
tensor is never copied on its way from the socket to a device or an edge server. Stamps are CLOCK_MONOTONIC [ns].

    infer   -> answer or error     run a model, get its best answer by the deadline
    cancel  -> (the infer's error) stop one of this client's requests
    step    -> window              one tick of the vehicle: odometry and a camera frame
    models  -> models_list         what is served
    status  -> status_report       how the daemon, its guard and its edge server fare
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from offload.frames import Array, HasBuffer, Limits, Name, RequestId, Tensors, decode_frames, encode_frames

LIMITS = Limits()
_LONGEST_US = 3_600_000_000


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    pass


class Infer(_Strict, frozen=True, tag="infer/1"):
    """Run `model`; `deadline_us` None: as long as it takes; priority 1 is highest, 0 the default.

    The deadline counts from `sent_ns`, CLOCK_MONOTONIC of this host, or where that is None from receipt on.
    """

    id: RequestId
    model: Name
    deadline_us: Annotated[int, Meta(ge=0, le=_LONGEST_US)] | None = None
    sent_ns: int | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] = 0
    least_exit: Name | None = None
    tensors: Tensors = ()


class Cancel(_Strict, frozen=True, tag="cancel/1"):
    """Stop this client's request `id`."""

    id: RequestId


class Step(_Strict, frozen=True, tag="step/1"):
    """One tick of the vehicle: where its odometry puts it, and the camera's frame where there is a new one."""

    stamp_ns: int
    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float
    speed_mps: float | None
    tensors: Tensors = ()


class Models(_Strict, frozen=True, tag="models/1"):
    """What is served?"""

    id: RequestId


class Status(_Strict, frozen=True, tag="status/1"):
    """How does the daemon fare?"""

    id: RequestId


class Answer(_Strict, frozen=True, tag="answer/1"):
    """The best answer there was by the deadline, and where each part of it ran."""

    id: int
    status: str
    exit_id: str
    confidence: float | None
    parts: list[dict[str, Any]]
    time_left_us: int | None
    tensors: Tensors = ()


class WindowReport(_Strict, frozen=True, tag="window/1"):
    """One 20 ms window as it ended: what it was for, which exit answered, where, and what that cost."""

    window: int
    action: str
    exit_id: str | None
    place: str | None
    energy_mj: float
    energy_exit_scaled_mj: float
    deadline_s: float | None
    latency_s: float | None
    reason: str


class ModelsList(_Strict, frozen=True, tag="models_list/1"):
    """Every model served: name, version, inputs, outputs, exits."""

    id: int
    models: list[dict[str, Any]]


class StatusReport(_Strict, frozen=True, tag="status_report/1"):
    """The daemon's state as a map; docs/api.md names the keys."""

    id: int
    status: dict[str, Any]


class Error(_Strict, frozen=True, tag="error/1"):
    """Why request `id` got no answer; id 0 where it could not be read."""

    id: int
    code: str
    error: str


FromClient = Infer | Cancel | Step | Models | Status
FromDaemon = Answer | WindowReport | ModelsList | StatusReport | Error

_DECODER: "msgspec.msgpack.Decoder[FromClient]" = msgspec.msgpack.Decoder(FromClient)


def decode_from_client(frames: Sequence[HasBuffer]) -> tuple[FromClient, dict[str, Array]]:
    """Return a client's message and its tensors, read-only views of the frames.

    Raises:
        WireError: damaged, too large, of an unknown kind or version; it knows the request's id where that was legible.
    """
    return decode_frames(_DECODER, frames, LIMITS)


def encode_to_client(message: FromDaemon, tensors: Mapping[str, Array] | None = None) -> list[bytes | Array]:
    """Return the frames of a message to a client; tensors are not copied."""
    return encode_frames(message, tensors or {}, LIMITS)
