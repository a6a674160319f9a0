"""Recorded traffic: a CommonRoad file's vehicles are replayed, ours drives among them.

Reference: Althoff, Koschi, Manzinger, CommonRoad: Composable benchmarks for motion planning on roads, IV 2017.

A replayed vehicle does what was recorded, linearly between two steps, whatever ours does: it cannot brake for us, and
drives into us where we stand on its way. Ours starts at the file's planning problem, or in the place of one of the
recorded vehicles at some instant of the recording. It moves by the built-in bicycle. The episode ends with the
recording. Every vehicle's declared top speed is the greatest that any of them has in the recording, unless given.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carla_bridge.bicycle import Bicycle
from carla_bridge.errors import ScenarioError, WorldError
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Floats, Route
from carla_bridge.scenario import Scenario
from carla_bridge.world import EventKind
from carla_bridge.worlds.base import TrueWorld
from carla_bridge.worlds.bodies import Box, Drum
from carla_bridge.worlds.judge import Thing
from carla_bridge.worlds.lanes import along_lanes, route_through
from carla_bridge.worlds.watch import Motion
from shield.guard import Command
from shield.vehicle import Vehicle

TICK_S = 0.02
BODY = (4.508, 1.61, -0.246)
"""Length and width of our car, and how far its middle lies ahead of its centre of gravity [m]."""

_SLOW_MPS, _TOWN_MPS = 1.0, 8.0
_LEAST_TIME_S = 2.0
_HALF_WIDTH_M = 10.0


@dataclass(frozen=True, slots=True)
class Track:
    """One recorded vehicle.

    Args:
        name: "vehicle" and its number in the file, or "obstacle" for one that stands.
        start_s: When it appears [s].
        step_s: Time between two samples [s].
        points_m: Its middle at each sample, shape (n, 2) [m].
        heading_rad: Its heading at each, shape (n,), without jumps [rad].
        length_m, width_m: Its sides [m]; equal and `round` for a round one.
    """

    name: str
    start_s: float
    step_s: float
    points_m: Floats
    heading_rad: Floats
    length_m: float
    width_m: float
    round: bool = False

    @property
    def end_s(self) -> float:
        """When it is last seen [s]; one that stands always is."""
        return math.inf if len(self.points_m) == 1 else self.start_s + (len(self.points_m) - 1) * self.step_s

    @property
    def top_speed_mps(self) -> float:
        """Its greatest speed: of the middle, and of the ends turning about it [m/s]."""
        if len(self.points_m) == 1:
            return 0.0
        ways = np.hypot(*np.diff(self.points_m, axis=0).T) + 0.5 * self.length_m * np.abs(np.diff(self.heading_rad))
        return float(ways.max()) / self.step_s

    def at(self, time_s: float) -> Thing | None:
        """Return it at `time_s` [s]; None where it is not on the road."""
        if not self.start_s - 1e-9 <= time_s <= self.end_s + 1e-9:
            return None
        where = min(max((time_s - self.start_s) / self.step_s, 0.0), len(self.points_m) - 1.0)
        low = min(int(where), max(0, len(self.points_m) - 2))
        high, share = min(low + 1, len(self.points_m) - 1), where - low
        x_m, y_m = self.points_m[low] + share * (self.points_m[high] - self.points_m[low])
        vx, vy = (self.points_m[high] - self.points_m[low]) / self.step_s
        heading = float(self.heading_rad[low] + share * (self.heading_rad[high] - self.heading_rad[low]))
        body = (
            Drum(float(x_m), float(y_m), 0.5 * self.length_m)
            if self.round
            else Box(float(x_m), float(y_m), heading, self.length_m, self.width_m)
        )
        return Thing(self.name, body, float(vx), float(vy))


@dataclass(frozen=True, slots=True)
class Recording:
    """What a CommonRoad file holds.

    Args:
        name: Its benchmark id.
        tracks: The recorded vehicles and standing obstacles.
        network: Its lanes.
        start: x, y [m], heading [rad] and speed [m/s] of the planning problem.
        goal_m: Middle of its goal region (2,) [m]; None without one.
    """

    name: str
    tracks: tuple[Track, ...]
    network: Any
    start: tuple[float, float, float, float]
    goal_m: Floats | None

    @property
    def end_s(self) -> float:
        """When the recording ends [s]: no vehicle is seen any more."""
        ends = [track.end_s for track in self.tracks if math.isfinite(track.end_s)]
        return max(ends, default=math.inf)

    @property
    def top_speed_mps(self) -> float:
        """The greatest speed of any vehicle, rounded up to 0.1 m/s."""
        return math.ceil(10.0 * max((track.top_speed_mps for track in self.tracks), default=0.0)) / 10.0


class CommonRoadWorld(TrueWorld):
    """A World with recorded traffic.

    Args:
        recording: From `read_recording`.
        vehicle: Parameters and declared bounds; its radius must hold the body of 4.508 m by 1.61 m.
        seed: 0: our vehicle starts at the planning problem. Others draw a recorded vehicle, whose place ours takes at a
            drawn instant, and the sensor errors.
        speed_mps: Speed asked for [m/s]; None: that at the start, 8 m/s from rest.
        obstacle_speed_mps: Declared top speed of the others [m/s]; None: the greatest in the recording.
        error_share: Share of each declared bound that sensor errors make use of, 0 to 1.
    """

    def __init__(
        self,
        recording: Recording,
        vehicle: Vehicle,
        seed: int = 0,
        *,
        speed_mps: float | None = None,
        obstacle_speed_mps: float | None = None,
        error_share: float = 0.8,
    ) -> None:
        self.recording = recording
        start, route, self._tracks, self._from_s = _start(recording, seed)
        x_m, y_m, heading_rad, start_mps = start
        asked_mps = speed_mps or (start_mps if start_mps > _SLOW_MPS else _TOWN_MPS)
        scenario = Scenario(recording.name, route, _HALF_WIDTH_M, min(asked_mps, vehicle.v_max_mps), SpawnRule(count=0))
        super().__init__(vehicle, scenario, seed, BODY, error_share)
        self._declared_mps = recording.top_speed_mps if obstacle_speed_mps is None else obstacle_speed_mps
        self._body = Bicycle(vehicle, x_m, y_m, heading_rad, speed_mps=min(start_mps, vehicle.v_max_mps))
        self._begin()

    @property
    def tick_s(self) -> float:
        return TICK_S

    @property
    def obstacle_speed_mps(self) -> float:
        """Declared top speed of the others [m/s]."""
        return self._declared_mps

    def _advance(self, control: Command) -> None:
        self._body.step(control.beta_rad, control.speed_mps, control.brake, TICK_S)

    def _motion(self) -> Motion:
        body = self._body
        turn = body.speed_mps * math.sin(body.beta_rad) / self.vehicle.l_r_m
        return Motion(body.x_m, body.y_m, body.heading_rad, body.speed_mps, body.beta_rad, turn)

    def _things(self) -> Sequence[Thing]:
        now_s = self._from_s + self.time_s
        found = (track.at(now_s) for track in self._tracks)
        return [thing for thing in found if thing is not None]

    def _top_speed_mps(self, thing: Thing) -> float:
        return 0.0 if thing.name.startswith("obstacle") else self._declared_mps

    def tick(self) -> None:
        super().tick()
        if self._from_s + self.time_s >= self.recording.end_s - 1e-9:
            self._judge.end(EventKind.FINISHED, f"the recording ended after {self.recording.end_s:.1f} s")


def read_recording(path: str | Path) -> Recording:
    """Read a CommonRoad file with one planning problem or more (the first is taken).

    Raises:
        WorldError: commonroad-io is not installed.
        ScenarioError: no such file, not a CommonRoad file, no planning problem, or an unknown kind of obstacle.
    """
    reader = _reader()
    try:
        scenario, problems = reader(str(path)).open()
    except OSError as error:
        raise ScenarioError(f"cannot read the CommonRoad file {path}: {error.strerror or error}") from error
    except Exception as error:  # the library raises whatever its parts raise
        raise ScenarioError(f"{path} is not a CommonRoad file that commonroad-io can read: {error}") from error
    found = list(problems.planning_problem_dict.values())
    if not found:
        raise ScenarioError(f"{path} has no planning problem: one must say where our vehicle starts")
    first = found[0].initial_state
    x_m, y_m = (float(value) for value in first.position)
    static = [_standing(item, path) for item in scenario.static_obstacles]
    return Recording(
        name=str(scenario.scenario_id),
        tracks=(*[_track(item, float(scenario.dt), path) for item in scenario.dynamic_obstacles], *static),
        network=scenario.lanelet_network,
        start=(x_m, y_m, float(first.orientation), max(0.0, float(first.velocity))),
        goal_m=_goal(found[0].goal),
    )


def _reader() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own imports
            from commonroad.common.file_reader import CommonRoadFileReader
    except ImportError as error:
        raise WorldError(
            "the commonroad world needs commonroad-io, not installed here: pip install 'headway[worlds]'"
        ) from error
    return CommonRoadFileReader


def _goal(goal: Any) -> Floats | None:
    for state in goal.state_list:
        centre = getattr(getattr(state, "position", None), "center", None)
        if centre is not None:  # newer versions of the library give a point of shapely
            return np.array([centre.x, centre.y] if hasattr(centre, "x") else centre, dtype=float)
    return None


def _sides(shape: Any, number: int, path: str | Path) -> tuple[float, float, bool]:
    if hasattr(shape, "radius"):
        return 2.0 * float(shape.radius), 2.0 * float(shape.radius), True
    if hasattr(shape, "length") and hasattr(shape, "width"):
        return float(shape.length), float(shape.width), False
    raise ScenarioError(f"{path}: obstacle {number} is a {type(shape).__name__}: must be a rectangle or a circle")


def _track(item: Any, step_s: float, path: str | Path) -> Track:
    states = getattr(getattr(item.prediction, "trajectory", None), "state_list", None)
    if not states:
        raise ScenarioError(f"{path}: obstacle {item.obstacle_id} has no recorded trajectory")
    states = [item.initial_state, *states]
    length_m, width_m, is_round = _sides(item.obstacle_shape, item.obstacle_id, path)
    points = np.array([state.position for state in states], dtype=float)
    heading = np.unwrap([float(state.orientation) for state in states])
    start_s = float(states[0].time_step) * step_s
    return Track(f"vehicle {item.obstacle_id}", start_s, step_s, points, heading, length_m, width_m, is_round)


def _standing(item: Any, path: str | Path) -> Track:
    length_m, width_m, is_round = _sides(item.obstacle_shape, item.obstacle_id, path)
    place = np.array([item.initial_state.position], dtype=float)
    heading = np.array([float(item.initial_state.orientation)])
    return Track(f"obstacle {item.obstacle_id}", 0.0, 1.0, place, heading, length_m, width_m, is_round)


def _start(
    recording: Recording, seed: int
) -> tuple[tuple[float, float, float, float], Route, tuple[Track, ...], float]:
    """Return pose and speed at the start, the route, the others, and the instant of the recording that it is."""
    if seed == 0:
        x_m, y_m, heading_rad, _ = recording.start
        route = along_lanes(recording.network, x_m, y_m, heading_rad, recording.goal_m)
        return recording.start, route, recording.tracks, 0.0
    rng = np.random.default_rng([seed, 0])
    cars = [track for track in recording.tracks if not track.round]
    long = [track for track in cars if _LEAST_TIME_S < track.end_s - track.start_s < math.inf]
    if not long:
        raise ScenarioError(f"{recording.name}: no car is seen for {_LEAST_TIME_S} s: only seed 0 can be driven")
    taken = long[int(rng.integers(len(long)))]
    from_s = taken.start_s + float(rng.uniform(0.0, 0.5 * (taken.end_s - taken.start_s)))
    thing = taken.at(from_s)
    if thing is None or not isinstance(thing.body, Box):
        raise ScenarioError(f"{recording.name}: {taken.name} is not there at {from_s:.2f} s")
    others = tuple(track for track in recording.tracks if track is not taken)
    rest = taken.points_m[int((from_s - taken.start_s) / taken.step_s) :]
    heading_rad = thing.body.heading_rad
    start = (thing.body.x_m, thing.body.y_m, heading_rad, thing.speed_mps)
    return start, route_through(rest, heading_rad), others, from_s
