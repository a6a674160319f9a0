"""What a calibration rests on: at each instant the control in force, what the sensors told, and how the vehicle moved.

In a world the motion is the truth. In a log it is a local fit to what was told: a parabola in time through the
`2 FIT + 1` nearest observations, whose misfit stands in for the sensors' errors.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carla_bridge.errors import CalibrationError
from carla_bridge.worlds.watch import Motion
from runtime.observe.replay.log import FlightLog
from shield.state import State, wrap_angle

FIT = 6
"""Observations on either side of the one that a motion is fitted at."""

_GAP_S = 0.2
_NS = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """One instant.

    Args:
        time_s: When [s].
        run: Number of the stretch without a gap that it belongs to.
        control: Slip angle [rad], speed asked for [m/s] and brake in force until this instant.
        state: What was told of the vehicle.
        motion: How it moved.
        obstacle_errors_m: By how much each obstacle was told in another place than it stood [m].
    """

    time_s: float
    run: int
    control: tuple[float, float, bool]
    state: State
    motion: Motion
    obstacle_errors_m: tuple[float, ...]


def samples_of_log(paths: Sequence[Path]) -> list[Sample]:
    """Return the samples of a flight recorder's log.

    Raises:
        LogError: there is none, or it cannot be read.
        CalibrationError: it holds too few observations of a driven vehicle.
    """
    told = list(_told(FlightLog(paths)))
    if not told:
        raise CalibrationError(
            f"{', '.join(map(str, paths))}: no tick of a guard with a measured speed and the control in force; what is "
            f"wanted is a log that `headway record` or `headway serve --record` wrote while the vehicle was driven"
        )
    found: list[Sample] = []
    for number, stretch in enumerate(_stretches(told)):
        found += _fitted(number, stretch)
    if len(found) < 10 * FIT:
        raise CalibrationError(
            f"the log holds {len(told)} observations of a measured speed without gaps, {len(found)} of them usable: "
            f"at least {10 * FIT} are needed; record a drive of some seconds"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    time_s: float
    control: tuple[float, float, bool]
    state: State
    discs: tuple[tuple[float, float], ...]


def _told(entries: Iterable[Any]) -> Iterator[_Told]:
    """Yield every observation of a measured speed with the decision that was in force at it."""
    controls: dict[int, tuple[float, float, bool]] = {}
    for entry in entries:
        if entry.topic != "/guard/tick":
            continue
        seen, decided = entry.data["observation"], entry.data["decision"]
        if seen is not None and seen["speed_mps"] is not None and seen["applied_id"] in controls:
            state = State(seen["x_m"], seen["y_m"], seen["heading_rad"], seen["beta_rad"], seen["speed_mps"])
            still = tuple((float(item[0]), float(item[1])) for item in seen["obstacles"] if item[3] == 0.0)
            yield _Told(seen["stamp_ns"] * _NS, controls[seen["applied_id"]], state, still)
        controls[decided["id"]] = (decided["beta_rad"], decided["speed_mps"], decided["brake"])


def _stretches(told: Sequence[_Told]) -> Iterator[list[_Told]]:
    stretch: list[_Told] = []
    for item in told:
        if stretch and not 0.0 < item.time_s - stretch[-1].time_s <= _GAP_S:
            yield stretch
            stretch = []
        stretch.append(item)
    yield stretch


def _fitted(run: int, stretch: Sequence[_Told]) -> Iterator[Sample]:
    headings = np.unwrap([item.state.heading_rad for item in stretch])
    for at in range(FIT, len(stretch) - FIT):
        window = stretch[at - FIT : at + FIT + 1]
        here = stretch[at]
        times = np.array([item.time_s - here.time_s for item in window])
        rows = np.array(
            [[item.state.x_m, item.state.y_m, turn] for item, turn in zip(window, headings[at - FIT :], strict=False)]
        )
        value, slope = (np.asarray(part) for part in np.polyfit(times, rows, 2)[::-1][:2])
        speed = math.hypot(slope[0], slope[1])
        slip = wrap_angle(math.atan2(slope[1], slope[0]) - value[2]) if speed > 0.5 else 0.0
        motion = Motion(float(value[0]), float(value[1]), wrap_angle(float(value[2])), speed, slip, float(slope[2]))
        yield Sample(here.time_s, run, here.control, here.state, motion, _strays(window))


def _strays(window: Sequence[_Told]) -> tuple[float, ...]:
    """Return how far each standing obstacle is told from where the window's median has it [m]."""
    here = window[len(window) // 2].discs
    if any(len(item.discs) != len(here) for item in window) or not here:
        return ()
    places = np.array([item.discs for item in window])
    strays = np.linalg.norm(np.array(here) - np.median(places, axis=0), axis=1)
    return tuple(strays.tolist())
