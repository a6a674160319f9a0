"""highway-env as a World: its physics, its roads, its drivers; our control in place of its agent's.

The environment's picture of the road has y to the right; here y is to the left. Our vehicle starts at rest behind
another amid the traffic, which is slowed down from a motorway's speeds to a town's. The others brake and change lanes
for it as highway-env's drivers do. Every other's declared top speed is the road's speed limit, or the greatest speed
that any of them starts with, and 3.5 m/s for the turn of a body about its middle in a lane change.

Reference: Leurent, An environment for autonomous driving decision-making, https://github.com/Farama-Foundation/HighwayEnv
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from carla_bridge.errors import SimulatorError, WorldError
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Floats, Route
from carla_bridge.scenario import Scenario
from carla_bridge.worlds.base import TrueWorld, velocity_of
from carla_bridge.worlds.bodies import Box, gap_m
from carla_bridge.worlds.judge import Thing
from carla_bridge.worlds.lanes import LENGTH_M
from carla_bridge.worlds.watch import Motion
from shield.guard import Command
from shield.state import wrap_angle
from shield.vehicle import Vehicle

TICK_S = 0.02
BODY = (5.0, 2.0, 0.0)
ENVIRONMENT = "highway-v0"
"""Which of its environments: a straight road of four lanes."""

LIMIT_MPS = 10.0
"""Speed limit that the road is given [m/s]; 30 as it comes."""

BEHIND_M, GAP_M = 20.0, 40.0
"""How far behind another our vehicle starts, and the least gap that it starts in [m]."""

TURN_MPS = 3.5
"""What the end of a body may be faster than its middle [m/s]."""

_FRAMES = 2
_HALF_WIDTH_M = 10.0
_BESIDE_M = 1.0


class HighwayWorld(TrueWorld):
    """A World in highway-env.

    Args:
        vehicle: Parameters and declared bounds; l_r must be 2.5 m, its body is 5 m by 2 m.
        seed: Seed of the environment, and of the sensor errors.
        speed_mps: Speed asked for [m/s]; None: 15 m/s, or top speed.
        vehicles: How many others there are.
        density: How close they follow each other, 1 as in highway-env by default.
        error_share: Share of each declared bound that sensor errors make use of, 0 to 1.
    Raises:
        WorldError: highway-env is not installed, or the vehicle is not the one of this world.
    """

    def __init__(
        self,
        vehicle: Vehicle,
        seed: int = 0,
        *,
        speed_mps: float | None = None,
        vehicles: int = 10,
        density: float = 0.6,
        error_share: float = 0.8,
    ) -> None:
        if not math.isclose(vehicle.l_r_m, 0.5 * BODY[0]):
            raise WorldError(f"vehicle {vehicle.name!r}: l_r_m = {vehicle.l_r_m}: highway-env's vehicles have 2.5")
        self._up_mps2, self._down_mps2 = vehicle.a_max_mps2 or 5.0, vehicle.deceleration_mps2 or 7.0
        self._env = _make(seed, vehicles, density)
        self._names: dict[int, tuple[str, Any]] = {}
        _slow_down(self._env)
        _amid(self._env)
        self._ego.speed = 0.0
        asked_mps = min(vehicle.v_max_mps, speed_mps or 15.0)
        route = _route(self._ego.lane, self._ego)
        scenario = Scenario(ENVIRONMENT, route, _HALF_WIDTH_M, asked_mps, SpawnRule(count=0))
        super().__init__(vehicle, scenario, seed, BODY, error_share)
        limits = [lane.speed_limit or 0.0 for lane in self._env.road.network.lanes_list()]
        self._declared_mps = max([*limits, *(abs(other.speed) for other in self._env.road.vehicles)]) + TURN_MPS
        self._yaw_rate_radps = self._slip_rad = 0.0
        self._begin()

    @property
    def tick_s(self) -> float:
        return TICK_S

    @property
    def obstacle_speed_mps(self) -> float:
        """Declared top speed of the others [m/s]."""
        return float(self._declared_mps)

    def close(self) -> None:
        if not self._closed:
            self._env.close()
        super().close()

    @property
    def _ego(self) -> Any:
        return self._env.vehicle

    def _advance(self, control: Command) -> None:
        limit = self.vehicle.beta_max_rad
        slip = max(-limit, min(limit, control.beta_rad))
        asked = 0.0 if control.brake else max(0.0, min(self.vehicle.v_max_mps, control.speed_mps))
        change = (asked - float(self._ego.speed)) / TICK_S
        accel = max(-self._down_mps2, min(self._up_mps2, change))
        steering = -math.atan(2.0 * math.tan(slip))
        before, before_mps = float(self._ego.heading), float(self._ego.speed)
        crashed = self._ego.crashed
        try:
            # As the environment's own step does, less its observation and reward, which cost more than its physics.
            self._ego.act({"acceleration": accel, "steering": steering})
            for _ in range(_FRAMES):
                self._env.road.act()
                self._env.road.step(TICK_S / _FRAMES)
        except Exception as error:  # highway-env raises whatever its parts raise
            raise SimulatorError(f"highway-env failed at {self.time_s:.2f} s: {error!r}") from error
        if self._ego.crashed and not crashed:
            self._note_crash()
        self._slip_rad = slip
        # Euler's rule turns by the speed before each frame: the mean of those, brought to the speed at the end.
        mean_mps = before_mps + 0.5 * (1.0 - 1.0 / _FRAMES) * (float(self._ego.speed) - before_mps)
        share = float(self._ego.speed) / max(mean_mps, 1e-9)
        self._yaw_rate_radps = -wrap_angle(float(self._ego.heading) - before) / TICK_S * share

    def _note_crash(self) -> None:
        """Tell the judge of a crash that highway-env found: it sees them a frame ahead, and stops who crashed."""
        box = self.box_at(self._moving)
        things = [self._thing(item) for item in self._env.road.vehicles if item is not self._ego and item.crashed]
        nearest = min(things, key=lambda thing: gap_m(box, thing.body), default=None)
        if nearest is not None:
            self._judge.touched(box, velocity_of(self._moving), nearest)

    def _motion(self) -> Motion:
        ego = self._ego
        x_m, y_m, heading, speed = (
            float(ego.position[0]),
            -float(ego.position[1]),
            -float(ego.heading),
            float(ego.speed),
        )
        return Motion(x_m, y_m, wrap_angle(heading), abs(speed), self._slip_rad, self._yaw_rate_radps)

    def _things(self) -> Sequence[Thing]:
        road = self._env.road
        return [self._thing(item) for item in (*road.vehicles, *road.objects) if item is not self._ego and item.solid]

    def _thing(self, item: Any) -> Thing:
        name, _ = self._names.setdefault(id(item), (f"vehicle {len(self._names)}", item))
        heading, speed = -float(item.heading), float(item.speed)
        body = Box(float(item.position[0]), -float(item.position[1]), heading, float(item.LENGTH), float(item.WIDTH))
        return Thing(name, body, speed * math.cos(heading), speed * math.sin(heading))

    def _top_speed_mps(self, thing: Thing) -> float:
        return float(self._declared_mps)


def _make(seed: int, vehicles: int, density: float) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries' own imports
            import gymnasium
            import highway_env  # noqa: F401 # registers its environments
    except ImportError as error:
        raise WorldError("the highway world needs highway-env: pip install 'headway[worlds]'") from error
    config = {
        "action": {"type": "ContinuousAction"},
        "vehicles_count": vehicles,
        "vehicles_density": density,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(ENVIRONMENT, config=config).unwrapped
            env.reset(seed=seed)
    except gymnasium.error.Error as error:
        raise SimulatorError(f"highway-env has no {ENVIRONMENT}: {error}") from error
    return env


def _slow_down(env: Any) -> None:
    """Bring the road's speed limit, and every driver's speed in the same proportion, to `LIMIT_MPS`."""
    lanes = env.road.network.lanes_list()
    share = LIMIT_MPS / max(lane.speed_limit for lane in lanes)
    for lane in lanes:
        lane.speed_limit *= share
    for other in env.road.vehicles:
        other.speed *= share
        if hasattr(other, "target_speed"):
            other.target_speed *= share


def _amid(env: Any) -> None:
    """Put our vehicle `BEHIND_M` behind one amid the traffic that has `GAP_M` free behind it."""
    ego = env.vehicle
    others = [item for item in env.road.vehicles if item is not ego]
    middle = float(np.median([item.position[0] for item in others])) if others else 0.0
    for lead in sorted(others, key=lambda item: abs(float(item.position[0]) - middle)):
        x_m, y_m = float(lead.position[0]), float(lead.position[1])
        lane = [float(item.position[0]) for item in others if abs(float(item.position[1]) - y_m) < _BESIDE_M]
        if not any(x_m - GAP_M < other < x_m for other in lane):
            ego.position = np.array([x_m - BEHIND_M, y_m])
            ego.on_state_update()
            return


def _route(lane: Any, ego: Any) -> Route:
    """Return the route along the straight lane of a vehicle, from where it is."""
    start_m = float(lane.local_coordinates(ego.position)[0])
    points = [lane.position(s_m, 0.0) for s_m in (start_m, start_m + LENGTH_M)]
    line: Floats = np.asarray(points, dtype=np.float64) * (1.0, -1.0)
    return Route.from_waypoints(line)
