"""The daemon's local socket: every message, version 1. docs/api.md tells the same to users.

A message is a msgpack map whose `kind` names the message and the version ("infer/1"). One raw frame follows for each
tensor that its `tensors` declare, unless the tensor lies in shared memory. Stamps are CLOCK_MONOTONIC [ns].

    infer     -> answer          run a model, get its best answer by the deadline
    cancel    -> (the infer's)   stop one of this client's requests
    step      -> decision        one tick of the vehicle: odometry, obstacles, a camera frame; the control to apply
                 window          what was done in the 20 ms window before last
    deadline  -> tolerable       how long a slip angle may be held
    filter    -> admitted        the admissible slip angle nearest to one
    models    -> models_list     what is served, or could be
    load      -> loaded          serve a model of the repository
    unload    -> unloaded        serve it no more
    plans     -> plans_list      which plan is in force, and why
    status    -> status_report   how the daemon, its guard and its edge server fare
    subscribe -> subscribed      from then on `event`s; unsubscribe ends it

Whatever cannot be done is answered by `error`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from offload.frames import VERSION, Array, Dtype, Limits, Name, RequestId, Shape

__all__ = ["LIMITS", "VERSION", "Array", "FromClient", "FromDaemon"]

LIMITS = Limits()
MOST_TENSORS = 64
SHARED_FROM_BYTES = 65_536
"""Tensors of at least this size may travel by shared memory."""

_LONGEST_US = 3_600_000_000
_Offset = Annotated[int, Meta(ge=0, le=2**40)]
_Segment = Annotated[int, Meta(ge=1, le=2**62)]
_Disc = tuple[float, float, float, float]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    pass


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a tensor lies in shared memory: the segment, and the offset in it [B]."""

    segment: _Segment
    offset: _Offset


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon may put answers: the segment, the offset in it and the size [B]."""

    segment: _Segment
    offset: _Offset
    bytes: _Offset


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Name, element type and shape of a tensor; in the next frame, or `at` a place in shared memory."""

    name: Name
    dtype: Dtype
    shape: Shape
    at: Place | None = None


Tensors = Annotated[tuple[Tensor, ...], Meta(max_length=MOST_TENSORS)]


class Infer(_Strict, frozen=True, tag="infer/1"):
    """Run `model`; `deadline_us` None: as long as it takes; priority 1 is highest, 0 the default.

    The deadline counts from `sent_ns`, CLOCK_MONOTONIC of this host, or where that is None from receipt on. Output
    tensors of 64 KiB and more are put into `answer_at` as far as they fit. `traceparent` is the W3C trace context that
    the request belongs to.
    """

    id: RequestId
    model: Name
    version: Name | None = None
    deadline_us: Annotated[int, Meta(ge=0, le=_LONGEST_US)] | None = None
    sent_ns: int | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] = 0
    least_exit: Name | None = None
    tensors: Tensors = ()
    answer_at: Region | None = None
    traceparent: Name | None = None


class Cancel(_Strict, frozen=True, tag="cancel/1"):
    """Stop this client's request `id`."""

    id: RequestId


class Step(_Strict, frozen=True, tag="step/1"):
    """One tick of the vehicle: where its odometry puts it, and the camera's frame where there is a new one.

    With `obstacles`, each (x [m], y [m], radius [m], top speed [m/s]), the tick goes to the guard as well and its
    decision comes back; a vehicle side with a connection to the guard's own socket leaves them out.
    """

    stamp_ns: int
    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float
    speed_mps: float | None
    obstacles: list[_Disc] | None = None
    applied_id: int = 0
    tensors: Tensors = ()


class _Situation(_Strict, frozen=True):
    """A vehicle's state and what is around it."""

    id: RequestId
    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float
    speed_mps: float | None = None
    obstacles: list[_Disc] = []


class Deadline(_Situation, frozen=True, tag="deadline/1"):
    """How long may `beta_rad` be held?"""

    method: Literal["backup", "barrier", "published"] = "backup"
    cap_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 10.0


