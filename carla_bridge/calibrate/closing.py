"""From what settled stretches tell to what holds at every tick: no bound gets smaller by it.

How the slip angle is followed is a choice between a long delay, a slow rate, and a large error. Those measured at steps
are kept unless slower ones take a fifth off the error; and l_r as declared is kept where the error is smaller by it,
since whatever does not fit the model counts as steering error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from carla_bridge.calibrate.every_tick import Peaks, peaks_of
from carla_bridge.calibrate.measure import Measured
from carla_bridge.calibrate.samples import Sample
from carla_bridge.calibrate.statistics import TOP, Estimate, lower_bound, upper_bound
from carla_bridge.calibrate.vehicle_file import calibrated
from carla_bridge.errors import CalibrationError
from shield.vehicle import Vehicle

_SLOWER = (1.0, 0.85, 0.7, 0.6)
_WORTH = 0.8


def close(base: Vehicle, measured: Measured, drives: Sequence[Sequence[Sample]], delta: float) -> Measured:
    """Return `measured` with every bound at least as wide as all ticks of some drives ask for.

    Args:
        base: What is declared so far.
        measured: From the settled stretches.
        drives: Samples of every tick with the true motion, each drive without a gap and from rest.
        delta: Chance that an interval misses.
    Raises:
        CalibrationError: the drives are too short.
    """
    found, missing = dict(measured.estimates), dict(measured.unmeasured)
    first = peaks_of(drives, calibrated(base, measured, base.name))
    _widen(found, upper_bound("v_max_mps", first.speed_mps, "m/s", delta, "fastest of each event"))
    gained = "gain of speed in a tick, worst of each event"
    _widen(found, upper_bound("a_max_mps2", first.acceleration_mps2, "m/s^2", delta, gained, top=TOP))
    chosen, peaks, total = min(
        _followed(base, replace(measured, estimates=found), drives, delta), key=lambda item: item[2].high * item[3]
    )[:3]
    bounds = chosen.bounds
    found["l_r_m"] = replace(found["l_r_m"], value=chosen.l_r_m)
    if "slip_rate_radps" in found and bounds.slip_rate_radps is not None:
        rate = found["slip_rate_radps"]
        found["slip_rate_radps"] = replace(
            rate, value=min(rate.value, bounds.slip_rate_radps), low=min(rate.low, bounds.slip_rate_radps)
        )
    bias_rad = bounds.steering_bias_rad
    high = max(0.0, total.high - bias_rad)
    low = max(0.0, total.low - bias_rad)
    how = "outside of what was asked for, less the bias, worst of each event"
    _widen(found, replace(total, value=high, high=high, low=low, how=how))
    if peaks.position_m:
        try:
            found["position_m"] = _position(peaks, delta)
            missing.pop("position_m", None)
        except CalibrationError as error:
            missing["position_m"] = str(error)
    if chosen.deceleration_mps2 is not None:
        kept = "that every tick of a braking kept to"
        try:
            slowest = lower_bound("deceleration_mps2", peaks.deceleration_mps2, "m/s^2", delta, kept, top=TOP)
        except CalibrationError as error:
            missing.setdefault("deceleration_mps2", str(error))
        else:
            before = found.get("deceleration_mps2")
            # Brakings from little speed keep to far more: only what falls short of the bound speaks against it.
            if before is None or slowest.high < before.low:
                found["deceleration_mps2"] = slowest
    return Measured(found, measured.curve, missing)


def _followed(
    base: Vehicle, measured: Measured, drives: Sequence[Sequence[Sample]], delta: float
) -> Iterator[tuple[Vehicle, Peaks, Estimate, float]]:
    """Yield each way to declare l_r and slip rate, what it leaves, the steering error, and a handicap."""
    made = calibrated(base, measured, base.name)
    rate = made.bounds.slip_rate_radps
    for l_r_m in {made.l_r_m, base.l_r_m}:
        for slower in (1.0,) if rate is None else _SLOWER:
            slowed = None if rate is None else slower * rate
            tried = replace(made, l_r_m=l_r_m, bounds=replace(made.bounds, slip_rate_radps=slowed))
            peaks = peaks_of(drives, tried)
            total = upper_bound("steering_rad", peaks.steering_rad, "rad", delta, "", top=TOP)
            yield tried, peaks, total, 1.0 if slower == 1.0 and l_r_m == made.l_r_m else 1.0 / _WORTH


def _widen(found: dict[str, Estimate], wider: Estimate) -> None:
    before = found.get(wider.name)
    if before is None or wider.high > before.high:
        found[wider.name] = wider


def _position(peaks: Peaks, delta: float) -> Estimate:
    """Return the error of an obstacle's place: that of the vehicle's own place, and what an obstacle reaches beyond."""
    own = upper_bound("position_m", peaks.place_m, "m", 0.5 * delta, "", top=TOP)
    others = upper_bound("position_m", peaks.position_m, "m", 0.5 * delta, "", top=TOP)
    high, how = own.high + others.high, "told less true place, the vehicle's and the obstacle's added"
    return replace(others, value=high, high=high, low=max(own.low, others.low), delta=delta, how=how)
