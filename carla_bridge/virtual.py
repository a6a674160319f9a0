"""The closed loop in virtual time: camera, driving package and controller, with the shield or without.

The world's clock is the only one: the same scenario, seed and perception give the same episode on any machine. A window
of 20 ms goes like this: answers that have come in correct the controller; it proposes a control; the guard, where there
is one, admits it or what is nearest to it; the perception is told the tolerable deadline of the control in force and
decides what the window is for; then the world moves on.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import headway
from carla_bridge.camera import Frame
from carla_bridge.errors import WorldError
from carla_bridge.obstacles import Obstacle
from carla_bridge.scenario import Scenario
from carla_bridge.world import Report, World
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ChainResult, ExitAnswer
from devices.package import load_package
from runtime.serve.controller import Controller, ControllerSettings
from shield.deadline import Method, tolerable_deadline
from shield.guard import Command, Control, Guard, GuardSettings, Observation, Proposal
from shield.state import State
from shield.vehicle import Vehicle

WINDOW_S = 0.02
CAP_S = 10.0
"""Deadlines are not looked for beyond this [s]."""

PASS_M = 4.7
"""Distance of centres at which the controller passes obstacles [m]: the barrier's 4 m and a margin."""

DRIVING = Path(str(files("carla_bridge"))) / "models" / "driving" / "1"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the driving package makes of one frame.

    Args:
        answer: The six answers.
        exit_id: The exit that gave them.
        mac_share: Share of the package's multiply-accumulates that ran for them.
        pose: Odometry's pose when the frame was taken.
        stamp_s: When that was [s].
    """

    answer: tuple[float, ...]
    exit_id: str
    mac_share: float
    pose: State
    stamp_s: float


Look = Callable[[bool], Sighting]
"""Takes this window's frame and answers it: by the first exit that is sure enough, or (True) by the deepest."""


class VirtualWorld(World, Protocol):
    """A world that the loop ticks: a simulator that waits, whose vehicle, road and truth can be asked for."""

    @property
    def vehicle(self) -> Vehicle:
        """Its parameters and declared bounds."""

    @property
    def scenario(self) -> Scenario:
        """The road, and the speed asked for."""

    @property
    def drums(self) -> tuple[Obstacle, ...]:
        """The obstacles as they truly stand."""

    @property
    def pose(self) -> tuple[float, float, float]:
        """True x, y [m] and heading [rad]."""


class Perception(Protocol):
    """Decides for each window whether and where a frame is answered."""

    def answers(self, window: int) -> Sequence[Sighting]:
        """Return the answers that have come in by the start of `window`, each once, oldest first."""

    def begin(self, window: int, now_s: float, deadline_s: float, look: Look) -> None:
        """Start `window` at `now_s` [s] with `deadline_s` [s] tolerable from now on."""


class FixedAge:
    """One frame after the other, each answered `windows` windows after it was taken (at least 1)."""

    def __init__(self, windows: int) -> None:
        self._windows = windows
        self._waiting: tuple[int, Sighting] | None = None

    def answers(self, window: int) -> Sequence[Sighting]:
        """Return the answer that is old enough."""
        if self._waiting is None or window < self._waiting[0]:
            return ()
        found, self._waiting = self._waiting[1], None
        return (found,)

    def begin(self, window: int, now_s: float, deadline_s: float, look: Look) -> None:
        """Take a frame unless one is being answered."""
        if self._waiting is None:
            self._waiting = (window + self._windows, look(False))


@dataclass(slots=True)
class Drive:
    """An episode.

    Args:
        report: What the world says of it.
        exits: How many answers each exit gave.
        interventions: Windows in which the guard did not admit the proposal.
        backups: Windows in which it had the stored backup run.
        uncertified: Instants of the world at which no certified control was in force; 0 without the shield.
        deadlines_s: Tolerable deadline of each window [s]; empty where none was asked for.
        distances_m: Distance of centres to the nearest obstacle at the start of each window [m].
    """

    report: Report
    exits: Counter[str] = field(default_factory=Counter)
    interventions: int = 0
    backups: int = 0
    uncertified: int = 0
    deadlines_s: list[float] = field(default_factory=list)
    distances_m: list[float] = field(default_factory=list)


@cache
def driving_chain() -> Chain:
    """Return the shipped package, loaded on one thread."""
    return Chain(load_package(DRIVING), OnnxRuntimeBackend())


def answer_of(frame: Frame) -> ExitAnswer:
    """Return the answer of the first exit that is confident enough."""
    return _exit_of(_run(frame, deepest=False))


def _run(frame: Frame, deepest: bool) -> ChainResult:
    chain = driving_chain()
    if deepest:
        return chain.run({"frame": frame[None]})
    thresholds = {item.id: item.threshold or 0.0 for item in chain.package.exits}

    def enough(answer: ExitAnswer) -> bool:
        return (answer.confidence or 0.0) >= thresholds[answer.exit_id]

    return chain.run({"frame": frame[None]}, on_exit=enough)


def _exit_of(result: ChainResult) -> ExitAnswer:
    if result.exit is None:
        raise WorldError(f"no exit of {DRIVING} gave an answer: its last exit must answer every frame")
    return result.exit


