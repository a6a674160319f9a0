"""The controller: perception's answers and odometry in, a slip angle and a speed out. Pure: it has no clock of its own.

It aims at a point L metres down the road, on the centre line or, near an obstacle, shifted aside so that the centres
pass at `pass_m`. With the slip angle beta held the vehicle drives an arc of curvature sin(beta) / l_r; its chord to a
point at distance c under the angle alpha (from the heading) obeys

    beta + asin(c sin(beta) / (2 l_r)) = alpha

which increases in beta and is solved by Newton's steps. The shift rises and falls as a raised cosine along the road.
Speed is the one asked for, less where |curvature| v^2 would exceed `lateral_accel_mps2`, and falls to nothing when
answers stay away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.serve.road import RoadArc, RoadFilter
from runtime.serve.tracks import ObstacleMemory, Track
from shield.state import State

ANSWER_SIZE = 6
_NEWTON_STEPS = 6


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """What the controller aims for.

    Args:
        l_r_m: Centre of gravity to rear axle [m].
        beta_max_rad: Largest slip angle proposed [rad].
        speed_mps: Speed asked for on a straight road [m/s].
        pass_m: Distance of centres at which obstacles are passed [m].
        aside_max_m: Largest shift from the centre line [m]: the kerb less half a body and a margin.
        preview_s, preview_least_m: How far ahead it aims: L = max(least, speed * preview) [s, m].
        rise_m, fall_m: Length over which a shift rises before and falls after an obstacle [m].
        hold_before_m, hold_after_m: Length before and after it over which the shift is held [m].
        lateral_accel_mps2: Acceleration across the road that curves are driven with [m/s^2].
        settle_s: Time constant over which answers are averaged [s].
        blind_s: Age of the last answer's frame from which speed falls, to nothing at twice that age [s].
    """

    l_r_m: float
    beta_max_rad: float
    speed_mps: float = 40.0 / 3.6
    pass_m: float = 4.7
    aside_max_m: float = 8.2
    preview_s: float = 0.75
    preview_least_m: float = 5.5
    rise_m: float = 20.0
    fall_m: float = 18.0
    hold_before_m: float = 4.0
    hold_after_m: float = 7.0
    lateral_accel_mps2: float = 2.5
    settle_s: float = 0.12
    blind_s: float = 0.6


class Controller:
    """Drives along the road and around what is seen on it."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.settings = settings
        self._road = RoadFilter(settings.settle_s, jump_m=2.5)
        self._memory = ObstacleMemory()
        self._stamp_s = -math.inf

    @property
    def road(self) -> RoadArc | None:
        """The road as it is believed to be; None before the first answer."""
        return self._road.arc

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The obstacles remembered."""
        return tuple(self._memory.tracks)

    def update_answer(self, answer: Sequence[float], pose: State, stamp_s: float) -> bool:
        """Take in an answer about the frame taken at `stamp_s` from `pose`; return False if it is no use.

        Args:
            answer: lane_offset_m, heading_error_rad, curvature_1pm, obstacle_presence, obstacle_bearing_rad,
                obstacle_range_m. One with a value that is not finite, or about a frame no newer than that of the last
                answer, is no use.
            pose: Odometry's pose at that time.
            stamp_s: Time of the frame [s].
        Raises:
            ValueError: the answer has not six values.
        """
        if len(answer) != ANSWER_SIZE:
            raise ValueError(f"an answer has {ANSWER_SIZE} values, not {len(answer)}")
        offset_m, error_rad, curvature, presence, bearing_rad, range_m = (float(value) for value in answer)
        if stamp_s <= self._stamp_s or not all(math.isfinite(float(value)) for value in answer):
            return False
        self._stamp_s = stamp_s
        self._road.correct(pose, offset_m, error_rad, curvature, stamp_s)
        self._memory.take_in(pose, presence, bearing_rad, range_m)
        return True

    def propose(self, pose: State, speed_mps: float, now_s: float) -> tuple[float, float]:
        """Return (slip angle [rad], speed [m/s]) for the vehicle at `pose` with `speed_mps` at `now_s`.

        Before the first answer it asks for standing still.
        """
        road = self._road.arc
        if road is None:
            return 0.0, 0.0
        s_m, d_m = road.locate(pose.x_m, pose.y_m)
        self._forget_passed(road, s_m)
        ahead_m = max(self.settings.preview_least_m, speed_mps * self.settings.preview_s)
        aim_s = s_m + ahead_m
        aim_x, aim_y = road.at(aim_s, self.aside_m(road, aim_s, d_m))
        beta = self._slip_to(pose, aim_x, aim_y)
        return beta, self._speed(road, now_s)

    def aside_m(self, road: RoadArc, s_m: float, d_m: float) -> float:
        """Return the shift from the centre line aimed for at `s_m`, for a vehicle now `d_m` to the left [m]."""
        places = [(track, *road.locate(track.x_m, track.y_m)) for track in self._memory.tracks if track.confirmed]
        right, left = 0.0, 0.0
        for track, at_s, at_d in sorted(places, key=lambda place: place[1]):
            if abs(at_d) >= self.settings.pass_m:
                continue
            track.side = self._side(track, at_s, at_d, d_m, places)
            shift = self._weight(s_m - at_s) * self._beside(at_d, track.side)
            right, left = min(right, shift), max(left, shift)
        return left + right

    def _beside(self, at_d: float, side: int) -> float:
        limit = self.settings.aside_max_m
        return max(-limit, min(limit, at_d + side * self.settings.pass_m))

    def _side(
        self, track: Track, at_s: float, at_d: float, d_m: float, places: Sequence[tuple[Track, float, float]]
    ) -> int:
        """Return the side with the shorter way there; the one chosen before unless the other is shorter by 1.5 m."""
        costs = {}
        for side in (1, -1):
            wanted = at_d + side * self.settings.pass_m
            cost = abs(wanted - d_m) + (0.0 if side == track.side or not track.side else 1.5)
            cost += 20.0 * max(0.0, abs(wanted) - self.settings.aside_max_m)
            for other, other_s, other_d in places:
                near = other is not track and abs(other_s - at_s) < 12.0
                if near and abs(wanted - other_d) < self.settings.pass_m:
                    cost += 4.0
            costs[side] = cost
        return 1 if costs[1] <= costs[-1] else -1

    def _weight(self, beyond_m: float) -> float:
        """Return how much of the shift holds `beyond_m` metres past an obstacle: 1 beside it, 0 far off."""
        settings = self.settings
        if beyond_m < 0.0:
            share = (-beyond_m - settings.hold_before_m) / settings.rise_m
        else:
            share = (beyond_m - settings.hold_after_m) / settings.fall_m
        return 0.5 * (1.0 + math.cos(math.pi * max(0.0, min(1.0, share))))

    def _slip_to(self, pose: State, x_m: float, y_m: float) -> float:
        dx, dy = x_m - pose.x_m, y_m - pose.y_m
        cos, sin = math.cos(pose.heading_rad), math.sin(pose.heading_rad)
        angle = math.atan2(dy * cos - dx * sin, dx * cos + dy * sin)
        return solve_slip(angle, math.hypot(dx, dy), self.settings.l_r_m, self.settings.beta_max_rad)

    def _speed(self, road: RoadArc, now_s: float) -> float:
        settings = self.settings
        age_s = now_s - self._stamp_s
        sight = max(0.0, min(1.0, 2.0 - age_s / settings.blind_s))
        bend = abs(road.curvature_1pm)
        limit = math.sqrt(settings.lateral_accel_mps2 / bend) if bend > 1e-6 else math.inf
        return sight * min(settings.speed_mps, limit)

    def _forget_passed(self, road: RoadArc, s_m: float) -> None:
        done = self.settings.hold_after_m + self.settings.fall_m
        self._memory.forget(
            [track for track in self._memory.tracks if road.locate(track.x_m, track.y_m)[0] < s_m - done]
        )


def solve_slip(angle_rad: float, distance_m: float, l_r_m: float, beta_max_rad: float) -> float:
    """Return the slip angle whose arc leads to a point, as near as |beta| <= beta_max and half a turn allow.

    Solves  beta + asin(c sin(beta) / (2 l_r)) = alpha  for beta.

    Args:
        angle_rad: Direction of the point from the heading, alpha [rad].
        distance_m: Distance to it, c [m].
        l_r_m: Centre of gravity to rear axle [m].
        beta_max_rad: Largest slip angle [rad].
    """
    ratio = distance_m / (2.0 * l_r_m)
    # Beyond c sin(beta) = 2 l_r the arc's chord gets shorter again: the point can't be met on a longer way.
    limit = min(beta_max_rad, math.asin(min(1.0, 1.0 / ratio)) if ratio > 0.0 else beta_max_rad)
    low, high = -limit, limit
    beta = max(low, min(high, angle_rad / (1.0 + ratio)))
    for _ in range(_NEWTON_STEPS):
        sine = max(-1.0, min(1.0, ratio * math.sin(beta)))
        miss = beta + math.asin(sine) - angle_rad
        low, high = (low, beta) if miss > 0.0 else (beta, high)
        slope = 1.0 + ratio * math.cos(beta) / math.sqrt(max(1e-9, 1.0 - sine * sine))
        step = beta - miss / slope
        beta = step if low <= step <= high else 0.5 * (low + high)
    return beta
