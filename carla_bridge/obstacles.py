"""Obstacles on the road: upright round drums, set by the rule of the published experiments.

Distances: the published shield keeps the centres of vehicle and obstacle r_bar = 4 m apart. A drum of radius 1.2 m and
a body inside 2.42 m (a car of 4.5 m by 1.8 m about its centre) touch at 3.62 m between centres: that is a collision.
The range sensor reports each drum with the radius that, with the vehicle's declared one, makes up r_bar.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (four obstacles, the first at waypoint 40 +- 5, then every
(len - 40) // 4 +- 10; noise N(0, 1.15 m) on x and y).
"""

from dataclasses import dataclass

import numpy as np

from carla_bridge.route import Route

DRUM_RADIUS_M = 1.2
DRUM_HEIGHT_M = 1.9
BODY_RADIUS_M = 2.42
BODY_HALF_WIDTH_M = 0.9
COLLISION_DISTANCE_M = DRUM_RADIUS_M + BODY_RADIUS_M


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A drum at (x_m, y_m) [m]; `tint` in [0, 1) picks its colours.

    `speed_max_mps` is the top speed that the vehicle is told, `speed_mps` how fast it truly moves [m/s].
    """

    x_m: float
    y_m: float
    radius_m: float = DRUM_RADIUS_M
    height_m: float = DRUM_HEIGHT_M
    tint: float = 0.0
    speed_max_mps: float = 0.0
    speed_mps: float = 0.0


@dataclass(frozen=True, slots=True)
class SpawnRule:
    """Where obstacles stand along a route.

    s_1 = first + U(-first_spread, first_spread);  s_{i+1} = s_i + (span - first) // count + U(-spread, spread)

    Args:
        count: Number of obstacles.
        first_m, first_spread_m: Mean and half range of the first one's arc length [m].
        span_m: Length that is driven, the published rule's number of waypoints 1 m apart [m].
        spread_m: Half range of the distance between two [m].
        noise_m: Standard deviation added to x and to y [m]; published 1.15 with noise, 0 without.
    """

    count: int = 4
    first_m: float = 40.0
    first_spread_m: float = 5.0
    span_m: float = 106.0
    spread_m: float = 10.0
    noise_m: float = 0.0

    def spawn(self, route: Route, rng: np.random.Generator) -> tuple[Obstacle, ...]:
        """Return the obstacles of one episode in the order of their arc length."""
        if self.count == 0:
            return ()
        gaps = (self.span_m - self.first_m) // self.count + rng.uniform(-self.spread_m, self.spread_m, self.count - 1)
        first = self.first_m + rng.uniform(-self.first_spread_m, self.first_spread_m)
        along = first + np.concatenate([[0.0], np.cumsum(gaps)])
        noise = rng.normal(0.0, 1.0, (self.count, 2)) * self.noise_m
        tints = rng.random(self.count)
        drums = []
        for s_m, (dx, dy), tint in zip(along, noise, tints, strict=True):
            x_m, y_m = route.at(float(s_m))
            drums.append(Obstacle(x_m + float(dx), y_m + float(dy), tint=float(tint)))
        return tuple(drums)
