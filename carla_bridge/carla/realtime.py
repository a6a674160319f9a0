"""An episode in CARLA by the wall clock: a running daemon infers and steers, a running guard certifies every control.

The simulator waits for this process, and this process for the wall clock (see `carla_bridge.loop`): where simulator or
process are too slow for it, simulated time falls behind the wall clock, and no control is late.
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import headway
from carla_bridge.loop import RealTimeLoop, Record
from carla_bridge.virtual import VirtualWorld
from carla_bridge.world import Report
from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.realtime import become_punctual

_ANSWER_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """An episode in real time.

    Args:
        report: What the world says of it.
        late_controls: Ticks in which the moving vehicle had, at some instant, no control certified for it.
        ticks: Ticks driven, each with an observation.
        waited_s: How far simulated time has fallen behind the wall clock [s].
        lateness_p50_ms, lateness_p99_ms, lateness_max_ms: How late observations were [ms].
        sources: Ticks by what was in force: "held", "backup" or "none".
        guard_reasons: Decisions by their reason.
        windows: The daemon's windows by their action.
        refusals: Messages that guard or daemon refused.
    """

    report: Report
    late_controls: int
    ticks: int
    waited_s: float
    lateness_p50_ms: float
    lateness_p99_ms: float
    lateness_max_ms: float
    sources: dict[str, int]
    guard_reasons: dict[str, int]
    windows: dict[str, int]
    refusals: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the report's keys and the others, flat."""
        own = asdict(self)
        return {**own.pop("report"), **own}


def drive_by_wall_clock(world: VirtualWorld, daemon: str | Path, guard: str | Path, duration_s: float) -> Outcome:
    """Drive for `duration_s` [s] or until the episode ends, through a daemon and a guard that run.

    Args:
        world: At its start; its step is the tick.
        daemon, guard: Their unix sockets.
        duration_s: Longest time driven [s].
    Raises:
        UnavailableError: no daemon answers, or its guard does not.
        ConfigurationError: the guard certifies for another vehicle than the world's.
    """
    _check(world, daemon)
    with headway.Session(daemon, guard) as session:
        become_punctual()
        record = RealTimeLoop(world, session, tick_s=world.tick_s, waits=True).run(duration_s)
    return _outcome(record, world)


def _check(world: VirtualWorld, daemon: str | Path) -> None:
    if not Path(daemon).exists():
        raise UnavailableError(f"there is no daemon at {daemon}: start one with headway serve --socket {daemon}")
    try:
        with headway.Client(daemon, timeout_s=_ANSWER_WAIT_S) as client:
            guard = client.status()["guard"]
    except headway.HeadwayError as error:
        raise UnavailableError(f"the daemon at {daemon} does not answer: {error}") from error
    if guard is None:
        raise UnavailableError(f"the daemon at {daemon} has no guard yet: headway status --socket {daemon} tells when")
    if guard["vehicle"] != world.vehicle.name:
        raise ConfigurationError(
            f"the guard certifies for the vehicle {guard['vehicle']}, the world is driven with {world.vehicle.name}: "
            f"give both the same --vehicle"
        )


def _outcome(record: Record, world: VirtualWorld) -> Outcome:
    late_ms = [1e3 * tick.lateness_s for tick in record.ticks] or [math.nan]
    p50, p99 = (float(np.quantile(late_ms, share)) for share in (0.5, 0.99))
    return Outcome(
        report=world.report(),
        late_controls=record.late_controls,
        ticks=len(record.ticks),
        waited_s=record.waited_s,
        lateness_p50_ms=p50,
        lateness_p99_ms=p99,
        lateness_max_ms=max(late_ms),
        sources=dict(record.sources),
        guard_reasons=dict(Counter(decision.reason for decision in record.decisions).most_common()),
        windows=dict(Counter(window.action for window in record.windows)),
        refusals=record.refusals,
    )
