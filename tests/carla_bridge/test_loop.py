"""The loop in virtual time: what a stall, a silent guard and a lost pair do to the controls that are applied."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import headway
from carla_bridge.loop import RealTimeLoop, Record
from carla_bridge.world import Event, Report
from devices.clock import VirtualClock
from shield.guard import Command
from shield.state import Disc, State

CONTROL = headway.Control(0.1, 10.0)
BACKUP = headway.Control(0.0, 0.0, True)


class CountingWorld:
    """Moves at 5 m/s whatever is applied, and remembers what was."""

    tick_s = 0.01
    done = False

    def __init__(self, speed_mps: float = 5.0) -> None:
        self.applied: list[Command] = []
        self.speed_mps = speed_mps

    @property
    def time_s(self) -> float:
        return len(self.applied) * self.tick_s

    def tick(self) -> None:
        pass

    def state(self) -> State:
        return State(self.time_s * self.speed_mps, 0.0, 0.0, 0.0, self.speed_mps)

    def obstacles(self) -> tuple[Disc, ...]:
        return ()

    def frame(self) -> Any:
        return np.zeros((80, 160, 3), np.uint8)

    def apply(self, control: Command) -> None:
        self.applied.append(control)

    def events(self) -> tuple[Event, ...]:
        return ()

    def report(self) -> Report:
        raise NotImplementedError

    def close(self) -> None:
        pass


class ScriptedSide:
    """A vehicle side whose guard answers as `answer` says, and whose process may stall."""

    def __init__(self, clock: VirtualClock, answer: Callable[[int, float], headway.Decision | None]) -> None:
        self.applier = headway.Applier()
        self.decisions: deque[headway.Decision] = deque()
        self.windows: deque[headway.Window] = deque()
        self.refusals: deque[str] = deque()
        self.stamps: list[float] = []
        self.stalls: dict[int, float] = {}
        self._clock = clock
        self._answer = answer
        self._pending: headway.Decision | None = None

    def report(self, pose: headway.Pose, obstacles: Iterable[headway.Obstacle], frame: Any, stamp_s: float) -> None:
        self._pending = self._answer(len(self.stamps), stamp_s)
        self.stamps.append(stamp_s)
        self._clock.advance(self.stalls.get(len(self.stamps) - 1, 0.0))

    def listen(self, until_s: float, effect_s: float | None = None) -> None:
        if until_s > self._clock.now_s():
            self._clock.advance(until_s - self._clock.now_s())
        if self._pending is not None and effect_s is not None:
            self.applier.accept(self._pending, effect_s)
            self.decisions.append(self._pending)
            self._pending = None


def decide(number: int, stamp_s: float, hold_s: float = 0.5) -> headway.Decision:
    return headway.Decision(
        id=number + 1,
        stamp_s=stamp_s,
        mode="admit",
        reason="proposal_certified",
        control=CONTROL,
        apply_by_s=stamp_s + 0.02,
        hold_until_s=stamp_s + hold_s,
        backup=BACKUP,
        backup_manoeuvre="brake",
        deadline_s=1.0,
        barrier_deadline_s=None,
        limited_by="cap",
        intervened=False,
        proposed_beta_rad=0.1,
        shortfall_s=0.0,
        switch_time_s=0.04,
    )


def drive(
    answer: Callable[[int, float], headway.Decision | None],
    stalls: dict[int, float] | None = None,
    duration_s: float = 1.0,
    speed_mps: float = 5.0,
    waits: bool = False,
) -> tuple[Record, CountingWorld, ScriptedSide]:
    clock = VirtualClock()
    world, side = CountingWorld(speed_mps), ScriptedSide(clock, answer)
    side.stalls = stalls or {}
    return RealTimeLoop(world, side, clock=clock, waits=waits).run(duration_s), world, side


def test_a_decision_takes_effect_one_step_after_its_observation() -> None:
    record, world, side = drive(decide)
    assert world.applied[0] == headway.Control(0.0, 0.0, True)
    assert all(control == CONTROL for control in world.applied[1:])
    assert len(world.applied) == 100
    assert np.allclose(np.diff(side.stamps), 0.02)
    assert record.late_controls == 0


def test_a_stall_is_caught_up_and_makes_no_late_control() -> None:
    record, world, side = drive(decide, stalls={10: 0.137})
    assert len(world.applied) == 100
    gap = max(np.diff(side.stamps))
    assert 0.11 < gap < 0.15
    assert math.isclose(gap / 0.02, round(gap / 0.02), abs_tol=1e-6)
    assert record.late_controls == 0
    assert max(tick.lateness_s for tick in record.ticks) < 0.0201


def test_a_silent_guard_leaves_the_pair_then_its_backup() -> None:
    record, world, _ = drive(lambda number, stamp_s: decide(number, stamp_s) if number < 5 else None, duration_s=2.0)
    held = [control == CONTROL for control in world.applied]
    assert held[1:58] == [True] * 57
    assert world.applied[58:] == [BACKUP] * 142
    assert record.late_controls == 0
    assert record.sources["backup"] == 71


def test_a_moving_vehicle_without_any_pair_counts_every_tick_as_late() -> None:
    clock = VirtualClock()
    side = ScriptedSide(clock, lambda number, stamp_s: None)
    side.applier = headway.Applier(at_rest=False)
    record = RealTimeLoop(CountingWorld(), side, clock=clock).run(1.0)
    assert record.late_controls == 50


def test_a_standing_vehicle_needs_no_pair() -> None:
    clock = VirtualClock()
    side = ScriptedSide(clock, lambda number, stamp_s: None)
    side.applier = headway.Applier(at_rest=False)
    assert RealTimeLoop(CountingWorld(0.0), side, clock=clock).run(1.0).late_controls == 0


def test_the_tick_must_be_whole_steps_of_the_world() -> None:
    clock = VirtualClock()
    with pytest.raises(ValueError, match="whole number"):
        RealTimeLoop(CountingWorld(), ScriptedSide(clock, decide), tick_s=0.015, clock=clock)


def test_a_world_that_waits_stands_still_through_a_stall_and_every_tick_is_observed() -> None:
    record, world, side = drive(decide, stalls={10: 0.137}, waits=True)
    assert len(world.applied) == 100
    assert len(record.ticks) == 50
    assert record.waited_s == pytest.approx(0.12, abs=0.011)
    assert side.stamps[-1] - side.stamps[0] == pytest.approx(0.98 + record.waited_s)
    assert record.late_controls == 0


def test_a_waiting_worlds_control_that_ends_in_a_stall_gives_way_to_its_backup() -> None:
    def answer(number: int, stamp_s: float) -> headway.Decision | None:
        return decide(number, stamp_s) if number < 10 else None

    record, world, _ = drive(answer, stalls={10: 5.0}, waits=True)
    # The stall outlasts what the guard certified by far: the backup was due in it, and begins with the next step.
    assert world.applied[-1] == BACKUP
    assert record.late_controls == 0
