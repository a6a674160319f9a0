"""A vehicle measured in the built-in world, whose truth is known, and from a log of it."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer import Typer
from typer.testing import CliRunner

from carla_bridge.calibrate import samples as from_log
from carla_bridge.calibrate.closed_loop import drive_closed_loop
from carla_bridge.calibrate.closing import close
from carla_bridge.calibrate.command import calibrate
from carla_bridge.calibrate.measure import Measured, measure
from carla_bridge.calibrate.programme import Programme, drive_controls, proving_ground
from carla_bridge.calibrate.vehicle_file import calibrated, vehicle_text
from carla_bridge.errors import CalibrationError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from carla_bridge.scene.kinds import Placed
from carla_bridge.scene.table import Range
from carla_bridge.worlds.watch import Watch
from shield.guard import Control
from shield.vehicle import Bounds, Vehicle, load_vehicle, parse_vehicle

TRUE = Vehicle(
    l_r_m=1.7,
    beta_max_rad=0.6,
    v_max_mps=9.0,
    a_max_mps2=3.5,
    deceleration_mps2=5.5,
    name="true",
    bounds=Bounds(
        position_m=0.3,
        heading_rad=0.02,
        speed_mps=0.2,
        steering_rad=0.01,
        steering_bias_rad=0.015,
        slip_rate_radps=1.5,
        brake_build_s=0.25,
    ),
)
CLAIMED = replace(TRUE, l_r_m=2.0, a_max_mps2=9.0, bounds=Bounds(jitter_s=0.03))


@pytest.fixture(scope="module")
def measured() -> Measured:
    plain, programme = KinematicWorld(proving_ground(), TRUE, 3, error_share=1.0), Programme(rounds=3, steps=40)
    held = drive_controls(plain, programme.controls(TRUE))
    drives = [held + drive_controls(plain, programme.drawn(TRUE))]
    drives.append(
        drive_closed_loop(KinematicWorld(load_scenario("town04_curves"), TRUE, 3, error_share=1.0), True, 12.0)
    )
    return close(CLAIMED, measure(held, 0.05), drives, 0.05)


def test_the_true_values_lie_in_the_intervals(measured: Measured) -> None:
    truth = {**asdict(TRUE), **asdict(TRUE.bounds)}
    assert list(measured.unmeasured) == []
    for name in ("l_r_m", "v_max_mps", "a_max_mps2", "deceleration_mps2", "position_m", "heading_rad", "speed_mps"):
        item = measured.estimates[name]
        assert item.low - 1e-3 <= truth[name] <= item.high + 1e-3, name
    delay = measured.estimates["actuation_delay_s"]
    assert delay.low <= 1e-9 < delay.high <= 0.021


def test_no_bound_is_declared_better_than_it_is_and_none_much_worse(measured: Measured) -> None:
    made, bounds = calibrated(CLAIMED, measured, "made"), TRUE.bounds
    for name in ("position_m", "heading_rad", "speed_mps", "steering_rad"):
        assert getattr(bounds, name) <= getattr(made.bounds, name) <= 1.5 * getattr(bounds, name), name
    assert made.bounds.slip_rate_radps is not None
    assert 1.2 <= made.bounds.slip_rate_radps <= 1.5
    assert made.bounds.steering_bias_rad + made.bounds.steering_rad <= 2.0 * (0.015 + 0.01)
    assert made.deceleration_mps2 == pytest.approx(5.5, rel=0.02)
    assert made.l_r_m == pytest.approx(1.7, abs=1e-3)


def test_what_was_not_measured_stays_as_it_was_declared_and_the_file_is_read_again(measured: Measured) -> None:
    made = calibrated(CLAIMED, measured, "made")
    assert made.bounds.jitter_s == 0.03
    text = vehicle_text(made, measured, "a test")
    assert parse_vehicle(text) == made
    assert "jitter_s = 0.03  # declared before, not measured" in text


def exceeded(drive: list[from_log.Sample], vehicle: Vehicle) -> set[str]:
    """Return the bounds that the watch of a running vehicle says were broken in a drive."""
    watch, before_s = Watch(vehicle), 0.0
    for item in drive:
        watch.moved(item.time_s, item.time_s - before_s, item.motion, Control(*item.control))
        before_s = item.time_s
    return set(watch.broken)


def test_what_is_declared_holds_at_every_tick_between_settled_stretches_too() -> None:
    programme = Programme(rounds=3, steps=40)
    held = drive_controls(KinematicWorld(proving_ground(), TRUE, 3), programme.controls(TRUE))
    wilder = replace(TRUE, a_max_mps2=5.0, bounds=replace(TRUE.bounds, steering_rad=0.06))
    drawn = drive_controls(KinematicWorld(proving_ground(), wilder, 4, error_share=1.0), programme.drawn(wilder))
    settled = measure(held, 0.05)
    assert exceeded(drawn, calibrated(CLAIMED, settled, "made")) == {"acceleration", "steering"}
    made = calibrated(CLAIMED, close(CLAIMED, settled, [held, drawn], 0.05), "made")
    assert exceeded(held, made) | exceeded(drawn, made) == set()


def test_a_drive_that_nobody_planned_makes_no_bound_narrower(measured: Measured) -> None:
    declared = replace(TRUE, v_max_mps=20.0, deceleration_mps2=3.0, bounds=Bounds(position_m=2.0, slip_rate_radps=0.5))
    made = calibrated(declared, measured, "made", only_worse=True)
    assert (made.v_max_mps, made.deceleration_mps2, made.bounds.position_m) == (20.0, 3.0, 2.0)
    assert made.bounds.slip_rate_radps == 0.5
    assert made.bounds.heading_rad >= TRUE.bounds.heading_rad
    assert made.l_r_m == pytest.approx(1.7, abs=1e-3)


def test_the_steering_curve_is_the_slip_angle_asked_for(measured: Measured) -> None:
    assert [point.asked_rad for point in measured.curve if point.asked_rad > 0.0] == [0.09, 0.18, 0.3, 0.42, 0.51, 0.6]
    for point in measured.curve:
        assert point.curvature_rad == pytest.approx(point.asked_rad, abs=0.02)


def test_a_drive_that_the_world_ends_is_refused() -> None:
    world = KinematicWorld(replace(proving_ground(), half_width_m=2.0), TRUE, 3)
    with pytest.raises(CalibrationError, match=r"the world ended the drive at .* off_track"):
        drive_controls(world, Programme(rounds=1).controls(TRUE))


def logged(world: KinematicWorld, seconds: float) -> list[Any]:
    """Return the messages that a recorder would have kept of a weaving drive."""
    found: list[Any] = []
    control = Control(0.0, 7.0)
    for number in range(round(seconds / 0.02)):
        state = world.state()
        data = {
            "observation": {
                "stamp_ns": round(world.time_s * 1e9),
                **asdict(state),
                "obstacles": [[disc.x_m, disc.y_m, disc.radius_m, 0.0] for disc in world.obstacles()],
                "applied_id": number,
            },
            "decision": {"id": number + 1, **asdict(control)},
        }
        found.append(type("Entry", (), {"topic": "/guard/tick", "data": msgspec.to_builtins(data)})())
        control = Control((0.25 if number // 75 % 2 else -0.25) if number > 100 else 0.0, 7.0)
        for _ in range(2):
            world.apply(control)
            world.tick()
    return found


def test_a_log_gives_the_same_geometry_and_errors_of_the_right_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(TRUE, bounds=Bounds(position_m=0.1, heading_rad=0.004, speed_mps=0.1))
    drum = Placed(
        "standing",
        {key: Range(at, at) for key, at in {"s_m": 100.0, "offset_m": 60.0, "radius_m": 1.2, "height_m": 1.9}.items()},
    )
    ground = replace(proving_ground(), placed=(drum,))
    entries = logged(KinematicWorld(ground, small, 3, error_share=1.0), 20.0)
    monkeypatch.setattr(from_log, "FlightLog", lambda paths: entries)
    found = measure(from_log.samples_of_log([Path("a.mcap")]), 0.05).estimates
    assert found["l_r_m"].value == pytest.approx(1.7, rel=0.03)
    assert 0.05 < found["position_m"].value < 0.5
    assert 0.003 < found["heading_rad"].value < 0.03
    assert 0.08 < found["speed_mps"].value < 1.5
    assert found["steering_rad"].low < 0.1


def test_a_log_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_log, "FlightLog", lambda paths: [])
    with pytest.raises(CalibrationError, match=r"a\.mcap: no tick of a guard"):
        from_log.samples_of_log([Path("a.mcap")])


def test_the_command_writes_a_vehicle_file(tmp_path: Path) -> None:
    application = Typer()
    application.command()(calibrate)
    out = tmp_path / "car.toml"
    done = CliRunner().invoke(application, ["--rounds", "1", "--episodes", "0", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["estimates"]["l_r_m"]["n"] == 12
    assert load_vehicle(out).l_r_m == told["estimates"]["l_r_m"]["declare"] == 1.6
    assert CliRunner().invoke(application, ["--world", "moon"]).exit_code == 2
    assert CliRunner().invoke(application, ["--delta", "0.9"]).exit_code == 2
    assert CliRunner().invoke(application, ["--out", str(tmp_path / "none" / "car.toml")]).exit_code == 2


def test_a_weaving_log_without_a_held_slip_angle_gives_l_r(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = replace(TRUE, bounds=Bounds(position_m=0.01, heading_rad=0.001))
    samples = drive_controls(
        KinematicWorld(proving_ground(), exact, 3),
        ((Control(0.2 + 0.05 * math.sin(0.2 * number), 7.0), 0.02) for number in range(400)),
    )
    found = measure([replace(item, run=0) for item in samples], 0.05)
    assert found.estimates["l_r_m"].how.endswith("of turning each")
    assert found.estimates["l_r_m"].value == pytest.approx(1.7, abs=1e-6)
    assert "beta_max_rad" in found.unmeasured


def test_too_short_a_log_and_one_of_a_car_that_stands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = logged(KinematicWorld(proving_ground(), TRUE, 3), 2.5)
    monkeypatch.setattr(from_log, "FlightLog", lambda paths: entries[:30])
    with pytest.raises(CalibrationError, match=r"29 observations .* at least 60 are needed"):
        from_log.samples_of_log([Path("a.mcap")])
    for entry in entries:
        entry.data["observation"] |= {"x_m": 0.0, "y_m": 0.0, "speed_mps": 0.0}
    monkeypatch.setattr(from_log, "FlightLog", lambda paths: entries)
    with pytest.raises(CalibrationError, match=r"did not drive: in \d+ samples it was never faster than 0\.00 m/s"):
        measure(from_log.samples_of_log([Path("a.mcap")]), 0.05)
