"""What the barrier refuses leaves nothing: a body counts towards its disc, and the age of what is seen is taken off."""

from dataclasses import replace

import pytest

from shield.barrier import Polar, barrier_of, covered, hold_time
from shield.filter import admissible_slip, filter_slip
from shield.state import Disc, State
from shield.vehicle import Bounds, load_vehicle

CAR = load_vehicle("config1")


def test_a_body_counts_towards_the_disc_of_the_barrier() -> None:
    car, room = replace(CAR, radius_m=1.0), barrier_of(CAR).r_bar_m - 1.0
    assert covered(car, Disc(0.0, 0.0, room - 1e-9))
    assert not covered(car, Disc(0.0, 0.0, room + 1e-6))


def test_a_refused_state_is_held_for_no_time() -> None:
    assert hold_time(CAR, State(0.0, 0.0, 0.0, 0.0), [Disc(900.0, 0.0, 2.0 * barrier_of(CAR).r_bar_m)], 2.0) == 0.0


def test_the_filter_asks_a_slip_angle_to_last_for_the_age_of_what_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def lasting(*given: object) -> None:
        asked.append(float(str(given[-1])))

    monkeypatch.setattr("shield.filter._lasting", lasting)
    car = replace(CAR, bounds=Bounds(tick_s=0.02, sensing_age_s=0.3))
    filter_slip(car, State(0.0, 0.0, 0.0, 0.0), [Disc(60.0, 0.0, 1.0)], 0.0, 0.1)
    assert asked == pytest.approx([0.42])


def test_a_position_error_tilts_what_is_admitted_as_much_as_its_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    tilts: list[float] = []

    def branch(_car: object, _r: float, _xi: float, tilt: float) -> tuple[()]:
        tilts.append(tilt)
        return ()

    monkeypatch.setattr("shield.filter._branch", branch)
    car = replace(CAR, bounds=Bounds(position_m=3.0, heading_rad=0.2))
    admissible_slip(car, Polar(6.001, 1.0))
    admissible_slip(car, Polar(12.0, -2.8))
    assert tilts == pytest.approx([0.2 + 0.5235026, 0.2 + 0.2526803, 0.2 + 0.2526803], abs=1e-5)
