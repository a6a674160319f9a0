"""Bounds over every tick of a drive, those between one settled stretch and the next included.

A running vehicle is held to the model of `carla_bridge.worlds.watch`. Its relations are solved here for the
bound that each tick asks for:

    acceleration   (v_2 - v_1) / dt
    deceleration   the least of (v_m - v)/(t - late) over a braking, v_m = v_0 + a delay
    steering       how far the slip angle, or the one that the curvature tells, lies outside of what the angles asked
                   for allow when they are followed after the delay, at once or at the slip rate
    position       by how much an obstacle reaches beyond what is told of it

Ticks are not independent, events are about so: of each half second the worst is taken, and of those the ones that no
neighbouring one exceeds, so that one event counts once. What is declared is the end of their range
(`statistics.upper_bound` with `TOP` values).
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carla_bridge.calibrate.samples import Sample
from carla_bridge.worlds.watch import SLOW_MPS, STOPPED_MPS
from shield.vehicle import Vehicle

BLOCK_S = 0.5


@dataclass(frozen=True, slots=True)
class Peaks:
    """The worst of each event.

    Args:
        speed_mps, acceleration_mps2, steering_rad: Upper ends are looked for.
        place_m: Of the vehicle's place as told; the same.
        position_m: Of what an obstacle reaches beyond what is told of it; the same.
        deceleration_mps2: That each braking kept to; the lower end is looked for.
    """

    speed_mps: tuple[float, ...]
    acceleration_mps2: tuple[float, ...]
    steering_rad: tuple[float, ...]
    place_m: tuple[float, ...]
    position_m: tuple[float, ...]
    deceleration_mps2: tuple[float, ...]


def peaks_of(drives: Sequence[Sequence[Sample]], vehicle: Vehicle) -> Peaks:
    """Return the worst of each event in some drives.

    Args:
        drives: Samples of every tick, each drive without a gap and from rest.
        vehicle: Its geometry, actuation delay, slip rate, brake build-up and greatest acceleration are taken as given.
    """
    speed: list[float] = []
    gained: list[float] = []
    steering: list[float] = []
    place: list[float] = []
    position: list[float] = []
    braking: list[float] = []
    for drive in drives:
        if len(drive) < 2:
            continue
        times = [item.time_s for item in drive]
        speed += _peaks(times, [item.motion.speed_mps for item in drive])
        gains = [
            (after.motion.speed_mps - before.motion.speed_mps) / (after.time_s - before.time_s)
            for before, after in itertools.pairwise(drive)
        ]
        gained += _peaks(times[1:], gains)
        steering += _peaks(times, list(_outside(drive, vehicle)))
        place += _peaks(times, [_astray_m(item) for item in drive])
        sighted = [(item.time_s, max(item.obstacle_errors_m)) for item in drive if item.obstacle_errors_m]
        position += _peaks([time_s for time_s, _ in sighted], [error_m for _, error_m in sighted])
        braking += _decelerations(drive, vehicle)
    found = (speed, gained, steering, place, position, braking)
    return Peaks(*map(tuple, found))


def _peaks(times_s: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the greatest value of each half second that is not exceeded in the one before or after it."""
    worst = [
        max(value for _, value in block)
        for _, block in itertools.groupby(zip(times_s, values, strict=True), key=lambda pair: pair[0] // BLOCK_S)
    ]
    around = [-math.inf, *worst, -math.inf]
    return [now for before, now, after in zip(around, worst, around[2:], strict=False) if before < now >= after]


def _astray_m(item: Sample) -> float:
    return math.hypot(item.state.x_m - item.motion.x_m, item.state.y_m - item.motion.y_m)


def _outside(drive: Sequence[Sample], vehicle: Vehicle) -> Iterator[float]:
    """Yield for each tick by how much the slip angle lies outside of what was asked for [rad]."""
    bounds, limit = vehicle.bounds, vehicle.beta_max_rad
    asked: deque[tuple[float, float]] = deque()
    dt_s = drive[1].time_s - drive[0].time_s
    step = math.inf if bounds.slip_rate_radps is None else bounds.slip_rate_radps * dt_s
    low = high = 0.0
    for item in drive:
        asked.append((item.time_s, max(-limit, min(limit, item.control[0]))))
        while len(asked) > 1 and asked[1][0] <= item.time_s - bounds.actuation_delay_s - dt_s:
            asked.popleft()
        least, most = min(angle for _, angle in asked), max(angle for _, angle in asked)
        low = least if low > least else min(least, low + step)
        high = most if high < most else max(most, high - step)
        move = item.motion
        if move.speed_mps < SLOW_MPS:
            yield 0.0
            continue
        curved = math.asin(max(-1.0, min(1.0, move.yaw_rate_radps / move.speed_mps * vehicle.l_r_m)))
        yield max(max(low - slip, slip - high) for slip in (move.slip_rad, curved))


def _decelerations(drive: Sequence[Sample], vehicle: Vehicle) -> Iterator[float]:
    """Yield for each braking the deceleration that its every tick kept to, by speed and by way [m/s^2]."""
    bounds = vehicle.bounds
    late_s = bounds.actuation_delay_s + bounds.brake_build_s
    dt_s = drive[1].time_s - drive[0].time_s
    for brake, run in itertools.groupby(drive, key=lambda item: item.control[2]):
        if not brake:
            continue
        items = list(run)
        start_s = items[0].time_s - dt_s
        gain_mps = (vehicle.a_max_mps2 or 0.0) * bounds.actuation_delay_s
        from_mps = min(vehicle.v_max_mps, items[0].motion.speed_mps + gain_mps)
        kept = [
            (from_mps - item.motion.speed_mps) / (item.time_s - start_s - late_s)
            for item in items
            if item.time_s - start_s > late_s + 0.5 * dt_s and item.motion.speed_mps > STOPPED_MPS
        ]
        way_m = sum(item.motion.speed_mps for item in items) * dt_s - from_mps * (late_s + dt_s)
        if way_m > 0.0:
            kept.append(0.5 * from_mps * from_mps / way_m)
        if kept:
            yield min(kept)
