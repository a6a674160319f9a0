"""From samples to the parameters and bounds of a vehicle file.

A slip angle counts as steady when the one asked for has not changed for `STEADY_S`. Then, with v the true speed, b the
true slip angle, w the yaw rate and c the slip angle asked for,

    l_r = v sin(b) / w                              one value for each stretch of a held slip angle
    error of the path's direction  b - c,   error of its curvature  asin(l_r w / v) - c

whose mean over a stretch is the bias and whose greatest departure from the mean is the varying error, of both kinds the
worse. Where sensors err, every `THIN`th instant counts, so that values are about independent.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from carla_bridge.calibrate.samples import Sample
from carla_bridge.calibrate.statistics import LEAST, TOP, Estimate, lower_bound, median_of, upper_bound
from carla_bridge.errors import CalibrationError
from shield.state import wrap_angle

STEADY_S = 0.7
THIN = 5

_SLOW_MPS = 1.0
_BLOCK_S = 0.2
_SAME_RAD = 1e-3
_LEAST_SLIP_RAD = 0.03
_TURN_S = 0.25  # about as long as the window that a log's motion is fitted to
_END_S = 0.15  # what is fitted near the end of a stretch already knows of the next one


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The steering curve at one slip angle asked for [rad]: what came of it, by direction and by curvature [rad]."""

    asked_rad: float
    direction_rad: float
    curvature_rad: float
    n: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What samples say of a vehicle.

    Args:
        estimates: By the key of the vehicle file.
        curve: The steering curve.
        unmeasured: Why a parameter could not be measured, by its key.
    """

    estimates: dict[str, Estimate]
    curve: tuple[CurvePoint, ...]
    unmeasured: dict[str, str]


def measure(samples: Sequence[Sample], delta: float) -> Measured:
    """Return the parameters of a vehicle, each with an interval of confidence 1 - `delta`.

    Raises:
        CalibrationError: `delta` is no chance, or l_r cannot be measured: nothing else can then.
    """
    if not 0.0 < delta < 0.5:
        raise CalibrationError(f"delta = {delta!r}: must lie between 0 and 0.5, ends excluded")
    fastest_mps = max((item.motion.speed_mps for item in samples), default=0.0)
    if fastest_mps <= _SLOW_MPS:
        raise CalibrationError(
            f"the vehicle did not drive: in {len(samples)} samples it was never faster than {fastest_mps:.2f} m/s, and "
            f"only what is faster than {_SLOW_MPS:g} m/s tells anything; is a brake on, or nothing commanded?"
        )
    stretches = list(_steady(samples))
    ratios = [ratio for ratio in map(_turning_radius, stretches) if ratio is not None]
    how = "v sin(slip) / yaw rate, a stretch each"
    if len(ratios) < LEAST:  # a pilot that corrects all the time holds no slip angle for long
        ratios, how = list(_turning_radii(samples)), f"v sin(slip) / yaw rate, {_TURN_S:g} s of turning each"
    l_r = median_of("l_r_m", ratios, "m", delta, how)
    found, missing = {"l_r_m": l_r}, {}
    for name, estimate in _all(samples, stretches, l_r.value, delta):
        try:
            found[name] = estimate()
        except CalibrationError as error:
            missing[name] = str(error)
    return Measured(found, tuple(_curve(stretches, l_r.value)), missing)


def _all(
    samples: Sequence[Sample], stretches: Sequence[Sequence[Sample]], l_r_m: float, delta: float
) -> Iterator[tuple[str, Callable[[], Estimate]]]:
    thin = samples[::THIN]
    errors = [pair for stretch in stretches if (pair := _slip_errors(stretch, l_r_m)) is not None]
    held = [abs(item.control[0]) for stretch in stretches for item in stretch]
    speeds = [max(item.motion.speed_mps for item in run) for run in _runs(samples)]
    changes = list(_speed_changes(samples))
    steps = list(_steps(samples))
    builds, slowest = _brakings(samples)
    tick_s = median(after.time_s - before.time_s for before, after in itertools.pairwise(samples))

    def upper(
        name: str, values: Sequence[float], unit: str, how: str, grain: float = 0.0, top: int = 2
    ) -> tuple[str, Callable[[], Estimate]]:
        return name, lambda: upper_bound(name, values, unit, delta, how, grain, top)

    def lower(name: str, values: Sequence[float], unit: str, how: str) -> tuple[str, Callable[[], Estimate]]:
        return name, lambda: lower_bound(name, values, unit, delta, how)

    yield "beta_max_rad", lambda: _largest(held)
    yield upper("v_max_mps", speeds, "m/s", "fastest of each stretch")
    yield upper("a_max_mps2", changes, "m/s^2", f"gain of speed over {_BLOCK_S:g} s")
    yield lower("deceleration_mps2", slowest, "m/s^2", f"loss of speed over {_BLOCK_S:g} s of braking, built up")
    yield "position_m", lambda: _position(thin, delta)
    turns = [abs(wrap_angle(item.state.heading_rad - item.motion.heading_rad)) for item in thin]
    yield upper("heading_rad", turns, "rad", "told less true heading", top=TOP)
    told = [abs((item.state.speed_mps or 0.0) - item.motion.speed_mps) for item in thin]
    yield upper("speed_mps", told, "m/s", "told less true speed", top=TOP)
    yield upper("steering_rad", [vary for _, vary in errors], "rad", "worst departure from the mean of a stretch")
    yield upper("steering_bias_rad", [bias for bias, _ in errors], "rad", "mean error of a stretch")
    yield upper("actuation_delay_s", [step.delay_s for step in steps], "s", "until the slip angle follows", tick_s)
    yield upper("brake_build_s", builds, "s", "until full deceleration, from nine tenths of it", 2.0 * tick_s)
    largest = max((step.size_rad for step in steps), default=0.0)
    rates = [step.rate_radps for step in steps if step.size_rad > 0.5 * largest and math.isfinite(step.rate_radps)]
    yield lower("slip_rate_radps", rates, "rad/s", "from a tenth to nine tenths of a steering step")


def _runs(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    for _, run in itertools.groupby(samples, key=lambda item: item.run):
        yield list(run)


def _steady(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yield the stretches in which the vehicle moves and the slip angle asked for has been the same for long."""
    for run in _runs(samples):
        for _, held in itertools.groupby(run, key=lambda item: round(item.control[0] / _SAME_RAD)):
            items = list(held)
            from_s, to_s = items[0].time_s + STEADY_S, items[-1].time_s - _END_S
            settled = [item for item in items if from_s <= item.time_s <= to_s and item.motion.speed_mps > _SLOW_MPS]
            if len(settled) >= LEAST:
                yield settled


