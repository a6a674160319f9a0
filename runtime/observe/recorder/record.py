"""The flight recorder: a process that follows a guard and a daemon and writes what they decide, and from what.

It holds up neither: a recorder that is slow loses messages, and says in the log how many. It outlives both, so that the
log goes on where one of them is killed.
"""

import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from runtime.observe.follower import Follower, Heard
from runtime.observe.geometry import top_view
from runtime.observe.recorder.channels import DECISION, EVENT, GAP, POSE, RULES, SCENE, TICK
from runtime.observe.recorder.plain import encode_plain
from runtime.observe.recorder.ring import Ring, RingSettings
from runtime.observe.recorder.scene import pose_in_frame, scene
from runtime.serve.guard_ticks import Followed, Tick
from shield.vehicle import Vehicle

_log = logging.getLogger("headway.recorder")
TOPICS = ("decision", "request", "window", "model", "plan", "drift", "edge")
FLUSH_S = 1.0
_SCENE_EVERY = 5
_GATHER_S = 0.1


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """What is recorded.

    Args:
        guard, daemon: Their unix sockets.
        ring: Where it is written.
        alone_s: The recorder ends when it has heard nothing of either for this long [s]; None: never.
    """

    guard: Path
    daemon: Path
    ring: RingSettings
    alone_s: float | None = None


class Recorder:
    """Records until SIGTERM or SIGINT.

    Args:
        settings: What, and where.
    Raises:
        ConfigurationError: the folder cannot be written.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        python = ".".join(map(str, sys.version_info[:3]))
        self._ring = Ring(settings.ring, {"headway": version("headway"), "python": python, "pid": str(os.getpid())})
        self._vehicle: Vehicle | None = None
        self._ticks: dict[int, int] = {}
        self._running = True
        self._flush_s = 0.0

    def run(self) -> None:
        """Record until told to end, or until both are gone for `alone_s`."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        settings = self._settings
        _log.info("recording in %s", settings.ring.folder, extra={"code": "recording"})
        with Follower(settings.guard, settings.daemon, TOPICS) as follower:
            while self._running:
                for heard in follower.listen(FLUSH_S):
                    self.take(heard)
                time.sleep(_GATHER_S)  # what comes meanwhile is taken in at once: each waking costs more than a message
                now_s = time.monotonic()
                if now_s >= self._flush_s:
                    self._flush_s = now_s + FLUSH_S
                    self._ring.flush()
                if settings.alone_s is not None and now_s - follower.heard_s > settings.alone_s:
                    _log.info("nothing was heard for %g s", settings.alone_s, extra={"code": "alone"})
                    break
            for heard in follower.listen(0.0):
                self.take(heard)
        self._ring.close()

    def take(self, heard: Followed | Tick | Heard) -> None:
        """Write down what was heard."""
        match heard:
            case Followed():
                self._vehicle = heard.vehicle
                self._ring.add(RULES, encode_plain(heard), time.monotonic_ns(), lasting=True)
            case Tick():
                self._take_tick(heard)
            case Heard():
                if heard.missed:
                    self._tell_gap("daemon", heard.missed, heard.at_ns)
                if heard.topic == "decision":
                    lasting = heard.data.get("what") == "plans"
                    self._ring.add(DECISION, encode_plain(heard.data), heard.at_ns, lasting=lasting)
                else:
                    self._ring.add(EVENT, encode_plain(heard), heard.at_ns)

    def _take_tick(self, tick: Tick) -> None:
        at_ns = round(1e9 * tick.now_s)
        last = self._ticks.get(tick.pid)
        if last is not None and tick.number != last + 1:
            self._tell_gap("guard", tick.number - last - 1, at_ns)
        self._ticks = {tick.pid: tick.number}
        self._ring.add(TICK, encode_plain(tick), at_ns)
        if self._vehicle is None or tick.number % _SCENE_EVERY:
            return
        view = top_view(tick, self._vehicle)
        if view is not None:
            log_ns = at_ns + time.time_ns() - time.monotonic_ns()
            self._ring.add(SCENE, msgspec.json.encode(scene(view, log_ns)), at_ns)
            self._ring.add(POSE, msgspec.json.encode(pose_in_frame(view, log_ns)), at_ns)

    def _tell_gap(self, source: str, lost: int, at_ns: int) -> None:
        self._ring.add(GAP, encode_plain({"source": source, "lost": lost}), at_ns)

    def _stop(self, *_: object) -> None:
        self._running = False
