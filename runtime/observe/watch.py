"""Feeds the replies of served models to their drift monitors, and tells of the flags, up and down.

A reply is looked at only if what made the request end says something about its input and nothing else:

- the walk ended by itself, by a confident exit or at the last one,
- it was a request for one sample that any exit may answer, as the calibration samples were,
- when it began, the time left was at least ROOM times the p99 of a whole walk (or without a bound). Counting walks that
  a close deadline happened to leave alone would count those that ended early more often than the others.

One caller at a time. A sample costs some microseconds.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from devices.package import Package
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.observe.drift import Drift, DriftMonitor, monitor_from_record
from runtime.pack.exits.errors import CalibrationError
from runtime.pack.exits.record import check_record

_log = logging.getLogger(__name__)
_OF_ITSELF = (Ending.CONFIDENT, Ending.COMPLETE)
ROOM = 1.5


class DriftWatch:
    """Watches the exit shares of served models.

    Args:
        packages: The models; one without a calibration record of exit shares, or with one that is about other
            thresholds or segments, is not watched.
        p99_s: Returns an upper estimate of the p99 of a whole walk of a model [s].
        every: Of how many replies of a model one is looked at.
    Raises:
        ValueError: `every` is below 1.
    """

    def __init__(self, packages: Sequence[Package], p99_s: Callable[[str], float], *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every = {every}: must be at least 1")
        self._p99_s = p99_s
        self._monitors: dict[str, DriftMonitor] = {}
        self._unwatched: dict[str, str] = {}
        self._every = every
        for package in packages:
            self.begin(package)

    def begin(self, package: Package) -> dict[str, Any] | None:
        """Watch a model from now on; one of the same name is watched no more. Returns what `end` does."""
        ended = self.end(package.name)
        try:
            monitor = _monitor(package, self._every)
        except (ValueError, CalibrationError) as error:
            told = {"code": "drift_unwatched", "model": package.name}
            _log.warning("drift of %s is not watched: %s", package.name, error, extra=told)
            self._unwatched[package.name] = str(error)
            return ended
        if monitor is None:
            self._unwatched[package.name] = "the package has no calibration record of exit shares"
        else:
            self._monitors[package.name] = monitor
        return ended

    def end(self, name: str) -> dict[str, Any] | None:
        """Watch a model no more; a flag that comes down by that is returned, as by `take`."""
        monitor = self._monitors.pop(name, None)
        self._unwatched.pop(name, None)
        return None if monitor is None or monitor.drift is None else {"model": name, "flag": None}

    def take(self, request: Request, reply: Reply) -> dict[str, Any] | None:
        """Look at a reply; return the model and its flag (None: down) where this reply changed it, and log that."""
        monitor = self._monitors.get(reply.model)
        if monitor is None or reply.exit_id is None or not self._tells(request, reply):
            return None
        before = monitor.drift
        monitor.observe(reply.exit_id)
        if monitor.drift is before:
            return None
        if monitor.drift is None:
            told = {"code": "drift_over", "model": reply.model}
            _log.info("drift of %s is over: the share is back within its band", reply.model, extra=told)
            return {"model": reply.model, "flag": None}
        flag = describe(monitor.drift)
        _log.warning("drift of %s: %s", reply.model, flag, extra={"code": "drift", "model": reply.model})
        return {"model": reply.model, "flag": flag}

    def status(self) -> dict[str, Any]:
        """Return, by model, the flag (None: down), the samples looked at and the share that left at each exit."""
        watched = {
            name: {
                "flag": None if monitor.drift is None else describe(monitor.drift),
                "samples": monitor.samples,
                "shares": {exit_id: round(share, 4) for exit_id, share in monitor.shares.items()},
            }
            for name, monitor in self._monitors.items()
        }
        return {**watched, **{name: {"unwatched": reason} for name, reason in self._unwatched.items()}}

    def _tells(self, request: Request, reply: Reply) -> bool:
        if reply.status is not Status.OK or reply.ending not in _OF_ITSELF or request.least_exit is not None:
            return False
        if any(array.shape[:1] != (1,) for array in request.inputs.values()):
            return False
        return reply.time_left_s is None or reply.time_left_s + reply.run_s >= ROOM * self._p99_s(reply.model)


def describe(flag: Drift) -> str:
    """Return a flag as one line."""
    low, high = flag.band
    return (
        f"{flag.share:.1%} of the inputs leave by exit {flag.exit_id!r}, {flag.side} its band {low:.1%}..{high:.1%} "
        f"(sample {flag.sample}): the inputs are no longer like the calibration inputs"
    )


def _monitor(package: Package, every: int) -> DriftMonitor | None:
    monitor = monitor_from_record(package.calibration, [taken.id for taken in package.exits], every=every)
    if monitor is not None:
        check_record(package)
    return monitor
