"""The vehicle file: what is read, what is refused, and the vehicles that ship."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.errors import CertificateError, InfeasibleError, ShieldError, VehicleFileError
from shield.state import State, wrap_angle
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle, parse_vehicle

SMALL = "l_r_m = 1.6\nbeta_max_rad = 0.5\nv_max_mps = 12.0\n"
PUBLISHED = {
    "config1": (0.28, 4.0, 1.6, 1.1854, 12.0),
    "config2": (0.48, 4.0, 2.0, math.pi / 4, 20.0),
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_shipped_configurations_are_the_published_ones(name: str, published: tuple[float, ...]) -> None:
    sigma, r_bar_m, l_r_m, steering_rad, v_max_mps = published
    vehicle = load_vehicle(name)
    beta_max_rad = math.atan(0.5 * math.tan(steering_rad))
    assert vehicle.beta_max_rad == pytest.approx(beta_max_rad, abs=1e-15)
    assert replace(vehicle, beta_max_rad=0.5) == Vehicle(
        name=name, l_r_m=l_r_m, beta_max_rad=0.5, v_max_mps=v_max_mps, barrier=Barrier(r_bar_m=r_bar_m, sigma=sigma)
    )


def test_passenger_car_declares_every_bound() -> None:
    car = load_vehicle("passenger_car")
    for item in fields(Bounds):
        assert getattr(car.bounds, item.name), item.name
    assert car.a_max_mps2 is not None
    assert car.deceleration_mps2 is not None
    assert car.radius_m >= math.hypot(4.508 / 2, 1.610 / 2)
    # braking straight ahead needs no more than the declared grip
    assert car.bounds.lateral_accel_mps2 is not None
    assert car.deceleration_mps2 <= car.bounds.lateral_accel_mps2


def test_every_value_of_the_passenger_car_names_its_source() -> None:
    text = (Path(__file__).resolve().parents[2] / "shield" / "vehicles" / "passenger_car.toml").read_text()
    values = [line for line in text.splitlines() if "=" in line.split("#")[0] and not line.startswith("name")]
    assert len(values) == 6 + 2 + len(fields(Bounds))
    assert [line for line in values if "#" not in line] == ["sigma = 0.28"]


def test_demo_has_the_geometry_of_configuration_1() -> None:
    demo, config1 = load_vehicle("demo"), load_vehicle("config1")
    bare = replace(demo, name="config1", bounds=Bounds(), a_max_mps2=None, deceleration_mps2=None)
    assert bare == config1
    assert demo.deceleration_mps2 == 6.0
    assert demo.bounds.tick_s == 0.02


def test_turning_circles() -> None:
    car = parse_vehicle("l_r_m = 2.0\nbeta_max_rad = 0.5235987755982988\nv_max_mps = 10\n")
    assert car.rho_m == pytest.approx(4.0)
    assert car.rho_rear_m == pytest.approx(2.0 * math.sqrt(3.0))
    assert car.rho_m**2 == pytest.approx(car.rho_rear_m**2 + car.l_r_m**2)


def test_switch_time_adds_all_that_passes_before_a_switch() -> None:
    bounds = Bounds(actuation_delay_s=0.1, tick_s=0.02, jitter_s=0.003, fail_safe_s=0.0004)
    assert bounds.switch_time_s == pytest.approx(0.1234)


def test_fingerprint_sees_every_parameter_but_the_name() -> None:
    car = load_vehicle("passenger_car")
    assert replace(car, name="other").fingerprint() == car.fingerprint()
    assert replace(car, l_r_m=2).fingerprint() == replace(car, l_r_m=2.0).fingerprint()
    assert car.barrier is not None
    changed = [
        replace(car, **{name: getattr(car, name) * 1.0001})
        for name in ("l_r_m", "beta_max_rad", "v_max_mps", "radius_m", "a_max_mps2", "deceleration_mps2")
    ]
    changed += [replace(car, bounds=replace(car.bounds, **{item.name: 1.2345})) for item in fields(Bounds)]
    changed += [replace(car, barrier=replace(car.barrier, sigma=0.29)), replace(car, barrier=None)]
    prints = {vehicle.fingerprint() for vehicle in [car, *changed]}
    assert len(prints) == 1 + len(changed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("l_r_m = 1.6\nbeta_max_rad = 0.5\n", "key v_max_mps is missing"),
        (SMALL + "colour = 3\n", "unknown key colour: known here are l_r_m, beta_max_rad, v_max_mps, radius_m, a_max"),
        (SMALL + "[bounds]\nposition = 0.1\n", r"unknown key bounds\.position: known here are position_m"),
        (SMALL + "[barrier]\nr_bar_m = 4.0\n", r"key barrier\.sigma is missing"),
        (SMALL + "[barrier]\nr_bar_m = 4.0\nsigma = 1.0\n", r"barrier\.sigma = 1\.0: must lie between 0 and 1"),
        (SMALL.replace("0.5", "1.6"), r"beta_max_rad = 1\.6: must lie between 0 and 1\.5708"),
        (SMALL.replace("12.0", "nan"), "v_max_mps = nan"),
        (SMALL.replace("12.0", "true"), "v_max_mps = True"),
        (SMALL.replace("12.0", "'fast'"), "v_max_mps = 'fast'"),
        (SMALL + "radius_m = -1.0\n", r"radius_m = -1\.0: must be a number that is not negative"),
        (SMALL + "deceleration_mps2 = 0.0\n", r"deceleration_mps2 = 0\.0"),
        (SMALL + "a_max_mps2 = inf\n", "a_max_mps2 = inf"),
        (SMALL + "name = 3\n", "name = 3: must be a string"),
        (SMALL + "bounds = 3\n", r"bounds = 3: must be a table, \[bounds\]"),
        (SMALL + "[bounds]\ntick_s = -0.1\n", r"bounds\.tick_s = -0\.1: must be a number that is not negative"),
        (SMALL + "[bounds]\nslip_rate_radps = 0.0\n", r"bounds\.slip_rate_radps = 0\.0: must be a positive number"),
        ("l_r_m = = 3", "mine is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(VehicleFileError, match=says) as caught:
        parse_vehicle(text, origin="mine")
    assert str(caught.value).startswith("mine")


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    assert load_vehicle(path).v_max_mps == 12.0
    assert load_vehicle(str(path)) == load_vehicle(path)


def test_a_small_and_slow_vehicle_is_a_vehicle() -> None:
    toy = Vehicle(0.15, 0.6, 0.7, barrier=Barrier(0.4, 0.3))
    assert toy.rho_m == pytest.approx(0.15 / math.sin(0.6))


def test_a_file_beside_us_is_read_by_its_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    assert load_vehicle("small.toml").v_max_mps == 12.0


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VehicleFileError, match="cannot read the vehicle file"):
        load_vehicle(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"l_r_m = \xff")
    with pytest.raises(VehicleFileError, match="byte 8 is not UTF-8"):
        load_vehicle(tmp_path / "binary.toml")
    with pytest.raises(VehicleFileError, match="there are config1, config2, demo, passenger_car"):
        load_vehicle("config3")


@given(st.floats(-1e6, 1e6))
def test_wrapped_angles_point_the_same_way(angle_rad: float) -> None:
    wrapped = wrap_angle(angle_rad)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle_rad), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle_rad), abs=1e-9)


def test_the_errors_of_the_shield_have_one_base() -> None:
    for error in (VehicleFileError, InfeasibleError, CertificateError):
        assert issubclass(error, ShieldError)
    assert State(0.0, 0.0, 0.0).speed_mps is None
