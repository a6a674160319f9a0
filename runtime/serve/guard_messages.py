"""The guard's socket: every message, version 1.

One ROUTER on a unix socket. Each message is one msgpack map whose `kind` names the message and the
version ("observe/1"); times are CLOCK_MONOTONIC in
nanoseconds, since both ends are one host.

    vehicle -> guard   observe     state and obstacles of this tick                        answered by decision
    daemon  -> guard   propose     the control the daemon would apply                      not answered
    daemon  -> guard   watch       send me a report at every tick; also the heartbeat      answered by welcome
    anyone  -> guard   status      how the guard fares                                     answered by guard_status
    anyone  -> guard   follow      send me every tick whole; to be repeated within 2 s     answered by followed
    guard   -> sender  refused     what was wrong with the message, and what would be right
"""

import msgspec

from runtime.errors import MessageError

_LARGEST_MESSAGE = 1 << 18


class Observe(msgspec.Struct, tag="observe/1", tag_field="kind", forbid_unknown_fields=True):
    """State and obstacles at one tick; `obstacles` holds (x [m], y [m], radius [m], top speed [m/s]) each."""

    stamp_ns: int
    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float
    speed_mps: float | None
    obstacles: list[tuple[float, float, float, float]]
    applied_id: int


class Propose(msgspec.Struct, tag="propose/1", tag_field="kind", forbid_unknown_fields=True):
    """The control the daemon would apply, and the stamp of the state it was computed from."""

    stamp_ns: int
    beta_rad: float
    speed_mps: float


class Watch(msgspec.Struct, tag="watch/1", tag_field="kind", forbid_unknown_fields=True):
    """Ask for a report at every tick; `fingerprint` is the vehicle the sender reckons with."""

    fingerprint: str
    pid: int


class StatusQuery(msgspec.Struct, tag="status/1", tag_field="kind", forbid_unknown_fields=True):
    """Ask how the guard fares."""


class Follow(msgspec.Struct, tag="follow/1", tag_field="kind", forbid_unknown_fields=True):
    """Ask for every tick with all that went into it (`guard_ticks.Tick`), for a recorder or a view."""


class DecisionMessage(msgspec.Struct, tag="decision/1", tag_field="kind", omit_defaults=False):
    """What the vehicle applies, until when, and what it switches to by itself; a time of None is no limit."""

    id: int
    stamp_ns: int
    mode: str
    reason: str
    beta_rad: float
    speed_mps: float
    brake: bool
    apply_by_ns: int | None
    hold_until_ns: int | None
    backup: tuple[float, float, bool] | None
    backup_manoeuvre: str | None
    deadline_s: float
    barrier_deadline_s: float | None
    limited_by: str
    intervened: bool
    proposed_beta_rad: float | None
    shortfall_s: float
    switch_time_s: float


class Welcome(msgspec.Struct, tag="welcome/1", tag_field="kind"):
    """The guard's answer to the first watch: whom it guards, and since when it runs."""

    fingerprint: str
    pid: int
    vehicle: str
    certificate: str | None


class Report(msgspec.Struct, tag="report/1", tag_field="kind"):
    """One tick as the daemon needs it: the tolerable deadline of the held control, from `stamp_ns` on.

    `exceeded`: the declared bound that the vehicle exceeded, while that keeps the guard in its conservative setting.
    """

    id: int
    stamp_ns: int
    mode: str
    reason: str
    deadline_s: float
    barrier_deadline_s: float | None
    limited_by: str
    beta_rad: float
    intervened: bool
    exceeded: str = ""


class GuardStatus(msgspec.Struct, tag="guard_status/1", tag_field="kind"):
    """How the guard fares: counts since its start, duration of its ticks, what the kernel granted.

    `late`: decisions that left after they could have taken effect. `backups`: how often it went over to the backup.
    `tick_buckets`, `deadline_buckets`: how many ticks took, and deadlines were, at most that many seconds, as a
    Prometheus histogram counts; with the sums of both. `page_faults`: since it serves; each cost it time.
    `exceeded`: observations that exceeded each declared bound; `conservative`: the one that keeps the guard in its
    conservative setting, empty when none does.
    """

    pid: int
    vehicle: str
    fingerprint: str
    certificate: str | None
    uptime_s: float
    ticks: int
    modes: dict[str, int]
    reasons: dict[str, int]
    interventions: int
    tick_p99_ms: float
    tick_max_ms: float
    proposals: int
    watchers: int
    realtime: dict[str, str]
    late: int = 0
    backups: int = 0
    tick_buckets: dict[str, int] = {}
    deadline_buckets: dict[str, int] = {}
    tick_sum_s: float = 0.0
    deadline_sum_s: float = 0.0
    page_faults: int = 0
    exceeded: dict[str, int] = {}
    conservative: str = ""


class Refused(msgspec.Struct, tag="refused/1", tag_field="kind"):
    """A message that could not be used."""

    error: str


Request = Observe | Propose | Watch | StatusQuery | Follow
Reply = DecisionMessage | Welcome | Report | GuardStatus | Refused

# Text that is no UTF-8 and nesting without end come out of the decoder as errors of Python's own.
_DAMAGE = (msgspec.MsgspecError, ValueError, RecursionError)
_decoder = msgspec.msgpack.Decoder(Request)
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()
KNOWN_REQUESTS = ("observe/1", "propose/1", "watch/1", "status/1", "follow/1")


def encode(message: msgspec.Struct) -> bytes:
    """Return `message` as msgpack."""
    return _encoder.encode(message)


def decode_request(frame: bytes) -> Request:
    """Return the request in `frame`.

    Raises:
        MessageError: too large, not msgpack, no known type, a field missing, unknown or of the wrong kind.
    """
    if len(frame) > _LARGEST_MESSAGE:
        raise MessageError(f"the message has {len(frame)} bytes: the guard reads at most {_LARGEST_MESSAGE}")
    try:
        request: Request = _decoder.decode(frame)
    except _DAMAGE as error:
        raise MessageError(f"not a guard message: {error}; known kinds are {', '.join(KNOWN_REQUESTS)}") from error
    return request


def decode_reply(frame: bytes) -> Reply:
    """Return the guard's reply in `frame`.

    Raises:
        MessageError: not a message of the guard.
    """
    try:
        reply: Reply = _reply_decoder.decode(frame)
    except _DAMAGE as error:
        raise MessageError(f"not a reply of the guard: {error}") from error
    return reply
