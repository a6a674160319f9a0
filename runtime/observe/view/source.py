"""Streams a flight log, or a running guard and daemon, into a recording."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from runtime.observe.follower import Follower, Heard
from runtime.observe.recorder.channels import EVENT, RULES, TICK
from runtime.observe.replay.log import FlightLog, LogError
from runtime.observe.view.stream import TOPICS, Stream
from runtime.serve.guard_ticks import Followed, Tick

_LISTEN_S = 0.2
_KINDS = {RULES.topic: Followed, TICK.topic: Tick, EVENT.topic: Heard}


def stream_log(paths: Sequence[Path], stream: Stream) -> int:
    """Stream a flight log to its end and return how many messages were drawn.

    Raises:
        LogError: a file cannot be read, or holds what no recorder writes.
    """
    drawn = 0
    for entry in FlightLog(paths):
        kind = _KINDS.get(entry.topic)
        if kind is None:
            continue
        try:
            heard = msgspec.convert(entry.data, kind, strict=False)
        except msgspec.ValidationError as error:
            raise LogError(f"{entry.path}: a message of {entry.topic} cannot be read: {error}") from error
        stream.take(heard, entry.log_ns - _monotonic_ns(heard))
        drawn += 1
    return drawn


def stream_live(guard: Path, daemon: Path, stream: Stream, goes_on: Callable[[], bool]) -> int:
    """Stream what a guard and a daemon do for as long as `goes_on`; return how many messages were drawn."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    drawn = 0
    with Follower(guard, daemon, TOPICS) as follower:
        while goes_on():
            for heard in follower.listen(_LISTEN_S):
                stream.take(heard, offset_ns)
                drawn += 1
    return drawn


def _monotonic_ns(heard: Followed | Tick | Heard) -> int:
    match heard:
        case Tick():
            return round(1e9 * heard.now_s)
        case Heard():
            return heard.at_ns
    return 0
