"""Many vehicles at once: hold a slip angle, switch late, run a backup, and see how close they come to the obstacles.

A kinematic bicycle is stepped in time along exact arcs, with its own speed, steering error, slip ramp, measurement
error and switching instant in every trajectory. Nothing here is shared with the code that computes deadlines, so a
mistake there is not repeated here.

A trajectory has three phases: the hold, the delay of the switch with the old slip angle in effect, and the backup.
What happens between two steps is not looked at, so a contact can be missed and none invented.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shield.vehicle import Vehicle

Array = NDArray[np.float64]

HOLD_STEPS, DELAY_STEPS, BACKUP_STEPS = 40, 4, 84
STEPS = HOLD_STEPS + DELAY_STEPS + BACKUP_STEPS
"""Simulated states in one trajectory."""


@dataclass(slots=True)
class Trajectories:
    """N trajectories past K obstacles each; arrays of shape (N,) or (N, K), SI units, body frame of the measured start.

    Args:
        beta_rad: Slip angle held.
        hold_s, delay_s: Length of the first and the second phase.
        backup_rad: Slip angle of the backup.
        straightens: Whether it goes straight as soon as that is clear of every obstacle.
        brakes: Whether it brakes to rest.
        heading_rad: True heading at the start; the measured one is 0.
        speed_mps: True speed at the start.
        wish: Fraction of top speed wished for at each step of hold and delay, shape (N, HOLD_STEPS + DELAY_STEPS).
        error_rad: Steering error at each step, shape (N, STEPS).
        x_m, y_m: Measured centres of the obstacles.
        shift_x_m, shift_y_m: True centres less measured ones.
        radius_m: Distance between the centres at contact; negative where there is no obstacle.
        spare_m: What the vehicle adds to that when it looks whether straight ahead is clear.
        pursuit_mps: Speed at which the obstacle comes.
    """

    beta_rad: Array
    hold_s: Array
    delay_s: Array
    backup_rad: Array
    straightens: NDArray[np.bool_]
    brakes: NDArray[np.bool_]
    heading_rad: Array
    speed_mps: Array
    wish: Array
    error_rad: Array
    x_m: Array
    y_m: Array
    shift_x_m: Array
    shift_y_m: Array
    radius_m: Array
    spare_m: float
    pursuit_mps: Array


class _Motion:
    """The state of all trajectories while they run."""

    def __init__(self, vehicle: Vehicle, runs: Trajectories) -> None:
        self.l_r, self.rate = vehicle.l_r_m, vehicle.bounds.slip_rate_radps
        self.runs = runs
        self.x = np.zeros_like(runs.beta_rad)
        self.y = np.zeros_like(runs.beta_rad)
        self.heading = runs.heading_rad.copy()
        self.beta = runs.beta_rad.copy()
        self.speed = runs.speed_mps.copy()
        self.disc_x = runs.x_m + runs.shift_x_m
        self.disc_y = runs.y_m + runs.shift_y_m
        self.clearance = np.full_like(runs.beta_rad, math.inf)
        self.moving = bool((runs.pursuit_mps > 0.0).any())

    def step(self, time_s: Array, speed_after: Array, wanted_rad: Array, error_rad: Array) -> None:
        """Drive every vehicle for `time_s`, ending at `speed_after`, and note how close it comes."""
        way = 0.5 * (self.speed + speed_after) * time_s
        if self.rate is None:
            self.beta = wanted_rad
        else:
            most = self.rate * time_s
            self.beta = self.beta + np.clip(wanted_rad - self.beta, -most, most)
        beta = self.beta + error_rad
        half = 0.5 * np.sin(beta) / self.l_r * way
        chord = way * np.sinc(half / math.pi)
        direction = self.heading + beta + half
        self.x = self.x + chord * np.cos(direction)
        self.y = self.y + chord * np.sin(direction)
        self.heading = self.heading + 2.0 * half
        driving = (self.speed > 0.0) | (speed_after > 0.0)
        self.speed = speed_after
        away_x, away_y = self.disc_x - self.x[:, None], self.disc_y - self.y[:, None]
        distance = np.hypot(away_x, away_y)
        if self.moving:
            step = np.minimum(self.runs.pursuit_mps * time_s[:, None], distance)
            scale = step / np.maximum(distance, 1e-12)
            self.disc_x = self.disc_x - away_x * scale
            self.disc_y = self.disc_y - away_y * scale
            distance = distance - step
        gap = np.where(self.runs.radius_m > 0.0, distance - self.runs.radius_m, math.inf).min(axis=1)
        if self.moving:
            gap = np.where(driving & (self.speed > 0.0), gap, math.inf)
        self.clearance = np.minimum(self.clearance, gap)


def least_clearance(vehicle: Vehicle, runs: Trajectories) -> Array:
    """Drive every trajectory to its end.

    Args:
        vehicle: Vehicle with its declared bounds.
        runs: What each trajectory does.
    Returns:
        Least distance to an obstacle's edge [m], infinite without one.
    """
    motion = _Motion(vehicle, runs)
    _hold(vehicle, runs, motion, range(HOLD_STEPS), runs.hold_s / HOLD_STEPS)
    _hold(vehicle, runs, motion, range(HOLD_STEPS, HOLD_STEPS + DELAY_STEPS), runs.delay_s / DELAY_STEPS)
    _back_up(vehicle, runs, motion)
    return motion.clearance


def _hold(vehicle: Vehicle, runs: Trajectories, motion: _Motion, columns: range, time_s: Array) -> None:
    gain = vehicle.a_max_mps2
    for column in columns:
        wished = runs.wish[:, column] * vehicle.v_max_mps
        after = wished if gain is None else np.minimum(wished, motion.speed + gain * time_s)
        motion.step(time_s, after, runs.beta_rad, runs.error_rad[:, column])


def _back_up(vehicle: Vehicle, runs: Trajectories, motion: _Motion) -> None:
    top, slowing, build_s = vehicle.v_max_mps, vehicle.deceleration_mps2, vehicle.bounds.brake_build_s
    start = motion.speed
    half = BACKUP_STEPS // 2
    circle = 2.0 * math.pi * vehicle.l_r_m / np.maximum(np.abs(np.sin(runs.backup_rad)), 1e-3)
    # A circle once round, a straight until past every obstacle, a turn as far as needed and then straight.
    farthest = np.where(runs.radius_m > 0.0, np.hypot(runs.x_m, runs.y_m) + runs.radius_m, 0.0).max(axis=1)
    past = farthest + np.hypot(motion.x, motion.y)
    way = np.where(runs.backup_rad == 0.0, past, circle)
    turn = _turn_until_clear(vehicle, runs, motion) / (2.0 * math.pi) * circle
    first_s = np.where(runs.straightens, turn / half, way / BACKUP_STEPS) / top
    then_s = np.where(runs.straightens, past / half, way / BACKUP_STEPS) / top
    if slowing is not None:
        first_s = np.where(runs.brakes, (build_s + start / slowing) / BACKUP_STEPS, first_s)
        then_s = np.where(runs.brakes, first_s, then_s)
    for index in range(BACKUP_STEPS):
        time_s = first_s if index < half else then_s
        wanted = runs.backup_rad if index < half else np.where(runs.straightens, 0.0, runs.backup_rad)
        after = np.full_like(start, top)
        if slowing is not None:
            braked = np.maximum(0.0, start - slowing * np.maximum(0.0, time_s * (index + 1) - build_s))
            after = np.where(runs.brakes, braked, after)
        if index == 0:
            # The manoeuvres that do not brake follow the same path at any speed, so they are driven at the top one.
            motion.speed = np.where(runs.brakes, start, top)
        motion.step(time_s, after, wanted, runs.error_rad[:, HOLD_STEPS + DELAY_STEPS + index])


def _turn_until_clear(vehicle: Vehicle, runs: Trajectories, motion: _Motion) -> Array:
    """Return the least turn [rad] after which straight ahead is clear of everything, by what the vehicle measured.

    Mirrored to a turn to the left, seen from the turn centre (-l, rho_r) with (D, gamma) an obstacle's polar
    coordinates, the obstacle stands after a turn phi at e_x = D cos(gamma - phi) - l, e_y = D sin(gamma - phi) + rho_r.
    The least turn is 0 or ends a stretch in which an obstacle blocks: |e_y| = R or e_x = 0.
    """
    answer = np.full_like(runs.beta_rad, 2.0 * math.pi)
    rows = np.flatnonzero(runs.straightens)
    if rows.size == 0:
        return answer
    side = np.sign(runs.backup_rad[rows])[:, None]
    rear = (vehicle.l_r_m / np.tan(np.abs(runs.backup_rad[rows])))[:, None]
    x, y = runs.x_m[rows] - motion.x[rows, None], runs.y_m[rows] - motion.y[rows, None]
    cosine, sine = np.cos(motion.heading[rows])[:, None], np.sin(motion.heading[rows])[:, None]
    ahead, aside = cosine * x + sine * y + vehicle.l_r_m, side * (cosine * y - sine * x) - rear
    distance, gamma = np.hypot(ahead, aside), np.arctan2(aside, ahead)
    room = runs.radius_m[rows] + runs.spare_m
    absent = runs.radius_m[rows] <= 0.0
    ends = [np.zeros((rows.size, 1))]
    for value in ((room - rear) / distance, (-room - rear) / distance):
        angle = np.arcsin(np.clip(value, -1.0, 1.0))
        ends += [gamma - angle, gamma - math.pi + angle]
    across = np.arccos(np.clip(vehicle.l_r_m / distance, -1.0, 1.0))
    ends += [gamma - across, gamma + across]
    turns = np.sort(np.concatenate(ends, axis=1) % (2.0 * math.pi), axis=1)
    left = gamma[:, None, :] - turns[:, :, None]
    e_x = distance[:, None, :] * np.cos(left) - vehicle.l_r_m
    e_y = distance[:, None, :] * np.sin(left) + rear[:, None, :]
    blocks = ~absent[:, None, :] & (e_x > 1e-9) & (np.abs(e_y) < room[:, None, :] - 1e-9)
    clear = np.logical_not(np.any(blocks, axis=2))
    first = np.argmax(clear, axis=1)
    answer[rows] = np.where(clear.any(axis=1), turns[np.arange(rows.size), first], 2.0 * math.pi)
    return answer
