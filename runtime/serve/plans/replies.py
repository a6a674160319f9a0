"""What requests and replies tell: how the devices of this board fare, and what is asked for.

    slowdown   median over a device's last runs of  (time its segments took) / (their p50 in the problem)
    wait       what 9 of 10 of the last requests waited until their first device began
    lost       three runs in a row failed on it, or it could not be opened
    deadline   the median of what the last requests asked for
    exit       the deepest least exit that the last requests asked for

What was seen of a device that no run has used since counts for half a minute; then it is tried again.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runtime.execute.request import Ending, Reply, Status

FAILURES = 3
REMEMBERED_S = 30.0
SEEN = 32
_MOST_WAIT = 0.9
Planned = Mapping[tuple[str, str, str], float]


@dataclass(slots=True)
class _Seen:
    """What was seen of a device."""

    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=SEEN))
    waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=SEEN))
    failures: int = 0
    lost: str | None = None
    at_s: float = -math.inf
    """When a run last told of it [s]."""

    def forget(self) -> None:
        """Let go of everything but that the device exists."""
        self.ratios.clear()
        self.waits_s.clear()
        self.failures, self.lost = 0, None


class Replies:
    """What was seen of the devices, and asked for.

    Args:
        devices: Their names.
        lost: Those that could not be opened, and why: they don't come back by themselves.
    """

    def __init__(self, devices: Iterable[str], lost: Mapping[str, str]) -> None:
        self._seen = {name: _Seen() for name in devices}
        for name in lost.keys() & self._seen.keys():
            self._seen[name].lost, self._seen[name].at_s = lost[name], math.inf
        self._asked_s: deque[float] = deque(maxlen=SEEN)
        self._exits: dict[str, deque[tuple[float, int]]] = {}

    def asked(self, model: str, deadline_s: float | None, least_exit: int, now_s: float) -> None:
        """Take in what a request asks for: its time from when it was sent [s], the place of its least exit."""
        if deadline_s is not None:
            self._asked_s.append(deadline_s)
        self._exits.setdefault(model, deque(maxlen=SEEN)).append((now_s, least_exit))

    def take(self, reply: Reply, planned_s: Planned, now_s: float) -> str | None:
        """Take in a reply; return the device that is now lost, None where none is."""
        if reply.status is Status.UNAVAILABLE or reply.ending is Ending.FAILURE:
            blamed = self.blamed(reply.message)
            return blamed if blamed is not None and self._failed(blamed, reply.message, now_s) else None
        took: dict[str, list[float]] = {}
        for part in reply.segments:
            time_s = planned_s.get((reply.model, part.segment_id, part.device))
            if time_s is not None and part.device in self._seen:
                pair = took.setdefault(part.device, [0.0, 0.0])
                pair[0] += part.elapsed_s
                pair[1] += time_s
        for name, (real_s, time_s) in took.items():
            seen = self._seen[name]
            seen.failures, seen.at_s = 0, now_s
            if time_s > 0.0:
                seen.ratios.append(real_s / time_s)
        first = reply.segments[0].device if reply.segments else None
        if first in self._seen:
            self._seen[first].waits_s.append(reply.queued_s)
        return None

    def lose(self, name: str, why: str, now_s: float) -> None:
        """Take a device as lost until it is forgotten."""
        self._seen[name].lost, self._seen[name].at_s = why, now_s

    def blamed(self, message: str) -> str | None:
        """Return the device that a failure was on, as backends and workers word it; of `cpu`, `cpu:0` the longer."""
        shapes = (" on {}:", "backend of {} failed", "worker of {} has died")
        found = [name for name in self._seen if any(shape.format(name) in message for shape in shapes)]
        return max(found, key=len, default=None)

    def forget(self, now_s: float) -> None:
        """Let go of what no run has told of for long."""
        for seen in self._seen.values():
            if now_s - seen.at_s > REMEMBERED_S:
                seen.forget()
        for asked in self._exits.values():
            while asked and now_s - asked[0][0] > REMEMBERED_S:
                asked.popleft()

    def idle_since(self, name: str) -> float:
        """Return when a run last told of a device [s]."""
        return self._seen[name].at_s

    @property
    def lost(self) -> dict[str, str]:
        """Lost devices, and why."""
        return {name: seen.lost for name, seen in self._seen.items() if seen.lost is not None}

    @property
    def slowdown(self) -> dict[str, float]:
        """How many times as long each device took that was seen."""
        return {name: statistics.median(seen.ratios) for name, seen in self._seen.items() if seen.ratios}

    @property
    def waits_s(self) -> dict[str, float]:
        """How long requests waited for each device that was seen [s]."""
        found = {name: sorted(seen.waits_s) for name, seen in self._seen.items() if seen.waits_s}
        return {name: waits[math.ceil(_MOST_WAIT * len(waits)) - 1] for name, waits in found.items()}

    @property
    def asked_s(self) -> float:
        """Deadline that the last requests asked for [s], to two digits; infinite where none had one."""
        return float(f"{statistics.median_low(self._asked_s):.2g}") if self._asked_s else math.inf

    @property
    def least_exits(self) -> dict[str, int]:
        """Place of the deepest least exit that the last requests asked for, by model, where that isn't the first."""
        found = {model: max((place for _, place in asked), default=0) for model, asked in self._exits.items()}
        return {model: place for model, place in found.items() if place > 0}

    def _failed(self, name: str, why: str, now_s: float) -> bool:
        seen = self._seen[name]
        seen.failures += 1
        seen.at_s = now_s
        if seen.failures < FAILURES or seen.lost is not None:
            return False
        seen.lost = why
        return True