@cache
def _macs() -> dict[str, int]:
    return {segment.id: segment.macs for segment in driving_chain().package.segments}


def drive(world: VirtualWorld, windows: int, limit_s: float, shielded: bool = False) -> Drive:
    """Drive with answers of one age until the episode or `limit_s` [s] ends.

    Args:
        world: The world, at its start.
        windows: Age of answers, in windows of 20 ms; at least 1.
        limit_s: Longest time driven [s].
        shielded: Whether the guard and the applier stand between controller and vehicle.
    """
    return Loop(world, FixedAge(windows), shielded).run(limit_s)


class Loop:
    """One episode of a world with a perception.

    Args:
        world: The world, at its start.
        perception: Told of every window.
        shielded: Whether the guard and the applier stand between controller and vehicle.
        method: Which tolerable deadline the perception is told; None: none, it is infinite.
        pass_m: Distance of centres at which the controller passes obstacles [m].
        speed_mps: Speed asked for [m/s]; None: the scenario's.
        cap_s: Deadlines are not looked for beyond this [s].
    """

    def __init__(
        self,
        world: VirtualWorld,
        perception: Perception,
        shielded: bool,
        method: Method | None = None,
        pass_m: float = PASS_M,
        speed_mps: float | None = None,
        cap_s: float = CAP_S,
    ) -> None:
        vehicle = world.vehicle
        self._world = world
        self._perception = perception
        self._method = method
        self._cap_s = cap_s
        aims = ControllerSettings(
            vehicle.l_r_m, vehicle.beta_max_rad, speed_mps or world.scenario.target_speed_mps, pass_m=pass_m
        )
        self._controller = Controller(aims)
        settings = GuardSettings(cap_s=cap_s, report_barrier=False)
        self._guard = Guard(vehicle, settings) if shielded else None
        self._applier = headway.Applier()
        self._applied = 0
        self._drive = Drive(world.report())

    def run(self, limit_s: float) -> Drive:
        """Drive until the episode or `limit_s` [s] ends, and return it; call once."""
        world, window = self._world, 0
        while not world.done and world.time_s < limit_s:
            self._window(window)
            window += 1
        self._drive.report = world.report()
        return self._drive

    def _window(self, window: int) -> None:
        world, controller = self._world, self._controller
        now_s, state = world.time_s, world.state()
        for seen in self._perception.answers(window):
            controller.update_answer(seen.answer, seen.pose, seen.stamp_s)
        beta_rad, speed_mps = controller.propose(state, state.speed_mps or 0.0, now_s)
        if self._guard is None:
            deadline_s = self._look_up(state, beta_rad)
        else:
            deadline_s = self._ask_guard(self._guard, now_s, state, Proposal(now_s, beta_rad, speed_mps))
        self._note(deadline_s)
        self._perception.begin(window, now_s, deadline_s, self._look)
        for _ in range(round(WINDOW_S / world.tick_s)):
            world.apply(self._control() if self._guard is not None else Control(beta_rad, speed_mps))
            world.tick()

    def _ask_guard(self, guard: Guard, now_s: float, state: State, asked: Proposal) -> float:
        """Let the guard decide and return the deadline of what it decided [s]."""
        decision = guard.tick(now_s, Observation(now_s, state, self._world.obstacles(), self._applied), asked)
        self._applier.accept(decision, now_s)
        self._drive.interventions += decision.intervened
        self._drive.backups += decision.mode == "backup"
        if self._method is Method.BACKUP:
            return decision.deadline_s
        return self._look_up(state, decision.control.beta_rad)

    def _look_up(self, state: State, beta_rad: float) -> float:
        if self._method is None:
            return math.inf
        held, obstacles = replace(state, beta_rad=beta_rad), self._world.obstacles()
        if self._method is Method.PUBLISHED:  # it looks at the nearest obstacle alone
            obstacles = tuple(
                sorted(obstacles, key=lambda disc: math.dist((disc.x_m, disc.y_m), (state.x_m, state.y_m)))
            )[:1]
        return tolerable_deadline(self._method, self._world.vehicle, held, obstacles, self._cap_s).deadline_s

    def _control(self) -> Command:
        held = self._applier.control_at(self._world.time_s)
        self._drive.uncertified += not held.certified
        self._applied = held.decision_id
        return held.control

    def _look(self, deepest: bool) -> Sighting:
        result = _run(self._world.frame(), deepest)
        found = _exit_of(result)
        self._drive.exits[found.exit_id] += 1
        macs = _macs()
        share = sum(macs[part.segment_id] for part in result.segments) / sum(macs.values())
        answer = tuple(found.answer[0].tolist())
        return Sighting(answer, found.exit_id, share, self._world.state(), self._world.time_s)

    def _note(self, deadline_s: float) -> None:
        if self._method is None:
            return
        x_m, y_m, _ = self._world.pose
        gaps = (math.hypot(drum.x_m - x_m, drum.y_m - y_m) for drum in self._world.drums)
        self._drive.deadlines_s.append(deadline_s)
        self._drive.distances_m.append(min(gaps, default=math.inf))