class Filter(_Situation, frozen=True, tag="filter/1"):
    """Which slip angle nearest to `beta_rad` is admissible, and lasts for `hold_s` beyond the next tick?"""

    hold_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 0.0


class Models(_Strict, frozen=True, tag="models/1"):
    """What is served; with `every`, also what lies in the repository and is not?"""

    id: RequestId
    every: bool = False


class Load(_Strict, frozen=True, tag="load/1"):
    """Serve a model of the repository, the newest version if none is named, in place of its other versions."""

    id: RequestId
    model: Name
    version: Name | None = None


class Unload(_Strict, frozen=True, tag="unload/1"):
    """Serve a model, or one version of it, no more."""

    id: RequestId
    model: Name
    version: Name | None = None


class PlansQuery(_Strict, frozen=True, tag="plans/1"):
    """Which plan is in force, and why?"""

    id: RequestId


class Status(_Strict, frozen=True, tag="status/1"):
    """How does the daemon fare?"""

    id: RequestId


class Subscribe(_Strict, frozen=True, tag="subscribe/1"):
    """Send events of these topics from now on, marked with this id; sent again it prolongs the subscription."""

    id: RequestId
    topics: Annotated[
        tuple[
            Literal["guard", "window", "request", "model", "plan", "bound", "drift", "edge", "frame", "decision"], ...
        ],
        Meta(min_length=1, max_length=16),
    ]


class Unsubscribe(_Strict, frozen=True, tag="unsubscribe/1"):
    """Send no more events of subscription `id`."""

    id: RequestId


class Answer(_Strict, frozen=True, tag="answer/1"):
    """The best answer there was by the deadline, and where each part of it ran."""

    id: int
    status: str
    model: str
    version: str
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


class Tolerable(_Strict, frozen=True, tag="tolerable/1"):
    """How long the slip angle may be held, what limits that, and the manoeuvre that rescues at its end."""

    id: int
    deadline_s: float
    limited_by: str
    manoeuvre: str | None


class Admitted(_Strict, frozen=True, tag="admitted/1"):
    """The admissible slip angle nearest to the one asked for; None where there is none."""

    id: int
    status: str
    beta_rad: float | None
    limited_by: str
    intervals: list[tuple[float, float]]


class ModelsList(_Strict, frozen=True, tag="models_list/1"):
    """Every model: name, version, whether it is ready and why not; of those served also inputs and exits."""

    id: int
    models: list[dict[str, Any]]


class Loaded(_Strict, frozen=True, tag="loaded/1"):
    """The model is warm and served; `took_mb` is what it takes of the memory budget."""

    id: int
    model: str
    version: str
    took_mb: float


class Unloaded(_Strict, frozen=True, tag="unloaded/1"):
    """The model is served no more."""

    id: int
    model: str


class PlansList(_Strict, frozen=True, tag="plans_list/1"):
    """What is known of plans; None where the daemon has none."""

    id: int
    plans: dict[str, Any] | None


class StatusReport(_Strict, frozen=True, tag="status_report/1"):
    """The daemon's state as a map; docs/api.md names the keys."""

    id: int
    status: dict[str, Any]


class Subscribed(_Strict, frozen=True, tag="subscribed/1"):
    """Events come from now on, until `lease_s` after the last `subscribe` [s]."""

    id: int
    lease_s: float


class EventMessage(_Strict, frozen=True, tag="event/1"):
    """Something happened; `missed` of the events before it were lost because this client did not read."""

    id: int
    topic: str
    number: int
    at_ns: int
    missed: int
    data: dict[str, Any]


class Error(_Strict, frozen=True, tag="error/1"):
    """Why request `id` got no answer; id 0 where it could not be read."""

    id: int
    code: str
    error: str


FromClient = (
    Infer | Cancel | Step | Deadline | Filter | Models | Load | Unload | PlansQuery | Status | Subscribe | Unsubscribe
)
FromDaemon = (
    Answer
    | WindowReport
    | Tolerable
    | Admitted
    | ModelsList
    | Loaded
    | Unloaded
    | PlansList
    | StatusReport
    | Subscribed
    | EventMessage
    | Error
)
