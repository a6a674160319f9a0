"""The closed loop in real time: a world, a vehicle's session with guard and daemon, one tick every 20 ms.

The world's time is the wall clock: instant j of the world lies at start + j tick_s, and whatever delays this process,
the world catches up with the controls that a vehicle would have applied at those instants, asked of the applier;
observations that would be a tick old already are not made. A decision that arrives between two instants takes effect at
the next one. So a late process makes no late control; a *late control* is a tick in which a moving vehicle had, at some
instant, no control certified for that instant.

A simulator whose steps cost real time could never be caught up with. It *waits* instead: while this process or the
simulator is late the world stands still, and all instants to come move back by as much. The vehicle is then no further
along its certified path than the guard reckons with, so what is certified stays so; the time lost is told.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import headway
from carla_bridge.world import World
from devices.clock import Clock, MonotonicClock
from shield.state import Disc, State

_STANDING_MPS = 0.05


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of the loop, as the progress display and the record see it.

    Args:
        time_s: Time since the episode began [s].
        lateness_s: How much later than planned the tick ran [s].
        speed_mps: Measured speed [m/s].
        decision: The guard's newest decision, None before the first.
        source: What is in force: "held", "backup" or "none".
        certified: Whether it is certified for this instant, or the vehicle stands.
    """

    time_s: float
    lateness_s: float
    speed_mps: float
    decision: headway.Decision | None
    source: str
    certified: bool


@dataclass(slots=True)
class Record:
    """What an episode left behind: ticks, decisions, windows, and how long a world that waits has waited [s]."""

    ticks: list[Tick] = field(default_factory=list)
    decisions: list[headway.Decision] = field(default_factory=list)
    windows: list[headway.Window] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    late_controls: int = 0
    waited_s: float = 0.0

    @property
    def sources(self) -> Counter[str]:
        """How many ticks each source of control was in force."""
        return Counter(tick.source for tick in self.ticks)


class VehicleSide(Protocol):
    """What the loop needs of a `headway.Session`."""

    applier: headway.Applier
    decisions: deque[headway.Decision]
    windows: deque[headway.Window]
    refusals: deque[str]

    def report(self, pose: headway.Pose, obstacles: Iterable[headway.Obstacle], frame: Any, stamp_s: float) -> None: ...

    def listen(self, until_s: float, effect_s: float | None = None) -> None: ...


class RealTimeLoop:
    """Drives one episode of a world through a session.

    Args:
        world: Stepped by this loop alone.
        session: Connected to a guard and, where there is one, to a daemon.
        tick_s: Time between two observations [s]; a whole number of the world's steps.
        on_tick: Told of every tick.
        clock: The clock that the session's stamps are on; monotonic unless given.
        waits: Whether the world stands still while this process is late, instead of being caught up with.
    Raises:
        ValueError: `tick_s` is no whole number of the world's steps.
    """

    def __init__(
        self,
        world: World,
        session: VehicleSide,
        tick_s: float = 0.02,
        on_tick: Callable[[Tick], None] | None = None,
        clock: Clock | None = None,
        waits: bool = False,
    ) -> None:
        self._waits = waits
        self._world = world
        self._session = session
        self._step_s = world.tick_s
        self._steps = round(tick_s / world.tick_s)
        if self._steps < 1 or not math.isclose(self._steps * world.tick_s, tick_s):
            raise ValueError(f"tick_s = {tick_s!r}: must be a whole number of the world's steps of {world.tick_s} s")
        self._on_tick = on_tick
        self._clock = clock or MonotonicClock()
        self._record = Record()
        self._late_in_tick = False
        self._start_s = 0.0

    def run(self, duration_s: float) -> Record:
        """Drive for `duration_s` [s] or until the world's episode is over, and return the record."""
        self._start_s = self._clock.now_s() + self._step_s
        step = 0
        while step * self._step_s < duration_s and not self._world.done:
            instant_s = self._instant_s(step)
            self._session.listen(instant_s, effect_s=instant_s)
            if step % self._steps == 0:
                self._observe(instant_s, step * self._step_s)
            step = self._catch_up(step)
        self._collect()
        return self._record

    def _instant_s(self, step: int) -> float:
        return self._start_s + step * self._step_s

    def _catch_up(self, step: int) -> int:
        """Move the world on by one step, or by all but the last tick of those that this process is behind with."""
        while True:
            self._advance(self._instant_s(step))
            step += 1
            if step % self._steps == 0:
                self._record.late_controls += self._late_in_tick
                self._late_in_tick = False
            behind_s = self._clock.now_s() - self._instant_s(step)
            if behind_s < self._steps * self._step_s or self._world.done:
                return step
            if self._waits:
                self._wait(step, int(behind_s / self._step_s))
                return step

    def _wait(self, step: int, steps: int) -> None:
        """Let the world stand still for `steps`, while the applier's time goes on: it may switch to the backup."""
        for number in range(steps):
            self._session.applier.control_at(self._instant_s(step + number))
        self._start_s += steps * self._step_s
        self._record.waited_s += steps * self._step_s

    def _advance(self, time_s: float) -> None:
        applied = self._session.applier.control_at(time_s)
        self._late_in_tick |= not self._safe(applied)
        self._world.apply(applied.control)
        self._world.tick()

    def _safe(self, applied: headway.Applied) -> bool:
        return applied.certified or (self._world.state().speed_mps or 0.0) <= _STANDING_MPS

    def _observe(self, stamp_s: float, time_s: float) -> None:
        state = self._world.state()
        lateness_s = self._clock.now_s() - stamp_s
        obstacles = [_obstacle(disc) for disc in self._world.obstacles()]
        self._session.report(_pose(state), obstacles, self._world.frame(), stamp_s)
        applied = self._session.applier.control_at(stamp_s)
        tick = Tick(
            time_s,
            lateness_s,
            state.speed_mps or 0.0,
            self._session.applier.decision,
            applied.source,
            self._safe(applied),
        )
        self._record.ticks.append(tick)
        self._collect()
        if self._on_tick is not None:
            self._on_tick(tick)

    def _collect(self) -> None:
        session, record = self._session, self._record
        for source, target in (
            (session.decisions, record.decisions),
            (session.windows, record.windows),
            (session.refusals, record.refusals),
        ):
            target.extend(source)  # type: ignore[arg-type] # each deque has its own list
            source.clear()


def _pose(state: State) -> headway.Pose:
    return headway.Pose(state.x_m, state.y_m, state.heading_rad, state.beta_rad, state.speed_mps)


def _obstacle(disc: Disc) -> headway.Obstacle:
    return headway.Obstacle(disc.x_m, disc.y_m, disc.radius_m, disc.speed_max_mps)
