"""The top view of one tick: the vehicle, the obstacles, the held arc and the backup manoeuvre, as points to draw.

With the slip angle beta held, the vehicle drives, from the pose (x, y, psi) on, with kappa = sin(beta)/l_r,

    p(s) = p(0) + s sinc(kappa s/2) (cos(psi + beta + kappa s/2), sin(psi + beta + kappa s/2)).

The held arc is as long as the speed of now takes it by the tolerable deadline; the backup begins where the hold ends.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.serve.guard_ticks import Tick
from shield.vehicle import Vehicle

Point = tuple[float, float]
_FARTHEST_M = 80.0
_CIRCLE_M = 30.0
_STEPS = 24
_NS = 1e-9


@dataclass(frozen=True, slots=True)
class TopView:
    """What is drawn of a tick; lengths [m], angles [rad], times [s].

    Args:
        x_m, y_m, heading_rad: The vehicle's pose.
        obstacles: (x, y, radius) each.
        held: Points of the arc that is held until the tolerable deadline.
        certain: How many of the points of `held` lie before the backup takes over.
        backup: Points of the backup manoeuvre.
    """

    x_m: float
    y_m: float
    heading_rad: float
    obstacles: tuple[tuple[float, float, float], ...]
    held: tuple[Point, ...]
    certain: int
    backup: tuple[Point, ...]


def top_view(tick: Tick, vehicle: Vehicle) -> TopView | None:
    """Return what to draw of a tick; None where it has no observation that can be drawn."""
    seen, decision = tick.observation, tick.decision
    if seen is None or not all(map(math.isfinite, (seen.x_m, seen.y_m, seen.heading_rad))):
        return None
    speed = vehicle.v_max_mps if seen.speed_mps is None else seen.speed_mps
    speed = max(0.0, speed) if math.isfinite(speed) else 0.0
    pose = (seen.x_m, seen.y_m, seen.heading_rad)
    hold_s = 0.0
    if decision.mode != "backup":
        hold_s = math.inf if decision.hold_until_ns is None else (decision.hold_until_ns - decision.stamp_ns) * _NS
    hold_m = min(_FARTHEST_M, speed * hold_s) if speed else 0.0
    whole_m = max(hold_m, min(_FARTHEST_M, speed * max(0.0, decision.deadline_s)) if speed else 0.0)
    certain = round(_STEPS * hold_m / whole_m) if whole_m else 0
    held = arc(pose, decision.beta_rad, vehicle.l_r_m, whole_m) if decision.mode != "backup" else ()
    start = after(pose, decision.beta_rad, vehicle.l_r_m, hold_m)
    backup: tuple[Point, ...] = ()
    if decision.backup is not None and speed:
        beta_rad, _, brakes = decision.backup
        length_m = _CIRCLE_M
        if brakes and vehicle.deceleration_mps2 is not None:
            length_m = min(_FARTHEST_M, speed * speed / (2.0 * vehicle.deceleration_mps2))
        backup = arc(start, beta_rad, vehicle.l_r_m, length_m)
    discs = tuple((x, y, radius) for x, y, radius, _ in seen.obstacles if all(map(math.isfinite, (x, y, radius))))
    return TopView(*pose, discs, held, certain, backup)


def after(pose: Sequence[float], beta_rad: float, l_r_m: float, distance_m: float) -> tuple[float, float, float]:
    """Return the pose (x, y, heading) after `distance_m` along the arc of a held slip angle."""
    half = 0.5 * math.sin(beta_rad) / l_r_m * distance_m
    chord = distance_m * (math.sin(half) / half if half else 1.0)
    direction = pose[2] + beta_rad + half
    return pose[0] + chord * math.cos(direction), pose[1] + chord * math.sin(direction), pose[2] + 2.0 * half


def arc(pose: Sequence[float], beta_rad: float, l_r_m: float, length_m: float) -> tuple[Point, ...]:
    """Return points along an arc, its start included; none where it has no length."""
    if not length_m > 0.0:
        return ()
    poses = (after(pose, beta_rad, l_r_m, length_m * step / _STEPS) for step in range(_STEPS + 1))
    return tuple((x, y) for x, y, _ in poses)