def _turning_radius(stretch: Sequence[Sample]) -> float | None:
    """Return the stretch's median of v sin(b) / w [m]; None where it hardly turns."""
    if abs(stretch[0].control[0]) < _LEAST_SLIP_RAD:
        return None
    return _radius(stretch)


def _turning_radii(samples: Sequence[Sample]) -> Iterator[float]:
    """Yield the median of v sin(b) / w [m] of each `_TURN_S` in which the vehicle turns all the time."""
    for run in _runs(samples):
        for _, block in itertools.groupby(run, key=lambda item: item.time_s // _TURN_S):
            items = list(block)
            turns = all(abs(item.control[0]) >= _LEAST_SLIP_RAD and item.motion.speed_mps > _SLOW_MPS for item in items)
            radius = _radius(items) if turns and len(items) >= LEAST else None
            if radius is not None:
                yield radius


def _radius(stretch: Sequence[Sample]) -> float | None:
    moves = [item.motion for item in stretch]
    ratios = [move.speed_mps * math.sin(move.slip_rad) / move.yaw_rate_radps for move in moves if move.yaw_rate_radps]
    good = [ratio for ratio in ratios if ratio > 0.0]
    return median(good) if good else None


def _slip_errors(stretch: Sequence[Sample], l_r_m: float) -> tuple[float, float] | None:
    """Return bias and varying error of a stretch [rad], of direction and curvature the worse."""
    worst = (0.0, 0.0)
    for errors in zip(*(_both(item, l_r_m) for item in stretch), strict=True):
        mean = fmean(errors)
        worst = max(worst[0], abs(mean)), max(worst[1], max(abs(error - mean) for error in errors))
    return worst


def _both(item: Sample, l_r_m: float) -> tuple[float, float]:
    move, asked = item.motion, item.control[0]
    curved = math.asin(max(-1.0, min(1.0, l_r_m * move.yaw_rate_radps / move.speed_mps)))
    return move.slip_rad - asked, curved - asked


def _curve(stretches: Sequence[Sequence[Sample]], l_r_m: float) -> Iterator[CurvePoint]:
    by_angle: dict[float, list[tuple[float, float]]] = {}
    for stretch in stretches:
        asked = stretch[0].control[0]
        directions, curvatures = zip(*(_both(item, l_r_m) for item in stretch), strict=True)
        by_angle.setdefault(round(asked, 2), []).append((asked + fmean(directions), asked + fmean(curvatures)))
    for asked, pairs in sorted(by_angle.items()):
        yield CurvePoint(asked, median(pair[0] for pair in pairs), median(pair[1] for pair in pairs), len(pairs))


def _largest(held: Sequence[float]) -> Estimate:
    """Return the largest slip angle that was asked for and held; there is no chance in it."""
    if not held:
        raise CalibrationError("beta_max_rad: no slip angle was held for long")
    most = max(held)
    return Estimate(
        "beta_max_rad", most, most, most, "rad", len(held), 0.0, None, "largest that was asked for and held"
    )


def _position(thin: Sequence[Sample], delta: float) -> Estimate:
    """Return the error of an obstacle's place relative to the vehicle: both ends' worst, half the chance for each."""
    own = [math.hypot(item.state.x_m - item.motion.x_m, item.state.y_m - item.motion.y_m) for item in thin]
    others = [error for item in thin for error in item.obstacle_errors_m]
    first = upper_bound("position_m", own, "m", 0.5 * delta, "", top=TOP)
    if not others:
        raise CalibrationError("position_m: no obstacle was in sight, so its error is not known")
    second = upper_bound("position_m", others, "m", 0.5 * delta, "", top=TOP)
    high, n = first.high + second.high, min(first.n, second.n)
    low = max(first.low, second.low)
    share = min(first.coverage or 0.0, second.coverage or 0.0)
    how = "told less true place, the vehicle's and the obstacle's added"
    return Estimate("position_m", high, low, high, "m", n, delta, share, how)


def _speed_changes(samples: Sequence[Sample]) -> Iterator[float]:
    for first, last in _blocks(samples):
        yield (last.motion.speed_mps - first.motion.speed_mps) / (last.time_s - first.time_s)


def _blocks(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    for run in _runs(samples):
        first = run[0]
        for item in run:
            if item.time_s - first.time_s >= _BLOCK_S - 1e-9:
                yield first, item
                first = item


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of the slip angle asked for: its size [rad], when it was followed [s] and how fast [rad/s]."""

    size_rad: float
    delay_s: float
    rate_radps: float


def _steps(samples: Sequence[Sample]) -> Iterator[_Step]:
    """Yield each step; followed evenly, a tenth takes an eighth of the time from one tenth to nine."""
    for before, run in itertools.pairwise(_runs(samples)):
        start_rad, asked_rad = before[-1].motion.slip_rad, run[0].control[0]
        size, step_s = asked_rad - start_rad, run[0].time_s - before[-1].time_s
        if abs(asked_rad - before[-1].control[0]) < 0.1 or not 0.0 < step_s < _BLOCK_S:
            continue
        if before[-1].motion.speed_mps < _SLOW_MPS:
            continue
        share = [(item.time_s - run[0].time_s, (item.motion.slip_rad - start_rad) / size) for item in run]
        began = next((time_s for time_s, done in share if done >= 0.1), None)
        ended = next((time_s for time_s, done in share if done >= 0.9), None)
        if began is not None and ended is not None:
            took_s = ended - began
            rate = 0.8 * abs(size) / took_s if took_s > 0.0 else math.inf
            yield _Step(abs(size), max(0.0, began - 0.125 * took_s) + step_s, rate)


def _brakings(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Return for each braking until its build-up [s], and every block's deceleration after it [m/s^2]."""
    builds, slowest = [], []
    for run in _runs(samples):
        if not run[0].control[2] or run[0].motion.speed_mps < 2.0 * _SLOW_MPS:
            continue
        moving = [item for item in run if item.control[2] and item.motion.speed_mps > 0.2]
        losses = [
            (
                last.time_s - run[0].time_s,
                (first.motion.speed_mps - last.motion.speed_mps) / (last.time_s - first.time_s),
            )
            for first, last in zip(moving, moving[THIN:], strict=False)
        ]
        if not losses:
            continue
        full = median(loss for _, loss in losses)
        built_s = next((time_s for time_s, loss in losses if loss >= 0.9 * full), None)
        if built_s is None:
            continue
        window_s = moving[min(THIN, len(moving) - 1)].time_s - run[0].time_s
        tick_s = run[1].time_s - run[0].time_s
        builds.append(max(0.0, built_s + tick_s - 0.5 * window_s) / 0.9)
        slowest += [loss for time_s, loss in losses[::THIN] if time_s >= built_s + 2.0 * window_s]
    return builds, slowest
