"""What happens in the daemon, told to whoever subscribed, as it happens.

An event is published from whichever thread it happens on, and handed to each subscriber there and then; so a
subscriber's `take` must be quick and must not raise. What nobody subscribed to costs one look-up.

    guard    each tick of the guard: mode, reason, tolerable deadline, held slip angle
    window   each 20 ms window of the vehicle as it ended
    request  each reply to a request: model, status, exit, device of each part, times
    model    a model was loaded or unloaded
    plan     another plan is in force, and why
    bound    the vehicle exceeded a declared bound, or keeps to all of them again
    drift    the inputs of a model are no longer like its calibration inputs
    edge     the edge server's state changed
    frame    the camera's frame of each step: shape, type, pixels
    decision each decision of the scheduler, with what it was made from: admission, exit, window, plan
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Topic(StrEnum):
    """What an event is about."""

    GUARD = "guard"
    WINDOW = "window"
    REQUEST = "request"
    MODEL = "model"
    PLAN = "plan"
    BOUND = "bound"
    DRIFT = "drift"
    EDGE = "edge"
    FRAME = "frame"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Args:
        topic: What it is about.
        number: Counts all published events from 1.
        at_ns: When it was published, CLOCK_MONOTONIC [ns].
        data: What happened; docs/api.md names the keys of each topic.
    """

    topic: Topic
    number: int
    at_ns: int
    data: Mapping[str, Any]


Take = Callable[[Event], None]


class EventHub:
    """Hands events to subscribers; any thread may publish, subscribe and end a subscription."""

    def __init__(self) -> None:
        self._takers: dict[Topic, tuple[Take, ...]] = {}
        self._joined: Counter[Topic] = Counter()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def wanted(self, topic: Topic) -> bool:
        """Return whether anybody listens, for whoever would gather data for nothing."""
        return bool(self._takers.get(topic))

    def joined(self, topic: Topic) -> int:
        """Return how many have subscribed so far, for whoever tells newcomers what others know already."""
        return self._joined[topic]

    def publish(self, topic: Topic, data: Mapping[str, Any]) -> None:
        """Hand an event to those who subscribed to its topic."""
        takers = self._takers.get(topic)
        if not takers:
            return
        event = Event(topic, next(self._numbers), time.monotonic_ns(), data)
        for take in takers:
            take(event)

    def subscribe(self, topics: Iterable[Topic], take: Take) -> Callable[[], None]:
        """Have `take` called for every event of the topics from now on; return what ends that."""
        chosen = frozenset(topics)
        with self._lock:
            for topic in chosen:
                self._takers[topic] = (*self._takers.get(topic, ()), take)
                self._joined[topic] += 1

        def end() -> None:
            with self._lock:
                for topic in chosen:
                    self._takers[topic] = tuple(each for each in self._takers[topic] if each is not take)

        return end
