"""The vehicle the shield reasons about, and the declared bounds on everything it cannot know exactly.

A vehicle file is TOML::

    name = "config1"
    l_r_m = 1.6                # centre of gravity to rear axle
    beta_max_rad = 0.8897      # slip angle at full lock
    v_max_mps = 12.0
    radius_m = 0.0             # disc about the centre of gravity that holds the body
    a_max_mps2 = 4.0           # optional, undeclared = unlimited
    deceleration_mps2 = 6.0    # optional, undeclared = the vehicle is never assumed to brake
    [barrier]
    r_bar_m = 4.0
    sigma = 0.28
    [bounds]                   # each undeclared bound is zero, or unlimited for the four marked so in `Bounds`
    position_m = 0.1

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (vehicle, barrier).
"""

import hashlib
import json
import math
import tomllib
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from shield.errors import VehicleFileError


@dataclass(frozen=True, slots=True)
class Barrier:
    """Parameters of h(r, xi) = (sigma cos(xi/2) + 1 - sigma)/r_bar - 1/r.

    Args:
        r_bar_m: Radius of the disc that must not be entered [m].
        sigma: How much closer the vehicle may pass when it points away, in (0, 1).
    """

    r_bar_m: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Every declared imperfection: zero, or None for unlimited, unless declared.

    A bound made worse (a larger error or delay, a smaller range, rate or grip) never lengthens a deadline.

    Args:
        position_m: Error of an obstacle's position relative to the vehicle [m].
        heading_rad: Error of the measured heading [rad].
        steering_rad: Error of the slip angle, free to vary in time [rad].
        steering_bias_rad: Error of the slip angle, constant while a control is held [rad].
        speed_mps: Error of the measured speed [m/s].
        obstacle_speed_mps: Least top speed assumed of every obstacle [m/s].
        odometry_drift: Growth of the position error per metre driven [m/m].
        sensing_age_s: Age of the state and the obstacles when the shield sees them [s].
        sensing_range_m: Distance within which the obstacle list is complete [m]; None: everywhere.
        field_of_view_rad: Full opening angle within which it is complete [rad]; None: all round.
        actuation_delay_s: Time from a command to its effect [s].
        tick_s: Time between two ticks of the guard [s].
        jitter_s: How much later than that a tick may be [s].
        fail_safe_s: Time the fail-safe needs to take over [s].
        brake_build_s: Time until the declared deceleration is reached [s].
        slip_rate_radps: How fast the slip angle can change [rad/s]; None: at once.
        lateral_accel_mps2: Grip: greatest acceleration across the path [m/s^2]; None: kinematics only.
    """

    position_m: float = 0.0
    heading_rad: float = 0.0
    steering_rad: float = 0.0
    steering_bias_rad: float = 0.0
    speed_mps: float = 0.0
    obstacle_speed_mps: float = 0.0
    odometry_drift: float = 0.0
    sensing_age_s: float = 0.0
    sensing_range_m: float | None = None
    field_of_view_rad: float | None = None
    actuation_delay_s: float = 0.0
    tick_s: float = 0.0
    jitter_s: float = 0.0
    fail_safe_s: float = 0.0
    brake_build_s: float = 0.0
    slip_rate_radps: float | None = None
    lateral_accel_mps2: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            least_is_open = item.default is None
            if not _is_number(value) or value < 0.0 or (least_is_open and value == 0.0):
                kind = "a positive number" if least_is_open else "a number that is not negative"
                raise VehicleFileError(f"bounds.{item.name} = {value!r}: must be {kind}")

    @property
    def switch_time_s(self) -> float:
        """Time from the moment a switch is due to the last moment at which it can take effect [s]."""
        return self.actuation_delay_s + self.tick_s + self.jitter_s + self.fail_safe_s


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A kinematic bicycle about its centre of gravity, with its barrier and its declared bounds.

    Args:
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        beta_max_rad: Slip angle at full lock [rad], in (0, pi/2).
        v_max_mps: Top speed [m/s].
        radius_m: Radius about the centre of gravity that holds the whole body [m].
        a_max_mps2: Greatest acceleration along the path [m/s^2]; None: unlimited.
        deceleration_mps2: Deceleration the brakes can be relied on for [m/s^2]; None: never brakes.
    """

    l_r_m: float
    beta_max_rad: float
    v_max_mps: float
    radius_m: float = 0.0
    a_max_mps2: float | None = None
    deceleration_mps2: float | None = None
    barrier: Barrier | None = None
    bounds: Bounds = field(default_factory=Bounds)
    name: str = "unnamed"

    def __post_init__(self) -> None:
        checks = [
            ("l_r_m", self.l_r_m, 0.0, math.inf),
            ("beta_max_rad", self.beta_max_rad, 0.0, math.pi / 2),
            ("v_max_mps", self.v_max_mps, 0.0, math.inf),
        ]
        for name, optional in (("a_max_mps2", self.a_max_mps2), ("deceleration_mps2", self.deceleration_mps2)):
            if optional is not None:
                checks.append((name, optional, 0.0, math.inf))
        if self.barrier is not None:
            checks.append(("barrier.r_bar_m", self.barrier.r_bar_m, 0.0, math.inf))
            checks.append(("barrier.sigma", self.barrier.sigma, 0.0, 1.0))
        for name, value, low, high in checks:
            if not _is_number(value) or not low < value < high:
                raise VehicleFileError(f"{name} = {value!r}: must lie between {low:g} and {high:g}, ends excluded")
        if not _is_number(self.radius_m) or self.radius_m < 0.0:
            raise VehicleFileError(f"radius_m = {self.radius_m!r}: must be a number that is not negative")
        if not isinstance(self.name, str) or not self.name:
            raise VehicleFileError(f"name = {self.name!r}: must be a string that is not empty")

    @property
    def rho_m(self) -> float:
        """Radius of the centre of gravity's full-lock circle, l_r / sin(beta_max) [m]."""
        return self.l_r_m / math.sin(self.beta_max_rad)

    @property
    def rho_rear_m(self) -> float:
        """Radius of the rear axle's full-lock circle, l_r / tan(beta_max) [m]."""
        return self.l_r_m / math.tan(self.beta_max_rad)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of every parameter and bound; the name does not count."""
        return _fingerprint(self)


@lru_cache(maxsize=256)  # asked for with every deadline
def _fingerprint(vehicle: Vehicle) -> str:
    parameters = asdict(vehicle)
    del parameters["name"]
    numbers = json.loads(json.dumps(parameters), parse_int=float)  # 2 and 2.0 are the same vehicle
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def load_vehicle(path: str | Path) -> Vehicle:
    """Read a vehicle file, or one of the shipped vehicles by its name.

    Args:
        path: A TOML file, or the name of a shipped one ("config1", "config2", "passenger_car", "demo").
    Raises:
        VehicleFileError: no such file; not TOML; a key is missing, unknown or holds an impossible value.
    """
    source = Path(path)
    if not source.suffix and source.name == str(path):
        shipped = files("shield") / "vehicles" / f"{path}.toml"
        if not shipped.is_file():
            names = sorted(item.name[:-5] for item in (files("shield") / "vehicles").iterdir())
            raise VehicleFileError(
                f"no shipped vehicle is called {path!r}: there are {', '.join(names)}, or give a .toml file"
            )
        return parse_vehicle(shipped.read_text(encoding="utf-8"), origin=str(path))
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise VehicleFileError(f"cannot read the vehicle file {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VehicleFileError(f"{source} is not TOML: byte {error.start} is not UTF-8") from error
    return parse_vehicle(text, origin=str(source))


def parse_vehicle(text: str, origin: str = "vehicle file") -> Vehicle:
    """Build a vehicle from the text of a vehicle file; `origin` is named in errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise VehicleFileError(f"{origin} is not TOML: {error}") from error
    barrier = table.pop("barrier", None)
    bounds = table.pop("bounds", {})
    try:
        return Vehicle(
            **_only_known(table, Vehicle, ""),
            barrier=None if barrier is None else Barrier(**_only_known(barrier, Barrier, "barrier.")),
            bounds=Bounds(**_only_known(bounds, Bounds, "bounds.")),
        )
    except VehicleFileError as error:
        raise VehicleFileError(f"{origin}: {error}") from error


def _only_known(table: Any, target: type, prefix: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise VehicleFileError(f"{prefix.rstrip('.')} = {table!r}: must be a table, [{prefix.rstrip('.')}]")
    known = [item.name for item in fields(target) if item.name not in ("barrier", "bounds")]
    for key in table:
        if key not in known:
            raise VehicleFileError(f"unknown key {prefix}{key}: known here are {', '.join(known)}")
    needed = {Vehicle: ("l_r_m", "beta_max_rad", "v_max_mps"), Barrier: ("r_bar_m", "sigma"), Bounds: ()}[target]
    for key in needed:
        if key not in table:
            raise VehicleFileError(f"key {prefix}{key} is missing")
    return table


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
